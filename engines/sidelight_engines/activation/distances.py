"""Distances between the firing patterns of classes, and who is near whom."""

from __future__ import annotations

import numpy as np

from sidelight_engines.activation.parameters import PatternDistance
from sidelight_engines.activation.result import DistanceMatrix, SpecificUnit
from sidelight_engines.control import Control
from sidelight_engines.runtime.runtime import Array

# Differences of rates that are held at a time.
_NUMBERS = 2**22


def rate_distances(rates: Array, distance: PatternDistance, control: Control) -> DistanceMatrix:
    """The distances between all pairs of rows.

    Args:
        rates: float64 (classes, units), at least 0.
        distance: any but CKA, which is not of rates.
        control: asked for a stop between blocks.
    """
    classes, units = rates.shape
    values = np.zeros((classes, classes))
    norms = np.sqrt(np.einsum("cu,cu->c", rates, rates))
    step = max(1, _NUMBERS // max(units, 1))
    for row in range(classes - 1):
        for first in range(row + 1, classes, step):
            control.checkpoint()
            others = slice(first, min(first + step, classes))
            values[row, others] = _between(rates[row], rates[others], norms[row], norms[others], distance)
    return matrix(distance, values + values.T)


def _between(row: Array, others: Array, norm: float, norms: Array, distance: PatternDistance) -> Array:
    """The distances of one row from others. Of two without a unit that fires they are 0, of one such 1."""
    if distance is PatternDistance.MEAN_ABSOLUTE:
        near: Array = np.abs(others - row).mean(axis=1)
        return near
    if distance is PatternDistance.COSINE:
        product = norms * norm
        both_silent = (norms == 0) & (norm == 0)
        cosine = np.divide(others @ row, product, out=np.zeros(len(others)), where=product > 0)
        # Rounding may take the cosine of two equal rows past 1.
        return np.where(both_silent, 0.0, np.clip(1.0 - cosine, 0.0, None))
    least, greatest = np.minimum(others, row).sum(axis=1), np.maximum(others, row).sum(axis=1)
    shared: Array = np.divide(least, greatest, out=np.ones(len(others)), where=greatest > 0)
    return 1.0 - shared


def matrix(distance: PatternDistance, values: Array) -> DistanceMatrix:
    """A distance matrix with its neighbours.

    Args:
        distance: which.
        values: float64 (classes, classes), symmetric, 0 on the diagonal.
    """
    ranked = values.copy()
    np.fill_diagonal(ranked, -1.0)  # itself first, also before others at distance 0
    return DistanceMatrix(distance, values, np.argsort(ranked, axis=1, kind="stable"))


def most_specific(rates: Array, classes: Array, count: int) -> tuple[SpecificUnit, ...]:
    """The units that fire for a class more than for any other.

    Args:
        rates: float64 (classes, units).
        classes: int64 (classes,), what the rows stand for.
        count: the most per class.

    Returns:
        Class by class, the greatest excess first; of equal ones the earlier unit first. Nothing for a single class.
    """
    if len(rates) < 2 or count == 0:
        return ()
    top_two = np.partition(rates, len(rates) - 2, axis=0)[-2:]
    found = []
    for row, name in zip(rates, classes.tolist(), strict=True):
        # The greatest of the others is the greatest of all, unless that is this row's own.
        excess = row - np.where(row == top_two[1], top_two[0], top_two[1])
        best = np.argsort(-excess, kind="stable")[:count]
        found += [SpecificUnit(name, int(unit), float(excess[unit])) for unit in best if excess[unit] > 0]
    return tuple(found)
