"""Normalisation over batches, layers, groups and neighbourhoods; at inference."""

from __future__ import annotations

from collections.abc import Sequence

from sidelight_engines.ops.context import LoweringContext, Tensor
from sidelight_engines.ops.layout import channels_first, channels_last, is_channels_first
from sidelight_engines.ops.registry import NodeForm, register


def _at_inference(form: NodeForm) -> str | None:
    if form.attributes.get("training_mode", 0) or any(form.has_output(i) for i in range(1, 5)):
        return "the training form, which makes statistics of the batch, is not covered; export for inference"
    if not form.attributes.get("spatial", 1):
        return "spatial=0 is not covered"
    return None


def _at_inference_before_7(form: NodeForm) -> str | None:
    # The outputs behind the first are mere copies there.
    if not form.attributes.get("is_test", 0):
        return "is_test=0, the training form, is not covered; export for inference"
    return None if form.attributes.get("spatial", 1) else "spatial=0 is not covered"


@register("BatchNormalization", since=1, check=_at_inference_before_7)
@register("BatchNormalization", since=7, check=_at_inference)
def batch_normalization(op: LoweringContext) -> Tensor:
    """Scale (x - mean) / sqrt(variance + epsilon) + offset, per channel, by constants: one product, one sum."""
    x = op.input(0)
    scale, offset, mean, variance = (op.input(index) for index in range(1, 5))
    factor = scale * op.tf.math.rsqrt(variance + op.number(op.attribute("epsilon", 1e-5), variance))
    shift = offset - mean * factor
    last = is_channels_first(op, x)
    if last:
        x = channels_last(op, x)
    elif op.rank() > 2:
        per_channel = [-1] + [1] * (op.rank() - 2)
        factor, shift = op.tf.reshape(factor, per_channel), op.tf.reshape(shift, per_channel)
    y = op.tf.cast(op.tf.cast(x, factor.dtype) * factor + shift, x.dtype)
    return channels_first(op, y) if last else y


def _standardised(op: LoweringContext, x: Tensor, axes: Sequence[int], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + epsilon), the mean, and the factor, over some axes."""
    mean = op.tf.reduce_mean(x, axis=axes, keepdims=True)
    centred = x - mean
    variance = op.tf.reduce_mean(op.tf.square(centred), axis=axes, keepdims=True)
    factor = op.tf.math.rsqrt(variance + op.number(epsilon, x))
    return centred * factor, mean, factor


@register("InstanceNormalization", since=1)
def instance_normalization(op: LoweringContext) -> Tensor:
    """Standardises each channel of each instance, then scales and shifts by channel."""
    x, rank = op.input(0), op.rank()
    y, _, _ = _standardised(op, x, list(range(2, rank)), op.attribute("epsilon", 1e-5))
    per_channel = [-1] + [1] * (rank - 2)
    return y * op.tf.reshape(op.input(1), per_channel) + op.tf.reshape(op.input(2), per_channel)


@register("LayerNormalization", since=17)
def layer_normalization(op: LoweringContext) -> tuple[Tensor, ...]:
    """Standardises over the axes from `axis` on, then scales and shifts; also gives mean and factor."""
    x, rank = op.input(0), op.rank()
    axes = list(range(op.axis(op.attribute("axis", -1), rank), rank))
    # stash_type 1: statistics in single precision, whatever the input's.
    wide = op.tf.cast(x, "float32") if op.attribute("stash_type", 1) == 1 and x.dtype.size < 4 else x
    y, mean, factor = _standardised(op, wide, axes, op.attribute("epsilon", 1e-5))
    y = op.tf.cast(y, x.dtype) * op.input(1)
    bias = op.optional(2)
    return (y if bias is None else y + bias), mean, factor


@register("RMSNormalization", since=23)
def rms_normalization(op: LoweringContext) -> Tensor:
    """Divides by the root of the mean square over the axes from `axis` on, then scales."""
    x, rank = op.input(0), op.rank()
    axes = list(range(op.axis(op.attribute("axis", -1), rank), rank))
    wide = op.tf.cast(x, "float32") if op.attribute("stash_type", 1) == 1 and x.dtype.size < 4 else x
    square = op.tf.reduce_mean(op.tf.square(wide), axis=axes, keepdims=True)
    factor = op.tf.math.rsqrt(square + op.number(op.attribute("epsilon", 1e-5), wide))
    return op.tf.cast(wide * factor, x.dtype) * op.input(1)


@register("GroupNormalization", since=18)
@register("GroupNormalization", since=21)
def group_normalization(op: LoweringContext) -> Tensor:
    """Standardises groups of channels; scale and shift are per group before opset 21, per channel from it on."""
    x = op.input(0)
    lengths = op.lengths(x)
    groups = op.attribute("num_groups")
    grouped = op.reshape(x, [lengths[0], groups, lengths[1] // groups, *lengths[2:]])
    rank = op.rank() + 1
    y, _, _ = _standardised(op, grouped, list(range(2, rank)), op.attribute("epsilon", 1e-5))
    scale, shift = op.input(1), op.input(2)
    if op.form.opset < 21:
        per_group = [-1] + [1] * (rank - 2)
        y = y * op.tf.reshape(scale, per_group) + op.tf.reshape(shift, per_group)
        return op.reshape(y, lengths)
    per_channel = [-1] + [1] * (op.rank() - 2)
    return op.reshape(y, lengths) * op.tf.reshape(scale, per_channel) + op.tf.reshape(shift, per_channel)


@register("MeanVarianceNormalization", since=9)
def mean_variance_normalization(op: LoweringContext) -> Tensor:
    """Standardises over the given axes, by default all but the channels."""
    y, _, _ = _standardised(op, op.input(0), op.attribute("axes", [0, 2, 3]), 1e-9)
    return y


@register("LpNormalization", since=1)
def lp_normalization(op: LoweringContext) -> Tensor:
    """Divides by the 1- or 2-norm along an axis; where that is zero the result is zero."""
    tf, x, axis = op.tf, op.input(0), op.attribute("axis", -1)
    if op.attribute("p", 2) == 1:
        norm = tf.reduce_sum(tf.abs(x), axis=axis, keepdims=True)
    else:
        norm = root(op, tf.reduce_sum(tf.square(x), axis=axis, keepdims=True))
    return tf.math.divide_no_nan(x, norm)


def root(op: LoweringContext, square: Tensor) -> Tensor:
    """The square root, with derivative 0 instead of infinity where it is 0."""
    zero = op.tf.equal(square, op.number(0, square))
    safe = op.tf.where(zero, op.tf.ones_like(square), square)
    return op.tf.where(zero, op.tf.zeros_like(square), op.tf.sqrt(safe))


@register("LRN", since=1)
def local_response_normalization(op: LoweringContext) -> Tensor:
    """Divides by (bias + alpha / size * sum of squares over `size` neighbouring channels) ** beta."""
    tf, x, size = op.tf, op.input(0), op.attribute("size")
    before = (size - 1) // 2
    channels = op.lengths(x)[1]
    pads = [(0, 0)] * op.rank()
    pads[1] = (before, size - 1 - before)
    padded = tf.pad(tf.square(x), pads)
    total = tf.add_n([padded[:, start : start + channels] for start in range(size)])
    scale = op.number(op.attribute("alpha", 1e-4) / size, x)
    return x / tf.pow(op.number(op.attribute("bias", 1.0), x) + scale * total, op.number(op.attribute("beta", 0.75), x))
