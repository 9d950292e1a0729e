"""How the gradient of one operation by the parameter that it reads comes apart into factors, per example.

A term is built from the data that the operation reads and from the gradient of the loss by what it makes. It
has one of three forms:

    Product   G = sum_t u_t d_t'     matrix products and convolutions: t counts positions
    Lookup    G = sum_t e(id_t) d_t' tables: e(i) is the unit vector of row i
    Whole     G                      element-wise operations: the gradient itself
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Product:
    """A gradient as a sum of outer products.

    Attributes:
        left: u, (batch, positions, m).
        right: d, (batch, positions, n).
        order: the axes of (m, n), cut into `lengths`, in the order in which the tensor that is read has them.
        lengths: the lengths that (m, n) is cut into.
    """

    left: Any
    right: Any
    lengths: tuple[int, ...]
    order: tuple[int, ...]


@dataclass(frozen=True)
class Lookup:
    """A gradient by a table, as rows of it.

    Attributes:
        ids: (batch, positions), int32.
        right: (batch, positions, n).
        rows: the rows of the table.
    """

    ids: Any
    right: Any
    rows: int


@dataclass(frozen=True)
class Whole:
    """A gradient that is not factored.

    Attributes:
        values: (batch, *the shape of the tensor that is read).
    """

    values: Any


Factors = Product | Lookup | Whole


class Term(Protocol):
    """The gradient of one operation by what it reads of a parameter."""

    @property
    def operands(self) -> tuple[str, ...]:
        """Names of the tensors that it needs beside the gradient by `made`."""
        ...

    @property
    def made(self) -> str:
        """The name of the tensor that the operation makes."""
        ...

    def factors(self, operands: list[Any], gradient: Any, batch: Any) -> Factors:
        """Builds the factors into the function that is being traced.

        Args:
            operands: the tensors asked for, float32 unless whole numbers.
            gradient: of the loss by the tensor that the operation makes, float32.
            batch: the number of examples, a scalar tensor.
        """
        ...


class NotFactorableError(Exception):
    """An operation reads a parameter in a way that has no factored form; the message says which."""


def examples_first(tensor: Any, batch: Any, *, positions_lead: bool = False) -> Any:
    """Cuts axis 0 into examples and positions.

    Args:
        tensor: (batch * k, ...).
        batch: the number of examples, a scalar tensor.
        positions_lead: whether positions, not examples, are what axis 0 counts first.

    Returns:
        (batch, k, ...)
    """
    import tensorflow as tf

    shape = tf.shape(tensor)
    static = tensor.shape.as_list()
    rest = [shape[i] if length is None else length for i, length in enumerate(static)][1:]
    if positions_lead:
        cut = tf.reshape(tensor, [-1, batch, *rest])
        return tf.transpose(cut, [1, 0, *range(2, len(static) + 1)])
    return tf.reshape(tensor, [batch, shape[0] // batch, *rest])


def whole(factors: Factors) -> Any:
    """The gradient itself, (batch, *the shape of the tensor that is read)."""
    import tensorflow as tf

    if isinstance(factors, Whole):
        return factors.values
    if isinstance(factors, Lookup):
        batch, width = tf.shape(factors.ids)[0], factors.right.shape[-1]
        rows = factors.ids + factors.rows * tf.range(batch)[:, None]
        summed = tf.math.unsorted_segment_sum(
            tf.reshape(factors.right, [-1, width]), tf.reshape(rows, [-1]), factors.rows * batch
        )
        return tf.reshape(summed, [batch, factors.rows, width])
    product = tf.matmul(factors.left, factors.right, transpose_a=True)
    cut = tf.reshape(product, [-1, *factors.lengths])
    return tf.transpose(cut, [0, *(axis + 1 for axis in factors.order)])
