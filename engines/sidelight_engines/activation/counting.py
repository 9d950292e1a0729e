"""Counts, per class and unit, the examples for which a unit fires."""

from __future__ import annotations

import numpy as np

from sidelight_engines.activation.saturation import SHARE, near_bound
from sidelight_engines.activation.units import comparable
from sidelight_engines.runtime.runtime import Array


class FiringCounter:
    """The counts of one layer.

    Attributes:
        counts: int64 (classes, units), how many examples of each class each unit fired for so far.
    """

    def __init__(self, classes: int, thresholds: Array, op: str, dtype: np.dtype[np.generic]) -> None:
        """Starts at 0.

        Args:
            classes: how many there are.
            thresholds: float64 (units,).
            op: the operation that makes the layer's output.
            dtype: of its activations.
        """
        self._thresholds = comparable(thresholds, dtype)
        self._op = op
        self._near = np.zeros(len(thresholds), np.int64)
        self._examples = 0
        self.counts = np.zeros((classes, len(thresholds)), np.int64)

    def add(self, activations: Array, classes: Array) -> None:
        """Counts some examples.

        Args:
            activations: (examples, units).
            classes: int64 (examples,), their positions among the classes.
        """
        present, members = np.unique(classes, return_inverse=True)
        # Sums of ones stay exact in float32 up to 2^24, and no chunk has so many rows; a product is faster than sums.
        belongs = (np.arange(len(present))[:, np.newaxis] == members).astype(np.float32)
        fired = (activations > self._thresholds).astype(np.float32)
        self.counts[present] += (belongs @ fired).astype(np.int64)
        self._examples += len(activations)
        near = near_bound(activations, self._op)
        if near is not None:
            self._near += np.count_nonzero(near, axis=0)

    def saturated(self) -> Array:
        """The saturated units, int64, ascending."""
        found: Array = np.flatnonzero(self._near >= max(1.0, SHARE * self._examples))
        return found
