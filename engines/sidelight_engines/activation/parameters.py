"""What a caller may ask of activation patterns."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sidelight_engines.runtime.runtime import Array


class UnitPooling(Enum):
    """How the positions of a channel become the activation of one unit."""

    ANY = "any"
    """The greatest over positions: the unit fires if any position does."""
    MEAN = "mean"
    """The mean over positions."""
    POSITION = "position"
    """Every position is a unit of its own."""


class PatternDistance(Enum):
    """A distance between the patterns of two classes, whose firing rates are F_a and F_b."""

    MEAN_ABSOLUTE = "mean_absolute"
    """mean_u |F_a - F_b|."""
    COSINE = "cosine"
    """1 - F_a . F_b / (|F_a| |F_b|)."""
    JACCARD = "jaccard"
    """1 - sum_u min(F_a, F_b) / sum_u max(F_a, F_b)."""
    CKA = "cka"
    """1 - linear CKA of the activations; see `sidelight_engines.activation.alignment`."""


@dataclass(frozen=True)
class ValueThreshold:
    """A unit fires above this value; finite."""

    value: float = 0.0


@dataclass(frozen=True)
class QuantileThreshold:
    """A unit fires above this quantile of its own activations; 0 to 1."""

    quantile: float


Threshold = ValueThreshold | QuantileThreshold


@dataclass(frozen=True)
class LabelClasses:
    """The caller says the class of each example.

    Attributes:
        values: int64, (examples,), at least 0.
        field: the path of the request field that they came from, for errors.
    """

    values: Array
    field: str


@dataclass(frozen=True)
class PredictedClasses:
    """The model says it.

    By the position of the greatest number in an output, or, for a single probability, whether it is at least 0.5.

    Attributes:
        output: the name of the output; empty is the model's first.
    """

    output: str = ""


Classes = LabelClasses | PredictedClasses


@dataclass(frozen=True)
class LayerSelection:
    """The layers to observe.

    Attributes:
        names: in the order wanted; a repeated name counts once. Empty if `everything` is set.
        everything: every layer of the graph.
    """

    names: tuple[str, ...] = ()
    everything: bool = False


@dataclass(frozen=True)
class PatternParameters:
    """How patterns are counted.

    Attributes:
        layers: the layers; at least one.
        threshold: when a unit fires.
        pooling: how positions become units.
        divisor: what counts are divided by, at least 0; 0 is the number of examples of the class.
        distances: between classes; at least one, none twice.
        specific_units: how many class-specific units to find per class, 0 to 1,000.
    """

    layers: LayerSelection
    threshold: Threshold = field(default_factory=ValueThreshold)
    pooling: UnitPooling = UnitPooling.ANY
    divisor: float = 0.0
    distances: tuple[PatternDistance, ...] = (PatternDistance.MEAN_ABSOLUTE,)
    specific_units: int = 5


@dataclass(frozen=True)
class Chunking:
    """How the work is cut into forward passes.

    Attributes:
        rows: the most rows per forward pass; None is 64 for ONNX Runtime and 128 for TensorFlow.
        memory_bytes: about the most that the tensors of the passes under way may take; what is kept for quantiles,
            rates and alignments may take as much again. The numbers of a result do not depend on it but by rounding.
    """

    rows: int | None = None
    memory_bytes: int = 256 * 2**20
