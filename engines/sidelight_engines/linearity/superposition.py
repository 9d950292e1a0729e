"""The superposed outputs of many layers without the outputs of each sample.

What L needs of a layer is sum_s a_s M(v_s). Where M is affine in another layer's output t, M = A t + b, that is
A(sum_s a_s t(v_s)) + (sum_s a_s) b: the part of the model between the two is evaluated once per instance. Where M only
moves the numbers of t about, its L is that of t. So most layers stay within the runtime, which then computes
a convolution with its bias and its activation at once, and of the others the sums alone need leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import fsum

import numpy as np

from sidelight_engines.graph.graph import Graph
from sidelight_engines.graph.segments import find_segments
from sidelight_engines.linearity.targets import SMALL, Target, as_is
from sidelight_engines.runtime.runtime import Array, Runtime, RuntimeKind, weighted_sums

# ONNX Runtime takes an eighth longer with 60 rows, whose activations leave the cache, and with 5.
_ROWS = {RuntimeKind.ONNX_RUNTIME: 24, RuntimeKind.TENSORFLOW: 256}
_FLOATS = ("float32", "float64")


@dataclass(frozen=True)
class Division:
    """What becomes of each target, by position.

    Attributes:
        summed: targets whose rows are summed up by the runtime.
        fetched: targets whose rows are fetched, because they are small or on a scale of their own.
        affine: targets that follow from others, and the tensors that the others, and the inputs, are.
        moved: target -> the target that holds the same numbers.
    """

    summed: tuple[int, ...]
    fetched: tuple[int, ...]
    affine: Mapping[int, frozenset[str]]
    moved: Mapping[int, int]


def divide(graph: Graph, targets: Sequence[Target]) -> Division | None:
    """Finds out what need not be evaluated for each sample; None if nothing is gained.

    Args:
        graph: the model.
        targets: what is measured; each holds a row per instance.
    """
    plain = {target.tensors[0]: position for position, target in reversed(list(enumerate(targets))) if _plain(target)}
    segments = find_segments(graph, list(plain))
    if not segments.affine:
        return None
    types = {name: kind for step in graph.steps for name, kind in step.types.items()}
    summed, fetched, affine, moved = [], [], {}, {}
    for position, target in enumerate(targets):
        tensor = target.tensors[0]
        kind = types.get(tensor)
        if not _plain(target):
            fetched.append(position)
        elif plain[tensor] != position:
            moved[position] = plain[tensor]
        elif tensor in segments.moved:
            moved[position] = plain[_source(tensor, segments.moved)]
        elif tensor in segments.affine:
            affine[position] = segments.affine[tensor]
        elif kind is None or kind.dtype not in _FLOATS or _is_small(kind.shape):
            fetched.append(position)
        else:
            summed.append(position)
    return Division(tuple(summed), tuple(fetched), affine, moved)


def _source(tensor: str, moved: Mapping[str, str]) -> str:
    while tensor in moved:
        tensor = moved[tensor]
    return tensor


def _plain(target: Target) -> bool:
    return target.scale is as_is and len(target.tensors) == 1


def _is_small(shape: tuple[int | None, ...] | None) -> bool:
    return shape is not None and None not in shape[1:] and int(np.prod([n or 1 for n in shape[1:]])) <= SMALL


class Superposition:
    """Superposes the outputs of samples.

    Attributes:
        division: what becomes of each target.
        rows: the most rows of a forward pass.

    Args:
        division: of the targets.
        targets: what is measured.
        inputs: the tensor of the model's input, its name and the shape of one instance.
        runtime: evaluates the model.
        capacity: the most rows of a forward pass that memory allows for.
        coefficients: the a_s.
        amid: see `Measurement.amid`; where not, the last sample is evaluated by itself.
        side_by_side: whether several threads will ask.
    """

    def __init__(
        self,
        division: Division,
        targets: Sequence[Target],
        inputs: tuple[str, str, tuple[int, ...]],
        runtime: Runtime,
        capacity: int,
        coefficients: Array,
        *,
        amid: bool,
        side_by_side: bool,
    ) -> None:
        self.division = division
        self._targets = targets
        self._input, self._name, self._shape = inputs
        self.rows = min(capacity, _ROWS[runtime.kind])
        # Of the samples that the runtime sums up; the last one may have been evaluated by itself.
        self._weights = coefficients if amid else coefficients[:-1]
        self._last_weight = None if amid else coefficients[-1]
        # What a constant term lacks beside the sum of the inputs.
        self._lacking = fsum(coefficients.tolist()) - 1
        self._lacking = 0.0 if abs(self._lacking) < 1e-12 else self._lacking
        self._positions = {
            target.tensors[0]: position
            for position, target in reversed(list(enumerate(targets)))
            if position in {*division.summed, *division.fetched} and _plain(target)
        }
        self._sums = [targets[position].tensors[0] for position in division.summed]
        self._fetches = list(dict.fromkeys(t for position in division.fetched for t in targets[position].tensors))
        self._summing = runtime.summing(self._sums, self._fetches, side_by_side=side_by_side)
        self._given = sorted(frozenset().union(*division.affine.values()))
        wanted = [targets[position].tensors[0] for position in division.affine]
        self._segment = runtime.segment(self._given, wanted, side_by_side=side_by_side)

    def superpose(
        self,
        samples: Array,
        apart: Mapping[int, Array],
        superposed: Array,
        shapes: Sequence[tuple[int, ...]],
        checkpoint: Callable[[], None],
    ) -> dict[int, Array]:
        """sum_s a_s M(v_s) of every target but the moved ones.

        Args:
            samples: of the input's type, (instances, samples, features).
            apart: target -> its outputs for the rows that were evaluated by themselves, (rows, size): the last samples,
                if they were, and the superpositions.
            superposed: sum_s a_s v_s, of the input's type, (instances, features).
            shapes: for each target the shape of its rows.
            checkpoint: called before each forward pass.

        Returns:
            Position of the target -> (instances, size). They may hold infinity where a sum leaves the range of its
            type.
        """
        count, each = samples.shape[0], len(self._weights)
        sums = {
            position: np.empty((count, int(np.prod(shapes[position]))), apart[position].dtype)
            for position in (*self.division.summed, *self.division.fetched)
        }
        passes = -(-count // max(1, self.rows // each))
        edges = [count * number // passes for number in range(passes + 1)]
        for first, stop in pairwise(edges):
            checkpoint()
            inner = np.ascontiguousarray(samples[first:stop, :each]).reshape(-1, *self._shape)
            for position, values in self._sum(inner).items():
                sums[position][first:stop] = values
        if self._last_weight is not None:
            self._add_last(sums, apart, self._last_weight)
        return sums | self._follow(sums, superposed, shapes)

    def _add_last(self, sums: Mapping[int, Array], apart: Mapping[int, Array], coefficient: float) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            for position, whole in sums.items():
                weight = whole.dtype.type(coefficient)
                # Row by row: what is in the cache takes less time than new memory.
                for row, last in zip(whole, apart[position], strict=False):
                    row += weight * last

    def _sum(self, rows: Array) -> dict[int, Array]:
        weights = self._weights
        summed, fetched = self._summing({self._name: rows}, weights)
        found = {
            position: values.reshape(len(values), -1)
            for position, values in zip(self.division.summed, summed, strict=True)
        }
        by_name = dict(zip(self._fetches, fetched, strict=True))
        for position in self.division.fetched:
            target = self._targets[position]
            numbers = target.scale([by_name[tensor] for tensor in target.tensors]).numbers
            found[position] = weighted_sums(numbers, weights)
        return found

    def _follow(
        self, sums: Mapping[int, Array], superposed: Array, shapes: Sequence[tuple[int, ...]]
    ) -> dict[int, Array]:
        """The targets that are affine in others."""
        count = len(superposed)
        feed = {}
        for tensor in self._given:
            if tensor == self._input:
                rows = superposed.reshape(count, *self._shape)
            else:
                position = self._positions[tensor]
                rows = sums[position].reshape(count, *shapes[position])
            feed[tensor] = np.concatenate([rows, np.zeros_like(rows[:1])]) if self._lacking else rows
        found = {}
        for position, values in zip(self.division.affine, self._segment(feed), strict=True):
            flat = values.reshape(len(values), -1)
            # The last row is b.
            found[position] = flat[:-1] + flat.dtype.type(self._lacking) * flat[-1] if self._lacking else flat
        return found
