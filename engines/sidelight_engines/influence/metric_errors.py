"""Standard errors of metrics, from sums over levels.

A metric that is a mean has phi_i = g_i (y_i - mean) / S in a subset, g_i being 1 for its members and S their weight.
A mean of quotients r_c = A_c / B_c over C classes, A_c = sum_i w_i a_ic, has phi_i = sum_c (a_ic - r_c b_ic) / (C B_c).
Its square needs no more than the columns themselves, since

- precision and recall: an example is predicted as one class and is of one class, so that no two terms of the sum meet,
  and (a - r b)^2 = a (1 - r)^2 + (b - a) r^2 where a is 0 or 1 and at most b;
- F1, with a = 2 [true positive] and b = [predicted] + [actual]: the same with a (2 - 2 r)^2 / 2 for true positives;
  two terms meet for examples that are predicted as c and are of another class e alone, where they are -r_c / B_c and
  -r_e / B_e. These are added up example by example: pairs of classes would take a column each.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.influence.metrics import MetricColumns, RateColumns, Subset
from sidelight_engines.influence.moments import Moments, Sums, Tilts, divide, effective_size
from sidelight_engines.influence.parameters import Metric
from sidelight_engines.runtime.runtime import Array

_BLOCK_NUMBERS = 2**16


def metric_errors(columns: MetricColumns, moments: Moments, tilts: Tilts) -> Array:
    """Standard errors of metrics.

    Args:
        columns: those of metrics.
        moments: of these columns, from the first on.
        tilts: where `moments` are from.

    Returns:
        (features, aims, subsets, metrics); NaN for AUC, and where fewer than 2 effective examples of a subset count.
    """
    shape = (*moments.variance.shape, len(columns.subsets), len(columns.metrics))
    errors = np.full(shape, np.nan)
    for position, subset in enumerate(columns.subsets):
        share = share_of(subset, moments)
        for place, metric in enumerate(columns.metrics):
            if metric in subset.means:
                mean = subset.means[metric]
                values = moments.columns.at(mean.values)
                squares = moments.columns.square[..., mean.squares]
                errors[..., position, place] = moments.mean_errors(values, squares, share, mean.centre)
            elif metric is not Metric.AUC and subset.rates is not None and len(subset.rates.classes):
                errors[..., position, place] = _rate_errors(metric, subset.rates, moments, tilts, effective_size(share))
    return errors


def share_of(subset: Subset, moments: Moments) -> Sums:
    """Sums of membership, each (features, aims)."""
    return moments.ones if subset.share is None else moments.columns.at(subset.share)


def _rate_errors(metric: Metric, rates: RateColumns, moments: Moments, tilts: Tilts, effective: Array) -> Array:
    both, predicted, actual = (moments.columns.at(part) for part in rates.parts())
    times = 2 if metric is Metric.F1 else 1
    among = {Metric.PRECISION: predicted, Metric.RECALL: actual}.get(metric)
    if among is None:
        among = predicted + actual
    rate = divide(times * both.plain, among.plain, 0.0)
    each = divide(np.ones(1), among.plain, 0.0) / len(rates.classes)
    right, wrong = both.square, among.square - times * both.square
    second = ((times**2 * right * (1 - rate) ** 2 + wrong * rate**2) * each**2).sum(axis=-1)
    if metric is Metric.F1 and len(rates.missed):
        second += 2 * _across(rate * each, rates, tilts)
    return moments.errors(
        second,
        ((times * both.pulled - rate * among.pulled) * each).sum(axis=-1),
        ((times * both.square_pulled - rate * among.square_pulled) * each).sum(axis=-1),
        effective,
    )


def _across(terms: Array, rates: RateColumns, tilts: Tilts) -> Array:
    """The sum of w_i^2 t_c t_e over examples of class e that are predicted as another class c.

    Args:
        terms: (features, aims, classes), t.
        rates: says which examples those are.
        tilts: has their weights.

    Returns:
        (features, aims).
    """
    found = np.empty(terms.shape[:2])
    some = max(1, _BLOCK_NUMBERS // len(rates.missed))
    of_example = tilts.levels.of_example
    for feature, weights in enumerate(tilts.weights):
        level = rates.missed if of_example is None else of_example[tilts.first + feature][rates.missed]
        for first in range(0, len(weights), some):
            own = terms[feature, first : first + some]
            square = weights[first : first + some].take(level, axis=1) ** 2
            by_pair = np.add.reduceat(square, rates.starts, axis=1)
            found[feature, first : first + some] = (by_pair * own[:, rates.pairs[0]] * own[:, rates.pairs[1]]).sum(1)
    return found
