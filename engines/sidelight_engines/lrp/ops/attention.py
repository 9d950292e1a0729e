"""Attention: softmax, and products of two tensors that both depend on the inputs.

AttnLRP (Achtibat et al. 2024) goes through both operands of a product and through the softmax by its Taylor expansion:

    O = A B:        R_A = A (s B'),  R_B = B (A' s)    with s = R / (2 O + epsilon sgn O)
    s = softmax x:  R_i = x_i (R_i - s_i sum_j R_j);   the rest of the expansion, which x does not multiply, is bias

CP-LRP (Ali et al. 2022) holds attention weights constant: O = A V gives everything to V, by the epsilon rule.
"""

from __future__ import annotations

from typing import Any

from sidelight_engines.lrp.distribution import stabilised
from sidelight_engines.lrp.ops.movement import gradients
from sidelight_engines.lrp.ops.products import is_gate
from sidelight_engines.lrp.ops.registry import entry
from sidelight_engines.lrp.parameters import AttentionRule
from sidelight_engines.lrp.walk.node import Contributions, Node, wide


@entry("Softmax")
def softmax(node: Node) -> Contributions:
    """By the Taylor expansion; over the last axis."""
    import tensorflow as tf

    (source,) = node.op.inputs
    x, s, where = wide(source), wide(node.op.outputs[0]), node.where(source)
    if where.axis == x.shape.rank - 1:
        raise node.refusal("it normalises over instances")
    node.apply("attn_lrp")
    relevance = node.relevance
    total = tf.reduce_sum(relevance, axis=-1, keepdims=True)
    # A score that is masked is minus infinity or a large number, and counts for nothing.
    handed = node.meet(lambda r, t, v, p: tf.math.multiply_no_nan(v, r - p * t), where, [relevance, total], [x, s])
    expected = tf.reduce_sum(tf.math.multiply_no_nan(x, s), axis=-1, keepdims=True)
    rest = node.meet(lambda r, v, m: r + tf.math.multiply_no_nan(m - v, r), where, [relevance], [x, expected])
    node.book("bias", rest, where)
    return [(source, handed)]


@entry("BatchMatMul", "BatchMatMulV2", "Einsum", "MatMul")
def product(node: Node) -> Contributions:
    """Half to each operand; in CP-LRP all to what attention weights multiply."""
    op, view = node.op, node.view
    operands = [tensor for tensor in op.inputs if view.carries(tensor)]
    if len(operands) != 2 or len(op.inputs) != 2:
        raise node.refusal("it is no product of two tensors in a form that is covered")
    receivers = [0, 1]
    weights = [is_gate(tensor, view) for tensor in op.inputs]
    if node.options.attention is AttentionRule.CP_LRP and weights[0] != weights[1]:
        receivers = [1 if weights[0] else 0]
    node.apply(node.options.attention.value)
    made, where = wide(op.outputs[0]), node.where(op.outputs[0])
    share = stabilised(node, where, node.relevance, made * len(receivers), node.options.sums.epsilon)
    handed: Contributions = []
    for position in receivers:
        tensor = op.inputs[position]
        place = node.where(tensor)

        def back(part: list[Any], position: int = position) -> Any:
            return gradients(op, [part[0]])[position]

        c = node.replicas.each(back, [where, place], [share])
        handed.append((tensor, node.meet(lambda c, v: c * v, place, [c], [wide(tensor)])))
    return handed
