"""Relevance beside the inputs it belongs to, as heatmaps."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sidelight_engines.pictures.diverging import diverging
from sidelight_engines.pictures.picture import Picture, PictureFormat, layout_width, new_figure, render
from sidelight_engines.pictures.theme import SMALL_POINTS, TITLE_POINTS, Theme, plain_text, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

_MARGIN = 14
_GAP = 10
# Between one instance and the next.
_WIDE_GAP = 26
_CAPTION = 17
_LEAST_PANEL = 72
_MOST_PANEL = 280
_LEGEND = 46
_LEGEND_WIDTH = 220
_TITLE_LINE = 21
_TITLE_CHARACTER = 9
_CHARACTER = 5.6
# Colours end here, so that one strong pixel does not fade all others.
_QUANTILE = 0.995
# Pictures with longer sides are thinned; no panel has more pixels to show.
_MOST_CELLS = 512
_CHANNELS = (1, 3, 4)
_FLAT_HEIGHT = 0.62


@dataclass(frozen=True)
class RelevanceMap:
    """One instance, its explanations, and what is said of them.

    Attributes:
        instance: the input, without a batch axis.
        relevance: (targets, ...input).
        captions: one per target, such as ``class 7: 12.3``.
        name: of the instance, such as ``instance 4``.
    """

    instance: Array
    relevance: Array
    captions: tuple[str, ...]
    name: str


def relevance_heatmaps(
    maps: Sequence[RelevanceMap],
    *,
    title: str,
    file_format: PictureFormat = "png",
    width_pixels: int = 960,
    dark: bool = False,
) -> Picture:
    """Draws each instance and beside it the relevance of its parts, one heatmap per target.

    Inputs of two axes, and of three with channels first or last, are drawn as images, whose relevance is summed over
    channels; all others as a row of bars. The colours of each heatmap end at the 99.5 % quantile of its |R|, which its
    caption says.

    Args:
        maps: at least one; all of one shape.
        title: of the picture.
        file_format: of the file.
        width_pixels: 160 to 4096; the height follows from the number of instances.
        dark: light on dark.

    Returns:
        The picture, named ``relevance``.

    Raises:
        InvalidField: the width is out of range.
    """
    width = layout_width(width_pixels)
    colours = theme(dark)
    shape = maps[0].instance.shape
    channels = channel_axis(shape)
    flat = len(shape) < 2 or channels == _NOT_AN_IMAGE
    panels = len(maps[0].relevance) + (0 if flat else 1)
    grid = _Grid.fit(width, len(maps), panels, _FLAT_HEIGHT if flat else _ratio(shape, channels))
    lines = textwrap.wrap(title, (width - 2 * _MARGIN) // _TITLE_CHARACTER)
    top = _MARGIN + len(lines) * _TITLE_LINE + 6
    height = round(top + grid.rows * grid.row_height + _LEGEND)
    figure = new_figure(width, height)
    figure.set_facecolor(colours.ground)
    # One coordinate system for the whole picture: matplotlib takes long over many axes.
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for line, text in enumerate(lines):
        style = plain_text(TITLE_POINTS, colours.text, fontweight="bold")
        axes.text(_MARGIN, _MARGIN + line * _TITLE_LINE, text, ha="left", va="top", **style)
    for position, item in enumerate(maps):
        x, y = grid.place(position)
        _draw_item(axes, item, x, top + y, grid, colours, channels=channels, flat=flat, dark=dark)
    _draw_legend(axes, height - _LEGEND + 12, colours, dark=dark)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("auto")
    return render(
        figure, "relevance", file_format=file_format, width_pixels=width_pixels, alternative_text=_in_words(maps, title)
    )


_NOT_AN_IMAGE = -2


def channel_axis(shape: tuple[int, ...]) -> int | None:
    """Which axis of an input without a batch holds channels: 0, 2, None for two axes, -2 where it is no image."""
    if len(shape) == 2:
        return None
    if len(shape) != 3:
        return _NOT_AN_IMAGE
    if shape[2] in _CHANNELS:
        return 2
    if shape[0] in _CHANNELS:
        return 0
    return 0 if shape[0] < shape[2] else 2


@dataclass(frozen=True)
class _Grid:
    """Where panels go, in units.

    Attributes:
        columns: instances beside each other.
        rows: of instances.
        panel_width: of the input, and of each heatmap.
        panel_height: of these.
        panels: per instance.
    """

    columns: int
    rows: int
    panel_width: float
    panel_height: float
    panels: int

    @property
    def item_width(self) -> float:
        """An instance with its explanations."""
        return self.panels * self.panel_width + (self.panels - 1) * _GAP

    @property
    def row_height(self) -> float:
        """An instance with what is written above and below, and the space to the next."""
        return self.panel_height + 2 * _CAPTION + 8

    @classmethod
    def fit(cls, width: int, items: int, panels: int, ratio: float) -> _Grid:
        room = width - 2 * _MARGIN
        columns = max(1, int((room + _WIDE_GAP) // (panels * (_LEAST_PANEL + _GAP) - _GAP + _WIDE_GAP)))
        # Rows that are filled evenly.
        rows = -(-items // columns)
        columns = -(-items // rows)
        each = (room - (columns - 1) * _WIDE_GAP) / columns
        panel = min((each - (panels - 1) * _GAP) / panels, _MOST_PANEL if ratio != _FLAT_HEIGHT else 2 * _MOST_PANEL)
        return cls(columns, rows, panel, panel * ratio, panels)

    def place(self, position: int) -> tuple[float, float]:
        """The upper left corner of an instance."""
        row, column = divmod(position, self.columns)
        return _MARGIN + column * (self.item_width + _WIDE_GAP), row * self.row_height


def _ratio(shape: tuple[int, ...], channels: int | None) -> float:
    high, wide = (length for axis, length in enumerate(shape) if axis != channels)
    # A long strip would leave nothing to see of the other axis.
    return float(min(max(high / wide, 0.25), 2.5))


def _draw_item(
    axes: Axes,
    item: RelevanceMap,
    x: float,
    y: float,
    grid: _Grid,
    colours: Theme,
    *,
    channels: int | None,
    flat: bool,
    dark: bool,
) -> None:
    quiet = plain_text(SMALL_POINTS, colours.quiet)
    strong = plain_text(SMALL_POINTS, colours.text)
    room = int(grid.panel_width / _CHARACTER)
    top = y + _CAPTION
    if not flat:
        axes.text(x, top - 4, _cut(item.name, room), ha="left", va="baseline", **strong)
        _image(axes, _as_picture(item.instance, channels), x, top, grid, colours)
        x += grid.panel_width + _GAP
    for relevance, caption in zip(item.relevance, item.captions, strict=True):
        said = f"{item.name}, {caption}" if flat else caption
        axes.text(x, top - 4, _cut(said, room), ha="left", va="baseline", **strong)
        summed = relevance.sum(axis=channels) if channels in (0, 2) and not flat else relevance
        end = colour_end(summed)
        if flat:
            _bars(axes, summed.ravel(), end, x, top, grid, colours, dark=dark)
        else:
            _image(axes, diverging(_thinned(summed) / end, dark=dark), x, top, grid, colours)
        axes.text(x, top + grid.panel_height + 4, _cut(f"± {end:.3g}", room), ha="left", va="top", **quiet)
        x += grid.panel_width + _GAP


def colour_end(relevance: Array) -> float:
    """The |R| at which colours end: the 99.5 % quantile, or the largest where that is 0; 1 where all is 0."""
    size = np.abs(relevance)
    return float(np.quantile(size, _QUANTILE)) or float(size.max()) or 1.0


def _image(axes: Axes, pixels: Array, x: float, y: float, grid: _Grid, colours: Theme) -> None:
    from matplotlib.patches import Rectangle

    extent = (x, x + grid.panel_width, y + grid.panel_height, y)
    axes.imshow(pixels, extent=extent, interpolation="nearest", aspect="auto", origin="upper")
    axes.add_patch(
        Rectangle((x, y), grid.panel_width, grid.panel_height, fill=False, edgecolor=colours.grid, linewidth=0.8)
    )


def _bars(
    axes: Axes, values: Array, end: float, x: float, y: float, grid: _Grid, colours: Theme, *, dark: bool
) -> None:
    """One bar per number, from the middle up or down."""
    from matplotlib.collections import LineCollection, PolyCollection

    middle, half = y + grid.panel_height / 2, grid.panel_height / 2
    step = grid.panel_width / len(values)
    share = np.clip(values / end, -1, 1)
    gap = 0.12 * step if step > 3 else 0.0
    corners = [
        [(left, middle), (left, middle - half * s), (right, middle - half * s), (right, middle)]
        for i, s in enumerate(share.tolist())
        for left, right in [(x + i * step + gap, x + (i + 1) * step - gap)]
    ]
    fills = diverging(np.where(share < 0, -1.0, 1.0), dark=dark) / 255
    axes.add_collection(PolyCollection(corners, facecolors=fills, linewidths=0), autolim=False)
    base = [[(x, middle), (x + grid.panel_width, middle)]]
    axes.add_collection(LineCollection(base, colors=[colours.quiet], linewidths=0.8), autolim=False)


def _as_picture(instance: Array, channels: int | None) -> Array:
    """An input as greys or colours, from its own least value to its greatest."""
    values = np.asarray(instance, np.float64)
    if channels == 0:
        values = np.moveaxis(values, 0, -1)
    if channels is not None:
        # The fourth channel of images is how opaque they are.
        values = values[..., :3] if values.shape[-1] in (3, 4) else values.mean(axis=-1)
    values = _thinned(values)
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
    grey = np.repeat(scaled[..., np.newaxis], 3, axis=-1) if scaled.ndim == 2 else scaled
    return np.asarray(np.rint(grey * 255), np.uint8)


def _thinned(values: Array) -> Array:
    """Means over blocks where there are more cells than pixels."""
    for axis in (0, 1):
        every = -(-values.shape[axis] // _MOST_CELLS)
        if every > 1:
            starts = np.arange(0, values.shape[axis], every)
            counts = np.diff(np.append(starts, values.shape[axis]))
            shape = [1] * values.ndim
            shape[axis] = -1
            values = np.add.reduceat(values, starts, axis=axis) / counts.reshape(shape)
    return values


def _draw_legend(axes: Axes, y: float, colours: Theme, *, dark: bool) -> None:
    scale = diverging(np.linspace(-1, 1, 201)[np.newaxis], dark=dark)
    x = float(_MARGIN)
    axes.imshow(scale, extent=(x, x + _LEGEND_WIDTH, y + 9, y), aspect="auto", origin="upper")
    style = plain_text(SMALL_POINTS, colours.quiet)
    for at, text, side in (
        (x, "speaks against", "left"),
        (x + _LEGEND_WIDTH / 2, "0", "center"),
        (x + _LEGEND_WIDTH, "speaks for", "right"),
    ):
        axes.text(at, y + 13, text, ha=side, va="top", **style)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(room - 1, 1)]}…"


def _in_words(maps: Sequence[RelevanceMap], title: str) -> str:
    said = "; ".join(
        f"{item.name}, {caption}: relevance {float(relevance.sum()):.4g} in all, "
        f"from {float(relevance.min()):.3g} to {float(relevance.max()):.3g}"
        for item in maps[:8]
        for relevance, caption in zip(item.relevance, item.captions, strict=True)
    )
    more = "; and so on" if len(maps) > 8 else ""
    return f"Heatmaps: {title}. {said}{more}."
