"""Operations that rearrange, join, cut and repeat without computing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sidelight_engines.ops.context import LoweringContext, RefusedFormError, Tensor
from sidelight_engines.ops.layout import channels_first, channels_last, is_channels_first
from sidelight_engines.ops.registry import NodeForm, register


@register("Flatten", since=1)
def flatten(op: LoweringContext) -> Tensor:
    """To a matrix: the axes before `axis` become rows, the others columns."""
    x, rank = op.input(0), op.rank()
    axis = op.attribute("axis", 1)
    axis = axis + rank if axis < 0 else axis
    lengths = op.lengths(x)
    return op.reshape(x, [_product(op, lengths[:axis]), _product(op, lengths[axis:])])


def _product(op: LoweringContext, lengths: Sequence[Any]) -> Any:
    if all(isinstance(length, int) for length in lengths):
        return math.prod(lengths)
    return op.tf.reduce_prod(op.tf.stack(lengths))


@register("Reshape", since=1)
def reshape_by_attribute(op: LoweringContext) -> Tensor:
    """To the shape in the attribute."""
    return _reshaped(op, np.asarray(op.attribute("shape"), dtype=object))


@register("Reshape", since=5)
def reshape(op: LoweringContext) -> Tensor:
    """To the shape in the second input, where 0 copies a length (unless allowzero) and -1 is what is left."""
    wanted = op.partial(1)
    if wanted is not None:
        return _reshaped(op, wanted)
    return op.tf.reshape(op.input(0), op.input(1))


def _reshaped(op: LoweringContext, wanted: Any) -> Tensor:
    x = op.input(0)
    # Lengths of which nothing is known are positive: 0 and -1 are written by an exporter, not computed.
    copies = [i for i, length in enumerate(wanted) if length == 0 and not op.attribute("allowzero", 0)]
    old = op.lengths(x) if copies else []
    if copies and max(copies) >= len(old):
        raise RefusedFormError(f"the shape {list(wanted)} copies an axis that the input does not have")
    lengths: list[Any] = []
    for i, length in enumerate(wanted):
        if i in copies:
            lengths.append(old[i])
        else:
            lengths.append(op.tf.cast(op.input(1)[i], "int32") if length is None else int(length))
    return op.reshape(x, lengths)


def _axes(op: LoweringContext, by_input: bool) -> list[int] | None:
    if not by_input:
        axes: list[int] | None = op.attribute("axes")
        return axes
    if op.optional(1) is None:
        return None
    return [int(axis) for axis in op.known(1, "list of axes").ravel()]


def _squeezed(op: LoweringContext, axes: list[int] | None) -> Tensor:
    return op.tf.squeeze(op.input(0), axis=axes)


@register("Squeeze", since=1)
def squeeze_by_attribute(op: LoweringContext) -> Tensor:
    """Drops axes of length 1, all or those in the attribute."""
    return _squeezed(op, _axes(op, by_input=False))


@register("Squeeze", since=13)
def squeeze(op: LoweringContext) -> Tensor:
    """Drops axes of length 1, all or those in the second input."""
    return _squeezed(op, _axes(op, by_input=True))


def _unsqueezed(op: LoweringContext, axes: list[int] | None) -> Tensor:
    x = op.input(0)
    axes = axes or []
    rank = op.rank() + len(axes)
    for axis in sorted(op.axis(axis, rank) for axis in axes):
        x = op.tf.expand_dims(x, axis)
    return x


@register("Unsqueeze", since=1)
def unsqueeze_by_attribute(op: LoweringContext) -> Tensor:
    """Inserts axes of length 1 at the places in the attribute."""
    return _unsqueezed(op, _axes(op, by_input=False))


@register("Unsqueeze", since=13)
def unsqueeze(op: LoweringContext) -> Tensor:
    """Inserts axes of length 1 at the places in the second input."""
    return _unsqueezed(op, _axes(op, by_input=True))


@register("Transpose", since=1)
def transpose(op: LoweringContext) -> Tensor:
    """Permutes the axes; reverses them by default."""
    return op.tf.transpose(op.input(0), op.attribute("perm"))


@register("Concat", since=1)
def concat(op: LoweringContext) -> Tensor:
    """Joins along an axis."""
    tensors, axis = op.inputs(), op.attribute("axis", 1)
    if axis == 1 and all(is_channels_first(op, tensor) for tensor in tensors):
        return channels_first(op, op.tf.concat([channels_last(op, tensor) for tensor in tensors], axis=-1))
    return op.tf.concat(tensors, axis=axis)


def _split(op: LoweringContext, sizes: Sequence[int] | None) -> tuple[Tensor, ...]:
    x = op.input(0)
    axis = op.axis(op.attribute("axis", 0), op.rank())
    parts = op.attribute("num_outputs", len(op.form.outputs))
    if sizes is not None:
        return tuple(op.tf.split(x, [int(size) for size in sizes], axis=axis))
    length = x.shape[axis]
    if length is not None and length % parts == 0:
        return tuple(op.tf.split(x, parts, axis=axis))
    # From opset 18 on the last part may be shorter.
    whole = op.lengths(x)[axis]
    size = -(-whole // parts)
    starts = op.tf.range(parts) * size
    return tuple(op.tf.split(x, op.tf.clip_by_value(whole - starts, 0, size), axis=axis, num=parts))


@register("Split", since=2)
def split_by_attribute(op: LoweringContext) -> tuple[Tensor, ...]:
    """Cuts along an axis into parts of the sizes in the attribute, or into equal ones."""
    return _split(op, op.attribute("split"))


@register("Split", since=13)
def split(op: LoweringContext) -> tuple[Tensor, ...]:
    """Cuts along an axis into parts of the sizes in the second input, or into equal ones."""
    return _split(op, None if op.optional(1) is None else op.known(1, "list of sizes").tolist())


@register("Expand", since=8)
def expand(op: LoweringContext) -> Tensor:
    """Broadcasts to a shape, in which 1 keeps the input's length."""
    tf, x, wanted = op.tf, op.input(0), op.value(1)
    if wanted is not None and None not in x.shape.as_list():
        return tf.broadcast_to(x, np.broadcast_shapes(tuple(x.shape), tuple(int(n) for n in wanted)))
    partial = op.partial(1)
    if partial is not None and x.shape.num_elements() == 1 and x.shape.rank <= len(partial):
        # A fill: of its lengths those that are known stay known.
        given = op.input(1)
        lengths = [op.tf.cast(given[i], "int32") if n is None else int(n) for i, n in enumerate(partial)]
        return tf.broadcast_to(x, tf.stack(lengths))
    return tf.broadcast_to(x, tf.broadcast_dynamic_shape(tf.shape(x, "int64"), tf.cast(op.input(1), "int64")))


@register("Tile", since=6)
def tile(op: LoweringContext) -> Tensor:
    """Repeats along each axis."""
    return op.tf.tile(op.input(0), op.input(1))


@register("Identity", since=1, elementwise=True)
def identity(op: LoweringContext) -> Tensor:
    """The same."""
    return op.tf.identity(op.input(0))


def _inference_dropout(form: NodeForm) -> str | None:
    mode = form.constant(2)
    if form.has_input(2) and (mode is None or bool(mode)):
        return "dropout in training mode is random and is not covered; export for inference"
    return None


def _dropout_before_7(form: NodeForm) -> str | None:
    return None if form.attributes.get("is_test", 0) else "is_test=0, the training form, is not covered"


@register("Dropout", since=1, check=_dropout_before_7)
@register("Dropout", since=7)
@register("Dropout", since=12, check=_inference_dropout)
def dropout(op: LoweringContext) -> tuple[Tensor, ...]:
    """The same, and a mask that keeps everything."""
    x = op.input(0)
    return op.tf.identity(x), op.tf.ones_like(x, dtype="bool")


def _blocks(op: LoweringContext) -> tuple[Tensor, list[Any], int]:
    x = op.input(0)
    lengths = op.lengths(x)
    if len(lengths) != 4:
        raise RefusedFormError(f"four axes are covered, not {len(lengths)}")
    return x, lengths, op.attribute("blocksize")


@register("DepthToSpace", since=1)
def depth_to_space(op: LoweringContext) -> Tensor:
    """Moves blocks of channels into space; DCR takes them depth first, CRD column and row first."""
    x, (n, c, h, w), b = _blocks(op)
    depth = c // (b * b)
    if op.attribute("mode", "DCR") == "DCR":
        y = op.tf.transpose(op.reshape(x, [n, b, b, depth, h, w]), [0, 3, 4, 1, 5, 2])
    else:
        y = op.tf.transpose(op.reshape(x, [n, depth, b, b, h, w]), [0, 1, 4, 2, 5, 3])
    return op.reshape(y, [n, depth, h * b, w * b])


@register("SpaceToDepth", since=1)
def space_to_depth(op: LoweringContext) -> Tensor:
    """Moves blocks of space into channels; DCR puts the places in a block first, CRD the old channels."""
    x, (n, c, h, w), b = _blocks(op)
    order = [0, 3, 5, 1, 2, 4] if op.attribute("mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    y = op.tf.transpose(op.reshape(x, [n, c, h // b, b, w // b, b]), order)
    return op.reshape(y, [n, c * b * b, h // b, w // b])


def _pad(op: LoweringContext, pads: Sequence[int], value: Tensor | None, axes: Sequence[int] | None) -> Tensor:
    tf, x, rank = op.tf, op.input(0), op.rank()
    half = len(pads) // 2
    axes = range(half) if axes is None else [op.axis(axis, rank) for axis in axes]
    amounts = [(0, 0)] * rank
    for axis, before, after in zip(axes, pads[:half], pads[half:], strict=True):
        amounts[axis] = (before, after)
    mode = op.attribute("mode", "constant")
    if mode != "constant":
        return _pad_by_index(op, x, amounts, mode)
    if any(amount < 0 for pair in amounts for amount in pair):
        # A negative amount cuts off.
        cut = [slice(max(-before, 0), after if after < 0 else None) for before, after in amounts]
        x = x[tuple(cut)]
        amounts = [(max(before, 0), max(after, 0)) for before, after in amounts]
    return tf.pad(x, amounts, constant_values=op.number(0, x) if value is None else tf.reshape(value, []))


def _pad_by_index(op: LoweringContext, x: Tensor, amounts: Sequence[tuple[int, int]], mode: str) -> Tensor:
    tf = op.tf
    for axis, (before, after) in enumerate(amounts):
        if before == 0 and after == 0:
            continue
        length = op.lengths(x)[axis]
        at = tf.range(-before, length + after)
        match mode:
            case "edge":
                at = tf.clip_by_value(at, 0, length - 1)
            case "wrap":
                at = tf.math.floormod(at, length)
            case "reflect":
                # Back and forth between the ends, which are not repeated.
                period = tf.maximum(2 * (length - 1), 1)
                at = tf.math.floormod(at, period)
                at = tf.minimum(at, period - at)
            case _:
                raise RefusedFormError(f"mode {mode!r} is not one of ONNX's")
        x = tf.gather(x, at, axis=axis)
    return x


@register("Pad", since=2)
def pad_by_attribute(op: LoweringContext) -> Tensor:
    """Pads by the amounts in the attribute."""
    return _pad(op, op.attribute("pads"), op.number(op.attribute("value", 0.0), op.input(0)), None)


@register("Pad", since=11)
def pad(op: LoweringContext) -> Tensor:
    """Pads by the amounts in the second input."""
    axes = None if op.optional(3) is None else [int(axis) for axis in op.known(3, "list of axes")]
    return _pad(op, [int(n) for n in op.known(1, "list of amounts")], op.optional(2), axes)
