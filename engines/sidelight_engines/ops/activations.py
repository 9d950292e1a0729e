"""Activation functions."""

from __future__ import annotations

import numpy as np

from sidelight_engines.ops.context import LoweringContext, Tensor
from sidelight_engines.ops.registry import NodeForm, register

# The defaults in the ONNX schema, which are TensorFlow's in single precision.
_SELU_ALPHA = 1.67326319217681884765625
_SELU_GAMMA = 1.05070102214813232421875


@register("Relu", since=1, elementwise=True)
def relu(op: LoweringContext) -> Tensor:
    """max(x, 0)."""
    return op.tf.nn.relu(op.input(0))


@register("LeakyRelu", since=1, elementwise=True)
def leaky_relu(op: LoweringContext) -> Tensor:
    """X where positive, alpha x elsewhere."""
    return op.tf.nn.leaky_relu(op.input(0), op.attribute("alpha", 0.01))


@register("PRelu", since=1)
@register("PRelu", since=7, elementwise=True)
def prelu(op: LoweringContext) -> Tensor:
    """X where positive, slope x elsewhere; the slope broadcasts, before opset 7 one per channel."""
    x, slope = op.input(0), op.input(1)
    if op.form.opset < 7:
        slope = op.tf.reshape(slope, [-1] + [1] * (op.rank() - 2))
    return op.tf.where(x < 0, x * slope, x)


def _elu(op: LoweringContext, x: Tensor, alpha: float) -> Tensor:
    y = op.tf.nn.elu(x)
    return y if alpha == 1.0 else op.tf.where(x > 0, y, y * op.number(alpha, y))


@register("Elu", since=1, elementwise=True)
def elu(op: LoweringContext) -> Tensor:
    """X where positive, alpha (exp x - 1) elsewhere."""
    return _elu(op, op.input(0), op.attribute("alpha", 1.0))


@register("Selu", since=1, elementwise=True)
def selu(op: LoweringContext) -> Tensor:
    """Gamma times the exponential linear unit."""
    x = op.input(0)
    alpha, gamma = op.attribute("alpha", _SELU_ALPHA), op.attribute("gamma", _SELU_GAMMA)
    if np.allclose((alpha, gamma), (_SELU_ALPHA, _SELU_GAMMA), rtol=1e-7):
        return op.tf.nn.selu(x)
    return op.number(gamma, x) * _elu(op, x, alpha)


@register("Celu", since=12, elementwise=True)
def celu(op: LoweringContext) -> Tensor:
    """X where positive, alpha (exp(x / alpha) - 1) elsewhere."""
    x, alpha = op.input(0), op.attribute("alpha", 1.0)
    y = op.number(alpha, x) * op.tf.nn.elu(x / op.number(alpha, x))
    return op.tf.where(x > 0, x, y)


def _clip(op: LoweringContext, low: Tensor | None, high: Tensor | None) -> Tensor:
    y = op.input(0)
    if low is not None:
        y = op.tf.maximum(y, low)
    return y if high is None else op.tf.minimum(y, high)


@register("Clip", since=1, elementwise=True)
def clip_by_attributes(op: LoweringContext) -> Tensor:
    """Limits to the range that the attributes give."""
    low, high = op.attribute("min"), op.attribute("max")
    if low == 0.0 and high is None:
        return op.tf.nn.relu(op.input(0))
    if low == 0.0 and high == 6.0:
        return op.tf.nn.relu6(op.input(0))
    x = op.input(0)
    return _clip(op, None if low is None else op.number(low, x), None if high is None else op.number(high, x))


@register("Clip", since=11, elementwise=True)
def clip(op: LoweringContext) -> Tensor:
    """Limits to the range that the inputs give; a low above the high gives the high."""
    low, high = op.value(1), op.value(2)
    x = op.input(0)
    # The rectifiers by their own names: relevance propagation and readers know them.
    if x.dtype.is_floating and low is not None and low == 0:
        if op.optional(2) is None:
            return op.tf.nn.relu(x)
        if high is not None and high == 6:
            return op.tf.nn.relu6(x)
    return _clip(op, op.optional(1), op.optional(2))


@register("Sigmoid", since=1, elementwise=True)
def sigmoid(op: LoweringContext) -> Tensor:
    """The logistic function."""
    return op.tf.sigmoid(op.input(0))


@register("HardSigmoid", since=1, elementwise=True)
def hard_sigmoid(op: LoweringContext) -> Tensor:
    """Alpha x + beta, limited to [0, 1]."""
    x = op.input(0)
    line = op.number(op.attribute("alpha", 0.2), x) * x + op.number(op.attribute("beta", 0.5), x)
    return op.tf.clip_by_value(line, op.number(0, x), op.number(1, x))


@register("HardSwish", since=14, elementwise=True)
def hard_swish(op: LoweringContext) -> Tensor:
    """X times the hard sigmoid with slope 1/6."""
    x = op.input(0)
    line = x * op.number(1 / 6, x) + op.number(0.5, x)
    return x * op.tf.clip_by_value(line, op.number(0, x), op.number(1, x))


@register("Swish", since=24, elementwise=True)
def swish(op: LoweringContext) -> Tensor:
    """X times the logistic function of alpha x."""
    x = op.input(0)
    return x * op.tf.sigmoid(op.number(op.attribute("alpha", 1.0), x) * x)


@register("Tanh", since=1, elementwise=True)
def tanh(op: LoweringContext) -> Tensor:
    """Hyperbolic tangent."""
    return op.tf.tanh(op.input(0))


@register("Softplus", since=1, elementwise=True)
def softplus(op: LoweringContext) -> Tensor:
    """log(1 + exp x)."""
    return op.tf.nn.softplus(op.input(0))


@register("Softsign", since=1, elementwise=True)
def softsign(op: LoweringContext) -> Tensor:
    """X / (1 + |x|)."""
    return op.tf.nn.softsign(op.input(0))


@register("Mish", since=18, elementwise=True)
def mish(op: LoweringContext) -> Tensor:
    """X tanh(softplus x)."""
    x = op.input(0)
    return x * op.tf.tanh(op.tf.nn.softplus(x))


@register("Gelu", since=20, elementwise=True)
def gelu(op: LoweringContext) -> Tensor:
    """Gaussian error linear unit, exact or by tanh."""
    return op.tf.nn.gelu(op.input(0), approximate=op.attribute("approximate", "none") == "tanh")


@register("ThresholdedRelu", since=10, elementwise=True)
def thresholded_relu(op: LoweringContext) -> Tensor:
    """X where above alpha, 0 elsewhere."""
    x = op.input(0)
    return op.tf.where(x > op.number(op.attribute("alpha", 1.0), x), x, op.tf.zeros_like(x))


@register("Shrink", since=9, elementwise=True)
def shrink(op: LoweringContext) -> Tensor:
    """X moved towards 0 by the bias where |x| is above lambd, 0 elsewhere."""
    x = op.input(0)
    bias, lambd = op.number(op.attribute("bias", 0.0), x), op.number(op.attribute("lambd", 0.5), x)
    return op.tf.where(x < -lambd, x + bias, op.tf.where(x > lambd, x - bias, op.tf.zeros_like(x)))


def _along_flattened(op: LoweringContext, name: str) -> Tensor:
    """Before opset 13 the axes from `axis` on counted as one."""
    x, rank = op.input(0), op.rank()
    function = getattr(op.tf.nn, name)
    axis = op.axis(op.attribute("axis", 1), rank)
    if axis == rank - 1:
        return function(x)
    lengths = op.lengths(x)
    rows = op.reshape(x, [*lengths[:axis], op.tf.reduce_prod(op.tf.stack(lengths[axis:]))])
    return op.reshape(function(rows), lengths)


@register("Softmax", since=1)
def softmax_flattened(op: LoweringContext) -> Tensor:
    """Softmax over all axes from `axis` on."""
    return _along_flattened(op, "softmax")


@register("LogSoftmax", since=1)
def log_softmax_flattened(op: LoweringContext) -> Tensor:
    """Logarithm of the softmax over all axes from `axis` on."""
    return _along_flattened(op, "log_softmax")


@register("Softmax", since=13)
def softmax(op: LoweringContext) -> Tensor:
    """Softmax along one axis."""
    return op.tf.nn.softmax(op.input(0), axis=op.attribute("axis", -1))


@register("LogSoftmax", since=13)
def log_softmax(op: LoweringContext) -> Tensor:
    """Logarithm of the softmax along one axis."""
    return op.tf.nn.log_softmax(op.input(0), axis=op.attribute("axis", -1))


def _one_axis_hardmax(form: NodeForm) -> str | None:
    shape = form.type(0).shape
    axis = form.attributes.get("axis", 1)
    if shape is not None and axis not in (-1, len(shape) - 1):
        return "before opset 13 only the last axis is covered"
    return None


@register("Hardmax", since=1, check=_one_axis_hardmax)
@register("Hardmax", since=13)
def hardmax(op: LoweringContext) -> Tensor:
    """1 at the first maximum along an axis, 0 elsewhere."""
    x = op.input(0)
    axis = op.axis(op.attribute("axis", -1 if op.form.opset >= 13 else 1), op.rank())
    depth = op.lengths(x)[axis]
    return op.tf.one_hot(op.tf.argmax(x, axis), depth, axis=axis, dtype=x.dtype)
