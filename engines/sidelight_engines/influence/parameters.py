"""What a caller may ask of influence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sidelight_engines.runtime.runtime import Array

DEFAULT_TAUS = (-1.0, 1.0)


class Metric(Enum):
    """A metric of performance, over examples i of weight w_i with label y_i and prediction p_i."""

    ACCURACY = "accuracy"
    """The share of examples whose predicted class is the label."""
    LOG_LOSS = "log_loss"
    """The mean of -ln p of the label, p kept within the machine epsilon of the predictions' type of 0 and 1."""
    BRIER = "brier"
    """The mean squared distance of the probabilities from the label (Brier 1950): summed over the classes; for a
    single probability (p - y)^2."""
    PRECISION = "precision"
    """Of the examples predicted as a class, the share that is of it; 0 where none is. With one or two outputs of
    class 1, else the mean over the classes that occur."""
    RECALL = "recall"
    """Of the examples of a class, the share predicted so; over classes as for precision."""
    F1 = "f1"
    """The harmonic mean of precision and recall; over classes as for precision."""
    AUC = "auc"
    """The chance that an example of a class scores above one of another, ties counting half; over classes as for
    precision. NaN where there is no such pair."""
    SQUARED_ERROR = "squared_error"
    """The mean of (p - y)^2, over outputs too."""
    ABSOLUTE_ERROR = "absolute_error"
    """The mean of |p - y|, over outputs too."""

    @property
    def of_classes(self) -> bool:
        """Whether labels are classes rather than targets."""
        return self not in (Metric.SQUARED_ERROR, Metric.ABSOLUTE_ERROR)

    @property
    def of_probabilities(self) -> bool:
        """Whether predictions must be probabilities."""
        return self in (Metric.LOG_LOSS, Metric.BRIER)


class UnattainableTarget(Enum):
    """What happens where a target lies at or beyond a feature's least or greatest value."""

    BOUNDARY = "boundary"
    """The limit distribution: all weight, evenly, on the examples at that bound."""
    MISSING = "missing"
    """NaN."""
    ERROR = "error"
    """InvalidField that names the feature."""


@dataclass(frozen=True)
class Rows:
    """Numbers for each example, and where the caller gave them.

    Attributes:
        values: axis 0 counts the examples. May be memory-mapped.
        field: the path of the request field that they came from, for errors.
    """

    values: Array
    field: str


@dataclass(frozen=True)
class InfluenceParameters:
    """What is tilted and measured.

    Attributes:
        taus: where each feature's mean is moved, -1 to 1: towards the low quantile below 0, the high one above;
            1 to 201 values. None where `targets` are given; both None is (-1, 1).
        targets: means in the feature's own unit in place of taus, each for every feature; 1 to 201 values.
        low_quantile: what tau -1 stands for, 0 to 1.
        high_quantile: what tau 1 stands for, above `low_quantile`, to 1.
        features: flat positions in an example, each once; empty for all.
        feature_names: of every feature of an example in flat order; empty for none.
        metrics: to measure beside the mean predictions, each once; they need labels.
        unattainable: what happens where a target can not be reached.
        confidence_level: of confidence intervals, between 0 and 1; None for none.
        ethik_compatible: stops where ethik 0.0.4 stops in place of solving exactly; `unattainable` has no effect.
    """

    taus: tuple[float, ...] | None = None
    targets: tuple[float, ...] | None = None
    low_quantile: float = 0.05
    high_quantile: float = 0.95
    features: tuple[int, ...] = ()
    feature_names: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    unattainable: UnattainableTarget = UnattainableTarget.BOUNDARY
    confidence_level: float | None = None
    ethik_compatible: bool = False

    @property
    def aims(self) -> tuple[float, ...]:
        """The targets, or else the taus."""
        if self.targets is not None:
            return self.targets
        return DEFAULT_TAUS if self.taus is None else self.taus

    def name_of(self, feature: int) -> str:
        """A feature in words, for messages."""
        return f"{feature} ({self.feature_names[feature]!r})" if self.feature_names else str(feature)
