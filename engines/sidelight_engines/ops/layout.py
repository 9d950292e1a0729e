"""The order of axes that TensorFlow computes in.

ONNX orders axes N C D1 .. Dn; TensorFlow's kernels for CPU take N D1 .. Dn C only. Convolutions and pooling
therefore transpose before and after, so that the tensor under the ONNX name has ONNX's order.

Between two convolutions there are other operations, and a transpose takes as long as they do. An operation
that works element by element or channel by channel is therefore computed channels-last too when its input has
just been transposed from there: its own transposes then meet those of its neighbours, and TensorFlow removes
pairs that meet, forward and in the gradient. A tensor that is fetched or differentiated by keeps its pair.
"""

from __future__ import annotations

import dataclasses

from sidelight_engines.ops.context import LoweringContext, Tensor


def channels_last(op: LoweringContext, x: Tensor) -> Tensor:
    """N C D1 .. Dn -> N D1 .. Dn C."""
    rank = x.shape.rank
    return op.tf.transpose(x, [0, *range(2, rank), 1])


def channels_first(op: LoweringContext, x: Tensor) -> Tensor:
    """N D1 .. Dn C -> N C D1 .. Dn."""
    rank = x.shape.rank
    return op.tf.transpose(x, [0, rank - 1, *range(1, rank - 1)])


def is_channels_first(op: LoweringContext, x: Tensor) -> bool:
    """Whether a tensor was transposed from channels-last and nothing since."""
    rank = x.shape.rank
    if rank is None or rank < 3 or x.op.type != "Transpose":
        return False
    order = op.tf.get_static_value(x.op.inputs[1])
    return order is not None and order.tolist() == [0, rank - 1, *range(1, rank - 1)]


def as_channels_last(op: LoweringContext) -> LoweringContext | None:
    """An element-wise operation with its inputs channels-last; None if that would save no transpose.

    At least one input must come from there, and the others, which broadcast, be constants.
    """
    tensors = [tensor for tensor in op.tensors if tensor is not None]
    made = [tensor for tensor in tensors if is_channels_first(op, tensor)]
    ranks = {tensor.shape.rank for tensor in made}
    if len(ranks) != 1:
        return None
    (rank,) = ranks
    others = [tensor for tensor in tensors if not any(tensor is one for one in made)]
    if any(tensor.op.type != "Const" or tensor.shape.rank > rank for tensor in others):
        return None
    return dataclasses.replace(op, tensors=tuple(_turned(op, tensor, rank) for tensor in op.tensors))


def _turned(op: LoweringContext, tensor: Tensor | None, rank: int) -> Tensor | None:
    if tensor is None or tensor.shape.num_elements() == 1:
        return tensor
    missing = rank - tensor.shape.rank
    if missing:
        tensor = op.tf.reshape(tensor, [1] * missing + tensor.shape.as_list())
    return channels_last(op, tensor)
