"""Relevance for several targets at once.

The relevance of a tensor for T targets is one tensor of the same rank, whose batch axis is T times as long: where the
tensor has ``outer * n * inner`` positions, relevance has ``outer * T * n * inner``. What the forward pass computed is
shared by the targets; it is never repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from sidelight_engines.lrp.structure.batch_axis import BatchAxis

# Longer rows are summed in float64 from the start; of shorter ones, TensorFlow sums those along the last axis as fast.
_LONGEST_ROW = 1024
_SHORTEST_ROW = 64
_LARGE_PLANE = 2048


class Replicas:
    """Reshapes relevance so that it meets what the forward pass computed.

    Args:
        targets: T.
        instances: n, a scalar tensor.
    """

    def __init__(self, targets: int, instances: Any) -> None:
        import tensorflow as tf

        self.targets = targets
        self.instances = instances
        self._rows = tf.stack([targets, instances, -1])
        # Made once: a graph of thousands of sums is traced and optimised faster with two constants than with thousands.
        self._last, self._third = tf.constant(-1), tf.constant(2)
        self._ending_in: dict[int, Any] = {}
        self._totals: dict[tuple[Any, BatchAxis], Any] = {}

    def meet(
        self, compute: Callable[..., Any], where: BatchAxis, relevance: Sequence[Any], forward: Sequence[Any]
    ) -> Any:
        """Computes element by element from relevance and forward tensors.

        Args:
            compute: takes the relevance tensors, then the forward ones; gives one tensor of relevance's shape.
            where: the place of the instances in all of them.
            relevance: of one rank.
            forward: of the same rank, or scalars; the batch axis may have length 1.
        """
        if self.targets == 1:
            return compute(*relevance, *forward)
        apart = [self._split(tensor, where, self.targets) for tensor in relevance]
        shared = [tensor if tensor.shape.rank == 0 else self._split(tensor, where, 1) for tensor in forward]
        return self._merge(compute(*apart, *shared), where)

    def each(self, compute: Callable[[list[Any]], Any], where: Sequence[BatchAxis], relevance: Sequence[Any]) -> Any:
        """Computes for one target after the other.

        Args:
            compute: takes one target's relevance tensors, gives one tensor.
            where: the places of the instances in the relevance tensors, and last in what is made.
            relevance: the relevance tensors.
        """
        import tensorflow as tf

        if self.targets == 1:
            return compute(list(relevance))
        parts = [self._unstack(tensor, place) for tensor, place in zip(relevance, where, strict=False)]
        made = [compute([part[target] for part in parts]) for target in range(self.targets)]
        place = where[-1]
        split = [self._split(tensor, place, 1) for tensor in made]
        return self._merge(tf.concat(split, axis=place.axis + 1), place)

    def repeated(self, tensor: Any, where: BatchAxis) -> Any:
        """What the forward pass computed, once per target."""
        import tensorflow as tf

        if self.targets == 1:
            return tensor
        apart = self._split(tensor, where, 1)
        return self._merge(tf.repeat(apart, self.targets, axis=where.axis + 1), where)

    def total(self, relevance: Any, where: BatchAxis, weights: Any = None) -> Any:
        """The sum over everything but targets and instances, (T, n) float64.

        Rows of at most 1,024 positions are summed in relevance's own type: that takes a third of the time and rounds no
        more than relevance itself was rounded.

        Args:
            relevance: what is summed.
            where: the place of the instances in it.
            weights: one factor per position of the last axis; None for 1.
        """
        if weights is not None:
            return self._summed(relevance, where, weights)
        # What one layer hands down another one takes: the same sum is asked for more than once.
        key = relevance.ref(), where
        if key not in self._totals:
            self._totals[key] = self._summed(relevance, where, None)
        return self._totals[key]

    def same_total(self, relevance: Any, where: BatchAxis, came: Any, came_where: BatchAxis) -> None:
        """Notes that an operation only moved relevance, so that its total is that of what came."""
        self._totals[relevance.ref(), where] = self.total(came, came_where)

    def _summed(self, relevance: Any, where: BatchAxis, weights: Any) -> Any:
        import tensorflow as tf

        last = relevance.shape[-1]
        if weights is None and relevance.shape.rank == 1 and where.outer == 1:
            return tf.reshape(tf.cast(relevance, tf.float64), [self.targets, self.instances])
        if weights is not None:
            rows = tf.reshape(relevance, [-1, last])
            relevance = tf.reshape(tf.matmul(rows, tf.reshape(weights, [last, 1])), tf.shape(relevance)[:-1])
        elif where.axis == 0 and where.outer == 1 and relevance.shape.rank > 1 and (row := _row(relevance)):
            rows = tf.reduce_sum(tf.reshape(relevance, self._ending(row)), axis=self._last)
            return tf.reduce_sum(tf.cast(rows, tf.float64), axis=self._third)
        elif where.axis < relevance.shape.rank - 1 and last is not None and last <= _LONGEST_ROW:
            relevance = tf.reduce_sum(relevance, axis=self._last)
        if where.axis == 0 and where.outer == 1:
            # The rest is one axis: it is summed in one sweep.
            return tf.reduce_sum(tf.cast(tf.reshape(relevance, self._rows), tf.float64), axis=self._third)
        lengths = _lengths(relevance, where.axis)
        shape = [*lengths[: where.axis], where.outer, self.targets, self.instances, -1, *lengths[where.axis + 1 :]]
        apart = tf.cast(tf.reshape(relevance, shape), tf.float64)
        kept = (where.axis + 1, where.axis + 2)
        return tf.reduce_sum(apart, axis=[axis for axis in range(len(shape)) if axis not in kept])

    def channel_totals(self, relevance: Any) -> Any:
        """The sums over everything but targets, instances and the last axis, (T, n, channels) float64.

        Args:
            relevance: what is summed; its first axis holds targets and instances.
        """
        import tensorflow as tf

        lengths = relevance.shape.as_list()
        high, wide = lengths[1:3] if len(lengths) == 4 and None not in lengths[1:3] else (0, 0)
        if high * wide >= _LARGE_PLANE and wide <= _LONGEST_ROW:
            # A mean over windows takes as long as reading them; a sum over an axis up to four times as long.
            rows = max(count for count in range(1, high + 1) if high % count == 0 and count * wide <= _LONGEST_ROW)
            window = [rows, wide]
            relevance = tf.nn.avg_pool2d(relevance, window, window, "VALID") * float(math.prod(window))
        elif len(lengths) > 2 and lengths[1] is not None and lengths[1] <= _LONGEST_ROW:
            relevance = tf.reduce_sum(relevance, axis=1)
        # The first axis may hold more than targets and instances, such as tokens.
        apart = tf.reshape(tf.cast(relevance, tf.float64), self._ending(lengths[-1]))
        return tf.reduce_sum(apart, axis=self._third)

    def _ending(self, length: int) -> Any:
        """The shape (T, n, -1, length); made once for each length."""
        import tensorflow as tf

        if length not in self._ending_in:
            self._ending_in[length] = tf.stack([self.targets, self.instances, -1, length])
        return self._ending_in[length]

    def apart(self, relevance: Any) -> Any:
        """Relevance whose batch axis is its first, as (T, n, ...)."""
        import tensorflow as tf

        return tf.reshape(relevance, [self.targets, self.instances, *_lengths(relevance, 0)[1:]])

    def _split(self, tensor: Any, where: BatchAxis, targets: int) -> Any:
        import tensorflow as tf

        lengths = _lengths(tensor, where.axis)
        outer = 1 if tensor.shape[where.axis] == 1 else where.outer
        return tf.reshape(tensor, [*lengths[: where.axis], outer, targets, -1, *lengths[where.axis + 1 :]])

    def _merge(self, tensor: Any, where: BatchAxis) -> Any:
        import tensorflow as tf

        lengths = _lengths(tensor)
        return tf.reshape(tensor, [*lengths[: where.axis], -1, *lengths[where.axis + 3 :]])

    def _unstack(self, tensor: Any, where: BatchAxis) -> list[Any]:
        import tensorflow as tf

        lengths = _lengths(tensor, where.axis)
        apart = tf.unstack(self._split(tensor, where, self.targets), self.targets, axis=where.axis + 1)
        return [tf.reshape(part, [*lengths[: where.axis], -1, *lengths[where.axis + 1 :]]) for part in apart]


def _row(tensor: Any) -> int:
    """The longest row that all positions behind the first axis can be cut into; 0 if it is short, or not known."""
    lengths = tensor.shape.as_list()[1:]
    if None in lengths:
        return 0
    size = math.prod(lengths)
    row = next((length for length in range(min(size, _LONGEST_ROW), 0, -1) if size % length == 0), 0)
    return row if row >= _SHORTEST_ROW else 0


def _lengths(tensor: Any, left_out: int | None = None) -> list[Any]:
    """Lengths of axes: numbers where they are known, else scalar tensors; None for the axis that is left out."""
    import tensorflow as tf

    static = tensor.shape.as_list()
    computed = [axis for axis, length in enumerate(static) if length is None and axis != left_out]
    dynamic = tf.shape(tensor) if computed else None
    return [dynamic[axis] if axis in computed and dynamic is not None else length for axis, length in enumerate(static)]
