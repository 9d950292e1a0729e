"""What influence gives back."""

from __future__ import annotations

from dataclasses import dataclass

from sidelight_engines.influence.parameters import Metric
from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True)
class Notice:
    """Something a reader of a result should know.

    Attributes:
        code: a stable name in capitals, such as ``TARGETS_NOT_ATTAINED``.
        message: for a person.
    """

    code: str
    message: str


@dataclass(frozen=True, eq=False)
class InfluenceResult:
    """How predictions and metrics change when the mean of a feature moves. Numbers are float64.

    Attributes:
        features: (features,) int64, flat positions in an example, in the order asked for.
        feature_names: of these features; empty if none were given.
        example_shape: of one example.
        aims: the taus, or targets, in order.
        feature_means: (features,), of the data as they are.
        targets: (features, aims), in the feature's unit.
        influences: (features, aims, labels), the mean prediction under each tilt.
        standard_errors: like `influences`; NaN where fewer than 2 examples count.
        confidence_low: like `influences`; None unless asked for.
        confidence_high: like `influences`; None unless asked for.
        slopes: (features, labels), d(mean prediction)/d(feature mean) at the data as they are; 0 for a constant.
        performances: (features, aims, metrics).
        performance_errors: like `performances`, standard errors; NaN where fewer than 2 examples count.
        group_performances: (features, aims, groups, metrics); None without groups. NaN where a group has no weight.
        group_performance_errors: like `group_performances`, standard errors; NaN where fewer than 2 examples of a group
            count. None without groups.
        attained: (features, aims) bool. False for a target at or beyond a bound, also where the limit's mean is it.
        attained_means: (features, aims), the mean of the feature under the tilt.
        effective_sample_sizes: (features, aims), 1 / sum of squared weights.
        metrics: in the order asked for.
        groups: (groups,) int64, ascending; None without groups.
        baseline_predictions: (labels,), the mean prediction of the data as they are.
        baseline_performances: (metrics,), of the data as they are.
        warnings: what a reader should know.
    """

    features: Array
    feature_names: tuple[str, ...]
    example_shape: tuple[int, ...]
    aims: tuple[float, ...]
    feature_means: Array
    targets: Array
    influences: Array
    standard_errors: Array
    confidence_low: Array | None
    confidence_high: Array | None
    slopes: Array
    performances: Array
    performance_errors: Array
    group_performances: Array | None
    group_performance_errors: Array | None
    attained: Array
    attained_means: Array
    effective_sample_sizes: Array
    metrics: tuple[Metric, ...]
    groups: Array | None
    baseline_predictions: Array
    baseline_performances: Array
    warnings: tuple[Notice, ...]
