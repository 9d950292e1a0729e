"""The global aggregation where layers are affine in others.

Two rows of each instance are evaluated at every layer: the superposition, and the last sample, which tells what was
rounded; one where the superposition tells that too. Of the other samples only what `Superposition` needs is.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.linearity.evaluation import Evaluator
from sidelight_engines.linearity.global_aggregation import GlobalAggregation
from sidelight_engines.linearity.measurement import Measurement, Passes, Scores
from sidelight_engines.linearity.rounding import norms
from sidelight_engines.linearity.superposition import Superposition
from sidelight_engines.linearity.targets import Values
from sidelight_engines.runtime.runtime import Array

FEWEST_SAMPLES = 4
"""With fewer, the rows that are evaluated at every layer are most of them."""

# Numbers that are compared at a time: of 2^15 to 2^22 this took the least time, as they stay in the cache.
_CACHED = 2**18


def most_instances(evaluator: Evaluator, superposition: Superposition, samples: int) -> int:
    """The most instances that fit into half a forward pass, and whose rows and results fit into memory."""
    half = superposition.rows // 2
    # The rows and the sum at every layer, and the samples.
    each = 3 * evaluator.row_bytes + (samples + 1) * evaluator.input_bytes
    return max(1, min(half, evaluator.memory_bytes // each))


class SuperposedAggregation(GlobalAggregation):
    """One superposition of all samples. See `measurement.Aggregator`.

    Args:
        measurement: the task, without repeats; the samples of an instance and one more row fit into a forward pass.
        superposition: superposes the outputs of samples.
        evaluator: evaluates the other rows of each instance; it is asked for shapes here.
    """

    def __init__(self, measurement: Measurement, superposition: Superposition, evaluator: Evaluator) -> None:
        super().__init__(measurement)
        self.instances_per_group = most_instances(evaluator, superposition, measurement.samples)
        self._superposition = superposition
        self._evaluator = evaluator

    def measure(self, first: int, count: int) -> Passes:
        """See `measurement.Aggregator.measure`."""
        m = self._m
        m.control.checkpoint()
        taken = count * m.samples
        drawn = m.draw(first, count, 0, m.samples)
        m.buffer[taken : taken + count] = self._weigh(drawn, 0, m.samples, np.dtype(np.float64))
        samples = m.buffer[:taken].reshape(count, m.samples, -1)
        superposed = m.buffer[taken : taken + count]
        evaluated = yield superposed if m.amid else np.concatenate([samples[:, -1], superposed])
        moved = self._superposition.division.moved
        apart = {target: values.numbers for target, values in enumerate(evaluated) if target not in moved}
        sums = self._superposition.superpose(samples, apart, superposed, self._evaluator.shapes, m.control.checkpoint)
        self._evaluator.count(taken if m.amid else taken - count)
        scores = {target: self._score(sums[target], evaluated[target], count) for target in sums}
        if all(np.isfinite(columns).all() for columns in scores.values()):
            found = [scores[moved.get(target, target)] for target in range(len(evaluated))]
            return [Scores(columns[0], columns[1], columns[2], None) for columns in found]
        # A number left the range of float32 on the way, or the model gave NaN or infinity: every row tells which.
        again = []
        for instance in range(count):
            m.control.checkpoint()
            evaluated = yield np.concatenate([samples[instance], superposed[instance : instance + 1]])
            parts, sizes = self._sum_up(evaluated, 1, 0, m.samples)
            again.append(self._finish(evaluated, first + instance, 1, m.samples, parts, sizes))
        return [
            Scores(
                np.concatenate([one.linearity for one in target]),
                np.concatenate([one.magnitude for one in target]),
                np.concatenate([one.rounded for one in target]),
                None,
            )
            for target in zip(*again, strict=True)
        ]

    def _score(self, superposed: Array, values: Values, count: int) -> Array:
        """L, the norm of the superposed outputs and the size of what was rounded, (3, instances)."""
        rows = values.numbers.reshape(-1, count, values.numbers.shape[-1])
        found = np.empty((2, count))
        sizes = np.empty((len(rows), count))
        with np.errstate(over="ignore", invalid="ignore"):
            # A few instances after another: their rows stay in the cache.
            for part in _parts(count, rows.shape[2]):
                sizes[:, part] = norms(rows[:, part])
                found[0, part] = norms(superposed[part] - rows[-1, part])
                found[1, part] = norms(superposed[part])
        sizes += values.hidden.reshape(sizes.shape)
        # All but the superposition is the last sample, which stands for all.
        sizes[:-1] *= self._total_size
        return np.stack([*found, np.maximum(found[1], sizes.max(axis=0))])


def _parts(count: int, size: int) -> list[slice]:
    step = max(1, _CACHED // size)
    return [slice(start, start + step) for start in range(0, count, step)]
