"""Forward passes over the examples, with every observed layer tapped and pooled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sidelight_engines.activation.fetching import Fetching
from sidelight_engines.activation.parameters import Chunking, PatternParameters
from sidelight_engines.activation.plan import ObservedLayer, Plan, layers_left_out, no_row_per_example
from sidelight_engines.activation.units import pooled_units, unit_shape
from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, MemoryLimitExceeded, NonFiniteOutput
from sidelight_engines.notice import Notice
from sidelight_engines.runtime.runtime import Array, Runtime, RuntimeKind

_ROWS = {RuntimeKind.ONNX_RUNTIME: 64, RuntimeKind.TENSORFLOW: 512}
_PROBE_ROWS = (2, 3)  # Two lengths, so that a fixed axis of one of them is not taken for the batch.


@dataclass(frozen=True)
class Observation:
    """What some consecutive examples gave.

    Attributes:
        first: the position of the first of them.
        units: one array per observed layer, (rows, units), finite.
        classes: int64, (rows,), the class of each.
    """

    first: int
    units: list[Array]
    classes: Array


@dataclass(frozen=True)
class Tap:
    """An observed layer as a forward pass showed it.

    Attributes:
        observed: the layer.
        unit_shape: what its units are counted over.
        dtype: of its pooled activations.
    """

    observed: ObservedLayer
    unit_shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def units(self) -> int:
        """How many units it has."""
        return int(np.prod(self.unit_shape, dtype=np.int64))


class Taps:
    """Evaluates the observed layers on the examples of a plan.

    Attributes:
        taps: what is observed: the plan's layers but for those that turn out to hold no row per example.
        notices: tells of those that were left out.
        class_count: the most classes that there can be; for labels, how many there are.
        forward_rows: rows that were sent through the model so far.
    """

    def __init__(
        self, plan: Plan, runtime: Runtime, parameters: PatternParameters, chunking: Chunking, control: Control
    ) -> None:
        self._plan = plan
        self._pooling = parameters.pooling
        self._control = control
        self.notices: tuple[Notice, ...] = ()
        self._fetch = self._fetching(plan.layers, runtime)
        control.checkpoint()
        found = [(self._fetch(self._repeated(rows)), rows) for rows in _PROBE_ROWS]
        self.forward_rows = sum(_PROBE_ROWS)
        self._probe(found, runtime)
        values = found[0][0]
        self._classes: tuple[Array, Array] | None = None
        if plan.classes is not None:
            names, positions = np.unique(plan.classes, return_inverse=True)
            self._classes = names, positions
            self.class_count = len(names)
        else:
            self.class_count = self._outputs(values[-1], _PROBE_ROWS[0])
        row_bytes = sum(array.nbytes for array in (*values, *self._repeated(2).values())) // 2
        row_bytes += self._fetch.pooled_bytes
        most = _ROWS[runtime.kind] if chunking.rows is None else chunking.rows
        # Of the passes under way, and of one that is summed up meanwhile.
        needed = (self._fetch.lanes + 1) * row_bytes
        self.capacity = min(most, chunking.memory_bytes // max(1, needed))
        if self.capacity < 1:
            raise MemoryLimitExceeded(needed, chunking.memory_bytes, "observe fewer layers at a time, or grant more")

    @property
    def classes(self) -> Array:
        """What the class positions of observations stand for, int64 (class_count,)."""
        return np.arange(self.class_count) if self._classes is None else self._classes[0]

    def observations(self) -> Iterator[Observation]:
        """Goes over all examples once, in order.

        Raises:
            InvalidField: an example holds NaN or infinity, or a layer gives another number of rows than it is given.
            NonFiniteOutput: a layer gave NaN or infinity.
            Stopped: the work should end.
        """
        under_way: deque[Future[Observation]] = deque()
        with ThreadPoolExecutor(self._fetch.lanes) as executor:
            for first in range(0, self._plan.count, self.capacity):
                # One more than there are threads, so that none waits while its result is taken.
                if len(under_way) > self._fetch.lanes:
                    yield under_way.popleft().result()
                self._control.checkpoint()
                self.forward_rows += min(self.capacity, self._plan.count - first)
                under_way.append(executor.submit(self._observe, first))
            while under_way:
                yield under_way.popleft().result()

    def _fetching(self, layers: tuple[ObservedLayer, ...], runtime: Runtime) -> Fetching:
        output = None if self._plan.output is None else self._plan.output.tensor
        return Fetching(layers, output, self._pooling, runtime)

    def _probe(self, found: list[tuple[list[Array], int]], runtime: Runtime) -> None:
        """Looks at what small passes gave; drops the layers that hold no row per example."""
        kept: list[Tap] = []
        dropped: list[str] = []
        for position, observed in enumerate(self._plan.layers):
            problem = next(filter(None, (_row_problem(fetched[position], rows) for fetched, rows in found)), "")
            if problem and observed.required:
                raise no_row_per_example(observed, problem)
            if problem:
                dropped.append(observed.layer.name)
                continue
            values = found[0][0][position]
            axis = observed.layer.channel_axis
            shape = unit_shape(values.shape[1:], self._pooling, axis)
            kept.append(Tap(observed, shape, pooled_units(values, self._pooling, axis).dtype))
        if not kept:
            raise InvalidField(
                "parameters.layers", "leaves no layer that holds a row of numbers per example", "name other layers"
            )
        self.taps = tuple(kept)
        if dropped:
            self.notices = (layers_left_out(dropped),)
            self._fetch = self._fetching(tuple(tap.observed for tap in kept), runtime)

    def _repeated(self, rows: int) -> dict[str, Array]:
        return {name: np.repeat(array[:1], rows, axis=0) for name, array in self._plan.inputs.items()}

    def _observe(self, first: int) -> Observation:
        """Evaluates and pools some examples; several threads do at a time."""
        rows = slice(first, first + self.capacity)
        inputs = {name: array[rows] for name, array in self._plan.inputs.items()}
        for name, array in inputs.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row = first + int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
                raise InvalidField(
                    self._plan.fields[name], f"example {row} holds NaN or infinity", "give finite numbers"
                )
        return self._observation(first, self._fetch(inputs))

    def _observation(self, first: int, fetched: list[Array]) -> Observation:
        rows = min(self.capacity, self._plan.count - first)
        units = []
        for tap, values in zip(self.taps, fetched, strict=False):
            problem = _row_problem(values, rows)
            if problem:
                raise no_row_per_example(tap.observed, problem)
            pooled = pooled_units(values, self._pooling, tap.observed.layer.channel_axis)
            if pooled.shape[1] != tap.units:
                raise no_row_per_example(tap.observed, f"gave {pooled.shape[1]} units after {tap.units}")
            if pooled.dtype.kind == "f":
                _require_finite(pooled, tap.observed.layer.name, first)
            units.append(pooled)
        return Observation(first, units, self._class_positions(first, rows, fetched))

    def _class_positions(self, first: int, rows: int, fetched: list[Array]) -> Array:
        if self._classes is not None:
            return self._classes[1][first : first + rows]
        values = fetched[-1]
        if self._outputs(values, rows) != self.class_count:
            raise self._no_classes(values)
        values = values.reshape(rows, -1)
        _require_finite(values, self._plan.output.name if self._plan.output else "", first)
        found: Array = values[:, 0] >= 0.5 if values.shape[1] == 1 else values.argmax(axis=1)
        return found.astype(np.int64)

    def _outputs(self, values: Array, rows: int) -> int:
        """How many classes an output tells apart."""
        flat = values.reshape(-1, 1) if values.ndim == 1 else values
        single = flat.ndim == 2 and flat.shape[1] == 1
        if flat.ndim != 2 or len(flat) != rows or (single and not self._plan.single_probability):
            raise self._no_classes(values)
        return max(2, int(flat.shape[1]))

    def _no_classes(self, values: Array) -> InvalidField:
        name = self._plan.output.name if self._plan.output else ""
        return InvalidField(
            self._plan.classes_field,
            f"output {name!r} of shape {list(values.shape)} does not tell classes",
            "group by labels, or name another output",
        )


def _row_problem(values: Array, rows: int) -> str:
    if values.ndim == 0 or len(values) != rows:
        return f"gave shape {values.shape} for {rows} rows"
    if values.dtype.kind not in "fiub" and values.dtype.name != "bfloat16":
        return f"holds {values.dtype}"
    if values.size == 0:
        return f"gave shape {values.shape}, without a number"
    return ""


def _require_finite(values: Array, layer: str, first: int) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        raise NonFiniteOutput(layer, first + int(np.argmin(finite.all(axis=1))))
