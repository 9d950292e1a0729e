"""ONNX operations lowered to TensorFlow: importing this package fills the table, not TensorFlow."""

from sidelight_engines.ops import (
    activations,
    arithmetic,
    control,
    convolution,
    generators,
    indexing,
    linear,
    normalization,
    pooling,
    recurrent,
    reductions,
    resize,
    shape,
    sklearn,
)
from sidelight_engines.ops.registry import Entry, NodeForm, find, form_of, registered

__all__ = [
    "Entry",
    "NodeForm",
    "activations",
    "arithmetic",
    "control",
    "convolution",
    "find",
    "form_of",
    "generators",
    "indexing",
    "linear",
    "normalization",
    "pooling",
    "recurrent",
    "reductions",
    "registered",
    "resize",
    "shape",
    "sklearn",
]
