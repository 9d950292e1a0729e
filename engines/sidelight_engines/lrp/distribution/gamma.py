"""LRP-gamma: contributions of the neuron's own sign count 1 + gamma times."""

from __future__ import annotations

from typing import Any

from sidelight_engines.lrp.distribution.branches import filled
from sidelight_engines.lrp.distribution.step import LinearStep, book_bias, book_shares, by_input, divided
from sidelight_engines.lrp.rules import Gamma
from sidelight_engines.lrp.walk.node import Node


def by_gamma(node: Node, step: LinearStep, rule: Gamma, relevance: Any) -> Any:
    """Gamma for inputs and sums of any sign."""
    if step.active_for(rule.ignore_bias) is not None:
        nonnegative = step if step.nonnegative else step.of_halves()
        if nonnegative is not None:
            return _by_favoured_weights(node, nonnegative, rule, relevance)
    return _by_magnitudes(node, step, rule, relevance)


def _by_favoured_weights(node: Node, step: LinearStep, rule: Gamma, relevance: Any) -> Any:
    """Where neither inputs nor sums are negative: the epsilon rule with weights w + gamma w+ and the bias likewise."""
    import tensorflow as tf

    weights = step.weights.favoured(rule.gamma)
    bias = None if step.bias is None else step.bias + rule.gamma * tf.nn.relu(step.bias)
    s = divided(node, step.y_where, relevance, step.forward(weights, bias, rule.epsilon))
    book_shares(node, step, s, rule.epsilon, bias)
    return by_input(node, step, step.x, step.back(s, weights))


def _by_magnitudes(node: Node, step: LinearStep, rule: Gamma, relevance: Any) -> Any:
    import tensorflow as tf

    gamma, where = rule.gamma, step.y_where
    bias = None if rule.ignore_bias else step.bias
    y = step.z if rule.ignore_bias else step.y
    # 1, -1, or 0 where y is: nothing starts there.
    sign = tf.sign(y)
    size = tf.abs(y)
    twice_own = step.map.forward(tf.abs(step.x), step.weights.absolute) + sign * step.z
    own_bias = None if bias is None else gamma * tf.nn.relu(sign * bias)
    magnitude = size + gamma / 2 * twice_own + rule.epsilon
    factor = tf.math.divide_no_nan(sign, magnitude if own_bias is None else magnitude + own_bias)
    s = node.meet(lambda r, f: r * f, where, [relevance], [factor])
    m = node.meet(lambda s, t: s * t, where, [s], [sign])
    node.book_total("stabiliser", node.replicas.total(m, where), rule.epsilon)
    started = filled(node, where, relevance, size)
    node.book_total("stabiliser", node.replicas.total(relevance, where) - node.replicas.total(started, where))
    if bias is not None:
        book_bias(node, step, s, bias)
        node.book("bias", node.meet(lambda m, b: m * b, where, [m], [own_bias]), where)
    plain, absolute = step.back(s, step.weights.plain), step.back(m, step.weights.absolute)
    factors = [(1 + gamma / 2) * step.x, gamma / 2 * tf.abs(step.x)]
    return node.meet(lambda p, a, x, size: p * x + a * size, step.x_where, [plain, absolute], factors)
