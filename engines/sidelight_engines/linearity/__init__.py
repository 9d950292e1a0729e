"""How linear a model is around an instance, at its output and at every layer."""

from sidelight_engines.linearity.measure import measure_linearity
from sidelight_engines.linearity.parameters import (
    Aggregation,
    Chunking,
    ClassifierScale,
    DataRange,
    DrawGenerator,
    FeatureRange,
    GridSampling,
    KnnSampling,
    LayerSelection,
    LinearityParameters,
    ModelType,
    PerFeatureRange,
    RandomDraws,
    Rows,
    UniformRange,
)
from sidelight_engines.linearity.result import LayerLinearity, LinearityResult, Notice, ZeroReason

__all__ = [
    "Aggregation",
    "Chunking",
    "ClassifierScale",
    "DataRange",
    "DrawGenerator",
    "FeatureRange",
    "GridSampling",
    "KnnSampling",
    "LayerLinearity",
    "LayerSelection",
    "LinearityParameters",
    "LinearityResult",
    "ModelType",
    "Notice",
    "PerFeatureRange",
    "RandomDraws",
    "Rows",
    "UniformRange",
    "ZeroReason",
    "measure_linearity",
]
