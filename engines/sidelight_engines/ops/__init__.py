"""ONNX operations lowered to TensorFlow: importing this package fills the table, not TensorFlow."""

from sidelight_engines.ops import (
    activations,
    arithmetic,
    convolution,
    generators,
    indexing,
    linear,
    normalization,
    pooling,
    reductions,
    resize,
    shape,
    sklearn,
)

__all__ = [
    "activations",
    "arithmetic",
    "convolution",
    "generators",
    "indexing",
    "linear",
    "normalization",
    "pooling",
    "reductions",
    "resize",
    "shape",
    "sklearn",
]
