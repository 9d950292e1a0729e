"""L = ||sum_s a_s M(v_s) - M(sum_s a_s v_s)||.

For the jackknife, with every a_s = 1/S, the superpositions without sample j are

    (sum_s a_s v_s - a_j v_j) / (1 - a_j),

of inputs and of outputs.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.linearity.measurement import Evaluated, Measurement, Passes, Scores, blocks
from sidelight_engines.linearity.rounding import norms
from sidelight_engines.runtime.runtime import Array


class GlobalAggregation:
    """One superposition of all samples. See `measurement.Aggregator`."""

    def __init__(self, measurement: Measurement) -> None:
        self._m = measurement
        # Weights relative to the largest are exactly 1 by default, so float32 products add no bias.
        self._unit = float(np.abs(measurement.coefficients).max()) or 1.0
        self._weights = measurement.coefficients / self._unit
        self._sizes = np.abs(measurement.coefficients)
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
        sums: list[Array] = [np.zeros(1)] * len(m.targets)
        rounded = [np.zeros(count) for _ in m.targets]
        scores: list[Scores] = []
        for start, stop in cuts:
            m.control.checkpoint()
            taken = count * (stop - start)
            samples = m.draw(first, count, start, stop)
            superposed += np.matmul(m.coefficients[start:stop], samples)
            rows = taken
            if stop == m.samples:
                m.buffer[rows : rows + count] = superposed
                rows += count
            if jackknife:
                m.buffer[rows : rows + taken] = self._without_each(superposed, samples).reshape(taken, -1)
                rows += taken
            evaluated = yield rows
            owners = first + np.arange(taken) // (stop - start)
            for target, (values, sizes) in enumerate(evaluated):
                m.require_finite(sizes[:taken], target, owners)
                outputs = values[:taken].reshape(count, stop - start, -1)
                sums[target] = sums[target] + self._superpose(outputs, start, stop)
                rounded[target] += sizes[:taken].reshape(count, -1) @ self._sizes[start:stop]
            if stop == m.samples:
                scores = self._finish(evaluated, first, count, taken, sums, rounded)
            if jackknife:
                for target, (values, sizes) in enumerate(evaluated):
                    m.require_finite(sizes[taken + count :], target, owners)
                    outputs = values[:taken].reshape(count, stop - start, -1)
                    scores[target].repeats = self._repeats(sums[target], outputs, values[taken + count :])
        if m.repeats and not jackknife:
            yield from self._jackknife(first, superposed, sums, scores)
        return scores

    def _finish(
        self, evaluated: Evaluated, first: int, count: int, taken: int, sums: list[Array], rounded: list[Array]
    ) -> list[Scores]:
        """Compares the sums with the outputs of the superpositions, which follow `taken` rows of samples."""
        scores = []
        ends = slice(taken, taken + count)
        for target, (values, sizes) in enumerate(evaluated):
            self._m.require_finite(sizes[ends], target, first + np.arange(count))
            difference = norms(sums[target] - values[ends])
            scores.append(Scores(difference, norms(sums[target]), np.maximum(rounded[target], sizes[ends]), None))
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
            evaluated = yield 2 * taken
            for target, (values, sizes) in enumerate(evaluated):
                m.require_finite(sizes, target, np.full(2 * taken, first))
                repeats[target][:, start:stop] = self._repeats(sums[target], values[None, :taken], values[taken:])
        for score, found in zip(scores, repeats, strict=True):
            score.repeats = found
        return scores

    def _superpose(self, outputs: Array, start: int, stop: int) -> Array:
        weights = self._weights[start:stop].astype(outputs.dtype)
        return np.asarray(np.matmul(weights, outputs).astype(np.float64) * self._unit)

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
