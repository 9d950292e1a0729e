"""Normalisation: by statistics of the instance itself, in any spelling, and by constants.

Layer, group, instance and RMS normalisation divide by a root of squares. With that divisor held constant (Ali et al.
2022, Achtibat et al. 2024) they are affine in what they read, mean included, and relevance passes by the epsilon rule:

    y = A x + b,      R_i = x_i sum_j a_ij R_j / st(y_j)

No model file says "layer normalisation": there are some ten operations, or a batch normalisation in training mode over
a batch of one. So whatever computes from one tensor, element by element and by means or sums, and divides by a root,
is one normalisation; A is what TensorFlow's gradient says it is with the roots held constant.
"""

from __future__ import annotations

import math
from typing import Any

from sidelight_engines.lrp.distribution import stabilised
from sidelight_engines.lrp.ops.registry import Pattern, entry, part_of_pattern, pattern
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.lrp.walk.node import Contributions, Node, wide

_ROOTS = frozenset({"Pow", "Rsqrt", "Sqrt"})
_MEANS = frozenset({"Mean", "Sum"})
_BETWEEN = frozenset(
    {*_ROOTS, *_MEANS, "Add", "AddV2", "BiasAdd", "BroadcastTo", "Cast", "Div", "DivNoNan", "ExpandDims", "Identity"}
    | {"Maximum", "Mul", "Neg", "RealDiv", "Reciprocal", "Select", "SelectV2", "Square", "SquaredDifference"}
    | {"Squeeze", "StopGradient", "Sub", "Equal"}
)

# Exporters move statistics to where another layout has them; what is normalised they move before or behind.
_MOVES = frozenset({"Reshape", "Transpose"})

# More than any spelling takes.
_LONGEST = 24


@pattern("Add", "AddV2", "Div", "DivNoNan", "Mul", "RealDiv", "Sub")
def normalisation(op: Any, view: GraphView) -> Pattern | None:
    """What ends in a tensor of the shape of the one that it reads, and divides that by a root of its squares."""
    source, roots = _region(op, view)
    if source is None:
        return None

    def hand_down(node: Node) -> Contributions:
        return _by_frozen_roots(node, op.outputs[0], source, roots)

    return Pattern((source,), hand_down)


part_of_pattern(*_BETWEEN)


def _region(op: Any, view: GraphView) -> tuple[Any, list[Any]]:
    """The one tensor that a normalisation ending in `op` reads, and the roots in it; None if it is not one."""
    made = op.outputs[0].shape
    frontier = {tensor.name: tensor for tensor in op.inputs if view.depends(tensor)}
    roots: list[Any] = []
    means = 0
    found = None
    for _ in range(_LONGEST):
        complete = len(frontier) == 1 and roots and means
        last = max(frontier.values(), key=lambda tensor: view.place[tensor.op.name])
        if complete and last.shape.rank == made.rank and last.shape.as_list()[1:] == made.as_list()[1:]:
            found = last
            # What is centred already may have been centred by the same layer.
            if not _is_centred(last, view):
                break
        statistic = last.op.type in _MOVES and _length(last) < _length(op.outputs[0])
        if not (statistic or last.op.type in _BETWEEN) or not last.op.inputs:
            break
        if last.op.type in _MEANS:
            if view.batch_axis(last) is None:
                break
            means += 1
        if last.op.type in _ROOTS:
            roots.append(last)
        del frontier[last.name]
        frontier.update({tensor.name: tensor for tensor in last.op.inputs if view.depends(tensor)})
        if not frontier:
            break
    return found, roots


def _length(tensor: Any) -> int:
    """Numbers per instance, as far as the shape is known."""
    return math.prod(length or 1 for length in tensor.shape.as_list()) if tensor.shape.rank is not None else 0


def _is_centred(tensor: Any, view: GraphView) -> bool:
    """Whether a tensor is another minus that one's mean."""
    if tensor.op.type != "Sub":
        return False
    whole, mean = tensor.op.inputs[0], tensor.op.inputs[1]
    return mean.op.type in _MEANS and mean.op.inputs[0] is whole and view.depends(whole)


def _by_frozen_roots(node: Node, made: Any, source: Any, roots: list[Any]) -> Contributions:
    import tensorflow as tf

    node.apply(node.options.sums)
    y, x = wide(made), wide(source)
    where = node.where(made)

    def transposed(s: Any) -> Any:
        (gradient,) = tf.gradients(made, source, tf.cast(s, made.dtype), stop_gradients=roots)
        if gradient is None:
            raise node.refusal("what it normalises reaches it through roots alone")
        return wide(tf.convert_to_tensor(gradient))

    share = stabilised(node, where, node.relevance, y, node.options.sums.epsilon)
    # The gradient is linear in what is sent back, so its own gradient is the way there: A x.
    probe = tf.zeros_like(y)
    (forward,) = tf.gradients(transposed(probe), probe, x)
    node.book("bias", node.meet(lambda s, b: s * b, where, [share], [y - forward]), where)
    back = node.replicas.each(lambda part: transposed(part[0]), [where, node.where(source)], [share])
    return [(source, node.meet(lambda c, v: c * v, node.where(source), [back], [x]))]


@entry("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_normalization(node: Node) -> Contributions:
    """By constants, or by statistics over all axes but one: then that axis holds the instances.

    The second form is how layer normalisation is written for speed: instances and steps become channels, and the
    operation trains on them.
    """
    import tensorflow as tf

    op = node.op
    source, made = op.inputs[0], op.outputs[0]
    x, y = wide(source), wide(made)
    rank = x.shape.rank
    channel = 1 if op.get_attr("data_format").startswith(b"NC") else rank - 1
    others = [axis for axis in range(rank) if axis != channel]
    form = [-1 if axis == channel else 1 for axis in range(rank)]
    scale, offset = (tf.reshape(tf.cast(tensor, x.dtype), form) for tensor in op.inputs[1:3])
    training, where = op.get_attr("is_training"), node.where(source)
    if training and where.axis != channel:
        raise node.refusal("it normalises by statistics of the batch; export the model for inference")
    if training:
        mean, variance = tf.nn.moments(x, others, keepdims=True)
    else:
        mean, variance = (tf.reshape(tf.cast(tensor, x.dtype), form) for tensor in op.inputs[3:5])
    factor = scale * tf.math.rsqrt(variance + op.get_attr("epsilon"))
    node.apply(node.options.sums)
    share = stabilised(node, where, node.relevance, y, node.options.sums.epsilon)

    def meet(compute: Any, relevance: Any, forward: Any) -> Any:
        return node.meet(compute, where, [relevance], [forward])

    full = tf.zeros_like(x)
    if not training:
        node.book("bias", meet(lambda s, b: s * b, share, full + offset - mean * factor), where)
        return [(source, meet(lambda s, v: s * v, share, x * factor))]
    node.book("bias", meet(lambda s, b: s * b, share, full + offset), where)
    scaled = meet(lambda s, v: s * v, share, full + factor)
    centred = scaled - tf.reduce_mean(scaled, others, keepdims=True)
    return [(source, meet(lambda s, v: s * v, centred, x))]
