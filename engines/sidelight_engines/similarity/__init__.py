"""Which references a model treats like an instance: similarity of loss gradients."""

from sidelight_engines.similarity.explain import Checkpoint, References, check_similarity, explain_similarity
from sidelight_engines.similarity.extraction import Task, make_task
from sidelight_engines.similarity.index.build import IndexOptions, IndexPlan, build_index, extend_index, plan_index
from sidelight_engines.similarity.index.header import IndexHeader
from sidelight_engines.similarity.index.opened import GradientIndex, open_index
from sidelight_engines.similarity.labels import label_classes
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
from sidelight_engines.similarity.references import gradient_bytes
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
    "IndexPlan",
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
    "Task",
    "build_index",
    "check_similarity",
    "explain_similarity",
    "extend_index",
    "gradient_bytes",
    "label_classes",
    "make_task",
    "open_index",
    "plan_index",
]
