"""Rules whose shares hang on the weights, or on the bounds of the input, and not on the input itself."""

from __future__ import annotations

from typing import Any

from sidelight_engines.lrp.distribution.step import LinearStep, book_shares, stabilised
from sidelight_engines.lrp.maps.linear_map import ones_like_one
from sidelight_engines.lrp.rules import Flat, WSquare, ZBox
from sidelight_engines.lrp.walk.node import Node


def by_square(node: Node, step: LinearStep, rule: WSquare, relevance: Any) -> Any:
    """R_i = sum_j w_ij^2 R_j / (sum_i w_ij^2 + b_j^2 + epsilon)."""
    bias = None if rule.ignore_bias or step.bias is None else step.bias * step.bias
    return _by_weights(node, step, "squared", bias, rule.epsilon, relevance)


def by_number(node: Node, step: LinearStep, rule: Flat, relevance: Any) -> Any:
    """R_i = sum_j R_j / (number of inputs of j + epsilon)."""
    return _by_weights(node, step, "ones", None, rule.epsilon, relevance)


def _by_weights(node: Node, step: LinearStep, form: str, bias: Any, epsilon: float, relevance: Any) -> Any:
    import tensorflow as tf

    where, weights = step.y_where, getattr(step.weights, form)
    whole = _whole(step, weights)
    if bias is not None:
        whole += bias
    factor = tf.math.divide_no_nan(tf.cast(whole > 0, whole.dtype), whole + epsilon)
    s = node.meet(lambda r, f: r * f, where, [relevance], [factor])
    book_shares(node, step, s, epsilon, bias)
    known = tf.get_static_value(whole)
    if known is None or not known.all():
        empty = tf.cast(whole == 0, whole.dtype)
        node.book("empty_branch", node.meet(lambda r, e: r * e, where, [relevance], [empty]), where)
    return step.back(s, weights)


def _whole(step: LinearStep, weights: Any) -> Any:
    """The sum of the weights of each position, for one instance; computed once if all lengths are known."""
    import tensorflow as tf

    lengths, made = step.x.shape.as_list(), step.map.u.shape.as_list()
    lengths[step.x_where.axis] = made[step.y_where.axis] = 1
    if None not in (*lengths, *made) and step.weights.constant:
        # Outside the function, so that it is no part of each call.
        with tf.init_scope():
            return step.map.forward(tf.ones(lengths, step.x.dtype), weights)
    return step.map.forward(ones_like_one(step.x, step.x_where.axis), weights)


def by_box(node: Node, step: LinearStep, rule: ZBox, relevance: Any) -> Any:
    """R_i = sum_j (x_i w_ij - l_i w_ij+ - h_i w_ij-) R_j / st(the same summed over i), by w+ and |w-| alone."""
    import tensorflow as tf

    given = node.options.box(step.map.x) if rule.low is None or rule.high is None else (0.0, 0.0)
    low, high = (
        tf.cast(end if own is None else own, step.x.dtype)
        for end, own in zip(given, (rule.low, rule.high), strict=True)
    )
    weights = step.weights
    ones = ones_like_one(step.x, step.x_where.axis)
    # Padding holds neither the least nor the greatest value, so the map itself must see them.
    floor = step.map.forward(ones * low, weights.positive) - step.map.forward(ones * high, weights.negative)
    s = stabilised(node, step.y_where, relevance, step.z - floor, rule.epsilon)
    back = [step.back(s, form) for form in (weights.positive, weights.negative)]
    return node.meet(
        lambda up, down, x, least, most: (x - least) * up + (most - x) * down,
        step.x_where,
        back,
        [step.x, ones * low, ones * high],
    )
