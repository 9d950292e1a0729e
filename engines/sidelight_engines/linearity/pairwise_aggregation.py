"""L = mean over s of ||a_1 M(x) + a_2 M(v_s) - M(a_1 x + a_2 v_s)||."""

from __future__ import annotations

import numpy as np

from sidelight_engines.linearity.measurement import Measurement, Passes, Scores, blocks
from sidelight_engines.linearity.rounding import norms
from sidelight_engines.linearity.targets import Values
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
        columns = [np.empty((3, count, m.samples)) for _ in m.targets]
        centres: list[Values] = []
        cuts = [(0, m.samples)] if self.single_pass else blocks(m.samples, 2, 1, m.capacity)
        for start, stop in cuts:
            m.control.checkpoint()
            taken = count * (stop - start)
            self._fill(first, count, start, stop)
            evaluated = yield m.buffer[: 2 * taken + (count if start == 0 else 0)]
            if start == 0:
                # Copied, so as not to hold on to the whole forward pass.
                centres = [Values(v.numbers[2 * taken :].copy(), v.hidden[2 * taken :].copy()) for v in evaluated]
            done: dict[int, Array] = {}
            for target, values in enumerate(evaluated):
                found = done.get(id(values))
                if found is None:
                    found = done[id(values)] = self._compare(values, centres[target], taken)
                m.require_finite(found.swapaxes(0, 1), target, first)
                columns[target][:, :, start:stop] = found
        scores = []
        for linearity, magnitude, rounded in columns:
            repeats = linearity if m.repeats else None
            scores.append(Scores(linearity.mean(axis=1), magnitude.mean(axis=1), rounded.mean(axis=1), repeats))
        return scores

    def _compare(self, values: Values, centres: Values, taken: int) -> Array:
        """Compares superposed outputs with the outputs of superpositions.

        Args:
            values: of `taken` samples, then of as many superpositions.
            centres: of the instances.
            taken: the samples of all instances.

        Returns:
            L, the norm of the superposed outputs and the size of what was rounded, (3, instances, samples). The size is
            taken from the last sample of each instance.
        """
        count = len(centres.numbers)
        each = taken // count
        kind = values.numbers.dtype.type
        a, b = self._m.coefficients
        size = np.abs(a) * centres.sizes(slice(None)) + np.abs(b) * values.sizes(slice(each - 1, taken, each))
        found = np.empty((3, count, each))
        for instance in range(count):
            part = slice(instance * each, (instance + 1) * each)
            superposed = np.asarray(values.numbers[part] * kind(b))
            superposed += centres.numbers[instance] * kind(a)
            found[1, instance] = norms(superposed)
            with np.errstate(invalid="ignore"):
                superposed -= values.numbers[taken + part.start : taken + part.stop]
            found[0, instance] = norms(superposed)
        found[2] = np.maximum(size[:, None], found[1])
        return found

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
