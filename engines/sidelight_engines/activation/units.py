"""From the output of a layer to the activations of its units."""

from __future__ import annotations

import numpy as np

from sidelight_engines.activation.parameters import UnitPooling
from sidelight_engines.runtime.runtime import Array

_POSITIONS_AT_ONCE = 8
_LONG_ROW = 512


def pooled_units(values: Array, pooling: UnitPooling, channel_axis: int | None) -> Array:
    """The activation of each unit for each example.

    Args:
        values: (examples, ...), what a layer gave.
        pooling: how positions become units. A layer without positions, (examples, units), stays as it is.
        channel_axis: the axis that counts channels; None is the last.

    Returns:
        (examples, units), of a type that NumPy computes with.
    """
    if values.dtype.name == "bfloat16":
        values = values.astype(np.float32)
    count = len(values)
    if values.ndim <= 2 or pooling is UnitPooling.POSITION:
        return values.reshape(count, -1)
    axis = values.ndim - 1 if channel_axis is None else channel_axis
    # As (examples, channels, positions) or (examples, positions, channels): NumPy reduces one axis faster than many.
    if axis == 1:
        values, positions = values.reshape(count, values.shape[1], -1), 2
    elif axis == values.ndim - 1:
        values, positions = values.reshape(count, -1, values.shape[-1]), 1
    else:
        values, positions = np.moveaxis(values, axis, 1).reshape(count, values.shape[axis], -1), 2
    if pooling is UnitPooling.ANY:
        return _greatest(values, positions)
    mean: Array = values.mean(axis=positions)
    return mean


def _greatest(values: Array, axis: int) -> Array:
    """The greatest along an axis.

    NumPy takes short rows one after the other, which for 32 channels last is four times slower than for 512; so several
    positions are taken for one long row first.
    """
    if axis == 2 or values.shape[1] < 2 * _POSITIONS_AT_ONCE or values.shape[2] > _LONG_ROW:
        greatest: Array = values.max(axis=axis)
        return greatest
    count, positions, channels = values.shape
    whole = positions - positions % _POSITIONS_AT_ONCE
    rows = values[:, :whole].reshape(count, whole // _POSITIONS_AT_ONCE, _POSITIONS_AT_ONCE * channels)
    greatest = rows.max(axis=1).reshape(count, _POSITIONS_AT_ONCE, channels).max(axis=1)
    return greatest if whole == positions else np.maximum(greatest, values[:, whole:].max(axis=1))


def unit_shape(shape: tuple[int, ...], pooling: UnitPooling, channel_axis: int | None) -> tuple[int, ...]:
    """What the units of `pooled_units` are counted over.

    Args:
        shape: of the layer's output for one example.
        pooling: how positions become units.
        channel_axis: of the layer's output, its batch axis included; None is the last.
    """
    if not shape:
        return (1,)
    if len(shape) == 1 or pooling is UnitPooling.POSITION:
        return shape
    return (shape[-1 if channel_axis is None else channel_axis - 1],)


def comparable(thresholds: Array, dtype: np.dtype[np.generic]) -> Array:
    """Thresholds in the type of activations, so that comparing in it gives what comparing in float64 would.

    x > t holds for a floating-point x of any type just if x is above the greatest number of its type that is not
    above t.

    Args:
        thresholds: float64.
        dtype: the type of the activations.
    """
    if dtype.kind != "f" or dtype.itemsize >= 8:
        return thresholds
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(dtype)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.asarray(-np.inf, dtype)), rounded)
