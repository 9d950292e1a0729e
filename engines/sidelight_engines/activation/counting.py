"""Counts, per class and unit, the examples for which a unit fires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from sidelight_engines.activation.saturation import SHARE, near_bound
from sidelight_engines.activation.units import comparable
from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True)
class Members:
    """Which class each of some examples is of; made once for all layers.

    Attributes:
        present: int64, the positions of the classes that there are.
        belongs: float32 (present, examples), 1 where an example is of the class. Sums of ones stay exact in float32 up
            to 2^24, and no chunk has so many examples; a product is faster than sums.
    """

    present: Array
    belongs: Array

    @classmethod
    def of(cls, classes: Array) -> Self:
        """Of the classes' positions, int64 (examples,)."""
        present, members = np.unique(classes, return_inverse=True)
        return cls(present, (np.arange(len(present))[:, np.newaxis] == members).astype(np.float32))


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

    def add(self, activations: Array, members: Members) -> None:
        """Counts some examples.

        Args:
            activations: (examples, units).
            members: of which classes they are.
        """
        fired = (activations > self._thresholds).astype(np.float32)
        self.counts[members.present] += (members.belongs @ fired).astype(np.int64)
        self._examples += len(activations)
        near = near_bound(activations, self._op)
        if near is not None:
            self._near += np.count_nonzero(near, axis=0)

    def saturated(self) -> Array:
        """The saturated units, int64, ascending."""
        found: Array = np.flatnonzero(self._near >= max(1.0, SHARE * self._examples))
        return found
