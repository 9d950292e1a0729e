"""Which tensors are affine functions of a model's inputs, told from the structure of the graph alone.

Every tensor is one of three kinds, and an operation's kind follows from its operands':

    constant      it does not depend on the values of the inputs; what depends on their shape alone is
                  constant, because the shape is given before the values are
    affine        A x + b, with A and b constant
    nonlinear     anything else, and whatever an operation makes that no table here knows

The claim is one-sided: a tensor said to be affine is affine, one said to be nonlinear may still be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum

from sidelight_engines.graph.step import Step


class Affinity(IntEnum):
    """How a tensor depends on the values of the inputs; the larger of two is what their sum is."""

    CONSTANT = 0
    AFFINE = 1
    NONLINEAR = 2


# TensorFlow's and ONNX's names stand in one table: where both use a name, the entry is right for both.

# What these give depends on the shapes of their operands alone.
_SHAPE_OF = frozenset({"OnesLike", "Rank", "Shape", "ShapeN", "Size", "ZerosLike"})

# The shape of what these give depends on values, so that a Shape after them is no constant.
_SHAPED_BY_VALUES = frozenset(
    {"Compress", "DynamicPartition", "NonMaxSuppression", "NonMaxSuppressionV3", "NonZero", "Unique", "UniqueV2"}
    | {"NonMaxSuppressionV4", "NonMaxSuppressionV5"}
)

_RANDOM = ("Random", "StatelessRandom", "Multinomial", "Bernoulli", "ParameterizedTruncatedNormal", "TruncatedNormal")

# Affine in all operands together.
_JOINTLY = frozenset(
    {"AccumulateNV2", "Add", "AddN", "AddV2", "AveragePool", "AvgPool", "AvgPool3D", "BiasAdd", "BiasAddV1"}
    | {"CheckNumerics", "Concat", "ConcatV2", "EnsureShape", "GlobalAveragePool", "Identity", "IdentityN", "Mean"}
    | {"Neg", "Pack", "PlaceholderWithDefault", "PreventGradient", "Snapshot", "StopGradient", "Sub", "Sum", "Unpack"}
)

# Affine in the first operand while all others are constant.
_IN_FIRST = frozenset(
    {"BatchNormalization", "BatchToSpaceND", "BroadcastTo", "CumSum", "Cumsum", "DepthToSpace", "Div", "DivNoNan"}
    | {"Dropout", "Expand", "ExpandDims", "Flatten", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"}
    | {"Gather", "GatherElements", "GatherND", "GatherNd", "GatherV2", "LinearRegressor", "MatrixDiag", "MirrorPad"}
    | {"Pad", "PadV2", "RealDiv", "ReduceMean", "ReduceSum", "Reshape", "Resize", "ResizeBicubic", "ResizeBilinear"}
    | {"ResizeNearestNeighbor", "Reverse", "ReverseSequence", "ReverseV2", "Roll", "Scaler", "Slice", "SpaceToBatchND"}
    | {"SpaceToDepth", "Squeeze", "StridedSlice", "Tile", "Transpose", "Unsqueeze", "Upsample"}
)

# Affine in any one operand while all others are constant.
_IN_ONE = frozenset(
    {"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Conv1D", "Conv2D", "Conv2DBackpropInput", "Conv3D"}
    | {"Conv3DBackpropInputV2", "DepthwiseConv2dNative", "DepthwiseConv2dNativeBackpropInput", "Einsum", "MatMul"}
    | {"Mul", "MulNoNan", "Split", "SplitV"}
)

# A product of the first two operands, plus the third.
_PRODUCT_PLUS = frozenset({"Conv", "ConvTranspose", "Gemm"})

# The first operand chooses between the others.
_CHOICES = frozenset({"Select", "SelectV2", "Where"})

# Affine over the reals, but integers round.
_DIVISIONS = frozenset({"Div", "DivNoNan", "Mean", "ReduceMean", "AveragePool", "AvgPool", "GlobalAveragePool"})

# Attributes by which an operation of these tables becomes another function, and the value by which it does not.
_PLAIN: Mapping[str, str | int] = {"is_training": 0, "training_mode": 0, "post_transform": "NONE"}


def affinities(steps: Sequence[Step], inputs: Collection[str]) -> dict[str, Affinity]:
    """Tells for each tensor how it depends on the inputs.

    Args:
        steps: the model's operations; each tensor is made before it is read.
        inputs: names of the model's input tensors.

    Returns:
        Tensor name -> kind, for the inputs and all that the steps make. A tensor that a step reads and
        that is not in it is a constant of the file.
    """
    return cut_affinities(steps, inputs, ())[0]


def cut_affinities(
    steps: Sequence[Step], inputs: Collection[str], cuts: Collection[str]
) -> tuple[dict[str, Affinity], frozenset[str]]:
    """Tells how each tensor depends on the inputs and on some tensors that are taken for inputs of their own.

    Args:
        steps: as of `affinities`.
        inputs: likewise.
        cuts: tensors at which a nonlinear dependence may end: whatever is behind one depends on it instead.

    Returns:
        As `affinities`; and those of `cuts` that are nonlinear in what is before them, which are what the others
        depend on beside the inputs.
    """
    kinds = dict.fromkeys(inputs, Affinity.AFFINE)
    cut: set[str] = set()
    ragged: set[str] = set()
    for step in steps:
        operands = [name for name in step.inputs if name]
        from_ragged = any(name in ragged for name in operands)
        kind = _kind(step, [kinds.get(name, Affinity.CONSTANT) for name in operands], from_ragged)
        for name in step.outputs:
            # An input may be listed as a step too (a placeholder): it stays an input.
            found = kinds.setdefault(name, kind)
            if found is Affinity.NONLINEAR and name in cuts and not from_ragged and not _shapes_by_values(step):
                kinds[name] = Affinity.AFFINE
                cut.add(name)
        if from_ragged or (_shapes_by_values(step) and kind is not Affinity.CONSTANT):
            ragged.update(step.outputs)
    return kinds, frozenset(cut)


def depends_on_values(kinds: Mapping[str, Affinity], tensor: str) -> bool:
    """Whether a tensor depends on the values of the model's inputs, by `affinities`."""
    return kinds.get(tensor, Affinity.CONSTANT) is not Affinity.CONSTANT


def _shapes_by_values(step: Step) -> bool:
    # TensorFlow's Where lists the places that are true; ONNX's is TensorFlow's Select.
    return step.op in _SHAPED_BY_VALUES or (step.op == "Where" and len(step.inputs) == 1)


def _kind(step: Step, operands: Sequence[Affinity], from_ragged: bool) -> Affinity:
    op = step.op
    if op in _SHAPE_OF:
        return Affinity.NONLINEAR if from_ragged else Affinity.CONSTANT
    if op.startswith(_RANDOM):
        return Affinity.NONLINEAR
    if any(step.attributes.get(name, plain) != plain for name, plain in _PLAIN.items()):
        return Affinity.NONLINEAR
    most = max(operands, default=Affinity.CONSTANT)
    if most is Affinity.CONSTANT or most is Affinity.NONLINEAR:
        return most
    if op in _DIVISIONS and _dtype(step).startswith(("int", "uint")):
        return Affinity.NONLINEAR
    rest = max(operands[1:], default=Affinity.CONSTANT)
    varying = sum(operand is not Affinity.CONSTANT for operand in operands)
    if (
        op in _JOINTLY
        or (op in _IN_FIRST and rest is Affinity.CONSTANT)
        or (op in _IN_ONE and varying == 1)
        or (op in _PRODUCT_PLUS and sum(operand is not Affinity.CONSTANT for operand in operands[:2]) <= 1)
        or (op in _CHOICES and len(operands) > 1 and operands[0] is Affinity.CONSTANT)
        or (op == "Cast" and _dtype(step).startswith(("float", "bfloat", "complex")))
    ):
        return Affinity.AFFINE
    return Affinity.NONLINEAR


def _dtype(step: Step) -> str:
    known = step.types.get(step.outputs[0]) if step.outputs else None
    return "" if known is None else known.dtype
