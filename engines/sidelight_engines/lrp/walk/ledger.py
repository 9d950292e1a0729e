"""Books where relevance goes while the backward walk is being traced.

Every column is summed in float64 for each target and instance. Each sum is computed from the relevance itself, none
as what is left of the others, so that what a layer leaves unexplained is rounding and nothing else. A max-pool alone
books one sum on both sides; relevance that it lost would be missing in the layer below.
"""

from __future__ import annotations

from typing import Any

COLUMNS = ("relevance_out", "relevance_in", "bias", "stabiliser", "empty_branch", "sink")
"""The columns, in the order in which `Ledger.stacked` has them."""


class Ledger:
    """The books of one traced walk.

    Attributes:
        layers: the layers that have entries, in the order of propagation.
    """

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, list[Any]]] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that have entries, in the order of propagation."""
        return tuple(self._entries)

    def book(self, layer: str, column: str, amount: Any) -> None:
        """Books an amount.

        Args:
            layer: the layer.
            column: one of COLUMNS.
            amount: (targets, instances) float64.
        """
        self._entries.setdefault(layer, {name: [] for name in COLUMNS})[column].append(amount)

    def stacked(self, targets: int, instances: Any) -> Any:
        """Everything that was booked, (layers, columns, targets, instances) float64."""
        import tensorflow as tf

        zero = tf.zeros([targets, instances], tf.float64)
        rows = [
            tf.stack([tf.add_n(amounts) if amounts else zero for amounts in entry.values()])
            for entry in self._entries.values()
        ]
        return tf.stack(rows) if rows else tf.zeros([0, len(COLUMNS), targets, instances], tf.float64)
