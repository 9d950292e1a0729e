"""Influence of the pixels of an image: a map per label, and per metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sidelight_engines.pictures.influence_data import Floats, InfluenceDrawing, split_channels
from sidelight_engines.pictures.picture import Picture, PictureFormat, layout_width, new_figure, render
from sidelight_engines.pictures.theme import BODY_POINTS, SMALL_POINTS, TITLE_POINTS, Theme, plain_text, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_PANELS = 60
_MOST_CHANNELS = 4
_COLUMNS = 5
_HEADER_UNITS = 62
_NAME_UNITS = 26
_SCALE_UNITS = 58
_IN_WORDS = 10


@dataclass(frozen=True)
class _Panel:
    """A map.

    Attributes:
        name: above it.
        values: (rows, columns); NaN for pixels that were not asked for.
        limit: the value of the strongest colour.
    """

    name: str
    values: Floats
    limit: float


def influence_heatmaps(
    drawing: InfluenceDrawing, *, file_format: PictureFormat = "png", width_pixels: int = 960, dark: bool = False
) -> Picture:
    """Draws a map per label: the mean prediction with each pixel bright less that with it dark.

    Labels share one scale, so that they can be compared; metrics follow, each on a scale of its own. Up to 4 channels
    get maps of their own, more are added up. Of more than 60 maps, those with the greatest differences are drawn.

    Args:
        drawing: an image, with at least two taus or targets; the least and the greatest are compared.
        file_format: of the file.
        width_pixels: 160 to 4096; the height follows from the number of labels.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``influence-heatmaps``.

    Raises:
        InvalidField: the width is out of range.
    """
    colours = theme(dark)
    differences = drawing.differences
    limit = _limit(differences)
    panels = []
    for label in range(differences.shape[1]):
        panels += _maps(drawing, drawing.label_name(label), differences[:, label], limit)
    left_out = max(0, len(panels) - _MOST_PANELS)
    if left_out:
        order = np.argsort([-np.nanmax(np.abs(panel.values), initial=0) for panel in panels], kind="stable")
        panels = [panels[place] for place in sorted(order[:_MOST_PANELS])]
    # A label's channels stay side by side.
    channels = len(panels) // differences.shape[1] if not left_out else 1
    columns = min(channels * max(1, _COLUMNS // channels), len(panels) + len(drawing.metric_names))
    least, most = drawing.ends
    for place, name in enumerate(drawing.metric_names):
        change = drawing.performances[:, most, place] - drawing.performances[:, least, place]
        panels += _maps(drawing, f"{name}, ±{_limit(change):.2g}", change, _limit(change))
    rows = math.ceil(len(panels) / columns)
    width = layout_width(width_pixels)
    tall, wide = panels[0].values.shape
    height = round(_HEADER_UNITS + rows * (width / columns * min(2.0, tall / wide) * 0.92 + _NAME_UNITS) + _SCALE_UNITS)
    figure = new_figure(width, height)
    figure.set_facecolor(colours.ground)
    grid: Any = figure.subplots(rows, columns, squeeze=False)
    image: Any = None
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        shown = _draw_map(axes, panels[place], colours)
        image = shown if image is None else image
    title = drawing.titled("Influence of each pixel")
    note = f"mean prediction at {drawing.compared}" + (f"; {left_out} fainter maps left out" if left_out else "")
    figure.suptitle(f"{title}\n", x=0.015, ha="left", **plain_text(TITLE_POINTS, colours.text, fontweight="bold"))
    figure.text(0.015, 1 - 34 / height, note, va="top", in_layout=False, **plain_text(BODY_POINTS, colours.quiet))
    bar = figure.colorbar(image, ax=list(grid.flat), location="bottom", shrink=0.5, aspect=40, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_ticks([-limit, 0, limit], labels=[f"-{limit:.2g}", "0", f"+{limit:.2g}"])
    bar.ax.tick_params(length=0)
    for text in bar.ax.get_xticklabels():
        text.set(**plain_text(SMALL_POINTS, colours.quiet))
    words = _in_words(drawing, title)
    return render(
        figure, "influence-heatmaps", file_format=file_format, width_pixels=width_pixels, alternative_text=words
    )


def _maps(drawing: InfluenceDrawing, name: str, values: Floats, limit: float) -> list[_Panel]:
    """The maps of one label, one per channel."""
    flat = np.full(math.prod(drawing.example_shape), np.nan)
    flat[drawing.features] = values
    image = flat.reshape(drawing.example_shape)
    row, column, channel = split_channels(drawing.example_shape)
    if channel < 0:
        return [_Panel(name, image, limit)]
    stacked = image.transpose(channel, row, column)
    if len(stacked) == 1:
        return [_Panel(name, stacked[0], limit)]
    if len(stacked) > _MOST_CHANNELS:
        nothing = np.isnan(stacked).all(axis=0)
        return [_Panel(f"{name}, channels added", np.where(nothing, np.nan, np.nansum(stacked, axis=0)), limit)]
    return [_Panel(f"{name}, channel {place}", part, limit) for place, part in enumerate(stacked)]


def _draw_map(axes: Axes, panel: _Panel, colours: Theme) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    # Blue and orange differ for every kind of colour vision; nothing at all is the ground itself.
    shades = LinearSegmentedColormap.from_list("influence", [colours.plain, colours.ground, colours.accent])
    axes.set_title(panel.name, pad=4, **plain_text(SMALL_POINTS, colours.text))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colours.grid)
        spine.set_linewidth(0.8)
    return axes.imshow(
        np.ma.masked_invalid(panel.values),
        cmap=shades.with_extremes(bad=colours.grid),
        vmin=-panel.limit,
        vmax=panel.limit,
        interpolation="nearest",
    )


def _limit(values: Floats) -> float:
    greatest = float(np.nanmax(np.abs(values), initial=0.0))
    return greatest if greatest > 0 else 1.0


def _in_words(drawing: InfluenceDrawing, title: str) -> str:
    differences = drawing.differences
    said = []
    for label in range(min(_IN_WORDS, differences.shape[1])):
        values = np.nan_to_num(differences[:, label])
        up, down = int(values.argmax()), int(values.argmin())
        said.append(
            f"{drawing.label_name(label)}: up by {values[up]:.2g} at {drawing.feature_name(up)}, "
            f"down by {-values[down]:.2g} at {drawing.feature_name(down)}"
        )
    more = "" if differences.shape[1] <= _IN_WORDS else f"; {differences.shape[1] - _IN_WORDS} more labels"
    return f"Heatmaps: {title}, mean prediction at {drawing.compared}. {'; '.join(said)}{more}."
