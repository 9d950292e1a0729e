"""Applies a rule to a linear operation: relevance back to its input, and what does not get there into the ledger.

Every rule but alpha-beta-x needs at most one forward product beyond those of the model and two back, by the identity

    P_j = sum_i z_ij+ = (sum_i |x_i| |w_ij| + z_j) / 2,      |N_j| = (sum_i |x_i| |w_ij| - z_j) / 2

and, where x is never negative, P_j = sum_i x_i w_ij+ directly. A difference that rounding alone explains counts as
empty, and empty branches are masked before anything is divided by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sidelight_engines.lrp.batch_axis import BatchAxis
from sidelight_engines.lrp.maps import LinearMap, ones_like_one
from sidelight_engines.lrp.node import Node
from sidelight_engines.lrp.parameters import EmptyBranchPolicy
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
from sidelight_engines.lrp.weights import Weights

# No sum of products is as small and yet not 0 up to rounding.
_LEAST = 1e-30


@dataclass(frozen=True)
class LinearStep:
    """A linear operation with all that was folded into it: y = L(x, W) + b.

    Attributes:
        map: L.
        x: the tensor that it reads, in the type that relevance is computed in.
        weights: W.
        z: L(x, W).
        y: z + b.
        bias: b, broadcasting to z; None for none.
        nonnegative: whether x is never below 0.
        x_where: the place of the instances in x.
        y_where: the place of the instances in y.
    """

    map: LinearMap
    x: Any
    weights: Weights
    z: Any
    y: Any
    bias: Any
    nonnegative: bool
    x_where: BatchAxis
    y_where: BatchAxis

    def back(self, s: Any, weights: Any) -> Any:
        """L' s."""
        return self.map.transposed(s, weights)


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
            return _epsilon(node, step, rule.epsilon, rule.ignore_bias, relevance)
        case Sign():
            return _sign(node, step, rule, relevance)
        case Gamma():
            return _gamma(node, step, rule, relevance)
        case AlphaBeta():
            return _alpha_beta(node, step, rule, relevance)
        case AlphaBetaX():
            return _alpha_beta_x(node, step, rule, relevance)
        case WSquare():
            bias = None if rule.ignore_bias or step.bias is None else step.bias * step.bias
            return _by_weights(node, step, step.weights.squared, bias, rule.epsilon, relevance)
        case Flat():
            return _by_weights(node, step, step.weights.ones, None, rule.epsilon, relevance)
        case ZBox():
            return _z_box(node, step, rule, relevance)
        case Pass():
            return _pass(node, step, relevance)
        case PlainGradient():
            return _plain_gradient(node, step, relevance)


def _by_input(node: Node, step: LinearStep, x: Any, share: Any) -> Any:
    return node.meet(lambda c, v: c * v, step.x_where, [share], [x])


def _book_bias(node: Node, step: LinearStep, s: Any, bias: Any) -> None:
    if bias is None:
        return
    where = step.y_where
    if where.axis < s.shape.rank - 1 and bias.shape.num_elements() == bias.shape[-1] == s.shape[-1]:
        node.book_total("bias", node.replicas.total(s, where, bias))
    else:
        node.book("bias", node.meet(lambda s, b: s * b, where, [s], [_full_rank(bias, s)]), where)


def _full_rank(constant: Any, like: Any) -> Any:
    """A constant with as many axes as a tensor, so that splitting the batch axis leaves the others in place."""
    import tensorflow as tf

    missing = like.shape.rank - constant.shape.rank
    return tf.reshape(constant, [1] * missing + constant.shape.as_list()) if missing else constant


def stabilised(node: Node, where: BatchAxis, relevance: Any, y: Any, epsilon: float) -> Any:
    """R / st(y); where both y and epsilon are 0, it is 0 and R is booked as the stabiliser's."""
    import tensorflow as tf

    if epsilon > 0:
        magnitude = node.meet(lambda r, v: r / (tf.abs(v) + epsilon), where, [relevance], [y])
        node.book_total("stabiliser", epsilon * node.replicas.total(magnitude, where))
        # sgn(0) = 1; the least number there is decides nothing else.
        return node.meet(lambda m, v: m * tf.sign(v + _LEAST), where, [magnitude], [y])
    signed = node.meet(tf.math.divide_no_nan, where, [relevance], [y])
    none = tf.cast(tf.equal(y, 0), y.dtype)
    node.book("stabiliser", node.meet(lambda r, n: r * n, where, [relevance], [none]), where)
    return signed


def _epsilon(node: Node, step: LinearStep, epsilon: float, ignore_bias: bool, relevance: Any) -> Any:
    s = stabilised(node, step.y_where, relevance, step.z if ignore_bias else step.y, epsilon)
    if not ignore_bias:
        _book_bias(node, step, s, step.bias)
    return _by_input(node, step, step.x, step.back(s, step.weights.plain))


def _sign(node: Node, step: LinearStep, rule: Sign, relevance: Any) -> Any:
    import tensorflow as tf

    s = stabilised(node, step.y_where, relevance, step.z if rule.ignore_bias else step.y, rule.epsilon)
    if not rule.ignore_bias:
        _book_bias(node, step, s, step.bias)
    share = step.back(s, step.weights.plain)
    signs = tf.where(step.x < 0, -tf.ones_like(step.x), tf.ones_like(step.x))
    node.book("sink", _by_input(node, step, step.x - signs, share), step.x_where)
    return _by_input(node, step, signs, share)


def _gamma(node: Node, step: LinearStep, rule: Gamma, relevance: Any) -> Any:
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
    node.book_total("stabiliser", rule.epsilon * node.replicas.total(m, where))
    filled = _filled(node, where, relevance, size)
    node.book_total("stabiliser", node.replicas.total(relevance, where) - node.replicas.total(filled, where))
    if bias is not None:
        _book_bias(node, step, s, bias)
        node.book("bias", node.meet(lambda m, b: m * b, where, [m], [own_bias]), where)
    plain, absolute = step.back(s, step.weights.plain), step.back(m, step.weights.absolute)
    factors = [(1 + gamma / 2) * step.x, gamma / 2 * tf.abs(step.x)]
    return node.meet(lambda p, a, x, size: p * x + a * size, step.x_where, [plain, absolute], factors)


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


def _branches(step: LinearStep, ignore_bias: bool, both: bool) -> tuple[_Branch, _Branch | None]:
    import tensorflow as tf

    weights, bias = step.weights, None if ignore_bias else step.bias
    if step.nonnegative:
        positive = step.map.forward(step.x, weights.positive)
        magnitude = None
    else:
        magnitude = step.map.forward(tf.abs(step.x), weights.absolute)
        positive = _difference(magnitude + step.z, magnitude) / 2
    first = _Branch(positive, None if bias is None else tf.nn.relu(bias))
    if not both:
        return first, None
    if magnitude is None:
        negative = _difference(positive - step.z, positive)
    else:
        negative = _difference(magnitude - step.z, magnitude) / 2
    return first, _Branch(negative, None if bias is None else tf.nn.relu(-bias))


def _difference(value: Any, scale: Any) -> Any:
    """A difference of sums as large as `scale`, 0 where rounding alone may have made it."""
    import tensorflow as tf

    tolerance = 1e-14 if value.dtype == tf.float64 else 1e-6
    return _where_positive(value, value - tolerance * scale)


def _alpha_beta(node: Node, step: LinearStep, rule: AlphaBeta, relevance: Any) -> Any:
    import tensorflow as tf

    where = step.y_where
    renormalise = node.options.empty_branch is EmptyBranchPolicy.RENORMALISE
    positive, negative = _branches(step, rule.ignore_bias, rule.beta != 0 or renormalise)
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
    if negative is None:
        if step.nonnegative:
            return _by_input(node, step, step.x, step.back(s_positive, step.weights.positive))
        s_negative = None
    else:
        s_negative = _share(node, step, rule.epsilon, negative, beta, -1, relevance, not renormalise)
        if step.nonnegative:
            back = step.back(s_positive, step.weights.positive) - step.back(s_negative, step.weights.negative)
            return _by_input(node, step, step.x, back)
    # z+ = (|z| + z) / 2, |z-| = (|z| - z) / 2.
    added = s_positive if s_negative is None else s_positive + s_negative
    taken = s_positive if s_negative is None else s_positive - s_negative
    plain, absolute = step.back(added, step.weights.plain), step.back(taken, step.weights.absolute)
    return node.meet(lambda p, a, x: (p * x + a * tf.abs(x)) / 2, step.x_where, [plain, absolute], [step.x])


def _share(
    node: Node, step: LinearStep, epsilon: float, branch: _Branch, weight: Any, sign: int, relevance: Any, book: bool
) -> Any:
    """Weight R / (whole + epsilon), 0 where the branch is empty; books the branch's bias, stabiliser and emptiness."""
    import tensorflow as tf

    where, whole = step.y_where, branch.whole
    filled = _filled(node, where, relevance, whole)
    factor = weight / (whole + epsilon) if epsilon > 0 else tf.math.divide_no_nan(weight * tf.ones_like(whole), whole)
    s = node.meet(lambda r, f: r * f, where, [filled], [factor])
    if epsilon > 0:
        node.book_total("stabiliser", sign * epsilon * node.replicas.total(s, where))
    if branch.bias is not None:
        _book_bias(node, step, s, sign * branch.bias)
    if book:
        # Nothing is lost where the masked relevance is the relevance, and then the sums are the same to the last bit.
        lost = node.replicas.total(relevance, where) - node.replicas.total(filled, where)
        node.book_total("empty_branch", sign * tf.cast(weight, tf.float64) * lost)
    return s


def _filled(node: Node, where: BatchAxis, relevance: Any, whole: Any) -> Any:
    """Relevance where `whole` is positive, else 0."""
    import tensorflow as tf

    if node.replicas.targets == 1:
        return _where_positive(relevance, whole)
    return node.meet(lambda r, w: r * w, where, [relevance], [tf.cast(whole > 0, relevance.dtype)])


def _where_positive(values: Any, of: Any) -> Any:
    """Values where `of`, of the same shape, is positive, else 0: what a ReLU does to gradients, in one sweep."""
    import tensorflow as tf

    return tf.raw_ops.ReluGrad(gradients=values, features=of)


def _alpha_beta_x(node: Node, step: LinearStep, rule: AlphaBetaX, relevance: Any) -> Any:
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
        filled = tf.cast(branch.whole > 0, step.z.dtype)
        s = _share(node, step, rule.epsilon, branch, weight * factor, 1, relevance, book=False)
        given += weight * factor * filled
        part = _by_input(node, step, x, step.back(s, w))
        total = part if total is None else total + part
    # What the weights of the branches lack to 1, by the rule's own choice, is not the branches' doing.
    empty = whole_weight - given
    node.book("empty_branch", node.meet(lambda r, e: r * e, where, [relevance], [empty]), where)
    node.book_total("sink", (1 - whole_weight) * node.replicas.total(relevance, where))
    return (
        total
        if total is not None
        else _by_input(node, step, tf.zeros_like(step.x), step.back(relevance, weights.plain))
    )


def _by_weights(node: Node, step: LinearStep, weights: Any, bias: Any, epsilon: float, relevance: Any) -> Any:
    """Shares that hang on the weights alone: w-square and flat."""
    import tensorflow as tf

    where = step.y_where
    ones = ones_like_one(step.x, step.x_where.axis)
    whole = step.map.forward(ones, weights)
    if bias is not None:
        whole += bias
    factor = tf.math.divide_no_nan(tf.cast(whole > 0, whole.dtype), whole + epsilon)
    s = node.meet(lambda r, f: r * f, where, [relevance], [factor])
    if epsilon > 0:
        node.book_total("stabiliser", epsilon * node.replicas.total(s, where))
    _book_bias(node, step, s, bias)
    empty = tf.cast(whole == 0, whole.dtype)
    node.book("empty_branch", node.meet(lambda r, e: r * e, where, [relevance], [empty]), where)
    return step.back(s, weights)


def _z_box(node: Node, step: LinearStep, rule: ZBox, relevance: Any) -> Any:
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
    back = [step.back(s, form) for form in (weights.plain, weights.positive, weights.negative)]
    return node.meet(
        lambda plain, up, down, x, least, most: plain * x - up * least + down * most,
        step.x_where,
        back,
        [step.x, ones * low, ones * high],
    )


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
