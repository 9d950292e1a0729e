"""Resizing by interpolation.

Interpolation is linear in the input and separable: along each axis the output is a matrix of weights times the
input. The matrices are made here, with NumPy; shapes and scales must be known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sidelight_engines.ops.context import LoweringContext, RefusedFormError, Tensor
from sidelight_engines.ops.layout import channels_first, channels_last
from sidelight_engines.ops.registry import NodeForm, register
from sidelight_engines.runtime.runtime import Array

# Where output position x of an axis that is resized from length m by scale s lies in the input.
_POSITIONS: dict[str, Callable[[Array, float, int], Array]] = {
    "half_pixel": lambda x, s, m: (x + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda x, s, m: (x + 0.5) / s - 0.5 if m * s > 1 else np.zeros_like(x),
    "asymmetric": lambda x, s, m: x / s,
    "align_corners": lambda x, s, m: x * (m - 1) / (m * s - 1) if m * s > 1 else np.zeros_like(x),
    # Centred on the input where the scaled length was rounded.
    "half_pixel_symmetric": lambda x, s, m: m / 2 * (1 - len(x) / (m * s)) + (x + 0.5) / s - 0.5,
}

# What TensorFlow calls the modes that it has.
_BILINEAR = {
    "align_corners": {"align_corners": True},
    "asymmetric": {},
    "half_pixel": {"half_pixel_centers": True},
}

_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _plain_interpolation(form: NodeForm) -> str | None:
    a = form.attributes
    if a.get("antialias", 0):
        return "antialias is not covered"
    if a.get("coordinate_transformation_mode", "half_pixel") not in _POSITIONS:
        return f"coordinate_transformation_mode {a['coordinate_transformation_mode']!r} is not covered"
    return None


@register("Upsample", since=7)
@register("Upsample", since=9)
def upsample(op: LoweringContext) -> Tensor:
    """Stretches by scales, from the corner on."""
    scales = op.attribute("scales")
    scales = [float(scale) for scale in (op.known(1, "list of scales") if scales is None else scales)]
    return _resized(op, _targets(op, scales, None, range(len(scales))), "asymmetric", "floor")


@register("Resize", since=10)
def resize_from_corner(op: LoweringContext) -> Tensor:
    """Stretches by scales, from the corner on."""
    scales = [float(scale) for scale in op.known(1, "list of scales")]
    return _resized(op, _targets(op, scales, None, range(len(scales))), "asymmetric", "floor")


@register("Resize", since=11, check=_plain_interpolation)
@register("Resize", since=19, check=_plain_interpolation)
def resize(op: LoweringContext) -> Tensor:
    """Stretches by scales or to sizes."""
    axes = [op.axis(axis, op.rank()) for axis in op.attribute("axes") or range(op.rank())]
    scales: list[float] | None = None
    sizes: list[int] | None = None
    if op.optional(3) is not None:
        partial = op.partial(3)
        known = op.known(3, "list of sizes") if partial is None else partial
        if any(size is None for size in known[1:]):
            raise RefusedFormError("the sizes are computed; only constants are covered")
        sizes = [-1 if size is None else int(size) for size in known]
    else:
        scales = [float(scale) for scale in op.known(2, "list of scales")]
    targets = _targets(op, scales, sizes, axes)
    return _resized(
        op,
        targets,
        op.attribute("coordinate_transformation_mode", "half_pixel"),
        op.attribute("nearest_mode", "round_prefer_floor"),
    )


def _targets(
    op: LoweringContext, scales: list[float] | None, sizes: list[int] | None, axes: Any
) -> dict[int, tuple[int, float]]:
    """Axis -> (new length, scale), of the axes that change."""
    lengths = op.input(0).shape.as_list()
    targets: dict[int, tuple[int, float]] = {}
    if scales is not None:
        for axis, scale in zip(axes, scales, strict=True):
            if scale != 1.0:
                targets[axis] = (math.floor(_length(lengths[axis], axis) * scale), scale)
        return targets
    # The batch, whose length is free here whatever the file says, stays.
    wanted = {
        axis: size for axis, size in zip(axes, sizes or [], strict=True) if not (axis == 0 and lengths[0] is None)
    }
    ratios = {axis: size / _length(lengths[axis], axis) for axis, size in wanted.items()}
    policy = op.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return {axis: (size, ratios[axis]) for axis, size in wanted.items() if ratios[axis] != 1.0}
    scale = min(ratios.values()) if policy == "not_larger" else max(ratios.values())
    return {axis: (math.floor(lengths[axis] * scale + 0.5), scale) for axis in wanted}


def _length(length: int | None, axis: int) -> int:
    if length is None:
        raise RefusedFormError(f"the length of axis {axis}, which is resized, is not known before the model runs")
    return length


def _resized(op: LoweringContext, targets: dict[int, tuple[int, float]], mode: str, rounding: str) -> Tensor:
    tf, x = op.tf, op.input(0)
    kind = op.attribute("mode", "nearest")
    if kind == "linear" and _is_bilinear(x, targets, mode):
        return _bilinear(op, targets, mode)
    y = tf.identity(x)
    for axis, (new, scale) in targets.items():
        old = x.shape.as_list()[axis]
        at = _POSITIONS[mode](np.arange(new, dtype=np.float64), scale, old)
        if kind == "nearest":
            index = np.clip(_ROUNDINGS[rounding](at), 0, old - 1).astype(np.int64)
            y = tf.gather(y, index, axis=axis)
            continue
        weights = tf.constant(_weights(op, kind, at, old), y.dtype)
        last = [*(other for other in range(y.shape.rank) if other != axis), axis]
        moved = tf.matmul(tf.transpose(y, last), weights, transpose_b=True)
        y = tf.transpose(moved, np.argsort(last))
    return y


def _is_bilinear(x: Tensor, targets: dict[int, tuple[int, float]], mode: str) -> bool:
    """Whether TensorFlow has an operation that does the same, which relevance propagation knows as interpolation."""
    if x.shape.rank != 4 or x.dtype != "float32" or not targets or set(targets) - {2, 3}:
        return False
    lengths = x.shape.as_list()
    return mode in _BILINEAR and all(new == lengths[axis] * scale for axis, (new, scale) in targets.items())


def _bilinear(op: LoweringContext, targets: dict[int, tuple[int, float]], mode: str) -> Tensor:
    x = op.input(0)
    size = [targets[axis][0] if axis in targets else x.shape[axis] for axis in (2, 3)]
    y = op.tf.raw_ops.ResizeBilinear(images=channels_last(op, x), size=size, **_BILINEAR[mode])
    return channels_first(op, y)


def _weights(op: LoweringContext, kind: str, at: Array, length: int) -> Array:
    """The interpolation matrix, (new length, old length), for positions in the old axis."""
    base = np.floor(at).astype(int)
    offset = at - base
    if kind == "cubic":
        a = op.attribute("cubic_coeff_a", -0.75)
        taps = [(shift, _cubic(np.abs(offset - shift), a)) for shift in (-1, 0, 1, 2)]
    else:
        taps = [(0, 1 - offset), (1, offset)]
    matrix = np.zeros((len(at), length))
    rows = np.arange(len(at))
    for shift, weight in taps:
        column = base + shift
        inside = (column >= 0) & (column < length)
        kept = np.where(inside, weight, 0.0) if op.attribute("exclude_outside", 0) else weight
        np.add.at(matrix, (rows, np.clip(column, 0, length - 1)), kept)
    return matrix / matrix.sum(axis=1, keepdims=True) if op.attribute("exclude_outside", 0) else matrix


def _cubic(distance: Array, a: float) -> Array:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    weights: Array = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    return weights
