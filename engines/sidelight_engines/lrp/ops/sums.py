"""Sums of several tensors, and of a tensor and a constant: each operand gets its share of the sum.

    R_k = x_k R / st(sum x_k + c)

By the epsilon rule, or, on request, by gamma or alpha-beta. A constant's share is the bias's if it is one number per
channel, else sink: a position embedding or a mask is no neuron's bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sidelight_engines.lrp.distribution import divided, filled, stabilised
from sidelight_engines.lrp.ops.registry import entry
from sidelight_engines.lrp.parameters import EmptyBranchPolicy
from sidelight_engines.lrp.rules import AlphaBeta, Epsilon, Gamma, Norm, Pass
from sidelight_engines.lrp.walk.node import Contributions, Node, late, wide


@entry("Add", "AddN", "AddV2", "BiasAdd", "Sub")
def add(node: Node) -> Contributions:
    """A share for each operand."""
    op = node.op
    made = wide(op.outputs[0])
    where = node.where(op.outputs[0])
    signs = [1, -1] if op.type == "Sub" else [1] * len(op.inputs)
    terms = [
        (tensor, _as_term(op, tensor, made) if sign > 0 else -_as_term(op, tensor, made))
        for tensor, sign in zip(op.inputs, signs, strict=True)
    ]
    shares = _shares(node, [term for _, term in terms], made)
    handed: Contributions = []
    for (tensor, term), share in zip(terms, shares, strict=True):
        part = share(_full(term, made))
        if node.view.carries(tensor):
            handed.append((tensor, reduced(node, part, tensor)))
            if handed[-1][1] is part:
                # A share of the sum is a multiple of the operand.
                node.walking.zeros.note(part, tensor)
        else:
            node.book("bias" if _per_channel(tensor, made) else "sink", part, where)
    return handed


def _as_term(op: Any, tensor: Any, made: Any) -> Any:
    import tensorflow as tf

    term = wide(tensor) if tensor.dtype.is_floating else tf.cast(tensor, made.dtype)
    if op.type == "BiasAdd" and tensor is op.inputs[1] and op.get_attr("data_format") == b"NCHW":
        term = tf.reshape(term, [1, -1] + [1] * (made.shape.rank - 2))
    missing = made.shape.rank - term.shape.rank
    return tf.reshape(term, tf.concat([[1] * missing, tf.shape(term)], 0)) if missing else term


def _per_channel(tensor: Any, made: Any) -> bool:
    """Whether a constant is one number, or one per position of one axis."""
    lengths: list[int | None] = tensor.shape.as_list()
    return sum(length != 1 for length in lengths) <= 1 and bool(made.shape.rank > 1)


_Share = Callable[[Any], Any]
"""What makes the relevance of a term, given the term broadcast to the sum."""


def _shares(node: Node, terms: list[Any], made: Any) -> list[_Share]:
    """For each term, how it gets its relevance."""
    import tensorflow as tf

    rule = node.rule() or node.options.sums
    where, relevance = node.where(node.op.outputs[0]), node.relevance
    active = node.walking.zeros.active(relevance, node.op.outputs[0])
    node.apply(rule)
    if active is not None and isinstance(rule, AlphaBeta | Epsilon | Gamma | Norm):
        return _over_active(node, terms, late(wide(active), relevance), rule)
    made = late(made, relevance)

    def along(factor: Any, form: Any = None) -> Any:
        shape = (lambda term: term) if form is None else form
        # A mask is minus infinity where the factor is 0.
        return lambda term: node.meet(lambda f, t: tf.math.multiply_no_nan(t, f), where, [factor], [shape(term)])

    match rule:
        case Epsilon() | Norm():
            s = stabilised(node, where, relevance, made, rule.epsilon)
            return [along(s) for _ in terms]
        case Pass():
            raise node.refusal("relevance can not pass a sum unchanged: there are several operands; use norm")
        case Gamma():
            return _gamma(node, terms, made, rule, along)
        case AlphaBeta():
            return _alpha_beta(node, terms, made, rule, along)
    raise node.refusal(
        f"the rule {rule} is for operations with weights; use norm, epsilon, gamma or alpha_beta for sums"
    )


def _over_active(node: Node, terms: list[Any], active: Any, rule: AlphaBeta | Epsilon | Gamma | Norm) -> list[_Share]:
    """Where relevance is 0 unless the sum is positive: no sign decides anything, and the positive part is never empty.

    Args:
        node: the sum.
        terms: its operands.
        active: the sum where it is positive, else 0.
        rule: how it is shared.
    """
    import tensorflow as tf

    where, relevance, epsilon = node.where(node.op.outputs[0]), node.relevance, rule.epsilon
    # An operand may be a mask of minus infinity, unless all are computed.
    computed = all(node.view.carries(tensor) for tensor in node.op.inputs)
    multiply = tf.multiply if computed else tf.math.multiply_no_nan

    def part(whole: Any, held: Any, weight: float = 1.0) -> Any:
        s = divided(node, where, held, whole + epsilon if epsilon > 0 else whole)
        if epsilon > 0:
            node.book_total("stabiliser", node.replicas.total(s, where), weight * epsilon)
        return s

    match rule:
        case Epsilon() | Norm():
            s = part(active, relevance)
            return [lambda term: node.meet(lambda f, t: multiply(t, f), where, [s], [term])] * len(terms)
        case Gamma():
            gamma = rule.gamma
            s = part(active + gamma * tf.add_n([tf.nn.relu(_full(term, active)) for term in terms]), relevance)
            return [
                lambda term: node.meet(lambda f, t: multiply(t, f), where, [s], [term + gamma * tf.nn.relu(term)])
            ] * len(terms)
    return _alpha_beta_over_active(node, [_full(term, active) for term in terms], rule, part, multiply)


def _alpha_beta_over_active(node: Node, full: list[Any], rule: AlphaBeta, part: Any, multiply: Any) -> list[_Share]:
    import tensorflow as tf

    where, relevance = node.where(node.op.outputs[0]), node.relevance
    alpha, beta = rule.alpha, rule.beta
    up = tf.add_n([tf.nn.relu(term) for term in full])
    if beta == 0:
        s = part(up, relevance)
        return [lambda term: node.meet(lambda f, t: f * tf.nn.relu(t), where, [s], [term])] * len(full)
    down = tf.add_n([tf.nn.relu(-term) for term in full])
    held = filled(node, where, relevance, down)
    if node.options.empty_branch is EmptyBranchPolicy.RENORMALISE:
        # What has no negative part gets all by the positive one.
        alpha_relevance = relevance + (alpha - 1) * held
    else:
        alpha_relevance = alpha * relevance
        lost = node.replicas.total(relevance, where) - node.replicas.total(held, where)
        node.book_total("empty_branch", lost, -beta)
    s_up, s_down = part(up, alpha_relevance), part(down, beta * held, -1.0)

    def share(term: Any) -> Any:
        def chosen(a: Any, b: Any, t: Any) -> Any:
            return multiply(t, tf.where(t > 0, a, b))

        return node.meet(chosen, where, [s_up, s_down], [term])

    return [share] * len(full)


def _full(term: Any, made: Any) -> Any:
    import tensorflow as tf

    return tf.broadcast_to(term, tf.shape(made)) if term.shape != made.shape else term


def _gamma(node: Node, terms: list[Any], made: Any, rule: Gamma, along: Any) -> list[Any]:
    import tensorflow as tf

    where, relevance, gamma = node.where(node.op.outputs[0]), node.relevance, rule.gamma
    sign = tf.where(made < 0, -tf.ones_like(made), tf.ones_like(made))

    def favoured(term: Any) -> Any:
        # relu(sign x) is the part of x that has the sum's own sign.
        return term + gamma * sign * tf.nn.relu(sign * term)

    whole = tf.add_n([favoured(_full(term, made)) for term in terms])
    s = stabilised(node, where, relevance, whole, rule.epsilon)
    return [along(s, favoured) for _ in terms]


def _alpha_beta(node: Node, terms: list[Any], made: Any, rule: AlphaBeta, along: Any) -> list[Any]:
    import tensorflow as tf

    where, relevance = node.where(node.op.outputs[0]), node.relevance
    full = [_full(term, made) for term in terms]
    up, down = tf.add_n([tf.nn.relu(term) for term in full]), tf.add_n([tf.nn.relu(-term) for term in full])
    alpha, beta = tf.constant(rule.alpha, made.dtype), tf.constant(rule.beta, made.dtype)
    if node.options.empty_branch is EmptyBranchPolicy.RENORMALISE:
        alpha = tf.where(down == 0, tf.ones_like(made), alpha)
        beta = tf.where(up == 0, -tf.ones_like(made), tf.where(down == 0, tf.zeros_like(made), beta))
    factor_up = tf.math.divide_no_nan(alpha * tf.cast(up > 0, made.dtype), up + rule.epsilon)
    factor_down = tf.math.divide_no_nan(beta * tf.cast(down > 0, made.dtype), down + rule.epsilon)
    empty = alpha * tf.cast(up == 0, made.dtype) - beta * tf.cast(down == 0, made.dtype)
    # What is neither handed on nor lost to emptiness.
    given = factor_up * up - factor_down * down
    lost = alpha * tf.cast(up > 0, made.dtype) - beta * tf.cast(down > 0, made.dtype) - given
    if node.options.empty_branch is EmptyBranchPolicy.RENORMALISE:
        empty = tf.cast((up == 0) & (down == 0), made.dtype)
    node.book("empty_branch", node.meet(lambda r, e: r * e, where, [relevance], [empty]), where)
    node.book("stabiliser", node.meet(lambda r, e: r * e, where, [relevance], [lost]), where)
    return [
        along(relevance, lambda term: tf.nn.relu(term) * factor_up - tf.nn.relu(-term) * factor_down) for _ in terms
    ]


def reduced(node: Node, relevance: Any, tensor: Any) -> Any:
    """Relevance in the shape of a broadcast result, summed to that of an operand.

    Args:
        node: the operation.
        relevance: in the shape of its first output.
        tensor: an operand that carries relevance.
    """
    import tensorflow as tf

    missing = relevance.shape.rank - tensor.shape.rank
    summed = tf.reduce_sum(relevance, axis=list(range(missing))) if missing else relevance
    own, made = tensor.shape.as_list(), node.op.outputs[0].shape.as_list()[missing:]
    batch = node.where(tensor).axis
    one = [axis for axis, length in enumerate(own) if length == 1 and made[axis] != 1 and axis != batch]
    unknown = [axis for axis, length in enumerate(own) if length is None and made[axis] is None and axis != batch]
    if one:
        summed = tf.reduce_sum(summed, axis=one, keepdims=True)
    for axis in unknown:
        summed = _reduced_if_longer(summed, tensor, axis)
    return summed


def _reduced_if_longer(relevance: Any, tensor: Any, axis: int) -> Any:
    """Sums an axis that turns out to have length 1 in the operand."""
    import tensorflow as tf

    length = tf.shape(tensor)[axis]
    whole = tf.reduce_sum(relevance, axis=axis, keepdims=True)
    return tf.cond(tf.equal(length, 1), lambda: whole, lambda: relevance)
