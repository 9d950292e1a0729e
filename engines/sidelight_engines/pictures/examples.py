"""Examples as small pictures: images as they are, everything else as a line over its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight_engines.pictures.theme import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CHANNELS = (1, 3, 4)
# An image has at least so many pixels along either side; less is a table of numbers.
_FEWEST_PIXELS = 4


def as_image(example: NDArray[Any]) -> NDArray[np.float64] | None:
    """An example as an image: (height, width) or (height, width, 3 or 4); None if it is none.

    Args:
        example: (height, width), or with 1, 3 or 4 channels at the end or at the beginning.
    """
    array = np.asarray(example, np.float64)
    if array.ndim == 3 and array.shape[-1] not in _CHANNELS and array.shape[0] in _CHANNELS:
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or min(array.shape[:2]) < _FEWEST_PIXELS:
        return None
    return array if array.ndim == 2 or array.shape[-1] in _CHANNELS else None


def value_range(examples: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """The least and greatest value of some examples, so that all are drawn on one scale."""
    finite = [np.asarray(example, np.float64)[np.isfinite(example)] for example in examples]
    known = [values for values in finite if values.size]
    if not known:
        return 0.0, 1.0
    low, high = min(float(v.min()) for v in known), max(float(v.max()) for v in known)
    return (low, high) if high > low else (low, low + 1.0)


def draw_example(
    canvas: Axes, example: NDArray[Any], box: tuple[float, float, float], limits: tuple[float, float], colours: Theme
) -> None:
    """Draws an example into a square.

    Args:
        canvas: axes in units, growing downwards.
        example: one example, without a batch axis.
        box: left edge, upper edge and side of the square.
        limits: the `value_range` of all that are drawn.
        colours: of lines.
    """
    left, top, side = box
    low, high = limits
    image = as_image(example)
    if image is not None:
        height, width = image.shape[:2]
        scale = side / max(height, width)
        x, y = left + (side - width * scale) / 2, top + (side - height * scale) / 2
        shown = np.clip((image - low) / (high - low), 0, 1)
        canvas.imshow(
            shown,
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=(x, x + width * scale, y + height * scale, y),
            interpolation="nearest",
            aspect="auto",
        )
        return
    values = np.asarray(example, np.float64).reshape(-1)
    places = left + side * (np.arange(len(values)) + 0.5) / len(values)
    heights = top + side * (1 - np.clip((values - low) / (high - low), 0, 1))
    canvas.plot(places, heights, color=colours.plain, linewidth=1.0, marker="." if len(values) < 20 else None)
