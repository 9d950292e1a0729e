"""Everything that is measured under a tilt: mean predictions, metrics, and their standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sidelight_engines.influence.answers import Answers
from sidelight_engines.influence.area_under_curve import AreaUnderCurve
from sidelight_engines.influence.metric_errors import metric_errors, share_of
from sidelight_engines.influence.metrics import MetricColumns, metric_columns
from sidelight_engines.influence.moments import Moments, Sums, Tilts, effective_size
from sidelight_engines.influence.parameters import Metric
from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True, eq=False)
class Measures:
    """What is measured.

    Attributes:
        columns: (examples, 2 labels + metrics' columns): centred predictions, numbers of metrics, and the squares of
            centred predictions.
        centre: (labels,), the mean prediction, which keeps the squares' rounding small.
        metrics: how metrics follow from their columns.
        areas: AUC; None if it is not asked for.
    """

    columns: Array
    centre: Array
    metrics: MetricColumns
    areas: AreaUnderCurve | None

    @classmethod
    def make(cls, metrics: tuple[Metric, ...], answers: Answers, members: tuple[Array, ...]) -> Measures:
        """Prepares what is measured.

        Args:
            metrics: those asked for.
            answers: predictions and labels.
            members: for each group, (examples,) bool.
        """
        centre = answers.predictions.mean(axis=0)
        centred = answers.predictions - centre
        columns = metric_columns(metrics, answers, members)
        areas = AreaUnderCurve(answers, members) if Metric.AUC in metrics else None
        return cls(np.concatenate([centred, columns.columns, centred**2], axis=1), centre, columns, areas)

    @property
    def labels(self) -> int:
        """How many labels predictions have."""
        return len(self.centre)

    @property
    def linear(self) -> int:
        """How many columns come before the squares of predictions."""
        return int(self.columns.shape[1]) - self.labels

    @property
    def by_example(self) -> bool:
        """Whether the weight of every example is needed, for AUC."""
        return self.areas is not None

    @property
    def needs_examples(self) -> bool:
        """Whether the weight of some examples is needed: those of AUC, and those that F1 finds between two classes."""
        rates = self.metrics.subsets[0].rates
        return self.by_example or (Metric.F1 in self.metrics.metrics and rates is not None and len(rates.missed) > 0)

    def means(self, moments: Moments) -> tuple[Array, Array]:
        """Mean centred predictions and their standard errors, each (features, aims, labels)."""
        values = moments.columns.at(slice(self.labels))
        squares = moments.columns.square[..., self.linear :]
        ones = moments.ones
        share = Sums(*(part[..., None] for part in (ones.plain, ones.pulled, ones.square, ones.square_pulled)))
        return values.plain, moments.mean_errors(values, squares, share)

    def performances(self, moments: Moments, tilts: Tilts) -> tuple[Array, Array]:
        """Metrics and their standard errors, each (features, aims, subsets, metrics)."""
        own = moments.after(self.labels)
        values = self.metrics.evaluate(own.columns.plain)
        errors = metric_errors(self.metrics, own, tilts)
        if self.areas is not None:
            place = self.metrics.metrics.index(Metric.AUC)
            values[..., place], errors[..., place] = self._areas(self.areas, own, tilts)
        return values, errors

    def untilted(self) -> Array:
        """The metrics of the data as they are, (metrics,)."""
        columns = self.metrics.columns
        values: Array = self.metrics.evaluate(columns.mean(axis=0))[0]
        if self.areas is not None:
            values[self.metrics.metrics.index(Metric.AUC)] = self.areas.evaluate(np.ones((len(columns), 1)))[0, 0]
        return values

    def _areas(self, areas: AreaUnderCurve, moments: Moments, tilts: Tilts) -> tuple[Array, Array]:
        found = areas.measure(tilts.of_examples(tilts.weights), tilts.of_examples(tilts.away))
        shape = (*moments.variance.shape, len(self.metrics.subsets))
        effective = np.stack([effective_size(share_of(subset, moments)) for subset in self.metrics.subsets], axis=-1)
        second, pulled, square_pulled = (
            part.reshape(shape) for part in (found.second, found.pulled, found.square_pulled)
        )
        values = found.areas.reshape(shape)
        errors = moments.errors(second, pulled, square_pulled, effective)
        return values, np.where(np.isnan(values), np.nan, errors)
