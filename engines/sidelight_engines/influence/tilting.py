"""Features tilted to their goals, and what is measured under each tilt.

Under weights w (`dual.py`), with d_i = u_i - m and u the feature scaled to [0, 1]:

- the mean of y is sum_i w_i y_i;
- its derivative by the feature's mean is beta = Cov_w(u, y) / Var_w(u): d/dk of numerator and denominator of the mean
  gives Cov_w(u, y) and Var_w(u). Without a tilt this is the slope of least squares;
- its variance, the target being held fixed, is sum_i w_i^2 (y_i - mean(y) - beta d_i)^2: the delta method on the pair
  of equations E[exp(k u) (u - t)] = 0 and E[exp(k u) (y - mean(y))] = 0 in (k, mean(y)). `moments.py` has it for
  whatever else is measured.

At a bound of the feature, where no finite k reaches, weights are even on the examples there and beta is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from sidelight_engines.influence.dual import exponentials, solve_tilts
from sidelight_engines.influence.ethik import ethik_tolerances, numerically_equal
from sidelight_engines.influence.levels import Levels
from sidelight_engines.influence.measures import Measures
from sidelight_engines.influence.moments import Moments, Tilts, over_levels
from sidelight_engines.influence.parameters import InfluenceParameters, UnattainableTarget
from sidelight_engines.runtime.runtime import Array

SolveTilts = Callable[[Array, Array, Array, Array], Array]
"""Finds k as `solve_tilts` does."""

_BLOCK_NUMBERS = 2**16
"""Numbers of a block that a second-level cache holds: exp, products and sums then run at its speed."""
_ATTAINED = 1e-12
"""How far a mean may be from its target, as a share of the feature's range: room for rounding in sums over millions."""


@dataclass(frozen=True, eq=False)
class Scaled:
    """Features scaled to [0, 1], and their goals.

    Attributes:
        unit: (features, levels), u; 0 and 1 are the least and greatest value; clipped where there are no examples.
        low: (features,), the least value.
        span: (features,), from the least to the greatest value; 0 for a constant.
        means: (features,), the mean of u.
        goals: (features, aims), the target as a u, any number.
        targets: (features, aims), in the feature's unit.
    """

    unit: Array
    low: Array
    span: Array
    means: Array
    goals: Array
    targets: Array


@dataclass(frozen=True, eq=False)
class Tilted:
    """What was measured for some features, as InfluenceResult has it.

    Attributes:
        means: (features, aims, labels), the weighted means of labels.
        errors: like `means`, standard errors.
        performances: (features, aims, subsets, metrics).
        performance_errors: like `performances`.
        attained: (features, aims) bool.
        attained_means: (features, aims).
        effective: (features, aims), effective sample sizes.
    """

    means: Array
    errors: Array
    performances: Array
    performance_errors: Array
    attained: Array
    attained_means: Array
    effective: Array


def scale(levels: Levels, parameters: InfluenceParameters) -> Scaled:
    """Scales features and sets their goals."""
    occupied = levels.counts > 0
    low = np.where(occupied, levels.values, np.inf).min(axis=1)
    high = np.where(occupied, levels.values, -np.inf).max(axis=1)
    span = high - low
    divisor = np.where(span > 0, span, 1.0)
    unit = np.clip((levels.values - low[:, None]) / divisor[:, None], 0.0, 1.0)
    means = (levels.counts * unit).sum(axis=1) / levels.counts.sum(axis=1)
    if parameters.targets is not None:
        goals = (np.asarray(parameters.targets) - low[:, None]) / divisor[:, None]
        targets = np.broadcast_to(np.asarray(parameters.targets), goals.shape)
        return Scaled(unit, low, span, means, goals, np.array(targets))
    below, above = _quantiles(levels, unit, (parameters.low_quantile, parameters.high_quantile))
    taus = np.asarray(parameters.aims)
    # A quantile on the far side of the mean moves nothing, as in ethik.
    ends = np.where(taus < 0, np.minimum(below, means)[:, None], np.maximum(above, means)[:, None])
    # Written so that a tau of 1 or -1 gives the quantile itself, to the last bit.
    goals = (1 - np.abs(taus)) * means[:, None] + np.abs(taus) * ends
    return Scaled(unit, low, span, means, goals, low[:, None] + span[:, None] * goals)


def _quantiles(levels: Levels, unit: Array, shares: tuple[float, float]) -> tuple[Array, Array]:
    """Quantiles of u with linear interpolation between neighbours in order, each (features,)."""
    if levels.ascending:
        total = int(levels.counts[0].sum())
        upto = np.cumsum(levels.counts, axis=1)
        found = []
        for share in shares:
            place = share * (total - 1)
            rank = int(place)
            ends = [
                np.take_along_axis(unit, (upto > min(rank + ahead, total - 1)).argmax(axis=1)[:, None], axis=1)[:, 0]
                for ahead in (0, 1)
            ]
            found.append(ends[0] + (ends[1] - ends[0]) * (place - rank))
        return found[0], found[1]
    below, above = np.quantile(unit, shares, axis=1)
    return below, above


def unattainable(scaled: Scaled) -> Array:
    """(features, aims): which goals no finite tilt reaches; a constant reaches itself alone."""
    varies = (scaled.span > 0)[:, None]
    return np.where(varies, (scaled.goals <= 0) | (scaled.goals >= 1), scaled.goals != 0)


def slopes(levels: Levels, scaled: Scaled, labels: int) -> Array:
    """d(mean prediction)/d(feature mean) without a tilt, (features, labels): the slope of least squares."""
    away = scaled.unit - scaled.means[:, None]
    covariance = (away[:, None, :] @ levels.sums[:, :, :labels])[:, 0]
    variance = (levels.counts * away**2).sum(axis=1) * scaled.span
    slope = np.zeros_like(covariance)
    return np.asarray(np.divide(covariance, variance[:, None], out=slope, where=variance[:, None] > 0))


def tilt(
    levels: Levels,
    scaled: Scaled,
    parameters: InfluenceParameters,
    measures: Measures,
    solve: SolveTilts = solve_tilts,
) -> Tilted:
    """Tilts features to their goals and measures.

    Args:
        levels: with the columns of `measures`.
        scaled: the same features.
        parameters: what to do at bounds.
        measures: what is measured.
        solve: what finds the tilts.
    """
    features, aims = scaled.goals.shape
    size = max(scaled.unit.shape[1], levels.examples) if measures.by_example else scaled.unit.shape[1]
    some_aims = max(1, min(aims, _BLOCK_NUMBERS // size))
    some_features = max(1, _BLOCK_NUMBERS // (size * some_aims))
    rows = []
    for first in range(0, features, some_features):
        part = slice(first, first + some_features)
        cells = [
            _tilt_cells(levels, scaled, part, slice(begin, begin + some_aims), parameters, measures, solve)
            for begin in range(0, aims, some_aims)
        ]
        rows.append(_join(cells, axis=1))
    return _join(rows, axis=0)


def _tilt_cells(
    levels: Levels,
    scaled: Scaled,
    features: slice,
    aims: slice,
    parameters: InfluenceParameters,
    measures: Measures,
    solve: SolveTilts,
) -> Tilted:
    unit, counts, goals = scaled.unit[features], levels.counts[features], scaled.goals[features, aims]
    sums = levels.sums if len(levels.sums) == 1 else levels.sums[features]
    varies = (scaled.span[features] > 0)[:, None]
    at_low, at_high = varies & (goals <= 0), varies & (goals >= 1)
    active = varies & ~at_low & ~at_high
    tolerance: Array | float = _ATTAINED
    if parameters.ethik_compatible:
        at_low, at_high = np.zeros_like(at_low), np.zeros_like(at_high)
        means_before = (scaled.low + scaled.span * scaled.means)[features, None]
        active = varies & ~numerically_equal(scaled.targets[features, aims], means_before)
        tolerance = ethik_tolerances(unit, counts)[:, None]
    weights = exponentials(solve(unit, counts, goals, active), unit)
    for bound, flagged in ((0.0, at_low), (1.0, at_high)):
        feature, aim = np.nonzero(flagged)
        weights[feature, aim] = unit[feature] == bound
    weights /= over_levels(weights, counts)[:, :, None]
    reached = over_levels(weights, counts * unit)
    at_bound = at_low | at_high
    tilts = Tilts(levels, features.start, weights, unit[:, None, :] - reached[:, :, None])
    moments = Moments.gather(tilts, counts, sums, measures.linear, at_bound)
    means, errors = measures.means(moments)
    performances, performance_errors = measures.performances(moments, tilts)
    attained = np.where(varies, np.abs(reached - goals) <= tolerance, goals == 0) & ~at_bound
    attained_means = scaled.low[features, None] + scaled.span[features, None] * reached
    effective = moments.effective
    if parameters.unattainable is UnattainableTarget.MISSING and not parameters.ethik_compatible:
        for numbers in (means, errors, performances, performance_errors, attained_means, effective):
            numbers[~attained] = np.nan
    return Tilted(means, errors, performances, performance_errors, attained, attained_means, effective)


def _join(parts: list[Tilted], axis: int) -> Tilted:
    if len(parts) == 1:
        return parts[0]
    return Tilted(*(np.concatenate([getattr(p, f.name) for p in parts], axis=axis) for f in fields(Tilted)))
