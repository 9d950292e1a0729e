"""Which classes fire the same neurons, at any layers of a model."""

from sidelight_engines.activation.measure import measure_activation_patterns
from sidelight_engines.activation.parameters import (
    Chunking,
    Classes,
    LabelClasses,
    LayerSelection,
    PatternDistance,
    PatternParameters,
    PredictedClasses,
    QuantileThreshold,
    Threshold,
    UnitPooling,
    ValueThreshold,
)
from sidelight_engines.activation.result import DistanceMatrix, LayerPattern, PatternResult, SpecificUnit

__all__ = [
    "Chunking",
    "Classes",
    "DistanceMatrix",
    "LabelClasses",
    "LayerPattern",
    "LayerSelection",
    "PatternDistance",
    "PatternParameters",
    "PatternResult",
    "PredictedClasses",
    "QuantileThreshold",
    "SpecificUnit",
    "Threshold",
    "UnitPooling",
    "ValueThreshold",
    "measure_activation_patterns",
]
