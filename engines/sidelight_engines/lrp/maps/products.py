"""Products with constant matrices, and sums of products in index notation, as linear maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from sidelight_engines.lrp.maps.linear_map import LinearMap
from sidelight_engines.runtime.runtime import Array


class MatMul(LinearMap):
    """Products of x, (rows, k) or (..., rows, k), with a matrix or a batch of matrices."""

    def __init__(self, op: Any, position: int) -> None:
        super().__init__(op, position, 1 - position)
        first, second = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
        self._turned = (bool(op.get_attr(first)), bool(op.get_attr(second)))

    @property
    def channel_axes(self) -> tuple[int, ...]:
        """See LinearMap."""
        rank = self.u.shape.rank
        weight_rank = self.op.inputs[self.weight_position].shape.rank
        place = rank - 1 if self.position == 0 else rank - 2
        return (place,) if weight_rank == 2 else ()

    @property
    def input_axis(self) -> int | None:
        """See LinearMap."""
        if self.position == 1 or self._turned[0]:
            return None
        return -1 if self._turned[1] else -2

    def forward(self, x: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        a, b = (x, weights) if self.position == 0 else (weights, x)
        return tf.matmul(a, b, transpose_a=self._turned[0], transpose_b=self._turned[1])

    def transposed(self, s: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        turned_a, turned_b = self._turned
        if self.position == 0:
            # u = a' w', so the transpose is s w''; turned over where a is read turned over.
            back = tf.matmul(s, weights, transpose_b=not turned_b)
            made = tf.linalg.matrix_transpose(back) if turned_a else back
        else:
            back = tf.matmul(weights, s, transpose_a=not turned_a)
            made = tf.linalg.matrix_transpose(back) if turned_b else back
        return _sum_to_rank(made, self.x.shape.rank)

    def scaled(self, weights: Any, scale: Array) -> Any:
        """See LinearMap."""
        vector = scale.ravel()
        out_last = self._turned[1] != (self.position == 0)
        return weights * (vector if out_last else vector[:, None])


def _sum_to_rank(tensor: Any, rank: int) -> Any:
    import tensorflow as tf

    extra = tensor.shape.rank - rank
    return tf.reduce_sum(tensor, axis=list(range(extra))) if extra > 0 else tensor


class Einsum(LinearMap):
    """A sum of products in index notation with one constant operand."""

    def __init__(self, op: Any, position: int) -> None:
        super().__init__(op, position, 1 - position)
        equation = op.get_attr("equation").decode().replace(" ", "")
        read, _, self._made = equation.partition("->")
        terms = read.split(",")
        self._x, self._w = terms[position], terms[1 - position]

    @staticmethod
    def problem(op: Any, position: int) -> str:
        """Why an equation is not covered; empty if it is."""
        equation = op.get_attr("equation").decode().replace(" ", "")
        read, arrow, made = equation.partition("->")
        terms = read.split(",")
        if not arrow or "." in equation:
            return f"the equation {equation!r} is not covered; write all axes out"
        lost = set(terms[position]) - set(terms[1 - position]) - set(made)
        if lost or any(len(set(term)) < len(term) for term in terms):
            return f"the equation {equation!r} sums or repeats an axis of one operand alone"
        return ""

    @property
    def channel_axes(self) -> tuple[int, ...]:
        """See LinearMap."""
        return tuple(axis for axis, label in enumerate(self._made) if label in self._w and label not in self._x)

    def forward(self, x: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        return tf.einsum(f"{self._x},{self._w}->{self._made}", x, weights)

    def transposed(self, s: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        return tf.einsum(f"{self._made},{self._w}->{self._x}", s, weights)

    def scaled(self, weights: Any, scale: Array) -> Any:
        """See LinearMap."""
        labels = [self._made[axis] for axis in self.channel_axes]
        kept = scale.reshape([scale.shape[axis] for axis in self.channel_axes])
        order = sorted(range(len(labels)), key=lambda i: self._w.index(labels[i]))
        turned = np.transpose(kept, order)
        shape = [1] * len(self._w)
        for i, length in zip(order, turned.shape, strict=True):
            shape[self._w.index(labels[i])] = length
        return weights * turned.reshape(shape)
