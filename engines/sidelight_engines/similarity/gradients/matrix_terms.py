"""Terms of matrix products, einsums and tables.

y = x W gives G = sum_t x_t d_t' with d the gradient by y (Goodfellow 2015, arXiv:1510.01799, section 4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sidelight_engines.similarity.gradients.terms import Factors, Lookup, NotFactorableError, Product, examples_first


@dataclass(frozen=True)
class MatrixTerm:
    """y = x W, W in the second place; x may have any number of axes before its last.

    Attributes:
        data: the name of x.
        made: the name of y.
        turned: whether the operation reads W as (n, m) rather than (m, n).
        rows: m.
        columns: n.
        leading: axes of length 1 that W has before those two.
        positions_lead: see `examples_first`.
    """

    data: str
    made: str
    turned: bool
    rows: int
    columns: int
    leading: int
    positions_lead: bool

    @property
    def operands(self) -> tuple[str, ...]:
        """See `Term`."""
        return (self.data,)

    def factors(self, operands: list[Any], gradient: Any, batch: Any) -> Factors:
        """See `Term`."""
        import tensorflow as tf

        left = examples_first(operands[0], batch, positions_lead=self.positions_lead)
        right = examples_first(gradient, batch, positions_lead=self.positions_lead)
        lengths = (*(1,) * self.leading, self.rows, self.columns)
        first, second = self.leading, self.leading + 1
        order = (*range(self.leading), *((second, first) if self.turned else (first, second)))
        return Product(
            tf.reshape(left, [batch, -1, self.rows]), tf.reshape(right, [batch, -1, self.columns]), lengths, order
        )


def matrix_term(op: Any, position: int, *, positions_lead: bool) -> MatrixTerm:
    """The term of MatMul and BatchMatMul.

    Raises:
        NotFactorableError: the parameter is in the first place, or differs between examples.
    """
    if position != 1:
        raise NotFactorableError(f"{op.type} with the parameter in the first place")
    names = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
    data_turned, turned = (bool(op.get_attr(name)) for name in names)
    if data_turned:
        raise NotFactorableError(f"{op.type} of transposed data")
    shape = op.inputs[1].shape.as_list()
    if any(length != 1 for length in shape[:-2]):
        raise NotFactorableError(f"{op.type} with a matrix per batch entry")
    rows, columns = (shape[-1], shape[-2]) if turned else (shape[-2], shape[-1])
    return MatrixTerm(op.inputs[0].name, op.outputs[0].name, turned, rows, columns, len(shape) - 2, positions_lead)


@dataclass(frozen=True)
class EinsumTerm:
    """y = einsum(x, W) where every index is in exactly two of x, W and y, and axis 0 of x and y is the batch.

    Attributes:
        data: the name of x.
        made: the name of y.
        data_order: axes of x: batch, those it shares with y, those it shares with W.
        made_order: axes of y: batch, those it shares with x, those it shares with W.
        lengths: of the axes of W: those it shares with x, those it shares with y.
        order: those axes in W's order.
        shared: how many axes x and W share.
    """

    data: str
    made: str
    data_order: tuple[int, ...]
    made_order: tuple[int, ...]
    lengths: tuple[int, ...]
    order: tuple[int, ...]
    shared: int

    @property
    def operands(self) -> tuple[str, ...]:
        """See `Term`."""
        return (self.data,)

    def factors(self, operands: list[Any], gradient: Any, batch: Any) -> Factors:
        """See `Term`."""
        import tensorflow as tf

        rows, columns = math.prod(self.lengths[: self.shared]), math.prod(self.lengths[self.shared :])
        left = tf.reshape(tf.transpose(operands[0], self.data_order), [batch, -1, rows])
        right = tf.reshape(tf.transpose(gradient, self.made_order), [batch, -1, columns])
        return Product(left, right, self.lengths, self.order)


def einsum_term(op: Any, position: int) -> EinsumTerm:
    """The term of an Einsum.

    Raises:
        NotFactorableError: its equation is not that of a product of data with a matrix.
    """
    equation = op.get_attr("equation")
    equation = equation.decode() if isinstance(equation, bytes) else equation
    sources, _, made = equation.replace(" ", "").partition("->")
    parts = sources.split(",")
    if len(parts) != 2 or "." in equation or any(len(set(part)) != len(part) for part in (*parts, made)):
        raise NotFactorableError(f"Einsum {equation!r}")
    data, read = parts[1 - position], parts[position]
    indices = set(data) | set(read) | set(made)
    once = any((i in data) + (i in read) + (i in made) != 2 for i in indices)
    if once or not data or not made or data[0] != made[0] or data[0] in read:
        raise NotFactorableError(f"Einsum {equation!r}")
    positions = [i for i in data[1:] if i in made]
    inner, outer = [i for i in read if i in data], [i for i in read if i in made]
    sizes = dict(zip(read, op.inputs[position].shape.as_list(), strict=True))
    return EinsumTerm(
        op.inputs[1 - position].name,
        op.outputs[0].name,
        tuple(map(data.index, [data[0], *positions, *inner])),
        tuple(map(made.index, [data[0], *positions, *outer])),
        tuple(sizes[i] for i in inner + outer),
        tuple(map((inner + outer).index, read)),
        len(inner),
    )


@dataclass(frozen=True)
class TableTerm:
    """y_t = W[id_t].

    Attributes:
        data: the name of the ids.
        made: the name of y.
        rows: of W.
        width: numbers in a row of W.
    """

    data: str
    made: str
    rows: int
    width: int

    @property
    def operands(self) -> tuple[str, ...]:
        """See `Term`."""
        return (self.data,)

    def factors(self, operands: list[Any], gradient: Any, batch: Any) -> Factors:
        """See `Term`."""
        import tensorflow as tf

        ids = tf.reshape(tf.cast(operands[0], tf.int32), [batch, -1])
        return Lookup(ids, tf.reshape(gradient, [batch, -1, self.width]), self.rows)


def table_term(op: Any, position: int) -> TableTerm:
    """The term of a Gather along axis 0.

    Raises:
        NotFactorableError: rows are not looked up along axis 0.
    """
    import tensorflow as tf

    axis = tf.get_static_value(op.inputs[2]) if op.type == "GatherV2" else 0
    if position or axis is None or int(axis) != 0 or (op.type == "GatherV2" and op.get_attr("batch_dims")):
        raise NotFactorableError("Gather along another axis than the first")
    rows, *rest = op.inputs[0].shape.as_list()
    return TableTerm(op.inputs[1].name, op.outputs[0].name, rows, math.prod(rest))
