"""Names of the operations that relevance passes, by file format; known without TensorFlow."""

from __future__ import annotations

from sidelight_engines.graph.unrolling import UNROLLED
from sidelight_engines.lrp.ops import COVERED

# The heads that are cut off.
_HEADS = frozenset({"Sigmoid", "Softmax"})

TENSORFLOW_OPS: frozenset[str] = frozenset(COVERED) | _HEADS | UNROLLED
"""TensorFlow's operations."""

# What makes truth values and whole numbers carries no relevance.
_CONDITIONS = frozenset(
    {"And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor"}
)

ONNX_OPS: frozenset[str] = (
    _HEADS
    | _CONDITIONS
    | frozenset(
        {"Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Celu", "Clip", "Concat", "Conv", "ConvTranspose"}
        | {
            "DepthToSpace",
            "Div",
            "Dropout",
            "Einsum",
            "Elu",
            "Erf",
            "Exp",
            "Expand",
            "Flatten",
            "Gather",
            "Gelu",
            "Gemm",
        }
        | {"GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul", "Max"}
        | {
            "MaxPool",
            "Mean",
            "Min",
            "Mish",
            "Mul",
            "Neg",
            "PRelu",
            "Pad",
            "Pow",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
        }
        | {
            "ReduceSum",
            "Relu",
            "Reshape",
            "Resize",
            "Reciprocal",
            "Selu",
            "Slice",
            "Softplus",
            "Softsign",
            "SpaceToDepth",
        }
        | {
            "Split",
            "Sqrt",
            "Squeeze",
            "Sub",
            "Sum",
            "Swish",
            "Tanh",
            "ThresholdedRelu",
            "Tile",
            "Transpose",
            "Unsqueeze",
        }
        | {"GRU", "GroupNormalization", "InstanceNormalization", "LSTM", "LayerNormalization", "Loop", "RNN"}
        | {"RMSNormalization", "ReduceL2", "ReduceSumSquare", "Upsample", "Where"}
    )
)
"""ONNX's operations, whose TensorFlow form relevance passes."""
