"""Which axis of an ONNX tensor counts channels.

ONNX convolutions, and what normalises and pools for them, have their channels on axis 1 by definition of the
operator; what follows keeps them there until a Transpose moves them. Of any other tensor the file tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from sidelight_engines.graph.step import TensorType

# By the operators' own definition: (batch, channels, positions...).
_CHANNELS_FIRST = frozenset(
    {
        *("AveragePool", "BatchNormalization", "Conv", "ConvInteger", "ConvTranspose", "GlobalAveragePool"),
        *("GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool"),
        *("MaxUnpool", "QLinearConv", "DepthToSpace", "SpaceToDepth"),
    }
)
# What may reshape, so that axes are others afterwards.
_REARRANGES = frozenset(
    {
        *("ArgMax", "ArgMin", "Einsum", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Gemm", "If"),
        *("Loop", "LSTM", "GRU", "RNN", "MatMul", "MatMulInteger", "NonZero", "Reshape", "Scan", "Shape", "Size"),
        *("Squeeze", "TopK", "Unsqueeze"),
    }
)


def channel_axes(nodes: Iterable[onnx.NodeProto], types: Mapping[str, TensorType]) -> dict[str, int]:
    """Finds the axis of channels of each tensor whose operations tell it.

    Args:
        nodes: of the graph, each after those whose outputs it reads.
        types: tensor name -> what is known of it.

    Returns:
        Tensor name -> axis, of tensors that have channels and positions.
    """
    found: dict[str, int] = {}
    for node in nodes:
        axis = _axis(node, found, types)
        if axis is not None and node.output:
            found[node.output[0]] = axis
    return found


def _axis(node: onnx.NodeProto, found: Mapping[str, int], types: Mapping[str, TensorType]) -> int | None:
    if node.op_type in _CHANNELS_FIRST:
        return 1
    if node.op_type in _REARRANGES or not node.output:
        return None
    source = next((name for name in node.input if name in found), None)
    if source is None:
        return None
    axis = found[source]
    if node.op_type == "Transpose":
        order = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), None)
        # Without an order, Transpose reverses the axes.
        rank = _rank(source, types)
        if order is None:
            return None if rank is None else rank - 1 - axis
        return order.index(axis) if axis in order else None
    before, after = _rank(source, types), _rank(node.output[0], types)
    return axis if before is None or after is None or before == after else None


def _rank(tensor: str, types: Mapping[str, TensorType]) -> int | None:
    shape = types.get(tensor, TensorType()).shape
    return None if shape is None else len(shape)
