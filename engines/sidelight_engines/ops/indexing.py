"""Operations that pick elements by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sidelight_engines.ops.context import LoweringContext, Tensor
from sidelight_engines.ops.registry import register

# Beyond these a bound means "to the end"; TensorFlow's constant bounds are 32-bit.
_FAR = 2**31 - 1


@register("Slice", since=1)
def slice_by_attribute(op: LoweringContext) -> Tensor:
    """Cuts out the range in the attributes."""
    starts, ends = op.attribute("starts"), op.attribute("ends")
    return _sliced(op, starts, ends, op.attribute("axes") or range(len(starts)), [1] * len(starts))


@register("Slice", since=10)
def slice_by_input(op: LoweringContext) -> Tensor:
    """Cuts out the range in the inputs, with steps that may be negative."""
    starts, ends = op.value(1), op.value(2)
    count = op.input(1).shape[0]
    axes = range(count) if op.optional(3) is None else [int(axis) for axis in op.known(3, "list of axes")]
    steps = [1] * len(axes) if op.optional(4) is None else [int(step) for step in op.known(4, "list of steps")]
    if starts is not None and ends is not None:
        return _sliced(op, starts.tolist(), ends.tolist(), axes, steps)
    return _sliced_by_tensors(op, axes, steps)


def _sliced(
    op: LoweringContext, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> Tensor:
    # NumPy's rules for slices, which are ONNX's: bounds count from the end if negative, and are clamped.
    cut: list[Any] = [slice(None)] * op.rank()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last = (None if abs(bound) >= _FAR else bound for bound in (start, end))
        cut[op.axis(axis, len(cut))] = slice(first, last, step)
    return op.input(0)[tuple(cut)]


def _sliced_by_tensors(op: LoweringContext, axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    tf, rank = op.tf, op.rank()
    starts, ends = tf.cast(op.input(1), "int64"), tf.cast(op.input(2), "int64")
    begin: list[Any] = [np.int64(0)] * rank
    end: list[Any] = [np.int64(0)] * rank
    stride = [1] * rank
    open_axes = set(range(rank))
    for position, (axis, step) in enumerate(zip(axes, steps, strict=True)):
        place = op.axis(axis, rank)
        open_axes.discard(place)
        begin[place], end[place], stride[place] = starts[position], ends[position], step
    mask = sum(1 << axis for axis in open_axes)
    return tf.strided_slice(
        op.input(0),
        tf.stack(begin),
        tf.stack(end),
        tf.constant(stride, "int64"),
        begin_mask=mask,
        end_mask=mask,
    )


def _counted_from_front(op: LoweringContext, indices: Tensor, known: Any, length: Any) -> Tensor:
    """Indices below 0 count from the end."""
    if known is not None and (isinstance(length, int) or np.all(known >= 0)):
        return op.tf.constant(np.where(known < 0, known + length, known) if np.any(known < 0) else known)
    return op.tf.where(indices < 0, indices + op.tf.cast(length, indices.dtype), indices)


@register("Gather", since=1)
def gather(op: LoweringContext) -> Tensor:
    """Picks slices along an axis."""
    x = op.input(0)
    axis = op.axis(op.attribute("axis", 0), op.rank())
    indices = op.input(1)
    if op.form.opset >= 11:
        indices = _counted_from_front(op, indices, op.value(1), op.lengths(x)[axis])
    return op.tf.gather(x, indices, axis=axis)


@register("GatherElements", since=11)
def gather_elements(op: LoweringContext) -> Tensor:
    """Picks single elements: the index along one axis comes from a tensor, the others are its own."""
    tf, x = op.tf, op.input(0)
    rank = op.rank()
    axis = op.axis(op.attribute("axis", 0), rank)
    indices = _counted_from_front(op, op.input(1), op.value(1), op.lengths(x)[axis])
    indices = tf.cast(indices, "int32")
    shape = tf.shape(indices)
    grid = [
        indices if a == axis else tf.broadcast_to(tf.reshape(tf.range(shape[a]), [-1] + [1] * (rank - a - 1)), shape)
        for a in range(rank)
    ]
    return tf.gather_nd(x, tf.stack(grid, axis=-1))


@register("GatherND", since=11)
def gather_nd(op: LoweringContext) -> Tensor:
    """Picks slices by tuples of indices."""
    return op.tf.gather_nd(op.input(0), op.input(1), batch_dims=op.attribute("batch_dims", 0))


@register("OneHot", since=9)
def one_hot(op: LoweringContext) -> Tensor:
    """One value at the place that an index names along a new axis, another elsewhere."""
    tf = op.tf
    indices, values = tf.cast(op.input(0), "int64"), op.input(2)
    depth = tf.cast(tf.reshape(op.input(1), []), "int64")
    inside = tf.where(indices < 0, indices + depth, indices)
    return tf.one_hot(
        inside,
        tf.cast(depth, "int32"),
        on_value=values[1],
        off_value=values[0],
        axis=op.axis(op.attribute("axis", -1), op.rank() + 1),
        dtype=values.dtype,
    )


@register("Trilu", since=14)
def triangle(op: LoweringContext) -> Tensor:
    """Keeps the upper or lower triangle of matrices, from the k-th diagonal on."""
    tf, x = op.tf, op.input(0)
    k = 0 if op.optional(1) is None else tf.cast(tf.reshape(op.input(1), []), "int32")
    lengths = op.lengths(x)
    rows, columns = tf.range(lengths[-2])[:, None], tf.range(lengths[-1])[None, :]
    kept = columns - rows >= k if op.attribute("upper", 1) else columns - rows <= k
    return tf.where(kept, x, tf.zeros_like(x))
