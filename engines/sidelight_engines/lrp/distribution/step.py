"""A linear operation as the rules see it, and what all of them do: divide, book, multiply by the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sidelight_engines.lrp.maps.linear_map import LinearMap
from sidelight_engines.lrp.maps.weights import Weights
from sidelight_engines.lrp.structure.batch_axis import BatchAxis
from sidelight_engines.lrp.walk.node import Node, late, wide

# No sum of products is as small and yet not 0 up to rounding.
_LEAST = 1e-30


@dataclass(frozen=True)
class LinearStep:
    """A linear operation with all that was folded into it: y = L(x, W) + b.

    Attributes:
        map: L.
        relevance: what came to y.
        weights: W.
        scale: the factor that was folded into W, of z's rank; None for 1.
        end_tensor: z + b as the graph has it, if it has it in z's shape; else None.
        bias: b, broadcasting to z; None for none.
        nonnegative: whether x is never below 0.
        active_tensor: max(y, 0), if relevance is known to be 0 wherever that is 0; else None.
        vanishing: whether relevance is known to be 0 wherever y is.
        x_where: the place of the instances in x.
        y_where: the place of the instances in y.
        halves: whether it is stated for x+, and behind it |x-| along the last axis, in place of x.
    """

    map: LinearMap
    relevance: Any
    weights: Weights
    scale: Any
    end_tensor: Any
    bias: Any
    nonnegative: bool
    active_tensor: Any
    vanishing: bool
    x_where: BatchAxis
    y_where: BatchAxis
    halves: bool = False

    # Made when a rule asks for them: what a walk reads of the forward pass is kept in memory until it has.

    @cached_property
    def x(self) -> Any:
        """The tensor that it reads, in the type that relevance is computed in; or its halves."""
        import tensorflow as tf

        whole = late(wide(self.map.x), self.relevance)
        return tf.concat([tf.nn.relu(whole), tf.nn.relu(-whole)], -1) if self.halves else whole

    @cached_property
    def z(self) -> Any:
        """L(x, W)."""
        import tensorflow as tf

        u = late(wide(self.map.u), self.relevance)
        return u if self.scale is None else u * tf.constant(self.scale, u.dtype)

    @cached_property
    def y(self) -> Any:
        """The sum: z + b."""
        if self.bias is None:
            return self.z
        return self.z + self.bias if self.end_tensor is None else late(wide(self.end_tensor), self.relevance)

    @cached_property
    def active(self) -> Any:
        """max(y, 0), if relevance is known to be 0 wherever that is 0; else None."""
        return None if self.active_tensor is None else late(wide(self.active_tensor), self.relevance)

    def of_halves(self) -> LinearStep | None:
        """The same stated for inputs that are not negative: x w = x+ w + |x-| (-w), where one of the two is 0.

        None if the operation can not have more inputs than it has.
        """
        axis = self.map.input_axis
        if axis is None or self.x_where.axis == self.map.x.shape.rank - 1:
            return None
        return replace(self, weights=self.weights.halves(axis), nonnegative=True, halves=True)

    def back(self, s: Any, weights: Any) -> Any:
        """L' s."""
        return self.map.transposed_sum([(1.0, s, weights)])

    def forward(self, weights: Any, bias: Any, more: float = 0.0) -> Any:
        """L(x, weights) + bias + more, in as few operations as it takes."""
        import tensorflow as tf

        z = self.map.forward(self.x, weights)
        if bias is None and more == 0:
            return z
        added = tf.fill([z.shape[-1] or 1], tf.constant(more, z.dtype)) if bias is None else bias + more
        if _per_channel(self, z, added):
            # TensorFlow makes one kernel of a product and this operation.
            return tf.nn.bias_add(z, tf.reshape(added, [-1]))
        return z + added

    def back_sum(self, terms: Sequence[tuple[float, Any, Any]]) -> Any:
        """The sum of factor L' s over (factor, s, weights)."""
        return self.map.transposed_sum(terms)

    def active_for(self, ignore_bias: bool) -> Any:
        """`active`, if it also says where the sum that a rule divides by is positive; else None."""
        return None if ignore_bias and self.bias is not None else self.active


def by_input(node: Node, step: LinearStep, x: Any, share: Any) -> Any:
    """X L' s, given L' s; of halves, the sum."""
    import tensorflow as tf

    made = node.meet(lambda c, v: c * v, step.x_where, [share], [x])
    return tf.add_n(tf.split(made, 2, -1)) if step.halves else made


def divided(node: Node, where: BatchAxis, relevance: Any, divisor: Any) -> Any:
    """R / divisor for a divisor that is positive wherever R is not 0; 0 where it is 0."""
    import tensorflow as tf

    return node.meet(tf.math.divide_no_nan, where, [relevance], [divisor])


def stabilised(node: Node, where: BatchAxis, relevance: Any, y: Any, epsilon: float, vanishing: bool = False) -> Any:
    """R / st(y); where both y and epsilon are 0, it is 0 and R is booked as the stabiliser's.

    Args:
        node: the books.
        where: the place of the instances.
        relevance: R.
        y: the sum.
        epsilon: the stabiliser.
        vanishing: whether R is known to be 0 wherever y is.
    """
    import tensorflow as tf

    if epsilon > 0:
        magnitude = node.meet(lambda r, v: r / (tf.abs(v) + epsilon), where, [relevance], [y])
        node.book_total("stabiliser", node.replicas.total(magnitude, where), epsilon)
        # sgn(0) = 1; the least number there is decides nothing else.
        return signed_by(node, where, magnitude, y if vanishing else y + _LEAST)
    signed = node.meet(tf.math.divide_no_nan, where, [relevance], [y])
    none = tf.cast(tf.equal(y, 0), y.dtype)
    node.book("stabiliser", node.meet(lambda r, n: r * n, where, [relevance], [none]), where)
    return signed


def signed_by(node: Node, where: BatchAxis, magnitude: Any, y: Any) -> Any:
    """A magnitude where y is positive, minus it where y is negative; where y is 0 it must be 0."""
    import tensorflow as tf

    if node.replicas.targets == 1 and magnitude.shape.rank == y.shape.rank:
        # One sweep, where a sign and a product take two.
        return tf.raw_ops.LeakyReluGrad(gradients=magnitude, features=y, alpha=-1.0)
    return node.meet(lambda m, v: m * tf.sign(v), where, [magnitude], [y])


def book_bias(node: Node, step: LinearStep, s: Any, bias: Any) -> None:
    """Books sum_j s_j b_j."""
    if bias is None:
        return
    where = step.y_where
    if _per_channel(step, s, bias):
        node.book_total("bias", node.replicas.total(s, where, bias))
    else:
        node.book("bias", node.meet(lambda s, b: s * b, where, [s], [_full_rank(bias, s)]), where)


def book_shares(node: Node, step: LinearStep, s: Any, epsilon: float, bias: Any, weight: float = 1.0) -> None:
    """Books what the stabiliser and the bias take of s, where what R is divided by is positive.

    Args:
        node: the books.
        step: the operation.
        s: R / (whole + epsilon).
        epsilon: the stabiliser's numerator.
        bias: the bias's numerator; None for none.
        weight: how often s counts.
    """
    import tensorflow as tf

    where = step.y_where
    if epsilon > 0 and bias is not None and where.axis == 0 and where.outer == 1 and _per_channel(step, s, bias):
        # One sweep over s serves both.
        channels = node.replicas.channel_totals(s)
        weights = tf.cast(tf.reshape(bias, [-1]), tf.float64)
        all_alike, by_bias = tf.unstack(channels @ tf.stack([tf.ones_like(weights), weights], axis=1), axis=-1)
        node.book_total("stabiliser", all_alike, weight * epsilon)
        node.book_total("bias", by_bias, weight)
        return
    if epsilon > 0:
        node.book_total("stabiliser", node.replicas.total(s, where), weight * epsilon)
    book_bias(node, step, s, None if bias is None else weight * bias)


def _per_channel(step: LinearStep, s: Any, bias: Any) -> bool:
    last = s.shape[-1]
    return bool(step.y_where.axis < s.shape.rank - 1 and bias.shape.num_elements() == bias.shape[-1] == last)


def _full_rank(constant: Any, like: Any) -> Any:
    """A constant with as many axes as a tensor, so that splitting the batch axis leaves the others in place."""
    import tensorflow as tf

    missing = like.shape.rank - constant.shape.rank
    return tf.reshape(constant, [1] * missing + constant.shape.as_list()) if missing else constant
