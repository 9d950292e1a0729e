"""Colours and type of all pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Theme:
    """Colours, as matplotlib reads them.

    `plain` and `accent` are a blue and an orange that differ for every kind of colour vision, and in
    lightness; what is accented is also said in words.

    Attributes:
        ground: behind everything.
        text: of titles and values.
        quiet: of notes, axes and names of axes.
        grid: of the lines that guide the eye.
        plain: of most marks.
        accent: of the mark that matters most.
    """

    ground: str
    text: str
    quiet: str
    grid: str
    plain: str
    accent: str


LIGHT = Theme(ground="#ffffff", text="#1b2027", quiet="#59626e", grid="#e3e7ec", plain="#7594bd", accent="#c8500a")
DARK = Theme(ground="#13171d", text="#eef1f5", quiet="#a3adba", grid="#2b333d", plain="#5f86ba", accent="#ff9a47")

# In points of 1/72 inch, which are 4/3 of a layout unit.
TITLE_POINTS = 12.0
BODY_POINTS = 9.0
SMALL_POINTS = 7.5


def theme(dark: bool) -> Theme:
    """The theme for light text on a dark ground, or the other."""
    return DARK if dark else LIGHT


def plain_text(points: float, color: str, **more: Any) -> dict[str, Any]:
    """Text properties. The font is the one that comes with matplotlib, so a picture looks alike everywhere.

    A name from a model file may hold dollar signs, which would be taken for mathematics.
    """
    return {"fontsize": points, "color": color, "fontfamily": "DejaVu Sans", "parse_math": False, **more}


def dress_axes(axes: Axes, colours: Theme, *, values_upwards: bool) -> None:
    """Leaves of the axes what helps to read values: the base line and faint lines across."""
    axes.set_facecolor(colours.ground)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y" if values_upwards else "x", color=colours.grid, linewidth=0.8)
    base = "bottom" if values_upwards else "left"
    for side, spine in axes.spines.items():
        spine.set_visible(side == base)
        spine.set_color(colours.quiet)
        spine.set_linewidth(0.8)
    axes.tick_params(which="both", length=0, labelsize=SMALL_POINTS, labelcolor=colours.quiet)
