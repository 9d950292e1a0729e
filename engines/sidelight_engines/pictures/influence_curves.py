"""Mean predictions over taus, for the features that move them most."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sidelight_engines.pictures.influence_data import Floats, InfluenceDrawing
from sidelight_engines.pictures.picture import Picture, PictureFormat, layout_width, new_figure, render
from sidelight_engines.pictures.theme import (
    BODY_POINTS,
    SMALL_POINTS,
    TITLE_POINTS,
    Theme,
    dress_axes,
    plain_text,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_FEATURES = 6
_MOST_LABELS = 4
_COLUMNS = 3
_PANEL_UNITS = 210
_HEADER_UNITS = 92
# Lines differ in pattern and mark too, so that nothing hangs on hue.
_STYLES: tuple[tuple[str, Any, str], ...] = (
    ("accent", "solid", "o"),
    ("plain", (0, (5, 2)), "s"),
    ("text", (0, (1.2, 1.6)), "^"),
    ("quiet", (0, (6, 2, 1.2, 2)), "D"),
)
_FEW_AIMS = 12


def influence_curves(
    drawing: InfluenceDrawing, *, file_format: PictureFormat = "png", width_pixels: int = 960, dark: bool = False
) -> Picture:
    """Draws the mean prediction over taus or targets, a panel for each of the 6 features that move it most.

    A panel has the 4 labels that move most anywhere, each with a band: the confidence interval, or else one standard
    error to both sides. A hollow mark is a target that was not attained.

    Args:
        drawing: what to draw.
        file_format: of the file.
        width_pixels: 160 to 4096; the height follows from the number of features.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``influence-curves``.

    Raises:
        InvalidField: the width is out of range.
    """
    colours = theme(dark)
    width = layout_width(width_pixels)
    places = drawing.ranking()[:_MOST_FEATURES]
    spread = np.nan_to_num(np.ptp(np.nan_to_num(drawing.influences[places]), axis=1)).max(axis=0)
    labels = np.sort(np.argsort(-spread, kind="stable")[:_MOST_LABELS])
    columns = min(_COLUMNS, len(places))
    rows = math.ceil(len(places) / columns)
    figure = new_figure(width, _HEADER_UNITS + rows * _PANEL_UNITS)
    figure.set_facecolor(colours.ground)
    grid: Any = figure.subplots(rows, columns, squeeze=False, sharey=True)
    low, high = _band(drawing)
    for place, axes in enumerate(grid.flat):
        if place >= len(places):
            axes.set_visible(False)
            continue
        _draw_panel(axes, drawing, int(places[place]), labels.tolist(), low, high, colours)
    style = plain_text(BODY_POINTS, colours.quiet)
    figure.supylabel("mean prediction", **style)
    figure.supxlabel(
        "target mean of the feature"
        if drawing.absolute_targets
        else "tau: 0 the data as they are, 1 the mean at the high quantile",
        **style,
    )
    title = f"{drawing.titled('Mean prediction')} as a feature's mean moves"
    figure.suptitle(f"{title}\n", x=0.015, ha="left", **plain_text(TITLE_POINTS, colours.text, fontweight="bold"))
    _draw_legend(figure, grid[0, 0], drawing, labels.tolist(), colours)
    return render(
        figure,
        "influence-curves",
        file_format=file_format,
        width_pixels=width_pixels,
        alternative_text=_in_words(drawing, title, places.tolist(), labels.tolist()),
    )


def _band(drawing: InfluenceDrawing) -> tuple[Floats, Floats]:
    if drawing.low is not None and drawing.high is not None:
        return drawing.low, drawing.high
    return drawing.influences - drawing.standard_errors, drawing.influences + drawing.standard_errors


def _draw_panel(
    axes: Axes, drawing: InfluenceDrawing, place: int, labels: list[int], low: Floats, high: Floats, colours: Theme
) -> None:
    dress_axes(axes, colours, values_upwards=True)
    order = np.argsort(drawing.aims)
    aims = np.asarray(drawing.aims)[order]
    for (name, pattern, mark), label in zip(_STYLES, labels, strict=False):
        colour = getattr(colours, name)
        values = drawing.influences[place, order, label]
        axes.fill_between(
            aims, low[place, order, label], high[place, order, label], color=colour, alpha=0.18, linewidth=0
        )
        axes.plot(aims, values, color=colour, linestyle=pattern, linewidth=1.6)
        reached = drawing.attained[place, order]
        if len(aims) <= _FEW_AIMS:
            axes.plot(aims[reached], values[reached], mark, color=colour, markersize=4)
        axes.plot(
            aims[~reached], values[~reached], mark, markerfacecolor=colours.ground, markeredgecolor=colour, markersize=5
        )
    axes.locator_params(axis="x", nbins=5)
    axes.set_title(drawing.feature_name(place), loc="left", pad=4, **plain_text(BODY_POINTS, colours.text))
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set(fontfamily="DejaVu Sans")


def _draw_legend(figure: Any, axes: Axes, drawing: InfluenceDrawing, labels: list[int], colours: Theme) -> None:
    from matplotlib.lines import Line2D

    few = len(drawing.aims) <= _FEW_AIMS
    entries = [
        Line2D(
            [], [], color=getattr(colours, name), linestyle=pattern, linewidth=1.6, marker=mark if few else "",
            markersize=4, label=drawing.label_name(label),
        )
        for (name, pattern, mark), label in zip(_STYLES, labels, strict=False)
    ]  # fmt: skip
    if not drawing.attained.all():
        hollow: dict[str, Any] = {"markerfacecolor": colours.ground, "markeredgecolor": colours.quiet}
        entries.append(Line2D([], [], linestyle="", marker="o", markersize=5, label="not attained", **hollow))
    legend = figure.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=(0.008, 1 - 30 / (figure.get_size_inches()[1] * 96)),
        ncols=len(entries),
        frameon=False,
        handlelength=2.4,
        handletextpad=0.5,
        columnspacing=1.6,
    )
    legend.set_in_layout(False)
    for text in legend.get_texts():
        text.set(**plain_text(SMALL_POINTS, colours.quiet))


def _in_words(drawing: InfluenceDrawing, title: str, places: list[int], labels: list[int]) -> str:
    least, most = drawing.ends
    said = []
    for place in places:
        changes = ", ".join(
            f"{drawing.label_name(label)} from {drawing.influences[place, least, label]:.3g} "
            f"to {drawing.influences[place, most, label]:.3g}"
            for label in labels
        )
        said.append(f"{drawing.feature_name(place)}: {changes}")
    span = f"from {drawing.aim_word} {drawing.aims[least]:g} to {drawing.aims[most]:g}"
    return f"Line charts: {title}, {span}. {'; '.join(said)}."
