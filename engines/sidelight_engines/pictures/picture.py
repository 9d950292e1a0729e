"""What a picture is, and how a figure becomes one."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sidelight_engines.errors import InvalidField

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PictureFormat = Literal["png", "svg"]

MIN_WIDTH_PIXELS = 160
MAX_WIDTH_PIXELS = 4096

# Layouts are made in units of a CSS pixel, 96 to the inch. Between these widths a picture has one
# unit per pixel; a smaller one is a thumbnail of the smallest, a larger one the largest with finer
# detail, so that text keeps its proportion to the picture.
UNITS_PER_INCH = 96
_MIN_UNITS = 480
_MAX_UNITS = 960
_MARGIN_UNITS = 14


@dataclass(frozen=True)
class Picture:
    """A picture of a result.

    Attributes:
        name: what it shows, such as ``linearity-by-layer``.
        format: of the file.
        data: the file.
        width_pixels: its width.
        height_pixels: its height.
        alternative_text: what it shows, in words.
    """

    name: str
    format: PictureFormat
    data: bytes
    width_pixels: int
    height_pixels: int
    alternative_text: str


def layout_width(width_pixels: int) -> int:
    """The width to lay a picture out in, in units.

    Raises:
        InvalidField: the picture would be too small to show anything, or too large to be useful.
    """
    if not MIN_WIDTH_PIXELS <= width_pixels <= MAX_WIDTH_PIXELS:
        raise InvalidField(
            "render.width_pixels",
            f"{width_pixels} is out of range",
            f"give {MIN_WIDTH_PIXELS} to {MAX_WIDTH_PIXELS}",
        )
    return min(max(width_pixels, _MIN_UNITS), _MAX_UNITS)


def new_figure(width_units: int, height_units: int) -> Figure:
    """An empty figure of a size in units, that arranges its parts by itself."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    margin = _MARGIN_UNITS / UNITS_PER_INCH
    return Figure(
        figsize=(width_units / UNITS_PER_INCH, height_units / UNITS_PER_INCH),
        dpi=UNITS_PER_INCH,
        layout=ConstrainedLayoutEngine(h_pad=margin, w_pad=margin),
    )


def render(
    figure: Figure, name: str, *, file_format: PictureFormat, width_pixels: int, alternative_text: str
) -> Picture:
    """Writes a figure as a file.

    Args:
        figure: from `new_figure`.
        name: what it shows.
        file_format: of the file.
        width_pixels: the width of the picture; the height follows from the shape of the figure.
        alternative_text: what it shows, in words.
    """
    width_inches, height_inches = figure.get_size_inches()
    height_pixels = round(width_pixels * height_inches / width_inches)
    buffer = io.BytesIO()
    if file_format == "svg":
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": alternative_text})
        data = _sized(buffer.getvalue(), width_pixels, height_pixels)
    else:
        # The canvas cuts off fractions of a pixel, and a product of floats may fall just short.
        figure.set_size_inches(width_inches, (height_pixels + 1e-6) * width_inches / width_pixels)
        dpi = (width_pixels + 1e-6) / width_inches
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Description": alternative_text})
        data = buffer.getvalue()
    return Picture(name, file_format, data, width_pixels, height_pixels, alternative_text)


def _sized(svg: bytes, width_pixels: int, height_pixels: int) -> bytes:
    """Gives an SVG file a size in pixels, where matplotlib writes points; the view box stays."""
    size = f'width="{width_pixels}" height="{height_pixels}"'
    return re.sub(rb'width="[\d.]+pt" height="[\d.]+pt"', size.encode(), svg, count=1)
