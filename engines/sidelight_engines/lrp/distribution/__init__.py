"""Applies a rule to a linear operation: relevance back to its input, and what does not get there into the ledger.

Where relevance is known to be 0 wherever a ReLU is (`LinearStep.active`), rules that divide by sums look at positive
sums alone: that takes fewer products and sweeps, and changes no result.
"""

from __future__ import annotations

from typing import Any

from sidelight_engines.lrp.distribution.branches import by_quadrants, by_sign_of_contribution, filled
from sidelight_engines.lrp.distribution.epsilon import by_epsilon, by_sign
from sidelight_engines.lrp.distribution.gamma import by_gamma
from sidelight_engines.lrp.distribution.step import LinearStep, divided, stabilised
from sidelight_engines.lrp.distribution.weights_alone import by_box, by_number, by_square
from sidelight_engines.lrp.rules import (
    AlphaBeta,
    AlphaBetaX,
    Epsilon,
    Flat,
    Gamma,
    Norm,
    Pass,
    PlainGradient,
    Rule,
    Sign,
    WSquare,
    ZBox,
)
from sidelight_engines.lrp.walk.node import Node

__all__ = ["LinearStep", "distribute", "divided", "filled", "stabilised"]


def distribute(node: Node, step: LinearStep, rule: Rule, relevance: Any) -> Any:
    """Hands the relevance of y down to x.

    Args:
        node: books and settings.
        step: the operation.
        rule: the rule.
        relevance: of y.

    Returns:
        The relevance of x.

    Raises:
        UnsupportedOp: the rule does not fit the operation.
    """
    match rule:
        case Epsilon() | Norm():
            return by_epsilon(node, step, rule.epsilon, rule.ignore_bias, relevance)
        case Sign():
            return by_sign(node, step, rule, relevance)
        case Gamma():
            return by_gamma(node, step, rule, relevance)
        case AlphaBeta():
            return by_sign_of_contribution(node, step, rule, relevance)
        case AlphaBetaX():
            return by_quadrants(node, step, rule, relevance)
        case WSquare():
            return by_square(node, step, rule, relevance)
        case Flat():
            return by_number(node, step, rule, relevance)
        case ZBox():
            return by_box(node, step, rule, relevance)
        case Pass():
            return _pass(node, step, relevance)
        case PlainGradient():
            return _plain_gradient(node, step, relevance)


def _pass(node: Node, step: LinearStep, relevance: Any) -> Any:
    shapes = [tensor.shape.as_list()[1:] for tensor in (step.x, step.y)]
    if shapes[0] != shapes[1]:
        raise node.refusal(f"relevance can not pass unchanged from shape {shapes[1]} to {shapes[0]}; give another rule")
    return relevance


def _plain_gradient(node: Node, step: LinearStep, relevance: Any) -> Any:
    handed = step.back(relevance, step.weights.plain)
    arrived = node.replicas.total(relevance, step.y_where)
    node.book_total("sink", arrived - node.replicas.total(handed, step.x_where))
    return handed
