"""Metrics of performance as weighted means.

Under weights w every metric but AUC is a ratio of weighted means of per-example numbers: whether the class is right,
its log-loss, whether it is a true positive of class c, ... So these numbers are gathered by level with the
predictions, once, and each tilt costs a sum over levels. Within a group g each number is multiplied by [g_i = g], and
divided by the group's share of the weight. Standard errors (`metric_errors.py`) need their squares too, where they are
not 0 or 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sidelight_engines.influence.answers import Answers
from sidelight_engines.influence.moments import divide
from sidelight_engines.influence.parameters import Metric
from sidelight_engines.runtime.runtime import Array

RATES = (Metric.PRECISION, Metric.RECALL, Metric.F1)
"""Metrics that are quotients for each class."""


@dataclass(frozen=True, eq=False)
class MeanColumns:
    """A metric that is a mean.

    Attributes:
        values: the column of its numbers.
        squares: the column of (number - `centre`)^2.
        centre: a number near the mean; 0 where numbers are 0 or 1, and their own squares.
    """

    values: int
    squares: int
    centre: float


@dataclass(frozen=True, eq=False)
class RateColumns:
    """Precision and its like.

    Attributes:
        first: the first of the columns of true positives, predicted and actual members of each class.
        classes: (classes,), those that occur in the subset.
        missed: (missed,), the examples that are predicted as one of `classes` and are of another, pair by pair of
            classes.
        starts: (pairs,), where in `missed` each pair begins.
        pairs: (2, pairs), the positions in `classes` of the two, in either order.
    """

    first: int
    classes: Array
    missed: Array
    starts: Array
    pairs: Array

    def parts(self) -> tuple[slice, slice, slice]:
        """The columns of true positives, predicted and actual members."""
        first, count = self.first, len(self.classes)
        return tuple(slice(first + part * count, first + (part + 1) * count) for part in range(3))  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Subset:
    """All examples, or those of a group.

    Attributes:
        share: the column that holds membership; None for all examples.
        means: metric -> its columns.
        rates: None where no metric is one.
    """

    share: int | None
    means: dict[Metric, MeanColumns]
    rates: RateColumns | None


@dataclass(frozen=True, eq=False)
class MetricColumns:
    """What is to be averaged for metrics, and how metrics follow from the averages.

    Attributes:
        columns: (examples, columns) float64.
        metrics: in the order asked for.
        subsets: all examples, then each group.
    """

    columns: Array
    metrics: tuple[Metric, ...]
    subsets: tuple[Subset, ...]

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
                    values[..., position, place] = divide(means[..., subset.means[metric].values], share)
                elif metric in RATES and subset.rates is not None:
                    rate = _rate(metric, *(means[..., part] for part in subset.rates.parts()))
                    values[..., position, place] = np.where(share > 0, rate, np.nan)
        return values


def column_count(metrics: tuple[Metric, ...], classes: int, groups: int) -> int:
    """The most columns that metrics take.

    Args:
        metrics: those asked for.
        classes: that precision and its like are averaged over.
        groups: how many there are; 0 for none.
    """
    means = sum(2 - (metric is Metric.ACCURACY) for metric in metrics if metric not in (*RATES, Metric.AUC))
    rates = 3 * classes if any(metric in RATES for metric in metrics) else 0
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
    numbers = {metric: _numbers(metric, answers) for metric in metrics if metric not in (*RATES, Metric.AUC)}
    for member in (None, *members):
        share = None
        if member is not None:
            share = len(columns)
            columns.append(member.astype(np.float64))
        means: dict[Metric, MeanColumns] = {}
        for metric, values in numbers.items():
            place, centre = len(columns), 0.0
            columns.append(values if member is None else values * member)
            if metric is not Metric.ACCURACY:
                centre = float(values.mean())
                squares = (values - centre) ** 2
                columns.append(squares if member is None else squares * member)
            means[metric] = MeanColumns(place, len(columns) - 1, centre)
        rates = None
        if any(metric in RATES for metric in metrics):
            rates, cells = _rate_columns(answers, member, len(columns))
            columns.extend(cells)
        subsets.append(Subset(share, means, rates))
    count = len(answers.predictions)
    stacked = np.stack(columns, axis=1) if columns else np.empty((count, 0))
    return MetricColumns(stacked, metrics, tuple(subsets))


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


def _rate_columns(answers: Answers, member: Array | None, first: int) -> tuple[RateColumns, list[Array]]:
    """True positives, predicted and actual members of each class that counts, each (examples,) float64."""
    everyone = np.ones(len(answers.predicted), bool) if member is None else member
    occurring = np.union1d(answers.predicted[everyone], answers.classes[everyone])
    classes = np.array(
        [c for c in answers.scored_classes if len(answers.scored_classes) == 1 or c in occurring], np.int64
    )
    predicted = [(answers.predicted == c) & everyone for c in classes]
    actual = [(answers.classes == c) & everyone for c in classes]
    both = [p & a for p, a in zip(predicted, actual, strict=True)]
    missed, starts, pairs = np.empty(0, np.int64), np.empty(0, np.int64), np.empty((2, 0), np.int64)
    if len(classes) > 1:
        missed = np.flatnonzero(everyone & (answers.predicted != answers.classes))
        found = np.searchsorted(classes, np.stack([answers.predicted[missed], answers.classes[missed]]))
        found.sort(axis=0)
        number = found[0] * len(classes) + found[1]
        order = np.argsort(number, kind="stable")
        numbers, starts = np.unique(number[order], return_index=True)
        missed, pairs = missed[order], np.stack(np.divmod(numbers, len(classes)))
    columns = [column.astype(np.float64) for column in (*both, *predicted, *actual)]
    return RateColumns(first, classes, missed, starts, pairs), columns


def _rate(metric: Metric, both: Array, predicted: Array, actual: Array) -> Array:
    """The mean over classes, from (..., classes) true positives, predicted and actual members."""
    if metric is Metric.PRECISION:
        rates = divide(both, predicted, 0.0)
    elif metric is Metric.RECALL:
        rates = divide(both, actual, 0.0)
    else:
        rates = divide(2 * both, predicted + actual, 0.0)
    return np.asarray(rates.mean(axis=-1)) if rates.shape[-1] else np.full(rates.shape[:-1], np.nan)
