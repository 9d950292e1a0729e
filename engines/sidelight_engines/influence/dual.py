"""Entropic tilting of one feature: the weights of least relative entropy whose mean is a target.

Among all weights w on examples with sum 1 and sum w_i x_i = t, those closest to even weights in relative entropy are
w_i = exp(k x_i) / sum_j exp(k x_j) (Csiszar, I-divergence geometry, 1975, theorem 3.1; Bachoc et al., Explaining
machine learning models using entropic variable projection, 2018, theorem 1). The mean m(k) rises strictly with k,
with slope Var_w(x), from the least to the greatest x, so each feature and target has one root, and a bracket holds it.

The feature is scaled to u in [0, 1], and Newton's method applied to logit m(k) = logit s in place of m(k) = s. For a
feature of two values logit m is a straight line in k, and close to a bound it is nearly so for every feature, where
m itself is exponentially flat: there plain Newton leaves the bracket by far.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.runtime.runtime import Array

TOLERANCE = 2e-13
"""How far the mean may be from its goal, as a share of the feature's range."""

_MOST_STEPS = 300
_FIRST_REACH = 1.0


def exponentials(tilt: Array, unit: Array) -> Array:
    """exp(k u), scaled so that the greatest is 1.

    Args:
        tilt: k, (features, aims).
        unit: u in [0, 1], (features, levels).

    Returns:
        (features, aims, levels).
    """
    power = tilt[:, :, None] * unit[:, None, :]
    power -= np.maximum(tilt, 0.0)[:, :, None]
    return np.asarray(np.exp(power, out=power))


def solve_tilts(unit: Array, counts: Array, goals: Array, active: Array) -> Array:
    """Finds k for every feature and goal.

    Args:
        unit: (features, levels), the values of each feature's levels, scaled to [0, 1].
        counts: (features, levels), the examples at each level. An active feature has some at 0 and some at 1.
        goals: (features, aims), the mean of u to reach; strictly between 0 and 1 where active.
        active: (features, aims), which to solve.

    Returns:
        (features, aims): k; 0 where not active. The mean is within `TOLERANCE` of the goal wherever the
        floating-point numbers k allow it; the caller looks.
    """
    # Laid out level after level: for products with a long axis of levels BLAS then is many times as fast.
    moments = np.stack([counts, counts * unit, counts * (1 - unit), counts * unit * (1 - unit)], axis=1)
    moments = moments.swapaxes(1, 2)
    tilt = np.zeros(goals.shape)
    low, high = np.full(goals.shape, -np.inf), np.full(goals.shape, np.inf)
    done = ~active
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wanted = np.log(goals) - np.log1p(-goals)
        for _ in range(_MOST_STEPS):
            total, above, below, mixed = np.moveaxis(exponentials(tilt, unit) @ moments, -1, 0)
            mean, rest = above / total, below / total
            error = goals - mean
            before = done.copy()
            done |= np.abs(error) <= TOLERANCE
            low = np.where(error > 0, tilt, low)
            high = np.where(error < 0, tilt, high)
            done |= high - low <= 2 * np.spacing(np.maximum(np.abs(low), np.abs(high)))
            # m (1 - m) - E u (1 - u) is the variance, without the cancellation of E u^2 - m^2 close to a bound.
            spread = mean * rest
            step = tilt + (wanted - (np.log(mean) - np.log(rest))) * spread / (spread - mixed / total)
            inside = (step > low) & (step < high)
            step = np.where(inside, step, np.where(done, tilt, _safe_step(tilt, low, high, error)))
            # What is close enough takes this step too: the last digits come with it.
            tilt = np.where(before, tilt, step)
            if done.all():
                break
    return np.where(active, tilt, 0.0)


def _safe_step(tilt: Array, low: Array, high: Array, error: Array) -> Array:
    """Halves the bracket; while it is open on the side of the root, reaches twice as far."""
    reach = np.sign(error) * np.maximum(_FIRST_REACH, np.abs(tilt))
    return np.where(np.isfinite(low) & np.isfinite(high), (low + high) / 2, tilt + reach)
