"""L = mean over s of ||a_1 M(x) + a_2 M(v_s) - M(a_1 x + a_2 v_s)||."""

from __future__ import annotations

import numpy as np

from sidelight_engines.linearity.measurement import Measurement, Passes, Scores, blocks
from sidelight_engines.linearity.rounding import norms
from sidelight_engines.runtime.runtime import Array


class PairwiseAggregation:
    """The instance superposed with each sample in turn. See `measurement.Aggregator`."""

    def __init__(self, measurement: Measurement) -> None:
        self._m = measurement
        rows = 2 * measurement.samples + 1
        self.single_pass = rows <= measurement.capacity
        self.instances_per_group = max(1, measurement.capacity // rows)

    def measure(self, first: int, count: int) -> Passes:
        """See `measurement.Aggregator.measure`."""
        m = self._m
        a, b = np.abs(m.coefficients)
        each, magnitudes, rounded = ([np.empty((count, m.samples)) for _ in m.targets] for _ in range(3))
        centres: list[tuple[Array, Array]] = []
        cuts = [(0, m.samples)] if self.single_pass else blocks(m.samples, 2, 1, m.capacity)
        for start, stop in cuts:
            m.control.checkpoint()
            taken = count * (stop - start)
            self._fill(first, count, start, stop)
            evaluated = yield 2 * taken + (count if start == 0 else 0)
            if start == 0:
                # Copied, so as not to hold on to the whole forward pass.
                centres = [(values[2 * taken :].copy(), sizes[2 * taken :].copy()) for values, sizes in evaluated]
            owners = np.tile(first + np.arange(taken) // (stop - start), 2)
            for target, (values, sizes) in enumerate(evaluated):
                centre, centre_sizes = centres[target]
                m.require_finite(centre_sizes, target, first + np.arange(count))
                m.require_finite(sizes[: 2 * taken], target, owners)
                for position in range(count):
                    part = slice(position * (stop - start), (position + 1) * (stop - start))
                    mixed = slice(taken + part.start, taken + part.stop)
                    superposed = self._superpose(centre[position], values[part])
                    magnitudes[target][position, start:stop] = norms(superposed)
                    superposed -= values[mixed]
                    each[target][position, start:stop] = norms(superposed)
                    rounded[target][position, start:stop] = np.maximum(
                        a * centre_sizes[position] + b * sizes[part], sizes[mixed]
                    )
        return [
            Scores(
                each[target].mean(axis=1),
                magnitudes[target].mean(axis=1),
                rounded[target].mean(axis=1),
                each[target] if m.repeats else None,
            )
            for target in range(len(each))
        ]

    def _fill(self, first: int, count: int, start: int, stop: int) -> None:
        """Writes samples, superpositions and, for the first block, instances to the buffer."""
        m = self._m
        taken = count * (stop - start)
        a, b = m.coefficients
        samples = m.draw(first, count, start, stop)
        instances = m.instances[first : first + count]
        mixed = b * samples.astype(np.float64)
        mixed += a * instances[:, None, :].astype(np.float64)
        m.buffer[taken : 2 * taken] = mixed.reshape(taken, -1)
        if start == 0:
            m.buffer[2 * taken : 2 * taken + count] = instances

    def _superpose(self, centre: Array, outputs: Array) -> Array:
        a, b = self._m.coefficients
        superposed = np.asarray(outputs * outputs.dtype.type(b))
        superposed += centre * outputs.dtype.type(a)
        return superposed
