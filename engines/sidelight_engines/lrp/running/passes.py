"""Runs a traced walk over instances and targets in chunks, and puts the parts together."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.errors import NonFiniteOutput, NonFiniteRelevance
from sidelight_engines.linearity.result import Notice
from sidelight_engines.lrp.parameters import Chunking, GradientMethod
from sidelight_engines.lrp.quality.explained import Spread, explain, spread_of
from sidelight_engines.lrp.request.resolved import Request
from sidelight_engines.lrp.request.start import StartKind
from sidelight_engines.lrp.result import LedgerEntry, LrpResult, Relevance
from sidelight_engines.lrp.running.cut import cut
from sidelight_engines.lrp.running.program import LrpProgram, Passed, Recipe
from sidelight_engines.lrp.walk.ledger import COLUMNS
from sidelight_engines.model import Model
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.runtime.side_by_side import side_by_side

# More targets at once make wider tensors without sharing more.
_TARGETS_AT_ONCE = 8


class RelevancePasses:
    """Propagates relevance for a request.

    Args:
        model: keeps traced functions.
        request: what is asked.
        control: asked for a stop before every pass.
        chunking: how the work is cut.

    Attributes:
        forward_rows: rows that were sent through the model.
    """

    def __init__(self, model: Model, request: Request, control: Control, chunking: Chunking) -> None:
        self.forward_rows = 0
        self._request = request
        self._control = control
        self._at_once = min(request.targets, _TARGETS_AT_ONCE)
        self._program = self._traced(model)
        fixed, at_once = request.prepared.fixed_batch, model.gradient_passes_at_once()
        self._rows, self._lanes = cut(request.rows, self._program.row_bytes, fixed, chunking, at_once)
        self._layer_of = {tensor: name for name, tensor in request.tensors.items()}

    def run(self) -> LrpResult:
        """Propagates.

        Raises:
            NonFiniteOutput: the model gave NaN or infinity.
            NonFiniteRelevance: relevance overflowed.
            Stopped: `control` asked for it.
        """
        request = self._request
        whole = _Whole(request, self._program)
        parts = self._parts()
        todo = (self._started(*part) for part in parts)
        for (first, count, target), (passed, spread) in zip(parts, side_by_side(todo, self._lanes), strict=True):
            self._check(passed, first, count)
            width = min(self._at_once, request.targets - target)
            whole.put(passed, spread, first, count, target, width)
            if target + width == request.targets:
                self._control.progress(first + count, request.rows)
        return whole.result(self.forward_rows)

    def _parts(self) -> list[tuple[int, int, int]]:
        """(First instance, instances, first target) of each pass."""
        request, rows = self._request, self._rows
        return [
            (first, min(rows, request.rows - first), target)
            for first in range(0, request.rows, rows)
            for target in range(0, request.targets, self._at_once)
        ]

    def _started(self, first: int, count: int, target: int) -> Callable[[], tuple[Passed, Spread]]:
        self._control.checkpoint()
        feed, given = self._feed(first, count, target)
        self.forward_rows += len(next(iter(feed.values())))

        def run() -> tuple[Passed, Spread]:
            passed = self._program(feed, given)
            # Inputs that the output does not need count with zeros.
            shape = next(iter(passed.inputs.values())).shape[:2]
            unused = [np.zeros((*shape, *rest[1:]), np.float32) for rest in self._request.rest.values()]
            return passed, spread_of([*passed.inputs.values(), *unused])

        return run

    def _traced(self, model: Model) -> LrpProgram:
        request, parameters = self._request, self._request.parameters
        if isinstance(parameters.method, GradientMethod):
            raise TypeError("gradient methods have passes of their own")
        recipe = Recipe(
            method=parameters.method,
            empty_branch=parameters.empty_branch,
            fallback=parameters.fallback,
            attention=parameters.attention,
            layers=tuple(request.tensors.values()),
            everything=parameters.layers.everything,
            start=request.start,
            value=parameters.target.value,
            targets=self._at_once,
            box=_key(request.box),
            nonnegative=tuple(name for name, array in request.feed.items() if not np.any(array < 0)),
        )
        prepared = request.prepared
        key = ("lrp", prepared.output.name, prepared.lengths, recipe)
        return model.derived(key, lambda: LrpProgram(prepared, recipe, request.box))

    def _feed(self, first: int, count: int, target: int) -> tuple[dict[str, Array], Array | None]:
        request = self._request
        fixed = request.prepared.fixed_batch
        # A batch of fixed length is filled up with its last row, the last targets with the first of all.
        at = np.minimum(np.arange(first, first + (fixed or count)), first + count - 1)
        plain = fixed is None
        feed = {name: array[first : first + count] if plain else array[at] for name, array in request.feed.items()}
        if request.given is None:
            return feed, None
        chosen = np.arange(target, target + self._at_once) % request.targets
        return feed, request.given[chosen][:, at]

    def _check(self, passed: Passed, first: int, count: int) -> None:
        request = self._request
        if request.start is not StartKind.GIVEN and not np.isfinite(passed.logits[:, :count]).all():
            row = int(np.argmin(np.isfinite(passed.logits[:, :count]).all(axis=0)))
            raise NonFiniteOutput(
                request.prepared.graph.output_layers.get(request.prepared.output.name, ""), first + row
            )
        for name, values in passed.inputs.items():
            flat = np.isfinite(values[:, :count].reshape(values.shape[0], count, -1)).all(axis=(0, 2))
            if not flat.all():
                raise NonFiniteRelevance(name, first + int(np.argmin(flat)))


def _key(box: dict[str, tuple[Array, Array]] | None) -> Hashable:
    if box is None:
        return None
    return tuple((name, *((end.shape, end.tobytes()) for end in ends)) for name, ends in box.items())


class _Whole:
    """The parts of a result while they come in."""

    def __init__(self, request: Request, program: LrpProgram) -> None:
        self._request = request
        self._program = program
        n, targets = request.rows, request.targets
        self._inputs: dict[str, Array] = {}
        self._layers: dict[str, Array] = {}
        self._ledger = np.zeros((len(program.ledger_layers), len(COLUMNS), n, targets))
        self._logits = np.full((n, targets), np.nan)
        self._classes = np.full((n, targets), -1, np.int64)
        self._spread = Spread(*(np.zeros((n, targets)) for _ in range(3)))

    def put(self, passed: Passed, spread: Spread, first: int, count: int, target: int, targets: int) -> None:
        rows, columns = slice(first, first + count), slice(target, target + targets)
        for kept, parts in ((self._inputs, passed.inputs), (self._layers, passed.layers)):
            for name, values in parts.items():
                if name not in kept:
                    shape = (self._request.rows, self._request.targets, *values.shape[2:])
                    kept[name] = np.empty(shape, values.dtype)
                kept[name][rows, columns] = np.swapaxes(values[:targets, :count], 0, 1)
        self._ledger[:, :, rows, columns] = np.swapaxes(passed.ledger[:, :, :targets, :count], 2, 3)
        self._logits[rows, columns] = passed.logits[:targets, :count].T
        self._classes[rows, columns] = passed.classes[:targets, :count].T
        for name in ("sparseness", "entropy", "size"):
            getattr(self._spread, name)[rows, columns] = getattr(spread, name)[:targets, :count].T

    def result(self, forward_rows: int) -> LrpResult:
        request = self._request
        n, targets = request.rows, request.targets
        for name, shape in request.rest.items():
            self._inputs[name] = np.zeros((n, targets, *shape[1:]), np.float32)
        order = [spec.name for spec in request.prepared.graph.inputs if spec.name in self._inputs]
        inputs = tuple(Relevance(name, self._inputs[name]) for name in order)
        layers = tuple(
            Relevance(name, self._layers[tensor]) for name, tensor in request.tensors.items() if tensor in self._layers
        )
        ledger = self._entries()
        return LrpResult(
            inputs=inputs,
            layers=layers,
            explained=explain(self._spread, ledger[-1], self._logits, self._classes),
            ledger=ledger,
            applied_rules=self._program.applied,
            head_cut_at=request.prepared.head_cut_at,
            forward_rows=forward_rows,
            warnings=self._warnings(),
            parameters=request.parameters,
        )

    def _entries(self) -> tuple[LedgerEntry, ...]:
        names = self._program.ledger_layers
        entries = [LedgerEntry(name, *self._ledger[index]) for index, name in enumerate(names) if name]
        total = self._ledger[names.index("")]
        booked = self._ledger[[index for index, name in enumerate(names) if name]].sum(axis=0)
        # Between layers nothing is lost, so the total is what started, what arrived, and what the layers booked.
        return (*entries, LedgerEntry("", total[0], total[1], *booked[2:]))

    def _warnings(self) -> tuple[Notice, ...]:
        found = []
        prepared = self._request.prepared
        if self._request.rest:
            names = ", ".join(repr(name) for name in self._request.rest)
            found.append(Notice("INPUT_UNUSED", f"output {prepared.output.name!r} does not depend on {names}"))
        fallback = [rule for rule in self._program.applied if rule.fallback]
        if fallback:
            names = ", ".join(f"{rule.node!r} ({rule.op})" for rule in fallback[:5])
            text = f"{len(fallback)} operations without an entry took the gradient, which does not conserve: {names}"
            found.append(Notice("LRP_FALLBACK", text))
        return tuple(found)
