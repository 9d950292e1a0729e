"""What gradient similarity gives back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.parameters import SimilarityParameters


class ClassSource(Enum):
    """Whose class a mean score is of."""

    LABEL = "label"
    """The reference's label."""
    PREDICTION = "prediction"
    """What the model predicts for the reference."""


@dataclass(frozen=True)
class SimilarExample:
    """A reference and its score.

    Attributes:
        index: its position in the reference set.
        score: its score.
        label: its label; None for regression.
        prediction: the class that the model predicts for it; None for regression.
        layer_scores: how much each layer contributes, in the order of the result's layers; they sum to `score`.
            Empty unless asked for.
    """

    index: int
    score: float
    label: int | None
    prediction: int | None
    layer_scores: tuple[float, ...]


@dataclass(frozen=True)
class ClassMeanScore:
    """The mean score of the references of one class.

    Attributes:
        class_index: the class.
        source: whether references are of it by label or by prediction.
        mean: the mean.
        count: how many references it is the mean of.
    """

    class_index: int
    source: ClassSource
    mean: float
    count: int


@dataclass(frozen=True)
class SimilarityRanking:
    """The ranking of the references for one instance, or for all together.

    Attributes:
        most_similar: score descending, then index ascending.
        least_similar: score ascending, then index ascending.
        scores: (references,) float32, in the order of the selection; None unless asked for.
        class_means: by label, then by prediction, classes ascending; empty unless asked for.
        self_influence: the similarity to itself; None unless asked for.
        prediction: the class that the model predicts; None for regression and for several instances together.
        gradient_norm: the norm of the gradient by the layers that count.
    """

    most_similar: tuple[SimilarExample, ...]
    least_similar: tuple[SimilarExample, ...]
    scores: Array | None
    class_means: tuple[ClassMeanScore, ...]
    self_influence: float | None
    prediction: int | None
    gradient_norm: float


@dataclass(frozen=True)
class SimilarityResult:
    """The references that a model treats like each instance.

    Attributes:
        rankings: one per instance in their order; one in all if they are aggregated.
        layers: the names of the layers that count, in the order of evaluation; `layer_scores` are in their order.
        materialised_layers: those whose gradients could not be factored and were kept whole.
        reference_digest: the digest of the reference set; empty if the references were given as arrays.
        reference_count: how many references were scored.
        values_per_reference: numbers kept per reference.
        parameters: as they were used: output and loss resolved.
    """

    rankings: tuple[SimilarityRanking, ...]
    layers: tuple[str, ...]
    materialised_layers: tuple[str, ...]
    reference_digest: str
    reference_count: int
    values_per_reference: int
    parameters: SimilarityParameters
