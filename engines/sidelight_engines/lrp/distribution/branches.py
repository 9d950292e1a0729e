"""Alpha-beta: contributions of each sign normalised by themselves.

Empty branches are masked before anything is divided by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sidelight_engines.lrp.distribution.contributions import Contributions, rounding, where_positive
from sidelight_engines.lrp.distribution.step import LinearStep, book_shares, by_input, divided
from sidelight_engines.lrp.parameters import EmptyBranchPolicy
from sidelight_engines.lrp.rules import AlphaBeta, AlphaBetaX
from sidelight_engines.lrp.structure.batch_axis import BatchAxis
from sidelight_engines.lrp.walk.node import Node


@dataclass(frozen=True)
class _Branch:
    """The magnitudes of one sign's contributions.

    Attributes:
        inputs: sum_i |z_ij+| or sum_i |z_ij-|.
        bias: b+ or |b-|, broadcasting; None for none.
    """

    inputs: Any
    bias: Any

    @property
    def whole(self) -> Any:
        return self.inputs if self.bias is None else self.inputs + self.bias


def by_sign_of_contribution(node: Node, step: LinearStep, rule: AlphaBeta, relevance: Any) -> Any:
    """Alpha-beta by the sign of z_ij."""
    import tensorflow as tf

    where = step.y_where
    renormalise = node.options.empty_branch is EmptyBranchPolicy.RENORMALISE
    contributions = Contributions(step)
    nonnegative = step if step.nonnegative else step.of_halves() if contributions.exact else None
    if nonnegative is not None and not renormalise:
        return _over_nonnegative(node, nonnegative, rule, relevance)
    positive_sum, negative_sum = contributions.sums(rule.beta != 0 or renormalise)
    up, down = (None, None) if rule.ignore_bias else _bias_parts(step.bias)
    positive = _Branch(positive_sum, up)
    negative = None if negative_sum is None else _Branch(negative_sum, down)
    alpha: Any = tf.constant(rule.alpha, step.x.dtype)
    beta: Any = tf.constant(rule.beta, step.x.dtype)
    if renormalise and negative is not None:
        # An empty branch leaves all to the other.
        no_positive, no_negative = positive.whole == 0, negative.whole == 0
        alpha = tf.where(no_negative, tf.ones_like(step.z), alpha)
        beta = tf.where(no_negative, tf.zeros_like(step.z), beta)
        beta = tf.where(no_positive, -tf.ones_like(step.z), beta)
        alpha = tf.where(no_positive, tf.zeros_like(step.z), alpha)
        lost = tf.cast(no_positive & no_negative, step.z.dtype)
        node.book("empty_branch", node.meet(lambda r, e: r * e, where, [relevance], [lost]), where)
    s_positive = _share(node, step, rule.epsilon, positive, alpha, 1, relevance, not renormalise)
    s_negative = None
    if negative is not None:
        s_negative = _share(node, step, rule.epsilon, negative, beta, -1, relevance, not renormalise)
    return contributions.handed_back(node, s_positive, s_negative)


def _over_positive_sums(node: Node, step: LinearStep, rule: AlphaBeta, relevance: Any, active: Any) -> Any:
    """Where neither inputs nor sums are negative: one product more than the sum itself gives both branches.

    The negative branch is a product and the positive one that and the sum, which are both positive: neither holds more
    rounding than the product itself.
    """
    where, weights, epsilon = step.y_where, step.weights, rule.epsilon
    up, down = (None, None) if rule.ignore_bias else _bias_parts(step.bias)
    negative = step.forward(weights.negative, down, epsilon)
    held = filled(node, where, relevance, negative - epsilon if epsilon > 0 else negative)
    s_positive = divided(node, where, relevance, negative + active)
    s_negative = divided(node, where, held, negative)
    book_shares(node, step, s_positive, epsilon, up, rule.alpha)
    book_shares(node, step, s_negative, epsilon, down, -rule.beta)
    _book_lost(node, where, relevance, held, -rule.beta)
    return _both_handed_back(node, step, rule, s_positive, s_negative)


def _over_nonnegative(node: Node, step: LinearStep, rule: AlphaBeta, relevance: Any) -> Any:
    """Where inputs are not negative: one product more than the sum itself gives both branches.

    Where the sum is known to be positive, too, so is the positive branch: a sum of numbers that are not positive is not
    positive in whatever order it is rounded.
    """
    where, weights, epsilon = step.y_where, step.weights, rule.epsilon
    active = step.active_for(rule.ignore_bias)
    if active is not None and rule.beta != 0:
        return _over_positive_sums(node, step, rule, relevance, active)
    up, down = (None, None) if rule.ignore_bias else _bias_parts(step.bias)
    positive = step.forward(weights.positive, up, epsilon)
    inside = positive - epsilon if epsilon > 0 else positive
    held = relevance
    if active is None:
        held = filled(node, where, relevance, inside)
        _book_lost(node, where, relevance, held, rule.alpha)
    s_positive = divided(node, where, held, positive)
    book_shares(node, step, s_positive, epsilon, up, rule.alpha)
    if rule.beta == 0:
        return by_input(node, step, step.x, step.back_sum([(rule.alpha, s_positive, weights.positive)]))
    if Contributions(step).exact:
        negative = step.forward(weights.negative, down)
        held = filled(node, where, relevance, negative)
        s_negative = divided(node, where, held, negative + epsilon if epsilon > 0 else negative)
    else:
        whole = step.z if rule.ignore_bias else step.y
        negative = positive - whole
        # Where the positive branch is all there is, what is left of the difference is rounding.
        held = filled(node, where, relevance, inside - (1 + rounding(whole)) * whole)
        s_negative = divided(node, where, held, negative)
    book_shares(node, step, s_negative, epsilon, down, -rule.beta)
    _book_lost(node, where, relevance, held, -rule.beta)
    return _both_handed_back(node, step, rule, s_positive, s_negative)


def _both_handed_back(node: Node, step: LinearStep, rule: AlphaBeta, s_positive: Any, s_negative: Any) -> Any:
    weights = step.weights
    terms = [(rule.alpha, s_positive, weights.positive), (-rule.beta, s_negative, weights.negative)]
    return by_input(node, step, step.x, step.back_sum(terms))


def _book_lost(node: Node, where: BatchAxis, relevance: Any, held: Any, weight: float) -> None:
    """Books what an empty branch of a weight loses. Where nothing is, the sums are the same to the last bit."""
    lost = node.replicas.total(relevance, where) - node.replicas.total(held, where)
    node.book_total("empty_branch", lost, weight)


def _bias_parts(bias: Any) -> tuple[Any, Any]:
    """b+ and |b-|; None for no bias."""
    import tensorflow as tf

    return (None, None) if bias is None else (tf.nn.relu(bias), tf.nn.relu(-bias))


def _share(
    node: Node, step: LinearStep, epsilon: float, branch: _Branch, weight: Any, sign: int, relevance: Any, book: bool
) -> Any:
    """Weight R / (whole + epsilon), 0 where the branch is empty; books the branch's bias, stabiliser and emptiness."""
    import tensorflow as tf

    where, whole = step.y_where, branch.whole
    held = filled(node, where, relevance, whole)
    factor = weight / (whole + epsilon) if epsilon > 0 else tf.math.divide_no_nan(weight * tf.ones_like(whole), whole)
    s = node.meet(lambda r, f: r * f, where, [held], [factor])
    book_shares(node, step, s, epsilon, branch.bias, sign)
    if book:
        # Nothing is lost where the masked relevance is the relevance, and then the sums are the same to the last bit.
        lost = node.replicas.total(relevance, where) - node.replicas.total(held, where)
        node.book_total("empty_branch", sign * tf.cast(weight, tf.float64) * lost)
    return s


def filled(node: Node, where: BatchAxis, relevance: Any, whole: Any) -> Any:
    """Relevance where `whole` is positive, else 0."""
    import tensorflow as tf

    if node.replicas.targets == 1:
        return where_positive(relevance, whole)
    return node.meet(lambda r, w: r * w, where, [relevance], [tf.cast(whole > 0, relevance.dtype)])


def by_quadrants(node: Node, step: LinearStep, rule: AlphaBetaX, relevance: Any) -> Any:
    """Alpha-beta by the signs of x_i and w_ij."""
    import tensorflow as tf

    weights, where = step.weights, step.y_where
    up, down = tf.nn.relu(step.x), tf.nn.relu(-step.x)
    bias = None if rule.ignore_bias else step.bias
    # (weight in the sum, sign of z, input, weights, bias): a bias is the weight of an input that is 1.
    quadrants = [
        (rule.alpha_positive_input, 1, up, weights.positive, None if bias is None else tf.nn.relu(bias)),
        (rule.alpha_negative_input, 1, down, weights.negative, None),
        (-rule.beta_positive_input, -1, up, weights.negative, None if bias is None else tf.nn.relu(-bias)),
        (-rule.beta_negative_input, -1, down, weights.positive, None),
    ]
    used = [quadrant for quadrant in quadrants if quadrant[0] != 0]
    branches = [_Branch(step.map.forward(x, w), b) for _, _, x, w, b in used]
    whole_weight = sum(weight for weight, *_ in used)
    factor: Any = tf.ones_like(step.z)
    if node.options.empty_branch is EmptyBranchPolicy.RENORMALISE:
        left = tf.add_n(
            [
                tf.cast(branch.whole > 0, step.z.dtype) * quadrant[0]
                for quadrant, branch in zip(used, branches, strict=True)
            ]
        )
        factor = tf.where(left == 0, tf.ones_like(left), tf.math.divide_no_nan(whole_weight * tf.ones_like(left), left))
    total = None
    given: Any = tf.zeros_like(step.z)
    for (weight, _, x, w, _), branch in zip(used, branches, strict=True):
        kept = tf.cast(branch.whole > 0, step.z.dtype)
        s = _share(node, step, rule.epsilon, branch, weight * factor, 1, relevance, book=False)
        given += weight * factor * kept
        part = by_input(node, step, x, step.back(s, w))
        total = part if total is None else total + part
    # What the weights of the branches lack to 1, by the rule's own choice, is not the branches' doing.
    empty = whole_weight - given
    node.book("empty_branch", node.meet(lambda r, e: r * e, where, [relevance], [empty]), where)
    node.book_total("sink", node.replicas.total(relevance, where), 1 - whole_weight)
    return (
        total if total is not None else by_input(node, step, tf.zeros_like(step.x), step.back(relevance, weights.plain))
    )
