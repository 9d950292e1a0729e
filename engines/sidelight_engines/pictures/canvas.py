"""A figure that is laid out by hand: one surface in units, growing downwards from its upper left corner."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from sidelight_engines.pictures.picture import new_figure
from sidelight_engines.pictures.theme import TITLE_POINTS, Theme, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 16
TITLE_LINE = 20
_TITLE_CHARACTER = 9


def title_lines(title: str, width: int) -> list[str]:
    """A title as it fits."""
    return textwrap.wrap(title, max(10, (width - 2 * MARGIN) // _TITLE_CHARACTER))


def new_canvas(width: int, height: int, colours: Theme) -> tuple[Figure, Axes]:
    """An empty figure and its surface.

    Hundreds of small images on one surface take a tenth of the time that as many axes take.
    """
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    figure.set_facecolor(colours.ground)
    canvas = figure.add_axes((0, 0, 1, 1))
    canvas.set_axis_off()
    canvas.set_autoscale_on(False)
    canvas.set_xlim(0, width)
    canvas.set_ylim(height, 0)
    return figure, canvas


def write(canvas: Axes, x: float, y: float, text: str, points: float, colour: str, **more: object) -> None:
    """Writes a line of text whose upper edge is at `y`."""
    canvas.text(x, y, text, va="top", **plain_text(points, colour, **more))


def write_title(canvas: Axes, lines: list[str], colours: Theme) -> float:
    """Writes the title; where what is below it begins."""
    for number, line in enumerate(lines):
        write(canvas, MARGIN, MARGIN + number * TITLE_LINE, line, TITLE_POINTS, colours.text, fontweight="bold")
    return MARGIN + len(lines) * TITLE_LINE
