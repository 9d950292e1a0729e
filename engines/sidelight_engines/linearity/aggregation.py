"""The two ways of combining samples, chunk by chunk.

Both go over a group of instances in one forward pass if the rows fit, and otherwise over one instance in
several, keeping sums only; so memory does not grow with instances, samples or layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.linearity.evaluation import Evaluator
from sidelight_engines.linearity.rounding import norms
from sidelight_engines.linearity.sampling import Sampler
from sidelight_engines.runtime.runtime import Array


@dataclass
class Scores:
    """What was measured at one target for a group of instances; float64.

    Attributes:
        linearity: L, (instances,).
        magnitude: the norm of the superposed outputs (PAIRWISE: its mean over samples), (instances,).
        rounded: the size of what was rounded on the way to L, (instances,).
        repeats: the L that intervals are made from, (instances, samples): PAIRWISE, of each sample; GLOBAL,
            without each sample. None unless asked for.
    """

    linearity: Array
    magnitude: Array
    rounded: Array
    repeats: Array | None


@dataclass(frozen=True)
class Measurement:
    """What both aggregations work with.

    Attributes:
        instances: (instances, features).
        sampler: makes the samples.
        evaluator: evaluates the targets.
        samples: S, the samples per instance.
        coefficients: the a_s, float64.
        repeats: whether `Scores.repeats` is wanted.
        control: asked for a stop before every forward pass.
    """

    instances: Array
    sampler: Sampler
    evaluator: Evaluator
    samples: int
    coefficients: Array
    repeats: bool
    control: Control

    def draw(self, first: int, count: int, start: int, stop: int) -> Array:
        """Writes samples to the head of the evaluator's buffer.

        Returns:
            The samples, (count, stop - start, features): float64 as drawn where the sampler works in
            float64, and as the model sees them otherwise.
        """
        rows = self.evaluator.buffer[: count * (stop - start)]
        shape = (count, stop - start, rows.shape[1])
        if self.sampler.dtype == rows.dtype:
            samples = rows.reshape(shape)
            self.sampler.fill(samples, first, start)
            return samples
        samples = np.empty(shape, self.sampler.dtype)
        self.sampler.fill(samples, first, start)
        rows[...] = samples.reshape(rows.shape)
        return samples if self.sampler.dtype == np.float64 else rows.reshape(shape)


def instances_per_pass(measurement: Measurement, rows_per_instance: int) -> int:
    """How many instances go into one forward pass; at least 1."""
    return max(1, measurement.evaluator.capacity // rows_per_instance)


def blocks(samples: int, per_sample: int, extra: int, capacity: int) -> list[tuple[int, int]]:
    """Cuts the samples of an instance into blocks of about equal length.

    Args:
        samples: how many there are.
        per_sample: rows that each takes in a forward pass.
        extra: rows that one block takes in addition.
        capacity: the most rows of a forward pass.
    """
    longest = max(1, (capacity - extra) // per_sample)
    count = -(-samples // longest)
    edges = [samples * position // count for position in range(count + 1)]
    return list(itertools.pairwise(edges))


class GlobalAggregation:
    """L = ||sum_s a_s M(v_s) - M(sum_s a_s v_s)||.

    For the jackknife, with every a_s = 1/S, the superpositions without sample j are
    (sum_s a_s v_s - a_j v_j) / (1 - a_j), of inputs and of outputs.
    """

    def __init__(self, measurement: Measurement) -> None:
        self._m = measurement
        # Weights relative to the largest are exactly 1 by default, so float32 products add no bias.
        self._unit = float(np.abs(measurement.coefficients).max()) or 1.0
        self._weights = measurement.coefficients / self._unit
        self._sizes = np.abs(measurement.coefficients)
        per_instance = (2 if measurement.repeats else 1) * measurement.samples + 1
        self._fits = per_instance <= measurement.evaluator.capacity
        self.instances_per_group = instances_per_pass(measurement, per_instance)

    def measure(self, first: int, count: int) -> list[Scores]:
        """Measures consecutive instances, at most `instances_per_group`; one `Scores` per target."""
        m = self._m
        targets = range(len(m.evaluator.targets))
        in_one = m.repeats and self._fits
        superposed = np.zeros((count, m.evaluator.buffer.shape[1]))
        sums: list[Array] = [np.zeros(1)] * len(targets)
        rounded = [np.zeros(count) for _ in targets]
        scores = []
        cuts = blocks(m.samples, 2 if in_one else 1, count, m.evaluator.capacity) if count == 1 else [(0, m.samples)]
        for start, stop in cuts:
            m.control.checkpoint()
            taken = count * (stop - start)
            samples = m.draw(first, count, start, stop)
            superposed += np.matmul(m.coefficients[start:stop], samples)
            rows = taken
            last = stop == m.samples
            if last:
                m.evaluator.buffer[rows : rows + count] = superposed
                rows += count
            if in_one:
                m.evaluator.buffer[rows : rows + taken] = self._without_each(superposed, samples).reshape(taken, -1)
                rows += taken
            owners = first + np.arange(taken) // (stop - start)
            for target, (values, sizes) in enumerate(m.evaluator.evaluate(rows)):
                m.evaluator.require_finite(sizes[:taken], target, owners)
                outputs = values[:taken].reshape(count, stop - start, -1)
                sums[target] = sums[target] + self._superpose(outputs, start, stop)
                rounded[target] += sizes[:taken].reshape(count, -1) @ self._sizes[start:stop]
                if last:
                    ends = slice(taken, taken + count)
                    m.evaluator.require_finite(sizes[ends], target, first + np.arange(count))
                    repeats = None
                    if in_one:
                        m.evaluator.require_finite(sizes[taken + count :], target, owners)
                        repeats = self._repeats(sums[target], outputs, values[taken + count :])
                    scores.append(
                        Scores(
                            norms(sums[target] - values[ends]),
                            norms(sums[target]),
                            np.maximum(rounded[target], sizes[ends]),
                            repeats,
                        )
                    )
        if m.repeats and not in_one:
            self._measure_without_each(first, superposed, sums, scores)
        return scores

    def _measure_without_each(self, first: int, superposed: Array, sums: list[Array], scores: list[Scores]) -> None:
        """The jackknife for one instance whose samples do not fit into one forward pass: evaluates them again."""
        m = self._m
        for score in scores:
            score.repeats = np.empty((1, m.samples))
        for start, stop in blocks(m.samples, 2, 0, m.evaluator.capacity):
            m.control.checkpoint()
            taken = stop - start
            samples = m.draw(first, 1, start, stop)
            m.evaluator.buffer[taken : 2 * taken] = self._without_each(superposed, samples)[0]
            for target, (values, sizes) in enumerate(m.evaluator.evaluate(2 * taken)):
                m.evaluator.require_finite(sizes, target, np.full(2 * taken, first))
                repeats = scores[target].repeats
                if repeats is not None:
                    repeats[:, start:stop] = self._repeats(sums[target], values[None, :taken], values[taken:])

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
        without = without.reshape(outputs.shape)
        found = np.empty(outputs.shape[:2])
        for instance in range(len(outputs)):
            difference = superposed[instance].astype(outputs.dtype) - outputs[instance] * outputs.dtype.type(share)
            difference *= outputs.dtype.type(1 / (1 - share))
            difference -= without[instance]
            found[instance] = norms(difference)
        return found


class PairwiseAggregation:
    """L = mean over s of ||a_1 M(x) + a_2 M(v_s) - M(a_1 x + a_2 v_s)||."""

    def __init__(self, measurement: Measurement) -> None:
        self._m = measurement
        self.instances_per_group = instances_per_pass(measurement, 2 * measurement.samples + 1)

    def measure(self, first: int, count: int) -> list[Scores]:
        """Measures consecutive instances, at most `instances_per_group`; one `Scores` per target."""
        m = self._m
        each = [np.empty((count, m.samples)) for _ in m.evaluator.targets]
        magnitudes = [np.empty((count, m.samples)) for _ in m.evaluator.targets]
        rounded = [np.empty((count, m.samples)) for _ in m.evaluator.targets]
        centres: list[tuple[Array, Array]] = []
        cuts = blocks(m.samples, 2, count, m.evaluator.capacity) if count == 1 else [(0, m.samples)]
        for start, stop in cuts:
            m.control.checkpoint()
            taken = count * (stop - start)
            self._fill(first, count, start, stop)
            results = m.evaluator.evaluate(2 * taken + (count if start == 0 else 0))
            if start == 0:
                # Copied, so as not to hold on to the whole forward pass.
                centres = [(values[2 * taken :].copy(), sizes[2 * taken :].copy()) for values, sizes in results]
            owners = np.tile(first + np.arange(taken) // (stop - start), 2)
            for target, (values, sizes) in enumerate(results):
                m.evaluator.require_finite(centres[target][1], target, first + np.arange(count))
                m.evaluator.require_finite(sizes[: 2 * taken], target, owners)
                for position in range(count):
                    part = slice(position * (stop - start), (position + 1) * (stop - start))
                    mixed = slice(taken + part.start, taken + part.stop)
                    centre, centre_size = centres[target][0][position], centres[target][1][position]
                    superposed = self._superpose(centre, values[part])
                    magnitudes[target][position, start:stop] = norms(superposed)
                    superposed -= values[mixed]
                    each[target][position, start:stop] = norms(superposed)
                    a, b = np.abs(m.coefficients)
                    rounded[target][position, start:stop] = np.maximum(a * centre_size + b * sizes[part], sizes[mixed])
        return [
            Scores(
                each[t].mean(axis=1),
                magnitudes[t].mean(axis=1),
                rounded[t].mean(axis=1),
                each[t] if m.repeats else None,
            )
            for t in range(len(each))
        ]

    def _fill(self, first: int, count: int, start: int, stop: int) -> None:
        """Writes samples, superpositions and, for the first block, instances to the buffer."""
        m = self._m
        taken = count * (stop - start)
        a, b = m.coefficients
        samples = m.draw(first, count, start, stop)
        instances = m.instances[first : first + count].astype(np.float64)
        mixed = b * samples.astype(np.float64)
        mixed += a * instances[:, None, :]
        m.evaluator.buffer[taken : 2 * taken] = mixed.reshape(taken, -1)
        if start == 0:
            m.evaluator.buffer[2 * taken : 2 * taken + count] = instances

    def _superpose(self, centre: Array, outputs: Array) -> Array:
        a, b = self._m.coefficients
        superposed = np.asarray(outputs * outputs.dtype.type(b))
        superposed += centre * outputs.dtype.type(a)
        return superposed


def groups(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Cuts `total` instances into groups: (first, count) each."""
    for first in range(0, total, size):
        yield first, min(size, total - first)
