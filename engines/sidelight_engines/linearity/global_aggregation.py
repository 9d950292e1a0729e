"""L = ||sum_s a_s M(v_s) - M(sum_s a_s v_s)||.

For the jackknife, with every a_s = 1/S, the superpositions without sample j are

    (sum_s a_s v_s - a_j v_j) / (1 - a_j),

of inputs and of outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sidelight_engines.linearity.measurement import Evaluated, Measurement, Passes, Scores, blocks
from sidelight_engines.linearity.rounding import norms
from sidelight_engines.runtime.runtime import Array


class GlobalAggregation:
    """One superposition of all samples. See `measurement.Aggregator`."""

    def __init__(self, measurement: Measurement) -> None:
        self._m = measurement
        self._equal = len(set(measurement.coefficients.tolist())) == 1
        self._total_size = float(np.abs(measurement.coefficients).sum())
        rows = (2 if measurement.repeats else 1) * measurement.samples + 1
        self.single_pass = rows <= measurement.capacity
        self.instances_per_group = max(1, measurement.capacity // rows)

    def measure(self, first: int, count: int) -> Passes:
        """See `measurement.Aggregator.measure`."""
        m = self._m
        # The jackknife needs the superposition of all samples, so it waits for them if they take several passes.
        jackknife = m.repeats and self.single_pass
        cuts = [(0, m.samples)] if self.single_pass else blocks(m.samples, 1, 1, m.capacity)
        superposed = np.zeros((count, m.buffer.shape[1]))
        sums: list[Array] = []
        rounded: list[Array] = []
        scores: list[Scores] = []
        for start, stop in cuts:
            m.control.checkpoint()
            taken = count * (stop - start)
            samples = m.draw(first, count, start, stop)
            superposed += self._weigh(samples, start, stop, np.dtype(np.float64))
            rows = taken
            if stop == m.samples:
                m.buffer[rows : rows + count] = superposed
                rows += count
            if jackknife:
                m.buffer[rows : rows + taken] = self._without_each(superposed, samples).reshape(taken, -1)
                rows += taken
            evaluated = yield m.buffer[:rows]
            parts, sizes = self._sum_up(evaluated, count, start, stop)
            # Of several passes the sums grow in float64; one alone stays in the type of the numbers.
            sums = [whole.astype(np.float64) + part for whole, part in zip(sums, parts, strict=True)] if sums else parts
            rounded = [np.maximum(*pair) for pair in zip(rounded, sizes, strict=True)] if rounded else sizes
            if stop == m.samples:
                scores = self._finish(evaluated, first, count, taken, sums, rounded)
            if jackknife:
                for target, values in enumerate(evaluated):
                    outputs = values.numbers[:taken].reshape(count, m.samples, -1)
                    repeats = self._repeats(sums[target], outputs, values.numbers[taken + count :])
                    m.require_finite(repeats, target, first)
                    scores[target].repeats = repeats
        if m.repeats and not jackknife:
            yield from self._jackknife(first, superposed, sums, scores)
        return scores

    def _sum_up(self, evaluated: Evaluated, count: int, start: int, stop: int) -> tuple[list[Array], list[Array]]:
        """The superposed outputs of the samples at the head of what was evaluated, and the size of what was rounded.

        The size is taken from the last sample of each instance, as another pass over all outputs would take as long as
        the sum itself; where the superposition stands for the samples, it is left to that.
        """
        each = stop - start
        done: dict[int, tuple[Array, Array]] = {}
        for values in evaluated:
            if id(values) not in done:
                outputs = values.numbers[: count * each].reshape(count, each, -1)
                last = slice(each - 1, count * each, each)
                size = np.zeros(count) if self._m.amid else self._total_size * values.sizes(last)
                done[id(values)] = self._superpose(outputs, start, stop), size
        found = [done[id(values)] for values in evaluated]
        return [part for part, _ in found], [size for _, size in found]

    def _superpose(self, outputs: Array, start: int, stop: int) -> Array:
        """sum_s a_s M(v_s), (count, size)."""
        with np.errstate(over="ignore"):
            superposed = self._weigh(outputs, start, stop, outputs.dtype)
        if not np.isfinite(superposed).all():
            # Finite numbers may have left the range of float32 on the way.
            superposed = self._weigh(outputs, start, stop, np.dtype(np.float64))
        return superposed

    def _weigh(self, vectors: Array, start: int, stop: int, dtype: np.dtype[Any]) -> Array:
        """sum_s a_s vectors_s over the middle axis.

        Not by a matrix product: that would wake threads of its own, which spin and contend with the runtime's.
        """
        weights = self._m.coefficients[start:stop].astype(dtype)
        if self._equal:
            return np.asarray(np.add.reduce(vectors, axis=1, dtype=dtype) * weights[0])
        return np.asarray(np.einsum("s,isf->if", weights, vectors, dtype=dtype))

    def _finish(
        self, evaluated: Evaluated, first: int, count: int, taken: int, sums: list[Array], rounded: list[Array]
    ) -> list[Scores]:
        """Compares the sums with the outputs of the superpositions, which follow `taken` rows of samples."""
        scores = []
        ends = slice(taken, taken + count)
        done: dict[int, Array] = {}
        for target, values in enumerate(evaluated):
            found = done.get(id(values))
            if found is None:
                with np.errstate(invalid="ignore"):
                    difference = norms(sums[target] - values.numbers[ends])
                magnitude = norms(sums[target])
                size = np.maximum.reduce([rounded[target], magnitude, values.sizes(ends)])
                found = done[id(values)] = np.stack([difference, magnitude, size], axis=1)
            self._m.require_finite(found, target, first)
            scores.append(Scores(found[:, 0], found[:, 1], found[:, 2], None))
        return scores

    def _jackknife(self, first: int, superposed: Array, sums: list[Array], scores: list[Scores]) -> Passes:
        """The jackknife for one instance whose samples take several forward passes: evaluates them again."""
        m = self._m
        repeats = [np.empty((1, m.samples)) for _ in scores]
        for start, stop in blocks(m.samples, 2, 0, m.capacity):
            m.control.checkpoint()
            taken = stop - start
            samples = m.draw(first, 1, start, stop)
            m.buffer[taken : 2 * taken] = self._without_each(superposed, samples)[0]
            evaluated = yield m.buffer[: 2 * taken]
            for target, values in enumerate(evaluated):
                numbers = values.numbers
                repeats[target][:, start:stop] = self._repeats(sums[target], numbers[None, :taken], numbers[taken:])
        for target, score in enumerate(scores):
            m.require_finite(repeats[target], target, first)
            score.repeats = repeats[target]
        return scores

    def _without_each(self, superposed: Array, samples: Array) -> Array:
        """The superpositions without each sample, (count, samples, features)."""
        share = 1.0 / self._m.samples
        return np.asarray((superposed[:, None, :] - share * samples) / (1 - share))

    def _repeats(self, superposed: Array, outputs: Array, without: Array) -> Array:
        """L without each sample, (count, samples)."""
        share = 1.0 / self._m.samples
        kind = outputs.dtype.type
        without = without.reshape(outputs.shape)
        found = np.empty(outputs.shape[:2])
        # One instance at a time, for the sake of memory.
        for instance in range(len(outputs)):
            difference = superposed[instance].astype(kind) - outputs[instance] * kind(share)
            difference *= kind(1 / (1 - share))
            difference -= without[instance]
            found[instance] = norms(difference)
        return found
