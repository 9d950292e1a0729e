"""A grid of small images, or of names where there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight_engines.pictures.theme import SMALL_POINTS, Theme, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY, _COLOUR = 1, 3
# Finer detail would not show, and images may be of any size.
_MOST_PIXELS = 128
_GAP = 0.06


def image_cells(examples: NDArray[Any]) -> NDArray[np.float64] | None:
    """Examples as images that can be shown beside each other.

    Args:
        examples: (examples, ...).

    Returns:
        (examples, height, width, 3) from 0 to 1, of one scale: the least number black and the greatest white. None if
        they are no images: not (height, width), with one or three channels behind or before.
    """
    shape = examples.shape[1:]
    values = examples.astype(np.float64)
    if len(shape) == 3 and shape[-1] not in (_GREY, _COLOUR) and shape[0] in (_GREY, _COLOUR):
        values = np.moveaxis(values, 1, -1)
    elif len(shape) == 2:
        values = values[..., np.newaxis]
    if values.ndim != 4 or values.shape[-1] not in (_GREY, _COLOUR) or min(values.shape[1:3]) < 2:
        return None
    step = max(1, -(-max(values.shape[1:3]) // _MOST_PIXELS))
    values = values[:, ::step, ::step]
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.broadcast_to(scaled, (*scaled.shape[:3], _COLOUR))


@dataclass(frozen=True)
class Grid:
    """Cells in rows and columns.

    Attributes:
        order: (rows, columns), which of the cells is where.
        cells: (cells, height, width, 3) from 0 to 1; None for names in their place.
        names: of the cells.
        colours: of what is not an image.
    """

    order: NDArray[np.int64]
    cells: NDArray[np.float64] | None
    names: list[str]
    colours: Theme

    def draw(self, axes: Axes, cell_units: float) -> None:
        """Draws the grid; cell (row, column) has its centre at (column, row).

        Args:
            axes: empty.
            cell_units: the width of a cell in layout units.
        """
        rows, columns = self.order.shape
        axes.set_facecolor(self.colours.ground)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(which="both", length=0)
        axes.set_xticks([])
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_aspect("equal")
        half = 0.5 - _GAP
        for row, column in np.ndindex(rows, columns):
            which = int(self.order[row, column])
            if self.cells is not None:
                axes.imshow(
                    self.cells[which],
                    extent=(column - half, column + half, row + half, row - half),
                    interpolation="nearest",
                )
            else:
                style = plain_text(max(SMALL_POINTS, min(12.0, cell_units / 4)), self.colours.text)
                axes.text(column, row, self.names[which], ha="center", va="center", **style)
        # imshow moves the limits to its own image.
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
