"""LRP-epsilon and SIGN: one branch, every contribution with its own sign."""

from __future__ import annotations

from typing import Any

from sidelight_engines.lrp.distribution.step import (
    LinearStep,
    book_bias,
    book_shares,
    by_input,
    divided,
    stabilised,
)
from sidelight_engines.lrp.rules import Sign
from sidelight_engines.lrp.walk.node import Node


def by_epsilon(node: Node, step: LinearStep, epsilon: float, ignore_bias: bool, relevance: Any) -> Any:
    """R_i = x_i sum_j w_ij R_j / st(y_j)."""
    active = step.active_for(ignore_bias)
    if active is not None:
        s = divided(node, step.y_where, relevance, active + epsilon if epsilon > 0 else active)
        book_shares(node, step, s, epsilon, step.bias)
    else:
        whole = step.z if ignore_bias else step.y
        s = stabilised(node, step.y_where, relevance, whole, epsilon, step.vanishing and whole is step.y)
        book_bias(node, step, s, None if ignore_bias else step.bias)
    return by_input(node, step, step.x, step.back(s, step.weights.plain))


def by_sign(node: Node, step: LinearStep, rule: Sign, relevance: Any) -> Any:
    """R_i = sgn(x_i) sum_j w_ij R_j / st(y_j)."""
    import tensorflow as tf

    s = stabilised(node, step.y_where, relevance, step.z if rule.ignore_bias else step.y, rule.epsilon)
    book_bias(node, step, s, None if rule.ignore_bias else step.bias)
    share = step.back(s, step.weights.plain)
    signs = tf.where(step.x < 0, -tf.ones_like(step.x), tf.ones_like(step.x))
    node.book("sink", by_input(node, step, step.x - signs, share), step.x_where)
    return by_input(node, step, signs, share)
