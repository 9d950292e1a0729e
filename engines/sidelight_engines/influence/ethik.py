"""Tilts where ethik 0.0.4 leaves them, for comparing with results made by it.

ethik scales a feature to mean 0 and standard deviation 1 (n - 1), starts at k = 0 and has SciPy's BFGS minimise the
squared distance of the mean from the target, with the distance itself in the place of the gradient. It ends at the
first k whose squared distance is below 1e-4: the mean may be off by a hundredth of a standard deviation. If the search
ends otherwise, or the target is numerically the mean, k is 0: the data as they are. Targets at a bound are not
treated apart.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.influence.dual import exponentials
from sidelight_engines.runtime.runtime import Array

_TOLERANCE = 1e-4


class _Reached(Exception):
    """The search came close enough."""

    def __init__(self, tilt: float) -> None:
        super().__init__(tilt)
        self.tilt = tilt


def numerically_equal(targets: Array, means: Array) -> Array:
    """Whether ethik takes targets for the mean; in the feature's unit."""
    return np.asarray(np.isclose(targets, means, atol=_TOLERANCE))


def ethik_tolerances(unit: Array, counts: Array) -> Array:
    """How far ethik lets means be from their goals, (features,)."""
    return np.asarray(np.sqrt(_TOLERANCE) * _moments(unit, counts)[1])


def ethik_tilts(unit: Array, counts: Array, goals: Array, active: Array) -> Array:
    """Finds k as ethik does; arguments and result as for `dual.solve_tilts`, goals at bounds included."""
    means, deviations = _moments(unit, counts)
    tilt = np.zeros(goals.shape)
    for feature, aim in np.argwhere(active):
        deviation = deviations[feature]
        scaled = (unit[feature] - means[feature]) / deviation
        goal = (goals[feature, aim] - means[feature]) / deviation
        tilt[feature, aim] = _search(scaled, counts[feature], goal) / deviation
    return tilt


def _search(scaled: Array, counts: Array, goal: float) -> float:
    from scipy.optimize import minimize

    # exponentials() wants values from 0 on; a shift of all of them changes no weight.
    shifted = (scaled - scaled.min())[None]

    def distance(k: Array) -> tuple[float, Array]:
        # Kept within [0, 1], so that no k overflows.
        weights = counts * exponentials(k[None] * shifted.max(), shifted / shifted.max())[0, 0]
        error = float(weights @ scaled / weights.sum()) - goal
        if error**2 < _TOLERANCE:
            raise _Reached(float(k[0]))
        return error**2, np.array([error])

    try:
        minimize(distance, np.zeros(1), jac=True, method="BFGS")
    except _Reached as reached:
        return reached.tilt
    return 0.0


def _moments(unit: Array, counts: Array) -> tuple[Array, Array]:
    """Means and standard deviations (n - 1) of u, each (features,)."""
    total = counts.sum(axis=1)
    means = (counts * unit).sum(axis=1) / total
    squares = (counts * (unit - means[:, None]) ** 2).sum(axis=1)
    return means, np.sqrt(squares / (total - 1))
