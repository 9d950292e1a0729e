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
from sidelight_engines.ops.registry import NodeForm, register
from sidelight_engines.runtime.runtime import Array

# Where output position x of n lies in an input of length m that is stretched by scale s.
_POSITIONS: dict[str, Callable[[Array, float, int, float], Array]] = {
    "half_pixel": lambda x, s, m, n: (x + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda x, s, m, n: (x + 0.5) / s - 0.5 if n > 1 else np.zeros_like(x),
    "asymmetric": lambda x, s, m, n: x / s,
    "align_corners": lambda x, s, m, n: x * (m - 1) / (n - 1) if n > 1 else np.zeros_like(x),
    "half_pixel_symmetric": lambda x, s, m, n: _symmetric(x, s, m, n),
}

_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _symmetric(x: Array, scale: float, length: int, target: float) -> Array:
    # The output is centred on the input when the scaled length was rounded.
    adjustment = target / (scale * length)
    offset = length / 2 * (1 - adjustment)
    shifted: Array = offset + (x + 0.5) / scale - 0.5
    return shifted


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
        # A size that is not known can only be one that stays.
        partial = op.partial(3)
        known = op.known(3, "list of sizes") if partial is None else partial
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
) -> dict[int, tuple[int, float, float]]:
    """Axis -> (new length, its exact scaled length, scale), of the axes that change."""
    lengths = op.input(0).shape.as_list()
    policy = op.attribute("keep_aspect_ratio_policy", "stretch")
    exact: dict[int, tuple[int, float, float]] = {}
    for position, axis in enumerate(axes):
        length = lengths[axis]
        if scales is not None:
            scale = scales[position]
            if scale != 1.0:
                exact[axis] = (math.floor(_length(length, axis) * scale), _length(length, axis) * scale, scale)
        elif sizes is not None and sizes[position] not in (-1, length):
            scale = sizes[position] / _length(length, axis)
            exact[axis] = (sizes[position], sizes[position], scale)
    if sizes is not None and policy != "stretch":
        ratios = [size / _length(lengths[axis], axis) for size, axis in zip(sizes, axes, strict=True)]
        scale = min(ratios) if policy == "not_larger" else max(ratios)
        exact = {axis: (math.floor(lengths[axis] * scale + 0.5), lengths[axis] * scale, scale) for axis in axes}
    return exact


def _length(length: int | None, axis: int) -> int:
    if length is None:
        raise RefusedFormError(f"the length of axis {axis}, which is resized, is not known before the model runs")
    return length


def _resized(op: LoweringContext, targets: dict[int, tuple[int, float, float]], mode: str, rounding: str) -> Tensor:
    tf, x = op.tf, op.input(0)
    kind = op.attribute("mode", "nearest")
    y = tf.identity(x)
    for axis, (new, exact, scale) in targets.items():
        old = x.shape.as_list()[axis]
        at = _POSITIONS[mode](np.arange(new, dtype=np.float64), scale, old, exact)
        if kind == "nearest":
            index = np.clip(_ROUNDINGS[rounding](at), 0, old - 1).astype(np.int64)
            y = tf.gather(y, index, axis=axis)
            continue
        weights = tf.constant(_weights(op, kind, at, old), y.dtype)
        moved = tf.tensordot(y, weights, axes=[[axis], [1]])
        order = list(range(y.shape.rank - 1))
        order.insert(axis, y.shape.rank - 1)
        y = tf.transpose(moved, order)
    return y


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
