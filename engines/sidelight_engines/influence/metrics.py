"""Metrics of performance as weighted means.

Under weights w every metric but AUC is a ratio of weighted means of per-example numbers: whether the class is right,
its log-loss, whether it is a true positive of class c, ... So these numbers are gathered by level with the
predictions, once, and each tilt costs a sum over levels. Within a group g each number is multiplied by [g_i = g], and
divided by the group's share of the weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sidelight_engines.influence.answers import Answers
from sidelight_engines.influence.parameters import Metric
from sidelight_engines.runtime.runtime import Array

_RATES = (Metric.PRECISION, Metric.RECALL, Metric.F1)


@dataclass(frozen=True, eq=False)
class _Subset:
    """All examples, or those of a group.

    Attributes:
        share: the column that holds membership; None for all examples.
        means: metric -> the column of its numbers.
        rates: the first of the columns of true positives, predicted and actual members of each class.
        classes: how many classes occur in the subset.
    """

    share: int | None
    means: dict[Metric, int]
    rates: int
    classes: int


@dataclass(frozen=True, eq=False)
class MetricColumns:
    """What is to be averaged for metrics, and how metrics follow from the averages.

    Attributes:
        columns: (examples, columns) float64.
        metrics: in the order asked for.
    """

    columns: Array
    metrics: tuple[Metric, ...]
    subsets: tuple[_Subset, ...]

    def evaluate(self, means: Array) -> Array:
        """The metrics from the weighted means of the columns.

        Args:
            means: (..., columns).

        Returns:
            (..., subsets, metrics): of all examples, then of each group; NaN for AUC, and where a group has no weight.
        """
        values = np.full((*means.shape[:-1], len(self.subsets), len(self.metrics)), np.nan)
        for position, subset in enumerate(self.subsets):
            share = np.ones(means.shape[:-1]) if subset.share is None else means[..., subset.share]
            for place, metric in enumerate(self.metrics):
                if metric in subset.means:
                    values[..., position, place] = _ratio(means[..., subset.means[metric]], share, np.nan)
                elif metric in _RATES:
                    columns = means[..., subset.rates : subset.rates + 3 * subset.classes]
                    rate = _rate(metric, columns.reshape(*columns.shape[:-1], 3, subset.classes))
                    values[..., position, place] = np.where(share > 0, rate, np.nan)
        return values


def column_count(metrics: tuple[Metric, ...], classes: int, groups: int) -> int:
    """The most columns that metrics take.

    Args:
        metrics: those asked for.
        classes: that precision and its like are averaged over.
        groups: how many there are; 0 for none.
    """
    means = sum(metric not in (*_RATES, Metric.AUC) for metric in metrics)
    rates = 3 * classes if any(metric in _RATES for metric in metrics) else 0
    return (means + rates) * (1 + groups) + groups


def metric_columns(metrics: tuple[Metric, ...], answers: Answers, members: tuple[Array, ...]) -> MetricColumns:
    """Prepares metrics.

    Args:
        metrics: those asked for.
        answers: predictions and labels.
        members: for each group, (examples,) bool.
    """
    columns: list[Array] = []
    subsets = []
    numbers = {metric: _numbers(metric, answers) for metric in metrics if metric not in (*_RATES, Metric.AUC)}
    for member in (None, *members):
        share = None
        if member is not None:
            share = len(columns)
            columns.append(member.astype(np.float64))
        means: dict[Metric, int] = {}
        for metric, values in numbers.items():
            means[metric] = len(columns)
            columns.append(values if member is None else values * member)
        rates, classes = len(columns), 0
        if any(metric in _RATES for metric in metrics):
            cells = _confusion(answers, member)
            classes = len(cells) // 3
            columns.extend(cells)
        subsets.append(_Subset(share, means, rates, classes))
    count = len(answers.predictions)
    stacked = np.stack(columns, axis=1) if columns else np.empty((count, 0))
    return MetricColumns(stacked.astype(np.float64, copy=False), metrics, tuple(subsets))


def _numbers(metric: Metric, answers: Answers) -> Array:
    """The number of each example whose mean is the metric."""
    predictions = answers.predictions
    if metric is Metric.ACCURACY:
        return np.asarray(answers.predicted == answers.classes, np.float64)
    if metric is Metric.LOG_LOSS:
        likelihood = np.clip(answers.label_probability, answers.epsilon, 1 - answers.epsilon)
        return np.asarray(-np.log(likelihood), np.float64)
    if metric is Metric.BRIER:
        if predictions.shape[1] == 1:
            return np.asarray((predictions[:, 0] - answers.classes) ** 2)
        # sum_c (p_c - [c = y])^2, without the one-hot matrix
        return np.asarray((predictions**2).sum(axis=1) - 2 * answers.label_probability + 1)
    error = predictions - answers.targets
    return np.asarray((error**2 if metric is Metric.SQUARED_ERROR else np.abs(error)).mean(axis=1))


def _confusion(answers: Answers, member: Array | None) -> list[Array]:
    """True positives, predicted and actual members of each class that counts, each (examples,) float64."""
    everyone = np.ones(len(answers.predicted), bool) if member is None else member
    occurring = np.union1d(answers.predicted[everyone], answers.classes[everyone])
    classes = [c for c in answers.scored_classes if len(answers.scored_classes) == 1 or c in occurring]
    predicted = [(answers.predicted == c) & everyone for c in classes]
    actual = [(answers.classes == c) & everyone for c in classes]
    both = [p & a for p, a in zip(predicted, actual, strict=True)]
    return [column.astype(np.float64) for column in (*both, *predicted, *actual)]


def _rate(metric: Metric, cells: Array) -> Array:
    """The mean over classes, from (..., 3, classes) true positives, predicted and actual members."""
    both, predicted, actual = cells[..., 0, :], cells[..., 1, :], cells[..., 2, :]
    if metric is Metric.PRECISION:
        rates = _ratio(both, predicted, 0.0)
    elif metric is Metric.RECALL:
        rates = _ratio(both, actual, 0.0)
    else:
        rates = _ratio(2 * both, predicted + actual, 0.0)
    return np.asarray(rates.mean(axis=-1)) if rates.shape[-1] else np.full(rates.shape[:-1], np.nan)


def _ratio(upper: Array, lower: Array, otherwise: float) -> Array:
    return np.asarray(np.divide(upper, lower, out=np.full(np.shape(upper), otherwise), where=lower > 0))
