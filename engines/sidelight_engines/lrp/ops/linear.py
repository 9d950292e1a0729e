"""Products with constant weights."""

from __future__ import annotations

from typing import Any

from sidelight_engines.lrp.maps.convolutions import (
    Convolution,
    DepthwiseConvolution,
    SplitConvolution,
    TransposedConvolution,
)
from sidelight_engines.lrp.maps.linear_map import LinearMap
from sidelight_engines.lrp.maps.products import Einsum, MatMul
from sidelight_engines.lrp.ops.registry import linear_map
from sidelight_engines.lrp.structure.view import GraphView


@linear_map("Conv2D", "Conv3D")
def convolution(op: Any, view: GraphView) -> LinearMap | None:
    """A convolution with a constant kernel, channels last."""
    return Convolution(op) if _reads_first(op, view) and _channels_last(op) else None


@linear_map("ConcatV2")
def split_convolution(op: Any, view: GraphView) -> LinearMap | None:
    """A convolution in groups as lowering writes it: split, convolve each part, join."""
    parts = [tensor.op for tensor in op.inputs[:-1]]
    axis = view.constant(op.inputs[-1])
    if len(parts) < 2 or axis is None or any(part.type not in ("Conv2D", "Conv3D") for part in parts):
        return None
    last = op.outputs[0].shape.rank - 1
    split = parts[0].inputs[0].op
    fits = (
        int(axis) % (last + 1) == last
        and split.type == "Split"
        and len(split.outputs) == len(parts)
        and all(_reads_first(part, view) and _channels_last(part) for part in parts)
        and all(part.inputs[0] is made for part, made in zip(parts, split.outputs, strict=True))
        and all(len(view.readers(part.outputs[0])) == 1 for part in parts)
        and len({_form(part) for part in parts}) == 1
    )
    along = view.constant(split.inputs[0]) if fits else None
    if along is None or int(along) % (last + 1) != last or not view.depends(split.inputs[1]):
        return None
    return SplitConvolution(op, parts, split.inputs[1])


def _form(op: Any) -> str:
    names = ("strides", "padding", "dilations", *(["explicit_paddings"] if op.type == "Conv2D" else []))
    return str([op.get_attr(name) for name in names])


@linear_map("DepthwiseConv2dNative")
def depthwise_convolution(op: Any, view: GraphView) -> LinearMap | None:
    """A depthwise convolution with a constant kernel, channels last."""
    return DepthwiseConvolution(op) if _reads_first(op, view) and _channels_last(op) else None


@linear_map("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def transposed_convolution(op: Any, view: GraphView) -> LinearMap | None:
    """A transposed convolution with a constant kernel, channels last."""
    alone = view.depends(op.inputs[2]) and not view.depends(op.inputs[1])
    return TransposedConvolution(op) if alone and _channels_last(op) else None


@linear_map("BatchMatMul", "BatchMatMulV2", "MatMul")
def matrix_product(op: Any, view: GraphView) -> LinearMap | None:
    """A matrix product with one constant operand."""
    position = _only_dependent(op, view)
    if position is None or op.inputs[1 - position].shape.rank is None:
        return None
    where = view.batch_axis(op.inputs[position])
    # An operand that lacks the batch axis would be summed over instances.
    if where is None or op.inputs[position].shape.rank < op.outputs[0].shape.rank:
        return None
    return MatMul(op, position)


@linear_map("Einsum")
def einsum(op: Any, view: GraphView) -> LinearMap | None:
    """A sum of products in index notation, with one constant operand."""
    position = _only_dependent(op, view) if len(op.inputs) == 2 else None
    return None if position is None or Einsum.problem(op, position) else Einsum(op, position)


def _reads_first(op: Any, view: GraphView) -> bool:
    return view.depends(op.inputs[0]) and not view.depends(op.inputs[1])


def _only_dependent(op: Any, view: GraphView) -> int | None:
    dependent = [index for index, tensor in enumerate(op.inputs) if view.depends(tensor)]
    return dependent[0] if len(dependent) == 1 else None


def _channels_last(op: Any) -> bool:
    return op.get_attr("data_format") in (b"NHWC", b"NDHWC")
