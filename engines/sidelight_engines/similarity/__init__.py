"""Which references a model treats like an instance: similarity of loss gradients."""

from sidelight_engines.similarity.explain import Checkpoint, References, explain_similarity
from sidelight_engines.similarity.index.build import IndexOptions, build_index
from sidelight_engines.similarity.index.header import IndexHeader
from sidelight_engines.similarity.index.opened import GradientIndex, open_index
from sidelight_engines.similarity.parameters import (
    Chunking,
    Examples,
    GradientOptions,
    Labels,
    LabelSource,
    LayerSelection,
    Loss,
    Precision,
    SimilarityFunction,
    SimilarityParameters,
)
from sidelight_engines.similarity.result import (
    ClassMeanScore,
    ClassSource,
    SimilarExample,
    SimilarityRanking,
    SimilarityResult,
)

__all__ = [
    "Checkpoint",
    "Chunking",
    "ClassMeanScore",
    "ClassSource",
    "Examples",
    "GradientIndex",
    "GradientOptions",
    "IndexHeader",
    "IndexOptions",
    "LabelSource",
    "Labels",
    "LayerSelection",
    "Loss",
    "Precision",
    "References",
    "SimilarExample",
    "SimilarityFunction",
    "SimilarityParameters",
    "SimilarityRanking",
    "SimilarityResult",
    "build_index",
    "explain_similarity",
    "open_index",
]
