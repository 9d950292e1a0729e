"""Runs an ONNX model with ONNX Runtime: forward passes with taps, no gradients.

A tap makes an inner tensor an output. ONNX Runtime optimises a graph for the outputs it has, so each set of
tensors gets a session of its own, built from the nodes that the set needs; the set of all the model's outputs
is one such session, shared by every request that only wants outputs. A session has its number of threads for
life, so passes that run side by side have sessions of their own, with one thread each.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import onnx

from sidelight_engines.errors import ModelInvalid, UnknownLayer
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.graph.onnx_model import OnnxModel
from sidelight_engines.runtime.onnx_cutting import OnnxCutter, Wanted
from sidelight_engines.runtime.onnx_passes import OnnxForwardPass, run_session
from sidelight_engines.runtime.onnx_summing import OnnxSummingPass, add_sums, can_sum, declare
from sidelight_engines.runtime.runtime import ForwardPass, Lanes, RuntimeKind, SummingPass, sum_up

if TYPE_CHECKING:
    import onnxruntime

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Each session holds its own copy of the weights it needs.
_TAPPED_SESSIONS = 8
# Each lane holds the activations of a pass.
_MOST_LANES = 8


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
        self._tapped: OrderedDict[tuple[object, ...], Any] = OrderedDict()
        self._cutter = OnnxCutter(model)
        self._makers = self._cutter.makers

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

    def summing(self, summed: Sequence[str], fetched: Sequence[str], *, side_by_side: bool) -> SummingPass:
        """Prepares a forward pass that sums up within ONNX Runtime; see `Runtime.summing`.

        Args:
            summed: as of `Runtime.summing`.
            fetched: likewise.
            side_by_side: likewise.

        Raises:
            UnknownLayer, ModelInvalid: as `forward`.
        """
        self._require([*summed, *fetched])
        lanes = side_by_side and self._lanes > 1
        fixed = any(spec.shape[:1] != (None,) for spec in self._model.graph.inputs)
        if fixed or not can_sum(self._model.proto) or not all(tensor in self._makers for tensor in (*summed, *fetched)):
            return sum_up(self._forward([*summed, *fetched], (), lanes=lanes), len(summed))
        types = {tensor: self._model.types[tensor].dtype for tensor in summed}
        key = frozenset(summed), frozenset(fetched), lanes, "sums"
        session, names = self._cached(key, lambda: self._summing_session(types, frozenset(fetched), lanes))
        run = partial(run_session, session, (*(names[tensor] for tensor in summed), *fetched))
        return OnnxSummingPass(run, self._model.graph.inputs, len(summed), sorted(set(types.values())))

    def segment(self, given: Sequence[str], tensors: Sequence[str], *, side_by_side: bool) -> ForwardPass:
        """Prepares the part of the model between some tensors and others; see `Runtime.segment`.

        Args:
            given: as of `Runtime.segment`; their types must be known.
            tensors: likewise, none of them given.
            side_by_side: likewise.

        Raises:
            UnknownLayer, ModelInvalid: as `forward`.
        """
        self._require([*given, *tensors])
        lanes = side_by_side and self._lanes > 1
        begin, wanted = tuple(given), frozenset(tensors)
        session = self._cached(
            (begin, wanted, lanes), lambda: self._open(self._cutter.cut((wanted, frozenset()), begin), lanes)
        )
        specs = [TensorSpec(name, name, self._model.types[name].dtype, self._free(name)) for name in begin]
        return OnnxForwardPass(session, tuple(tensors), (), tuple(specs))

    def _summing_session(
        self, types: Mapping[str, str], fetched: frozenset[str], lanes: bool
    ) -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
        """A session, and the names of the sums in it."""
        model = self._cutter.cut((fetched.union(types), frozenset()))
        declare(model, sorted(set(types.values())))
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "optimised.onnx"
                self._open(model, lanes, save=str(path))
                optimised = onnx.load(path)
            names = add_sums(optimised, types)
            return self._open(optimised, lanes, optimised=True), names
        except (ModelInvalid, OSError) as error:
            # What it saves it need not be able to load: then it puts the rows in order.
            logger.warning("ONNX Runtime did not load what it optimised, so sums take longer: %s", error)
        names = add_sums(model, types)
        return self._open(model, lanes), names

    def _require(self, tensors: Sequence[str]) -> None:
        for tensor in tensors:
            if not any(tensor in known for known in (self._makers, self._inputs, self._model.constants)):
                raise UnknownLayer("tensors", tensor, get_close_matches(tensor, self._makers, n=3))

    def _free(self, tensor: str) -> tuple[int | None, ...]:
        shape = self._model.types[tensor].shape
        return (None, *shape[1:]) if shape else ()

    def _forward(self, tensors: Sequence[str], greatest: Sequence[str], *, lanes: bool) -> ForwardPass:
        self._require([*tensors, *greatest])
        wanted = frozenset(tensors) - self._inputs, frozenset(greatest)
        session = self._session(wanted, lanes) if any(wanted) else None
        return OnnxForwardPass(session, tuple(tensors), tuple(greatest), self._model.graph.inputs)

    def _session(self, wanted: Wanted, lanes: bool) -> onnxruntime.InferenceSession:
        # The lock is held while a session is made, so that two threads never make the same one.
        with self._lock:
            if self._are_outputs(wanted):
                if lanes not in self._output_sessions:
                    self._output_sessions[lanes] = self._make_session((self._outputs, frozenset()), lanes)
                return self._output_sessions[lanes]
        return self._cached((wanted, lanes), lambda: self._make_session(wanted, lanes))

    def _cached(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        # The lock is held while a session is made, so that two threads never make the same one.
        with self._lock:
            found: T | None = self._tapped.get(key)
            if found is None:
                found = self._tapped[key] = make()
                if len(self._tapped) > _TAPPED_SESSIONS:
                    self._tapped.popitem(last=False)
            self._tapped.move_to_end(key)
            return found

    def _are_outputs(self, wanted: Wanted) -> bool:
        tensors, greatest = wanted
        return tensors <= self._outputs and not greatest

    def _make_session(self, wanted: Wanted, lanes: bool) -> onnxruntime.InferenceSession:
        # The arena keeps the most that was ever needed, for each session: 197 MiB against 85 MiB for a small
        # convolutional network after batches of up to 96 images, and no faster with it. Tapped sessions
        # hand out every large tensor anew, which without an arena costs a third of their time in page faults.
        return self._open(self._cutter.cut(wanted), lanes, arena=not self._are_outputs(wanted))

    def _open(
        self, model: onnx.ModelProto, lanes: bool, *, arena: bool = True, optimised: bool = False, save: str = ""
    ) -> onnxruntime.InferenceSession:
        """Opens a session.

        Args:
            model: what it runs.
            lanes: whether it runs beside others.
            arena: whether it keeps its memory.
            optimised: whether the model has been optimised already.
            save: the file that the optimised model is written to; none if empty.
        """
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        options = onnxruntime.SessionOptions()
        options.enable_cpu_mem_arena = arena
        if save:
            options.optimized_model_filepath = save
        if optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if lanes:
            options.intra_op_num_threads = -(-(self._threads or self._lanes) // self._lanes)
        elif self._threads is not None:
            options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Memory patterns are kept per input shape and never dropped; batches here come in every length.
        options.enable_mem_pattern = False
        # Waiting threads sleep: the cores belong to the neighbour and to other workers too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except (
            state.Fail,
            state.InvalidArgument,
            state.InvalidGraph,
            state.NotImplemented,
            state.RuntimeException,
        ) as e:
            raise ModelInvalid(f"ONNX Runtime can not load the model: {e}") from e
