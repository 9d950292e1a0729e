"""Operations that move values about, copy them or leave some out: relevance goes back where the value came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from sidelight_engines.lrp.ops.registry import entry
from sidelight_engines.lrp.walk.node import Contributions, Node, wide

_UNCHANGED = ("CheckNumerics", "EnsureShape", "Identity", "PreventGradient", "Snapshot", "StopGradient")


@entry(*_UNCHANGED)
def unchanged(node: Node) -> Contributions:
    """Passes; StopGradient too, which stops gradients but not values."""
    return [(node.op.inputs[0], node.relevance)]


@entry("IdentityN")
def unchanged_each(node: Node) -> Contributions:
    """Passes, each input to its output."""
    sources = enumerate(node.op.inputs)
    return [(tensor, node.relevance_of(i)) for i, tensor in sources if node.view.carries(tensor) and node.came(i)]


@entry("Cast")
def cast(node: Node) -> Contributions:
    """Passes, in the type that the input's relevance is computed in."""
    return [(node.op.inputs[0], node.relevance)]


@entry("Transpose")
def transpose(node: Node) -> Contributions:
    """The inverse permutation."""
    return [(node.op.inputs[0], move_back(node, node.relevance))]


@entry("ExpandDims", "Reshape", "Squeeze")
def reshape(node: Node) -> Contributions:
    """The shape from before."""
    return [(node.op.inputs[0], move_back(node, node.relevance))]


@entry("ConcatV2")
def concat(node: Node) -> Contributions:
    """Splits; the part of constants is sink."""
    import tensorflow as tf

    axis = node.view.constant(node.op.inputs[-1])
    tensors = node.op.inputs[:-1]
    made = node.op.outputs[0]
    if axis is None:
        raise node.refusal("its axis is computed")
    place = int(axis) % made.shape.rank
    if place == node.where(made).axis:
        raise node.refusal("it joins instances")
    lengths = [tensor.shape[place] for tensor in tensors]
    known = None not in lengths
    sizes = lengths if known else tf.stack([tf.shape(tensor)[place] for tensor in tensors])
    parts = tf.split(node.relevance, sizes, axis=place, num=len(tensors))
    for tensor, part in zip(tensors, parts, strict=True):
        if not node.view.carries(tensor):
            node.book("sink", part, node.where(made))
    return [(tensor, part) for tensor, part in zip(tensors, parts, strict=True) if node.view.carries(tensor)]


@entry("Pad", "PadV2", "SpaceToBatchND")
def pad(node: Node) -> Contributions:
    """What came to the padding is sink."""
    return counted(node, "sink")


@entry("BatchToSpaceND", "DepthToSpace", "MirrorPad", "ReverseV2", "Roll", "SpaceToDepth")
def moved(node: Node) -> Contributions:
    """Back to where it came from; copies add up."""
    return [(node.op.inputs[0], by_gradient(node, 0))]


@entry("BroadcastTo", "Slice", "StridedSlice", "Tile", "Unpack", "Split", "SplitV", "Pack")
def taken(node: Node) -> Contributions:
    """Back to where it came from; copies add up, and what constants gave is sink."""
    tensors = [(i, tensor) for i, tensor in enumerate(node.op.inputs) if node.view.carries(tensor)]
    if len(tensors) == len(node.op.inputs) or node.op.type != "Pack":
        return [(tensor, by_gradient(node, i)) for i, tensor in tensors]
    return counted(node, "sink")


@entry("ResizeNearestNeighbor")
def resized(node: Node) -> Contributions:
    """Copies add up."""
    return [(node.op.inputs[0], by_gradient(node, 0))]


@entry("GatherV2")
def gathered(node: Node) -> Contributions:
    """Chosen values go back; of rows of a constant table, the index takes the sum."""
    import tensorflow as tf

    op = node.op
    if node.view.depends(op.inputs[0]) and not node.view.depends(op.inputs[1]):
        return [(op.inputs[0], by_gradient(node, 0))]
    if node.view.depends(op.inputs[0]):
        raise node.refusal("both its values and its indices depend on the inputs")
    axis = node.view.constant(op.inputs[2])
    if axis is None or op.get_attr("batch_dims"):
        raise node.refusal("its axis is computed, or it gathers per batch")
    rank, place = op.inputs[0].shape.rank, int(axis) % op.inputs[0].shape.rank
    of_row = [*range(place), *range(place + op.inputs[1].shape.rank, rank - 1 + op.inputs[1].shape.rank)]
    return [(op.inputs[1], tf.reduce_sum(node.relevance, axis=of_row))]


def move_back(node: Node, relevance: Any) -> Any:
    """Undoes an operation that only moves values, on relevance."""
    import tensorflow as tf

    op = node.op
    tensor = op.inputs[0]
    if op.type in _UNCHANGED:
        return relevance
    if op.type == "Transpose":
        order = node.view.constant(op.inputs[1])
        if order is None:
            raise node.refusal("its permutation is computed")
        return tf.transpose(relevance, np.argsort(order))
    if op.type in ("ExpandDims", "Reshape", "Squeeze"):
        where, lengths = node.where(tensor), tensor.shape.as_list()
        node.where(op.outputs[0])
        dynamic = tf.shape(tensor)
        shape = [dynamic[i] if length is None else length for i, length in enumerate(lengths)]
        shape[where.axis] = -1
        return tf.reshape(relevance, shape)
    places = [node.where(op.outputs[0]), node.where(tensor)]
    return node.replicas.each(lambda one: gradients(op, [one[0]])[0], places, [relevance])


def by_gradient(node: Node, position: int) -> Any:
    """What the operation's own gradient makes of the relevance, for one of its inputs."""
    came = [i for i in range(len(node.op.outputs)) if node.came(i)]
    places = [node.where(node.op.outputs[i]) for i in came] + [node.where(node.op.inputs[position])]

    def one_target(relevance: list[Any]) -> Any:
        given = iter(relevance)
        made = [next(given) if i in came else None for i in range(len(node.op.outputs))]
        return gradients(node.op, made)[position]

    return node.replicas.each(one_target, places, [node.relevance_of(i) for i in came])


def gradients(op: Any, relevance: list[Any]) -> list[Any]:
    """TensorFlow's gradient of one operation, by each of its inputs."""
    import tensorflow as tf
    from tensorflow.python.framework import ops

    given = [
        tf.zeros_like(made) if part is None else tf.cast(part, made.dtype)
        for made, part in zip(op.outputs, relevance, strict=True)
    ]
    made = ops.get_gradient_function(op)(op, *given)
    found = list(made) if isinstance(made, list | tuple) else [made]
    return [None if part is None else wide(tf.convert_to_tensor(part)) for part in found]


def counted(node: Node, column: str) -> Contributions:
    """By the gradient; what it does not hand down is booked."""
    carried = [(i, tensor) for i, tensor in enumerate(node.op.inputs) if node.view.carries(tensor)]
    handed = [(tensor, by_gradient(node, i)) for i, tensor in carried]
    total = node.replicas.total(node.relevance, node.where(node.op.outputs[0]))
    for tensor, relevance in handed:
        total -= node.replicas.total(relevance, node.where(tensor))
    node.book_total(column, total)
    return handed
