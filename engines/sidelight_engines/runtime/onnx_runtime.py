"""Runs an ONNX model with ONNX Runtime: forward passes with taps, no gradients.

A tap makes an inner tensor an output. ONNX Runtime optimises a graph for the outputs it has, so each set of
tensors gets a session of its own, built from the nodes that the set needs; the set of all the model's outputs
is one such session, shared by every request that only wants outputs. A session has its number of threads for
life, so passes that run side by side have sessions of their own, with one thread each.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import onnx
from onnx import helper

from sidelight_engines.errors import InvalidField, ModelInvalid, UnknownLayer
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.graph.onnx_model import OnnxModel, captured_tensors
from sidelight_engines.runtime.feeds import checked_feed, run_in_chunks
from sidelight_engines.runtime.greatest import with_doubts
from sidelight_engines.runtime.runtime import Array, ForwardPass, Lanes, RuntimeKind

if TYPE_CHECKING:
    import onnxruntime

# Each session holds its own copy of the weights it needs.
_TAPPED_SESSIONS = 8
# Each lane holds the activations of a pass.
_MOST_LANES = 8
# What ONNX Runtime can do in the layout in which it convolves: the greatest, and what shows values that are not finite.
_GREATEST, _MEAN = "GlobalMaxPool", "GlobalAveragePool"

_Wanted = tuple[frozenset[str], frozenset[str]]
"""Tensors to fetch, and tensors to fetch the greatest values of."""


class OnnxRuntime:
    """Evaluates one ONNX model. Safe to call from several threads.

    A model whose batch axis has a fixed length is given any number of rows all the same: they are cut into
    chunks of that length and the last chunk is filled up with copies of its last row.

    Args:
        model: the model.
        threads: threads that one forward pass may use; ONNX Runtime's own choice (one per core) if None.
    """

    def __init__(self, model: OnnxModel, threads: int | None = None) -> None:
        self._model = model
        self._threads = threads
        self._lock = threading.Lock()
        self._inputs = frozenset(spec.tensor for spec in model.graph.inputs)
        self._outputs = frozenset(spec.tensor for spec in model.graph.outputs) - self._inputs
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._lanes = min(threads or cores, _MOST_LANES)
        self._output_sessions: dict[bool, onnxruntime.InferenceSession] = {}
        self._tapped: OrderedDict[tuple[_Wanted, bool], onnxruntime.InferenceSession] = OrderedDict()
        self._makers = {
            output: index for index, node in enumerate(model.proto.graph.node) for output in node.output if output
        }

    @property
    def kind(self) -> RuntimeKind:
        """What evaluates the model."""
        return RuntimeKind.ONNX_RUNTIME

    @property
    def pooled_axis(self) -> int:
        """Channels are axis 1."""
        return 1

    def forward(self, tensors: Sequence[str]) -> ForwardPass:
        """Prepares a forward pass that fetches these tensors.

        Args:
            tensors: ONNX value names; the model's inputs may be among them.

        Raises:
            UnknownLayer: the model has no such tensor.
            ModelInvalid: ONNX Runtime can not load the model.
        """
        return self._forward(tensors, (), lanes=False)

    def lanes(self, tensors: Sequence[str], greatest: Sequence[str] = ()) -> Lanes:
        """Prepares forward passes that fetch these tensors and run side by side.

        Args:
            tensors: as of `forward`.
            greatest: as of `Runtime.lanes`; channels are axis 1.

        Raises:
            UnknownLayer, ModelInvalid: as `forward`.
        """
        return Lanes(self._forward(tensors, greatest, lanes=self._lanes > 1), self._lanes)

    def _forward(self, tensors: Sequence[str], greatest: Sequence[str], *, lanes: bool) -> ForwardPass:
        for tensor in (*tensors, *greatest):
            if not any(tensor in known for known in (self._makers, self._inputs, self._model.constants)):
                raise UnknownLayer("tensors", tensor, get_close_matches(tensor, self._makers, n=3))
        wanted = frozenset(tensors) - self._inputs, frozenset(greatest)
        session = self._session(wanted, lanes) if any(wanted) else None
        return _OnnxForwardPass(session, tuple(tensors), tuple(greatest), self._model.graph.inputs)

    def _session(self, wanted: _Wanted, lanes: bool) -> onnxruntime.InferenceSession:
        # The lock is held while a session is made, so that two threads never make the same one.
        with self._lock:
            if self._are_outputs(wanted):
                if lanes not in self._output_sessions:
                    self._output_sessions[lanes] = self._make_session((self._outputs, frozenset()), lanes)
                return self._output_sessions[lanes]
            key = wanted, lanes
            session = self._tapped.get(key)
            if session is None:
                session = self._make_session(wanted, lanes)
                self._tapped[key] = session
                if len(self._tapped) > _TAPPED_SESSIONS:
                    self._tapped.popitem(last=False)
            self._tapped.move_to_end(key)
            return session

    def _are_outputs(self, wanted: _Wanted) -> bool:
        tensors, greatest = wanted
        return tensors <= self._outputs and not greatest

    def _make_session(self, wanted: _Wanted, lanes: bool) -> onnxruntime.InferenceSession:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        options = onnxruntime.SessionOptions()
        if lanes:
            options.intra_op_num_threads = -(-(self._threads or self._lanes) // self._lanes)
        elif self._threads is not None:
            options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Memory patterns are kept per input shape and never dropped; batches here come in every length.
        options.enable_mem_pattern = False
        # The arena keeps the most that was ever needed, for each session: 197 MiB against 85 MiB for a small
        # convolutional network after batches of up to 96 images, and no faster with it. Tapped sessions
        # hand out every large tensor anew, which without an arena costs a third of their time in page faults.
        options.enable_cpu_mem_arena = not self._are_outputs(wanted)
        # Waiting threads sleep: the cores belong to the neighbour and to other workers too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                self._cut(wanted).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except (
            state.Fail,
            state.InvalidArgument,
            state.InvalidGraph,
            state.NotImplemented,
            state.RuntimeException,
        ) as e:
            raise ModelInvalid(f"ONNX Runtime can not load the model: {e}") from e

    def _cut(self, wanted: _Wanted) -> onnx.ModelProto:
        """The part of the model that makes the wanted tensors, with those as its outputs."""
        tensors, greatest = wanted
        source = self._model.proto
        nodes = source.graph.node
        kept: set[int] = set()
        needed: set[str] = set()
        pending = [*tensors, *greatest]
        while pending:
            tensor = pending.pop()
            if tensor in needed:
                continue
            needed.add(tensor)
            index = self._makers.get(tensor)
            if index is not None and index not in kept:
                kept.add(index)
                pending.extend(name for name in nodes[index].input if name)
                for attribute in nodes[index].attribute:
                    if attribute.type == onnx.AttributeProto.GRAPH:
                        pending.extend(captured_tensors(attribute.g))
        # An IR version that lists initializers as inputs would let callers override them, which keeps
        # ONNX Runtime from folding them.
        cut = onnx.ModelProto(ir_version=max(source.ir_version, 4), opset_import=source.opset_import)
        cut.graph.name = source.graph.name or "graph"
        cut.graph.node.extend(nodes[index] for index in sorted(kept))
        cut.graph.initializer.extend(value for value in source.graph.initializer if value.name in needed)
        cut.graph.sparse_initializer.extend(
            value for value in source.graph.sparse_initializer if value.values.name in needed
        )
        cut.graph.input.extend(value for value in source.graph.input if value.name in self._inputs)
        # Without a declared type ONNX Runtime finds the right one itself.
        cut.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(tensors))
        for tensor in sorted(greatest):
            for op in (_GREATEST, _MEAN):
                cut.graph.node.append(helper.make_node(op, [tensor], [_pooled(tensor, op)]))
                cut.graph.output.append(onnx.ValueInfoProto(name=_pooled(tensor, op)))
        return cut


def _pooled(tensor: str, op: str) -> str:
    """What a tensor is called when it has been pooled."""
    return f"sidelight/{op}/{tensor}"


class _OnnxForwardPass:
    """A forward pass through one session."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession | None,
        tensors: tuple[str, ...],
        greatest: tuple[str, ...],
        inputs: tuple[TensorSpec, ...],
    ) -> None:
        self._session = session
        self._tensors = tensors
        self._greatest = greatest
        self._inputs = inputs
        self._dtypes = {spec.name: spec.dtype for spec in inputs}
        self._shapes = {spec.name: spec.shape for spec in inputs}
        fed = {spec.tensor for spec in inputs}
        pooled = [_pooled(tensor, op) for tensor in greatest for op in (_GREATEST, _MEAN)]
        self._fetched = tuple(dict.fromkeys([*(tensor for tensor in tensors if tensor not in fed), *pooled]))
        fixed = [spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None]
        self._fixed_batch = fixed[0] if fixed else None

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Evaluates the model.

        Args:
            inputs: input name -> array of the input's dtype, axis 0 the batch, the same length in all.

        Returns:
            One array per fetched tensor, in the order in which they were asked for; axis 0 is the batch. Then the
            greatest values that were asked for.

        Raises:
            InvalidField: an input is missing, or has a shape that the model does not take.
        """
        checked = checked_feed(inputs, self._dtypes, self._shapes)
        feed = {spec.tensor: checked[spec.name] for spec in self._inputs}
        values = self._run(feed) if self._fixed_batch is None else run_in_chunks(self._run, feed, self._fixed_batch)
        found = feed | dict(zip(self._fetched, values, strict=True))
        # Pooled tensors keep an axis of length 1 for each that they had.
        greatest = [
            with_doubts(*(found[_pooled(tensor, op)][:, :, 0, 0] for op in (_GREATEST, _MEAN)))
            for tensor in self._greatest
        ]
        return [found[tensor] for tensor in self._tensors] + greatest

    def _run(self, feed: Mapping[str, Array]) -> list[Array]:
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        if self._session is None:
            return []
        try:
            values: list[Array] = self._session.run(self._fetched, dict(feed))
        except (state.Fail, state.InvalidArgument, state.RuntimeException) as error:
            raise InvalidField("inputs", f"the model can not be run on them: {error}", "check their shapes") from error
        return values
