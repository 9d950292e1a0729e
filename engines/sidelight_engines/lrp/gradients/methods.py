"""Gradient methods: the gradient of what is explained, at one point or averaged over many.

    gradient                d f / d x
    input x gradient        x d f / d x
    integrated gradients    (x - x0) mean_k d f / d x (x0 + (k - 1/2) / m (x - x0)),  k = 1 .. m
    SmoothGrad              mean_k d f / d x (x + noise_k)
    guided backprop         the gradient, with R = R+ [y > 0] at ReLUs
    deconvnet               the gradient, with R = R+ at ReLUs

The class that is explained is that of the instance at every point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, NonFiniteOutput, NonFiniteRelevance
from sidelight_engines.linearity.result import Notice
from sidelight_engines.lrp.gradients.program import GradientProgram, GradientRecipe
from sidelight_engines.lrp.parameters import Chunking, GradientKind, GradientMethod, TargetValue
from sidelight_engines.lrp.quality.explained import explain, spread_of
from sidelight_engines.lrp.request.resolved import Request
from sidelight_engines.lrp.request.start import StartKind
from sidelight_engines.lrp.request.validation import fitting_instance
from sidelight_engines.lrp.result import LedgerEntry, LrpResult, Relevance
from sidelight_engines.lrp.running.cut import cut
from sidelight_engines.model import Model
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.runtime.side_by_side import side_by_side

_RECTIFIED = (GradientKind.GUIDED_BACKPROP, GradientKind.DECONVNET)
_AVERAGED = (GradientKind.INTEGRATED_GRADIENTS, GradientKind.SMOOTH_GRAD)
_TARGETS_AT_ONCE = 8

_Differentiated = tuple[dict[str, Array], dict[str, Array], Array, Array, Array]


def attribute_by_gradients(model: Model, request: Request, control: Control, chunking: Chunking) -> LrpResult:
    """Runs a gradient method.

    Raises:
        InvalidField: the baseline does not fit, or a layer is not on the way.
        MemoryLimitExceeded: one instance takes more memory than is granted.
        NonFiniteOutput: the model gave NaN or infinity.
        NonFiniteRelevance: its gradient is.
        Stopped: `control` asked for it.
    """
    method = request.parameters.method
    if not isinstance(method, GradientMethod):
        raise TypeError(f"{method} is not a gradient method")
    return _Attribution(model, request, method, control, chunking).run()


class _Attribution:
    """One request on its way.

    Every pass takes a batch of points; a point is an instance and a number below `samples`.
    """

    def __init__(
        self, model: Model, request: Request, method: GradientMethod, control: Control, chunking: Chunking
    ) -> None:
        if method.kind is GradientKind.INTEGRATED_GRADIENTS and request.tensors:
            problem = "integrated gradients are defined along a path of inputs"
            raise InvalidField("parameters.layers", problem, "leave it out, or take another method")
        self.forward_rows = 0
        self._model = model
        self._request = request
        self._method = method
        self._control = control
        self._chunking = chunking
        self._at_once = min(request.targets, _TARGETS_AT_ONCE)
        self._samples = method.samples if method.kind in _AVERAGED else 1
        dtypes = request.prepared.dtypes
        self._floating = [name for name, dtype in dtypes.items() if dtype.startswith(("float", "bfloat"))]
        self._baseline = self._checked_baseline()

    def _checked_baseline(self) -> dict[str, Array]:
        request, given = self._request, self._method.baseline
        if given is not None and self._method.kind is not GradientKind.INTEGRATED_GRADIENTS:
            raise InvalidField("parameters.gradient.baseline", "only integrated gradients read it", "leave it out")
        array = np.zeros(()) if given is None else np.asarray(given)
        found = {}
        for name in self._floating:
            fitting = fitting_instance(array, request.prepared, name, "parameters.gradient.baseline")
            found[name] = np.broadcast_to(fitting, request.feed[name].shape[1:]).astype(request.feed[name].dtype)
        return found

    def run(self) -> LrpResult:
        request = self._request
        starts = request.given
        kind = request.start
        value = logits = classes = None
        if self._samples > 1:
            # What is explained at the instance itself: its class, and what the attributions should sum to.
            _, _, logits, classes, value = self._passes(request.start, starts, 1, self._itself)
            if kind is StartKind.LARGEST:
                kind, starts = StartKind.CLASSES, classes.T.astype(np.int32)
        inputs, layers, *rest = self._passes(kind, starts, self._samples, self._point)
        if value is None or logits is None or classes is None:
            logits, classes, value = rest
        if self._method.kind is GradientKind.INTEGRATED_GRADIENTS:
            *_, at_baseline = self._passes(kind, starts, 1, self._at_baseline)
            value = value - at_baseline
            for name in self._floating:
                inputs[name] *= (request.feed[name] - self._baseline[name])[:, None]
        return self._result(inputs, layers, logits, classes, value)

    def _program(self, kind: StartKind) -> GradientProgram:
        request, method = self._request, self._method
        recipe = GradientRecipe(
            start=kind,
            margin=request.parameters.target.value is TargetValue.MARGIN,
            targets=self._at_once,
            layers=tuple(request.tensors.values()),
            everything=request.parameters.layers.everything,
            rectifier=method.kind if method.kind in _RECTIFIED else None,
            times_input=method.kind is GradientKind.INPUT_TIMES_GRADIENT,
        )
        prepared = request.prepared
        key = ("lrp", "gradient", prepared.output.name, prepared.lengths, recipe)
        return self._model.derived(key, lambda: GradientProgram(prepared, recipe))

    def _itself(self, rows: Array, points: Array) -> dict[str, Array]:
        return {name: array[rows] for name, array in self._request.feed.items()}

    def _at_baseline(self, rows: Array, points: Array) -> dict[str, Array]:
        moved = {name: np.repeat(value[None], len(rows), axis=0) for name, value in self._baseline.items()}
        return self._itself(rows, points) | moved

    def _point(self, rows: Array, points: Array) -> dict[str, Array]:
        feed = self._itself(rows, points)
        if self._method.kind is GradientKind.INTEGRATED_GRADIENTS:
            share = (points + 0.5) / self._samples
            for name, start in self._baseline.items():
                along = share.reshape([-1] + [1] * (feed[name].ndim - 1)).astype(feed[name].dtype)
                feed[name] = start + along * (feed[name] - start)
        elif self._method.kind is GradientKind.SMOOTH_GRAD:
            self._add_noise(feed, rows, points)
        return feed

    def _add_noise(self, feed: dict[str, Array], rows: Array, points: Array) -> None:
        """Noise hangs on the instance and the number of the point alone, not on how the work is cut."""
        for position, (row, point) in enumerate(zip(rows.tolist(), points.tolist(), strict=True)):
            instance = self._method.first_instance + row
            draws = np.random.Generator(np.random.Philox(key=[self._method.seed, instance], counter=[0, 0, 0, point]))
            for name in self._floating:
                array = feed[name][position]
                spread = self._method.noise * (array.max() - array.min()) if array.size else 0.0
                feed[name][position] = array + spread * draws.standard_normal(array.shape)

    def _passes(
        self, kind: StartKind, starts: Array | None, samples: int, make: Callable[[Array, Array], dict[str, Array]]
    ) -> tuple[dict[str, Array], dict[str, Array], Array, Array, Array]:
        """Means over points: gradients by input and by layer tensor, (n, targets, ...); logits, classes and f.

        Args:
            kind: how the explained logits are chosen.
            starts: what `GradientProgram` starts with, for all rows.
            samples: points per instance.
            make: the inputs of points, given their rows and their numbers.
        """
        request, program = self._request, self._program(kind)
        n, targets, fixed = request.rows, request.targets, request.prepared.fixed_batch
        at_once = self._model.gradient_passes_at_once()
        size, lanes = cut(n * samples, program.row_bytes, fixed, self._chunking, at_once)
        sums: tuple[dict[str, Array], dict[str, Array]] = ({}, {})
        logits, value = np.full((n, targets), np.nan), np.zeros((n, targets))
        classes = np.full((n, targets), -1, np.int64)
        parts = [
            (first, min(size, n * samples - first), target)
            for first in range(0, n * samples, size)
            for target in range(0, targets, self._at_once)
        ]

        def started(first: int, count: int, target: int) -> Callable[[], _Differentiated]:
            self._control.checkpoint()
            at = np.minimum(np.arange(first, first + (fixed or count)), first + count - 1)
            self.forward_rows += len(at)
            rows, points = at // samples, at % samples
            chosen = np.arange(target, target + self._at_once) % targets
            given = None if starts is None else starts[chosen][:, rows]
            return lambda: program(make(rows, points), given)

        todo = (started(*part) for part in parts)
        for (first, count, target), made in zip(parts, side_by_side(todo, lanes), strict=True):
            width = min(self._at_once, targets - target)
            columns, kept = slice(target, target + width), np.arange(first, first + count) // samples
            for whole, values in zip(sums, made[:2], strict=True):
                self._add(whole, values, kept, columns, samples)
            logits[kept, columns] = made[2][:width, :count].T
            classes[kept, columns] = made[3][:width, :count].T
            np.add.at(value[:, columns], kept, made[4][:width, :count].T / samples)
            self._check(made[2][:width, :count], made[0], kept, count)
            if samples == self._samples and target + width == targets:
                self._control.progress((first + count) // samples, n)
        return (*sums, logits, classes, value)

    def _add(
        self, whole: dict[str, Array], parts: Mapping[str, Array], rows: Array, columns: slice, samples: int
    ) -> None:
        n, targets = self._request.rows, self._request.targets
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        for name, values in parts.items():
            if name not in whole:
                whole[name] = np.zeros((n, targets, *values.shape[2:]), values.dtype)
            width = columns.stop - columns.start
            sums = values[:width, : len(rows)]
            if samples > 1:
                sums = np.add.reduceat(sums, starts, axis=1, dtype=np.float64) / samples
            whole[name][rows[starts], columns] += np.swapaxes(sums, 0, 1).astype(values.dtype)

    def _check(self, logits: Array, gradients: Mapping[str, Array], rows: Array, count: int) -> None:
        prepared = self._request.prepared
        if self._request.start is not StartKind.GIVEN and not np.isfinite(logits).all():
            row = rows[int(np.argmin(np.isfinite(logits).all(axis=0)))]
            raise NonFiniteOutput(prepared.graph.output_layers.get(prepared.output.name, ""), int(row))
        for name, values in gradients.items():
            finite = np.isfinite(values[:, :count].reshape(values.shape[0], count, -1)).all(axis=(0, 2))
            if not finite.all():
                raise NonFiniteRelevance(name, int(rows[int(np.argmin(finite))]))

    def _result(
        self, inputs: dict[str, Array], layers: dict[str, Array], logits: Array, classes: Array, value: Array
    ) -> LrpResult:
        request = self._request
        n, targets = logits.shape
        for name, shape in request.rest.items():
            inputs[name] = np.zeros((n, targets, *shape[1:]), np.float32)
        order = [spec.name for spec in request.prepared.graph.inputs if spec.name in inputs]
        relevance = tuple(Relevance(name, inputs[name]) for name in order)
        arrived = np.zeros((n, targets))
        for part in relevance:
            arrived += part.values.reshape(n, targets, -1).sum(axis=2, dtype=np.float64)
        none = np.zeros((n, targets))
        total = LedgerEntry("", value, arrived, none, none, none, none)
        spread = spread_of([np.swapaxes(part.values, 0, 1) for part in relevance])
        return LrpResult(
            inputs=relevance,
            layers=tuple(Relevance(name, layers[t]) for name, t in request.tensors.items() if t in layers),
            explained=explain(spread.turned(), total, logits, classes, with_ledger=False),
            ledger=(),
            applied_rules=(),
            head_cut_at=request.prepared.head_cut_at,
            forward_rows=self.forward_rows,
            warnings=self._warnings(),
            parameters=request.parameters,
        )

    def _warnings(self) -> tuple[Notice, ...]:
        found = []
        prepared = self._request.prepared
        if self._request.rest:
            names = ", ".join(repr(name) for name in self._request.rest)
            found.append(Notice("INPUT_UNUSED", f"output {prepared.output.name!r} does not depend on {names}"))
        whole = [name for name in prepared.dtypes if name not in self._floating]
        if whole:
            names = ", ".join(repr(name) for name in whole)
            text = f"{names} hold whole numbers, which have no gradient: their attribution is 0; LRP has one"
            found.append(Notice("INPUT_NOT_DIFFERENTIABLE", text))
        if self._method.kind in _RECTIFIED and not self._program(self._request.start).rectifiers:
            text = f"the model has no ReLU, so {self._method.kind.value} is the gradient"
            found.append(Notice("NO_RECTIFIER", text))
        return tuple(found)
