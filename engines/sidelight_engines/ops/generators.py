"""Operations that make tensors from attributes, shapes and scalars."""

from __future__ import annotations

import numpy as np
import onnx.numpy_helper

from sidelight_engines.ops.context import LoweringContext, Tensor
from sidelight_engines.ops.registry import NodeForm, register


def _numeric(form: NodeForm) -> str | None:
    if any(name in form.attributes for name in ("value_string", "value_strings", "sparse_value")):
        return "text and sparse tensors are not covered"
    return None


@register("Constant", since=1, check=_numeric)
def constant(op: LoweringContext) -> Tensor:
    """A tensor from an attribute."""
    (name, value), *_ = op.form.attributes.items()
    if name == "value":
        return op.tf.constant(onnx.numpy_helper.to_array(value))
    return op.tf.constant(value, "int64" if "int" in name else "float32")


@register("ConstantOfShape", since=9)
def constant_of_shape(op: LoweringContext) -> Tensor:
    """One value, repeated to a shape."""
    proto = op.attribute("value")
    value = np.zeros(1, np.float32) if proto is None else onnx.numpy_helper.to_array(proto)
    return op.tf.fill(op.tf.cast(op.input(0), "int64"), op.tf.constant(value.ravel()[0]))


@register("Shape", since=1)
def shape(op: LoweringContext) -> Tensor:
    """The shape, or from opset 15 on a range of it."""
    whole = op.tf.shape(op.input(0), out_type="int64")
    start, end = op.attribute("start", 0), op.attribute("end")
    return whole if start == 0 and end is None else whole[start:end]


@register("Size", since=1)
def size(op: LoweringContext) -> Tensor:
    """The number of elements."""
    return op.tf.size(op.input(0), out_type="int64")


@register("Range", since=11)
def range_(op: LoweringContext) -> Tensor:
    """Numbers from a start to below a limit by a step."""
    start, limit, delta = (op.tf.reshape(op.input(index), []) for index in range(3))
    return op.tf.range(start, limit, delta)


def _known_dtype(form: NodeForm) -> str | None:
    return (
        None if form.attributes.get("dtype", 1) in (1, 6, 7, 11) else "only float, double, int32 and int64 are covered"
    )


@register("EyeLike", since=9, check=_known_dtype)
def eye_like(op: LoweringContext) -> Tensor:
    """Ones on a diagonal, zeros elsewhere, in the shape of a matrix."""
    x = op.input(0)
    dtype = {1: "float32", 6: "int32", 7: "int64", 11: "float64", None: x.dtype}[op.attribute("dtype")]
    rows, columns = op.lengths(x)
    diagonal = op.tf.range(columns)[None, :] - op.tf.range(rows)[:, None]
    return op.tf.cast(op.tf.equal(diagonal, op.attribute("k", 0)), dtype)
