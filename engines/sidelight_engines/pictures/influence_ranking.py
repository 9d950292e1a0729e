"""The features that move predictions most, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sidelight_engines.pictures.influence_data import InfluenceDrawing
from sidelight_engines.pictures.picture import Picture, PictureFormat, layout_width, new_figure, render
from sidelight_engines.pictures.theme import (
    BODY_POINTS,
    SMALL_POINTS,
    TITLE_POINTS,
    dress_axes,
    plain_text,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BARS = 20
_LINE_UNITS = 24
_BESIDE_UNITS = 118
_LONGEST_NAME = 28


def influence_ranking(
    drawing: InfluenceDrawing, *, file_format: PictureFormat = "png", width_pixels: int = 960, dark: bool = False
) -> Picture:
    """Draws a bar for each of the 20 features that move a label's mean prediction most, greatest first.

    Args:
        drawing: what to draw; the least and the greatest tau or target are compared.
        file_format: of the file.
        width_pixels: 160 to 4096; the height follows from the number of features.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``influence-ranking``.

    Raises:
        InvalidField: the width is out of range.
    """
    colours = theme(dark)
    width = layout_width(width_pixels)
    differences = np.nan_to_num(drawing.differences)
    places = drawing.ranking()[:_MOST_BARS]
    labels = np.abs(differences[places]).argmax(axis=1)
    values = differences[places, labels]
    names = [_shortened(drawing.feature_name(int(place))) for place in places]
    figure = new_figure(width, _BESIDE_UNITS + _LINE_UNITS * len(places))
    figure.set_facecolor(colours.ground)
    axes = figure.add_subplot()
    dress_axes(axes, colours, values_upwards=False)
    axes.spines["left"].set_visible(False)
    rows = np.arange(len(places))
    axes.barh(rows, values, height=0.72, color=[colours.accent if v > 0 else colours.plain for v in values])
    axes.axvline(0, color=colours.quiet, linewidth=0.8)
    axes.set_yticks(rows, names)
    for text in axes.get_yticklabels():
        text.set(**plain_text(SMALL_POINTS, colours.text))
    # Room for the words beside bars, on the side that has none of them.
    end = max(float(np.abs(values).max(initial=0.0)), 1e-12)
    low, high = (min(0.0, float(values.min(initial=0.0))), max(0.0, float(values.max(initial=0.0))))
    axes.set_xlim(low - (end * 0.36 if low < 0 else 0), high + (end * 0.36 if high > 0 else end * 0.02))
    axes.set_ylim(len(places) - 0.4, -0.6)
    _say_labels(axes, drawing, labels.tolist(), values.tolist(), end, colours.text)
    axes.set_xlabel(
        f"change of the mean prediction, {drawing.compared}", labelpad=8, **plain_text(BODY_POINTS, colours.quiet)
    )
    title = drawing.titled("Features by influence")
    axes.set_title(title, loc="left", pad=12, **plain_text(TITLE_POINTS, colours.text, fontweight="bold"))
    said = ", ".join(
        f"{name} {value:+.2g} for {drawing.label_name(int(label))}"
        for name, value, label in zip(names, values, labels, strict=True)
    )
    what = f"change of the mean prediction, {drawing.compared}, of the label that changes most"
    words = f"Bar chart: {title}, {what}. {said}."
    return render(
        figure, "influence-ranking", file_format=file_format, width_pixels=width_pixels, alternative_text=words
    )


def _say_labels(
    axes: Axes, drawing: InfluenceDrawing, labels: list[int], values: list[float], end: float, colour: str
) -> None:
    for row, (label, value) in enumerate(zip(labels, values, strict=True)):
        words = f"{value:+.2g}  {_shortened(drawing.label_name(label))}"
        style = plain_text(SMALL_POINTS, colour)
        side = "left" if value >= 0 else "right"
        axes.text(
            value + (0.01 if value >= 0 else -0.01) * end, row, words, ha=side, va="center_baseline", in_layout=False,
            **style,
        )  # fmt: skip


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
