"""Pooling over windows and over whole spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sidelight_engines.ops.context import LoweringContext, RefusedFormError, Tensor
from sidelight_engines.ops.layout import channels_first, channels_last, is_channels_first
from sidelight_engines.ops.registry import NodeForm, register
from sidelight_engines.ops.windows import (
    Windows,
    pad_spatial,
    padding_name,
    resolve_pads,
    windows_of,
)


def _covered_pool(form: NodeForm) -> str | None:
    n = len(form.attributes["kernel_shape"])
    if n > 3:
        return f"one to three spatial axes are covered, not {n}"
    if form.has_output(1):
        return "the second output (indices of the maxima) is not covered"
    shape = form.type(0).shape
    if form.attributes.get("ceil_mode", 0) and shape is not None and None in shape[2:]:
        return "ceil_mode needs spatial axes of fixed length"
    return None


@register("MaxPool", since=1, check=_covered_pool)
def max_pool(op: LoweringContext) -> Tensor:
    """The largest element of each window."""
    x, windows, pads, extra, lengths = _prepare(op)
    pads = _sum(pads, extra)
    name = padding_name(windows, pads, lengths)
    planar = len(windows.kernel) == 2
    if any(dilation > 1 for dilation in windows.dilations):
        y = _dilated(op, _padded_low(op, x, pads), windows, "MAX")
    elif planar and name is None:
        y = op.tf.nn.max_pool2d(x, windows.kernel, windows.strides, [[0, 0], *map(list, pads), [0, 0]])
    elif name is None:
        pool = op.tf.nn.max_pool3d
        y = pool(_padded_low(op, x, pads), windows.kernel, windows.strides, "VALID")
    else:
        pool = op.tf.nn.max_pool2d if planar else op.tf.nn.max_pool3d
        y = pool(x, windows.kernel, windows.strides, name)
    return _finish(op, y)


@register("AveragePool", since=1, check=_covered_pool)
def average_pool(op: LoweringContext) -> Tensor:
    """The mean of each window; padding counts as zeros, or not at all, as the attribute says."""
    x, windows, pads, extra, lengths = _prepare(op)
    counts_pads = bool(op.attribute("count_include_pad", 0))
    whole = _sum(pads, extra)
    name = padding_name(windows, whole, lengths)
    plain = all(dilation == 1 for dilation in windows.dilations)
    # TensorFlow's own padding does not count.
    if plain and (name == "VALID" or (name == "SAME" and not counts_pads)):
        return _finish(op, _average(op, x, windows, name))
    y = _average(op, pad_spatial(op, x, whole), windows, "VALID")
    if counts_pads and not any(map(any, extra)):
        return _finish(op, y)
    ones = op.tf.ones_like(x[:1, ..., :1])
    counted = pad_spatial(op, ones, pads, 1.0) if counts_pads else pad_spatial(op, ones, pads)
    share = _average(op, pad_spatial(op, counted, extra), windows, "VALID")
    return _finish(op, y / share)


@register("GlobalAveragePool", since=1)
def global_average_pool(op: LoweringContext) -> Tensor:
    """The mean over all spatial axes, which stay with length 1."""
    return _over_space(op, op.tf.reduce_mean)


@register("GlobalMaxPool", since=1)
def global_max_pool(op: LoweringContext) -> Tensor:
    """The largest element over all spatial axes, which stay with length 1."""
    return _over_space(op, op.tf.reduce_max)


def _over_space(op: LoweringContext, reduce: Callable[..., Tensor]) -> Tensor:
    x, rank = op.input(0), op.rank()
    if is_channels_first(op, x):
        return channels_first(op, reduce(channels_last(op, x), axis=list(range(1, rank - 1)), keepdims=True))
    return reduce(x, axis=list(range(2, rank)), keepdims=True)


Pads = tuple[tuple[int, int], ...]


def _prepare(op: LoweringContext) -> tuple[Tensor, Windows, Pads, Pads, list[int | None]]:
    """The channels-last input with at least two spatial axes, its windows, their pads, and ceil_mode's."""
    windows = windows_of(op, op.attribute("kernel_shape"))
    x = channels_last(op, op.input(0)) if op.rank() else op.input(0)
    lengths = x.shape.as_list()[1:-1]
    pads = resolve_pads(windows, lengths)
    extra = tuple((0, 0) for _ in pads)
    if op.attribute("ceil_mode", 0):
        extra = _ceil_pads(windows, pads, lengths)
    if len(windows.kernel) == 1:
        x, lengths = op.tf.expand_dims(x, 1), [1, *lengths]
        windows = Windows(
            (1, *windows.kernel),
            (1, *windows.strides),
            (1, *windows.dilations),
            ((0, 0), *windows.pads),
            windows.auto_pad,
        )
        pads, extra = ((0, 0), *pads), ((0, 0), *extra)
    return x, windows, pads, extra, lengths


def _ceil_pads(windows: Windows, pads: Pads, lengths: Sequence[int | None]) -> Pads:
    """What goes after each axis so that its last, incomplete window counts.

    A window that would start in the padding after the input is left out.
    """
    extra = []
    for length, (before, after), extent, stride in zip(lengths, pads, windows.extent, windows.strides, strict=True):
        if length is None:
            raise RefusedFormError("ceil_mode needs spatial axes of fixed length")
        span = length + before + after
        count = math.ceil((span - extent) / stride) + 1
        if (count - 1) * stride >= length + before:
            count -= 1
        extra.append((0, max((count - 1) * stride + extent - span, 0)))
    return tuple(extra)


def _sum(pads: Pads, extra: Pads) -> Pads:
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(pads, extra, strict=True))


def _padded_low(op: LoweringContext, x: Tensor, pads: Pads) -> Tensor:
    lowest = -math.inf if x.dtype.is_floating else x.dtype.min
    return pad_spatial(op, x, pads, lowest)


def _average(op: LoweringContext, x: Tensor, windows: Windows, padding: str) -> Tensor:
    if any(dilation > 1 for dilation in windows.dilations):
        return _dilated(op, x, windows, "AVG")
    pool = op.tf.nn.avg_pool2d if len(windows.kernel) == 2 else op.tf.nn.avg_pool3d
    return pool(x, windows.kernel, windows.strides, padding)


def _dilated(op: LoweringContext, x: Tensor, windows: Windows, kind: str) -> Tensor:
    # TensorFlow pools with a dilation or a stride, not both; a stride leaves windows out.
    y = op.tf.nn.pool(x, windows.kernel, kind, padding="VALID", dilations=windows.dilations)
    return y[(slice(None), *(slice(None, None, stride) for stride in windows.strides))]


def _finish(op: LoweringContext, y: Tensor) -> Tensor:
    if len(op.attribute("kernel_shape")) == 1:
        y = op.tf.squeeze(y, 1)
    return channels_first(op, y)
