"""Colours for numbers of both signs: blue below zero, orange above, the ground at zero.

The ends are equally far from the ground in lightness, so that equal sizes look equal whatever their sign, and blue and
orange differ for every kind of colour vision. Colours between are mixed in Oklab (B. Ottosson, "A perceptual color
space for image processing", 2020), where equal steps look equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Lightness, and the axes green-red and blue-yellow, in Oklab.
_LIGHT = {"below": (0.50, -0.045, -0.150), "zero": (1.0, 0.0, 0.0), "above": (0.50, 0.115, 0.095)}
_DARK = {"below": (0.80, -0.055, -0.085), "zero": (0.20, -0.002, -0.010), "above": (0.80, 0.050, 0.120)}

_TO_CONE = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def diverging(values: Array, *, dark: bool = False) -> Array:
    """The colours of numbers.

    Args:
        values: any shape, from -1 to 1; what is beyond takes the colour of the end.
        dark: for a dark ground.

    Returns:
        uint8, (*shape, 3): red, green, blue.
    """
    ends = _DARK if dark else _LIGHT
    share = np.clip(np.asarray(values, np.float64), -1, 1)[..., np.newaxis]
    zero, below, above = (np.array(ends[name]) for name in ("zero", "below", "above"))
    lab = zero + np.where(share < 0, -share * (below - zero), share * (above - zero))
    linear = np.clip((lab @ _TO_CONE.T) ** 3 @ _TO_RGB.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: Array = np.rint(encoded * 255).astype(np.uint8)
    return colours


def hex_colour(value: float, *, dark: bool = False) -> str:
    """The colour of one number, as ``#rrggbb``."""
    red, green, blue = diverging(np.asarray(value), dark=dark).tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"
