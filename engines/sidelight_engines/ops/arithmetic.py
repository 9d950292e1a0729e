"""Element-wise arithmetic, comparison and logic.

From opset 7 on operands broadcast as NumPy's do. Before, the second operand is stretched over the first only if
`broadcast` says so, and `axis` says where its axes lie among the first's (at the end by default).
"""

from __future__ import annotations

from collections.abc import Callable

from sidelight_engines.ops.context import LoweringContext, Tensor
from sidelight_engines.ops.registry import NodeForm, register

# ONNX op -> (first opset of this form, TensorFlow function), for functions of one tensor.
_UNARY = {
    "Abs": (1, "abs"),
    "Acos": (7, "acos"),
    "Acosh": (9, "acosh"),
    "Asin": (7, "asin"),
    "Asinh": (9, "asinh"),
    "Atan": (7, "atan"),
    "Atanh": (9, "atanh"),
    "Ceil": (1, "math.ceil"),
    "Cos": (7, "cos"),
    "Cosh": (9, "cosh"),
    "Erf": (9, "math.erf"),
    "Exp": (1, "exp"),
    "Floor": (1, "floor"),
    "IsNaN": (9, "math.is_nan"),
    "Log": (1, "math.log"),
    "Neg": (1, "negative"),
    "Not": (1, "logical_not"),
    "Reciprocal": (1, "math.reciprocal"),
    "Round": (11, "round"),
    "Sign": (9, "sign"),
    "Sin": (7, "sin"),
    "Sinh": (9, "sinh"),
    "Sqrt": (1, "sqrt"),
    "Tan": (7, "tan"),
}

# The same for functions of two tensors that broadcast.
_BINARY = {
    "Add": (7, "add"),
    "And": (7, "logical_and"),
    "Equal": (7, "equal"),
    "Greater": (7, "greater"),
    "GreaterOrEqual": (12, "greater_equal"),
    "Less": (7, "less"),
    "LessOrEqual": (12, "less_equal"),
    "Mul": (7, "multiply"),
    "Or": (7, "logical_or"),
    "Sub": (7, "subtract"),
    "Xor": (7, "math.logical_xor"),
}


def _placed(op: LoweringContext) -> Tensor:
    """The second operand with its axes where the form before opset 7 has them."""
    y, axis = op.input(1), op.attribute("axis")
    if not op.attribute("broadcast", 0) or axis is None:
        return y
    behind = op.rank(0) - op.axis(axis, op.rank(0)) - op.rank(1)
    return op.reshape(y, [*op.lengths(y), *[1] * behind])


def _function(op: LoweringContext, path: str) -> Callable[..., Tensor]:
    module, _, name = path.rpartition(".")
    found: Callable[..., Tensor] = getattr(getattr(op.tf, module) if module else op.tf, name)
    return found


def _register_simple() -> None:
    def unary(path: str) -> Callable[[LoweringContext], Tensor]:
        return lambda op: _function(op, path)(op.input(0))

    def binary(path: str) -> Callable[[LoweringContext], Tensor]:
        return lambda op: _function(op, path)(op.input(0), op.input(1))

    def placed(path: str) -> Callable[[LoweringContext], Tensor]:
        return lambda op: _function(op, path)(op.input(0), _placed(op))

    for name, (since, path) in _UNARY.items():
        register(name, since=since, elementwise=True)(unary(path))
    for name, (since, path) in _BINARY.items():
        register(name, since=since, elementwise=True)(binary(path))
        if since == 7:
            register(name, since=1)(placed(path))


_register_simple()


@register("Div", since=1)
@register("Div", since=7, elementwise=True)
def divide(op: LoweringContext) -> Tensor:
    """Quotient; whole numbers round towards zero."""
    x, y = op.input(0), op.input(1) if op.form.opset >= 7 else _placed(op)
    return op.tf.truncatediv(x, y) if x.dtype.is_integer else op.tf.divide(x, y)


@register("Mod", since=10)
def modulo(op: LoweringContext) -> Tensor:
    """Remainder with the sign of the divisor, or of the dividend if fmod."""
    x, y = op.input(0), op.input(1)
    if not op.attribute("fmod", 0):
        return op.tf.math.floormod(x, y)
    if x.dtype.is_floating and x.dtype.size < 4:
        # TensorFlow has it for single and double precision only.
        return op.tf.cast(op.tf.truncatemod(op.tf.cast(x, "float32"), op.tf.cast(y, "float32")), x.dtype)
    return op.tf.truncatemod(x, y)


@register("Pow", since=1)
@register("Pow", since=7, elementwise=True)
def power(op: LoweringContext) -> Tensor:
    """Power; the exponent may be of another dtype than the base."""
    base, exponent = op.input(0), op.input(1) if op.form.opset >= 7 else _placed(op)
    if base.dtype.is_integer and exponent.dtype.is_floating:
        return op.tf.cast(op.tf.pow(op.tf.cast(base, exponent.dtype), exponent), base.dtype)
    return op.tf.pow(base, op.tf.cast(exponent, base.dtype))


def _accumulate(op: LoweringContext, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    result, *rest = op.inputs()
    for tensor in rest:
        result = function(result, tensor)
    return result if rest else op.tf.identity(result)


@register("Sum", since=1, elementwise=True)
def total(op: LoweringContext) -> Tensor:
    """Sum of any number of tensors."""
    return _accumulate(op, op.tf.add)


@register("Mean", since=1, elementwise=True)
def mean(op: LoweringContext) -> Tensor:
    """Mean of any number of tensors."""
    summed = _accumulate(op, op.tf.add)
    return summed / op.number(len(op.tensors), summed)


@register("Max", since=1, elementwise=True)
def maximum(op: LoweringContext) -> Tensor:
    """Largest of any number of tensors."""
    return _accumulate(op, op.tf.maximum)


@register("Min", since=1, elementwise=True)
def minimum(op: LoweringContext) -> Tensor:
    """Smallest of any number of tensors."""
    return _accumulate(op, op.tf.minimum)


@register("IsInf", since=10)
def is_infinite(op: LoweringContext) -> Tensor:
    """Whether an element is an infinity of a wanted sign."""
    x = op.input(0)
    found = op.tf.math.is_inf(x)
    if not op.attribute("detect_positive", 1):
        found = op.tf.logical_and(found, x < 0)
    if not op.attribute("detect_negative", 1):
        found = op.tf.logical_and(found, x > 0)
    return found


@register("Where", since=9)
def where(op: LoweringContext) -> Tensor:
    """One tensor where a condition holds, another elsewhere; all three broadcast."""
    return op.tf.where(op.input(0), op.input(1), op.input(2))


def _to_numbers(form: NodeForm) -> str | None:
    # The 8-bit floats and smaller types have saturation rules of their own.
    return None if form.attributes.get("to") in DTYPES else "casts to text and to small types are not covered"


# TensorProto.DataType -> TensorFlow dtype.
DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}


@register("Cast", since=6, check=_to_numbers, elementwise=True)
def cast(op: LoweringContext) -> Tensor:
    """Converts to another dtype; real numbers round towards zero."""
    x = op.input(0)
    dtype = DTYPES[op.attribute("to")]
    # A cast to the same dtype would hand back the tensor itself, and two ONNX values need two tensors.
    return op.tf.identity(x) if x.dtype.name == dtype else op.tf.cast(x, dtype)


@register("CastLike", since=15)
def cast_like(op: LoweringContext) -> Tensor:
    """Converts to the dtype of another tensor."""
    x, dtype = op.input(0), op.input(1).dtype
    return op.tf.identity(x) if x.dtype == dtype else op.tf.cast(x, dtype)
