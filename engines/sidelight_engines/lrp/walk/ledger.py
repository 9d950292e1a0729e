"""Books where relevance goes while the backward walk is being traced.

Every column is summed in float64 for each target and instance. Each sum is computed from the relevance itself, none
as what is left of the others, so that what a layer leaves unexplained is rounding and nothing else. A max-pool alone
books one sum on both sides; relevance that it lost would be missing in the layer below.
"""

from __future__ import annotations

import math
from typing import Any

COLUMNS = ("relevance_out", "relevance_in", "bias", "stabiliser", "empty_branch", "sink")
"""The columns, in the order in which `Ledger.stacked` has them."""


class Ledger:
    """The books of one traced walk.

    Attributes:
        layers: the layers that have entries, in the order of propagation.
    """

    def __init__(self) -> None:
        self._layers: dict[str, int] = {}
        self._amounts: dict[Any, int] = {}
        # (the row of a layer's column, which amount, how often it counts)
        self._entries: list[tuple[int, int, float]] = []

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that have entries, in the order of propagation."""
        return tuple(self._layers)

    def book(self, layer: str, column: str, amount: Any, times: float = 1.0) -> None:
        """Books an amount.

        Args:
            layer: the layer.
            column: one of COLUMNS.
            amount: (targets, instances) float64.
            times: how often it counts.
        """
        row = self._layers.setdefault(layer, len(self._layers)) * len(COLUMNS) + COLUMNS.index(column)
        which = self._amounts.setdefault(amount.ref(), len(self._amounts))
        self._entries.append((row, which, times))

    def stacked(self, targets: int, instances: Any) -> Any:
        """Everything that was booked, (layers, columns, targets, instances) float64."""
        import tensorflow as tf

        shape = [len(self._layers), len(COLUMNS), targets, instances]
        if not self._entries:
            return tf.zeros(shape, tf.float64)
        # Added up all at once: thousands of operations on a few numbers each take longer to make and to run.
        rows, which, times = zip(*self._entries, strict=True)
        amounts = tf.gather(tf.stack([amount.deref() for amount in self._amounts]), which)
        counted = amounts * tf.reshape(tf.constant(times, tf.float64), [-1, 1, 1])
        return tf.reshape(tf.math.unsorted_segment_sum(counted, rows, math.prod(shape[:2])), shape)
