"""What a caller may ask of gradient similarity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from sidelight_engines.runtime.runtime import Array


class SimilarityFunction(Enum):
    """How the gradients g of an instance and h of a reference are scored; e is the norm offset."""

    GRAD_DOT = "grad_dot"
    """g.h"""
    GRAD_COS = "grad_cos"
    """g.h / (|g| |h| + e)"""
    GRAD_ASYM_DOT = "grad_asym_dot"
    """g.h / (|h|^2 + e)"""
    RELATIF = "relatif"
    """g.h / (|h| + e): influence relative to the reference's own."""


class Loss(Enum):
    """The loss whose gradient is taken. Where an instance has several outputs it is the mean over them."""

    BY_GRAPH = "by_graph"
    """By the output's head: softmax categorical, sigmoid binary cross-entropy, else squared error."""
    CATEGORICAL_CROSS_ENTROPY = "categorical_cross_entropy"
    """From probabilities, with one-hot or class-index labels."""
    CATEGORICAL_CROSS_ENTROPY_FROM_LOGITS = "categorical_cross_entropy_from_logits"
    BINARY_CROSS_ENTROPY = "binary_cross_entropy"
    """From probabilities of one or several yes-no answers."""
    BINARY_CROSS_ENTROPY_FROM_LOGITS = "binary_cross_entropy_from_logits"
    SQUARED_ERROR = "squared_error"
    ABSOLUTE_ERROR = "absolute_error"
    HUBER = "huber"
    """Huber's error with delta 1."""

    @property
    def categorical(self) -> bool:
        """Whether labels are one class of several."""
        return self in (Loss.CATEGORICAL_CROSS_ENTROPY, Loss.CATEGORICAL_CROSS_ENTROPY_FROM_LOGITS)

    @property
    def binary(self) -> bool:
        """Whether labels are yes-no answers."""
        return self in (Loss.BINARY_CROSS_ENTROPY, Loss.BINARY_CROSS_ENTROPY_FROM_LOGITS)


class LabelSource(Enum):
    """Where labels come from."""

    GIVEN = "given"
    PREDICTION = "prediction"
    """The model's own prediction; for classifiers only."""


class Precision(Enum):
    """How gradients are stored. Every row of every factor has a scale of its own."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


@dataclass(frozen=True)
class LayerSelection:
    """The layers whose parameters count.

    Attributes:
        names: a repeated name counts once; empty for all layers with parameters.
    """

    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """Labels and where the caller gave them.

    Attributes:
        values: (n,) class indices, (n, k) one-hot, or targets shaped like the output. Whole numbers for an output of
            several are class indices. May be memory-mapped.
        field: the path of the request field that they came from, for errors.
    """

    values: Array
    field: str = "parameters.labels"


@dataclass(frozen=True)
class Examples:
    """Examples that gradients are taken at.

    Attributes:
        inputs: input name -> (n, ...), the same n in all. May be memory-mapped.
        labels: their labels; None for the model's own prediction.
        field: the path of the request field that they came from, for errors.
        positions: (n,) int64, for references: the index of each in its set; None for 0 to n - 1.
    """

    inputs: Mapping[str, Array]
    labels: Labels | None
    field: str = "instances.inline.inputs"
    positions: Array | None = None

    def __len__(self) -> int:
        return min((len(array) for array in self.inputs.values() if array.ndim), default=0)


@dataclass(frozen=True)
class GradientOptions:
    """Which gradients.

    Attributes:
        loss: the loss.
        output: the output that the loss reads, by name; empty is the model's first.
        layers: the layers whose parameters count.
    """

    loss: Loss = Loss.BY_GRAPH
    output: str = ""
    layers: LayerSelection = field(default_factory=LayerSelection)


@dataclass(frozen=True)
class SimilarityParameters:
    """How to compare gradients.

    Attributes:
        function: the score.
        gradients: the loss, the output and the layers.
        top: how many of the most similar to return, 0 to 10,000.
        bottom: how many of the least similar to return, 0 to 10,000.
        all_scores: also returns every score.
        class_means: also returns the mean score by true and by predicted class of the references.
        layer_contributions: also returns how much each layer contributes to each returned score.
        self_influence: also returns each instance's similarity to itself.
        aggregate_instances: adds the gradients of all instances up and ranks once, for them together.
        norm_offset: what is added to denominators, at least 0; alibi 0.9.4 adds 1e-7.
    """

    function: SimilarityFunction = SimilarityFunction.GRAD_COS
    gradients: GradientOptions = field(default_factory=GradientOptions)
    top: int = 5
    bottom: int = 0
    all_scores: bool = False
    class_means: bool = False
    layer_contributions: bool = False
    self_influence: bool = False
    aggregate_instances: bool = False
    norm_offset: float = 0.0


@dataclass(frozen=True)
class Chunking:
    """How work is cut into passes.

    Attributes:
        rows: the most examples per pass through the model.
        memory_bytes: about what the tensors of one pass, or the scores of one scan, may take.
        reference_bytes: what the gradients of references that are not indexed may take.
    """

    rows: int = 128
    memory_bytes: int = 512 * 2**20
    reference_bytes: int = 512 * 2**20
