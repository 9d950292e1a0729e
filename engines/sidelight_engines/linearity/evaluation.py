"""Forward passes over rows of samples, with every target tapped."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.errors import MemoryLimitExceeded
from sidelight_engines.graph.graph import Graph
from sidelight_engines.linearity.measurement import Evaluated
from sidelight_engines.linearity.parameters import Chunking
from sidelight_engines.linearity.plan import Plan, layers_left_out, no_row_per_instance
from sidelight_engines.linearity.result import Notice
from sidelight_engines.linearity.rounding import spacing
from sidelight_engines.linearity.targets import Target, Values
from sidelight_engines.runtime.runtime import Array, Runtime, RuntimeKind

_ROWS = {RuntimeKind.ONNX_RUNTIME: 64, RuntimeKind.TENSORFLOW: 256}  # See `Chunking`.
# Where a row leaves little behind, what several passes give is summed up together: NumPy takes about as long for each.
_PASSES = 4
_LITTLE_BYTES = 2**14
_FEWEST_ROWS = 3  # An instance, a sample and their superposition.
_PROBE_ROWS = (2, 3)  # Two lengths, so that a fixed axis of one of them is not taken for the batch.


class Evaluator:
    """Evaluates the targets of a plan.

    Attributes:
        targets: what is measured: the plan's targets but for layers that turn out to hold no row per instance.
        notices: tells of those that were left out.
        lanes: how many forward passes to run at a time.
        capacity: the most rows to fetch at a time.
        forward_rows: rows that were sent through the model so far.
        spacings: eps of each target.
        shapes: of a row of each target, once some were interpreted.
        memory_bytes: what may be taken at a time.
        row_bytes: what a row takes with all targets.
        input_bytes: what it takes without them.

    Args:
        plan: what to evaluate.
        graph: the model.
        runtime: evaluates it.
        chunking: how the work is cut into forward passes.
        control: asked for a stop between forward passes.
        side_by_side: whether there is work for several forward passes at a time.
    """

    def __init__(
        self,
        plan: Plan,
        graph: Graph,
        runtime: Runtime,
        chunking: Chunking,
        control: Control,
        *,
        side_by_side: bool,
    ) -> None:
        self._control = control
        self._spec = plan.spec
        self._shape = plan.instance_shape
        self._side_by_side = side_by_side
        self._counting = threading.Lock()
        self.forward_rows = 0
        self.targets = plan.targets
        self.notices: tuple[Notice, ...] = ()
        most = _ROWS[runtime.kind] if chunking.rows is None else chunking.rows
        # For the passes that tell how large a row is; how many rows memory allows for is known after them.
        self._pass_rows = max(most, _FEWEST_ROWS)
        self._prepare(runtime)
        row_bytes = self._row_bytes(graph)
        if row_bytes is None:
            row_bytes = self._probe(plan, runtime)
        rows = min(most, chunking.memory_bytes // row_bytes)
        if rows < _FEWEST_ROWS <= most:
            raise MemoryLimitExceeded(
                _FEWEST_ROWS * row_bytes, chunking.memory_bytes, "measure fewer layers at a time, or grant more"
            )
        self._pass_rows = max(rows, _FEWEST_ROWS)
        self.memory_bytes = chunking.memory_bytes
        self.row_bytes = row_bytes
        self.input_bytes = self._input_bytes()
        self.capacity = self._pass_rows
        little = row_bytes - self.input_bytes <= _LITTLE_BYTES
        if little and chunking.rows is None and runtime.kind is RuntimeKind.ONNX_RUNTIME:
            self.capacity *= max(1, min(_PASSES, chunking.memory_bytes // row_bytes // self._pass_rows))
        self.spacings = [0.0] * len(self.targets)
        self.shapes: list[tuple[int, ...]] = [()] * len(self.targets)

    def count(self, rows: int) -> None:
        """Counts rows that were sent through the model by other means."""
        with self._counting:
            self.forward_rows += rows

    def fetch(self, rows: Array) -> list[Array]:
        """Evaluates rows, (rows, features); returns one array per fetched tensor."""
        self.count(len(rows))
        feed = rows.reshape(len(rows), *self._shape)
        passes = -(-len(rows) // self._pass_rows)
        if passes == 1:
            return self._forward({self._spec.name: feed})
        edges = [len(rows) * number // passes for number in range(passes + 1)]
        parts = []
        for first, stop in pairwise(edges):
            self._control.checkpoint()
            parts.append(self._forward({self._spec.name: feed[first:stop]}))
        return [np.concatenate(tensor) for tensor in zip(*parts, strict=True)]

    def interpret(self, fetched: list[Array], rows: int) -> Evaluated:
        """Turns fetched tensors of some rows into the numbers that are measured.

        Returns:
            The values of each target; one and the same object for targets that a runtime keeps in one place,
            such as a layer and a dropout behind it. They may hold NaN and infinity.
        """
        evaluated: Evaluated = []
        seen: dict[tuple[object, ...], Values] = {}
        for position, target in enumerate(self.targets):
            tensors = [fetched[self._tensors[tensor]] for tensor in target.tensors]
            problem = _row_problem(tensors[0], rows)
            if problem:
                raise no_row_per_instance(target.name, target.field or "parameters.output", problem)
            self.shapes[position] = tensors[0].shape[1:]
            self.spacings[position] = max(spacing(self._spec.dtype), spacing(tensors[0].dtype.name))
            place = (target.scale, tensors[0].dtype, tensors[0].size, tensors[0].__array_interface__["data"][0])
            values = seen.get(place)
            if values is None:
                values = seen[place] = target.scale(tensors)
            evaluated.append(values)
        return evaluated

    def _prepare(self, runtime: Runtime) -> None:
        names = list(dict.fromkeys(tensor for target in self.targets for tensor in target.tensors))
        self._tensors = {name: position for position, name in enumerate(names)}
        if self._side_by_side:
            lanes = runtime.lanes(names)
            self._forward, self.lanes = lanes.forward, lanes.count
        else:
            self._forward, self.lanes = runtime.forward(names), 1

    def _row_bytes(self, graph: Graph) -> int | None:
        """What a row takes, by the shapes that the file tells; None if it does not tell them all."""
        known: dict[str, tuple[tuple[int | None, ...] | None, str]] = {
            layer.tensor: (layer.shape, layer.dtype) for layer in graph.layers
        }
        known.update({spec.tensor: (spec.shape, spec.dtype) for spec in graph.outputs})
        total = self._input_bytes()
        for tensor in self._tensors:
            shape, dtype = known.get(tensor, (None, ""))
            # A first axis of fixed length may or may not count the instances: only a forward pass tells.
            batched = shape is not None and len(shape) > 0 and shape[0] in (None, self._spec.shape[0])
            if shape is None or not batched or None in shape[1:] or not dtype:
                return None
            total += self._value_bytes([length for length in shape[1:] if length is not None])
        return total

    def _probe(self, plan: Plan, runtime: Runtime) -> int:
        """What a row takes, by small forward passes; drops the layers that hold no row per instance."""
        probes = []
        for count in _PROBE_ROWS:
            probes.append((self.fetch(np.repeat(plan.instances[:1], count, axis=0)), count))
        kept: list[Target] = []
        dropped: list[str] = []
        for target in self.targets:
            position = self._tensors[target.tensors[0]]
            problem = next(filter(None, (_row_problem(fetched[position], rows) for fetched, rows in probes)), "")
            if problem and target.required:
                raise no_row_per_instance(target.name, target.field or "parameters.output", problem)
            if problem:
                dropped.append(target.name)
            else:
                kept.append(target)
        fetched = probes[0][0]
        sizes = {name: self._value_bytes(fetched[position].shape[1:]) for name, position in self._tensors.items()}
        if dropped:
            self.targets = tuple(kept)
            self.notices = (layers_left_out(dropped),)
            self._prepare(runtime)
        return self._input_bytes() + sum(sizes[name] for name in self._tensors)

    def _input_bytes(self) -> int:
        # The buffers of the passes under way and of the one being written, the samples in float64, and the product
        # that superposes them.
        return int(np.prod(self._shape, dtype=np.int64)) * ((self.lanes + 1) * 8 + 8 + 8)

    def _value_bytes(self, shape: Sequence[int]) -> int:
        # The tensors of the passes under way and of the one being summed up, and what is made of one on the way: at
        # most 8 bytes of each value at a time.
        return int(np.prod(shape, dtype=np.int64)) * ((self.lanes + 1) * 4 + 8)


def _row_problem(values: Array, rows: int) -> str:
    if values.ndim == 0 or len(values) != rows:
        return f"gave shape {values.shape} for {rows} rows"
    if values.dtype.kind not in "fiub" and values.dtype.name != "bfloat16":
        return f"holds {values.dtype}"
    return ""
