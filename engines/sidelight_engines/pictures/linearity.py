"""The linearity of a model layer by layer, as a bar chart."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

# Upright bars need this many units each for a slanted name; with less, the bars lie, one per line.
_SLOT_UNITS = 22
_LINE_UNITS = 17
# Room for values above upright bars: "0.0274" in small type.
_VALUE_UNITS = 40
_FEWEST_SLOTS = 6
# Beside (or above and below) the bars: names and values of axes, margins, title.
_BESIDE_UNITS = 110
_CHARACTER_UNITS = 6.2
_TITLE_CHARACTER_UNITS = 9
# Beyond this many times the width, lines get closer and not every layer is named.
_TALLEST = 4
_LONGEST_NAME = 28
_MOST_IN_WORDS = 24


@dataclass(frozen=True)
class _Bars:
    """What is drawn, one entry per bar.

    Attributes:
        names: of the layers, shortened.
        means: lengths of the bars.
        low: lower ends of the whiskers, or None.
        high: upper ends of the whiskers, or None.
        notes: why a bar has no length; empty for one that has.
        output: the position of the output, or None.
    """

    names: list[str]
    means: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None
    notes: list[str]
    output: int | None

    @property
    def tops(self) -> NDArray[np.float64]:
        """Where the highest mark of each bar ends."""
        return self.means if self.high is None else np.maximum(self.means, self.high)


def linearity_by_layer(
    names: Sequence[str],
    means: ArrayLike,
    *,
    output_index: int | None,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    whiskers: str = "confidence interval",
    zero_reasons: Sequence[str] | None = None,
    title: str,
    file_format: PictureFormat = "png",
    width_pixels: int = 960,
    dark: bool = False,
) -> Picture:
    """Draws one bar per layer.

    Args:
        names: of the layers, in order of evaluation; at least one.
        means: (layers,), the mean L of each layer, at least 0.
        output_index: which of them is the model's output; None if none is.
        low: (layers,), lower ends of the whiskers; None for no whiskers.
        high: (layers,), upper ends of the whiskers.
        whiskers: what the whiskers are.
        zero_reasons: for each layer why its L is 0, such as ``affine`` or ``below noise``; empty for
            no reason, and not shown where the mean is not 0.
        title: of the picture.
        file_format: of the file.
        width_pixels: 160 to 4096; the height follows from the number of layers.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``linearity-by-layer``.

    Raises:
        InvalidField: the width is out of range.
    """
    values = np.asarray(means, dtype=np.float64)
    bars = _Bars(
        names=[_shorten(name) for name in names],
        means=values,
        low=None if low is None else np.asarray(low, dtype=np.float64),
        high=None if high is None else np.asarray(high, dtype=np.float64),
        notes=[r if v == 0 else "" for r, v in zip(zero_reasons or [""] * len(values), values, strict=True)],
        output=output_index,
    )
    width = layout_width(width_pixels)
    colours = theme(dark)
    slot_units = (width - _BESIDE_UNITS) / len(names)
    upright = slot_units >= _SLOT_UNITS
    longest = max(len(name) for name in bars.names) * _CHARACTER_UNITS
    if upright:
        slanted = longest > slot_units
        height = max(320, width // 2) + round(0.7 * longest if slanted else 0)
    else:
        height = min(_BESIDE_UNITS + len(names) * _LINE_UNITS, _TALLEST * width)
    figure = new_figure(width, height)
    figure.set_facecolor(colours.ground)
    axes = figure.add_subplot()
    dress_axes(axes, colours, values_upwards=upright)
    if upright:
        _draw_upright(axes, bars, colours, with_values=slot_units >= _VALUE_UNITS, slanted=slanted)
    else:
        _draw_lying(axes, bars, colours, label_every=math.ceil(len(names) * _LINE_UNITS / height))
    _draw_legend(axes, bars, colours, whiskers)
    wrapped = textwrap.fill(title, (width - _BESIDE_UNITS // 2) // _TITLE_CHARACTER_UNITS)
    axes.set_title(wrapped, loc="left", pad=26, **plain_text(TITLE_POINTS, colours.text, fontweight="bold"))
    return render(
        figure,
        "linearity-by-layer",
        file_format=file_format,
        width_pixels=width_pixels,
        alternative_text=_in_words(names, bars, title),
    )


def _draw_upright(axes: Axes, bars: _Bars, colours: Theme, *, with_values: bool, slanted: bool) -> None:
    places = np.arange(len(bars.names))
    _fill_bars(axes, bars, colours, upright=True)
    if bars.low is not None and bars.high is not None:
        axes.vlines(places, bars.low, bars.high, color=colours.text, linewidth=1.2)
    top = _top(bars)
    axes.set_ylim(0, top * (1.08 if with_values else 1.03))
    # A few bars keep to a sensible width.
    spare = max(0.0, _FEWEST_SLOTS - len(bars.names)) / 2
    axes.set_xlim(-0.6 - spare, len(bars.names) - 0.4 + spare)
    for place, (note, value, end) in enumerate(zip(bars.notes, bars.means, bars.tops, strict=True)):
        if note:
            style = plain_text(SMALL_POINTS, colours.quiet, fontstyle="italic")
            axes.text(place, top * 0.015, note, rotation=90, ha="center", va="bottom", in_layout=False, **style)
        elif with_values:
            style = plain_text(SMALL_POINTS, colours.text)
            axes.text(place, end + top * 0.012, _number(value), ha="center", va="bottom", in_layout=False, **style)
    axes.set_xticks(places, bars.names)
    for place, label in enumerate(axes.get_xticklabels()):
        label.set(**_name_style(bars, colours, place))
        if slanted:
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_ylabel("L measure (0 is linear)", labelpad=8, **plain_text(BODY_POINTS, colours.quiet))


def _draw_lying(axes: Axes, bars: _Bars, colours: Theme, *, label_every: int) -> None:
    places = np.arange(len(bars.names))
    _fill_bars(axes, bars, colours, upright=False)
    if bars.low is not None and bars.high is not None:
        axes.hlines(places, bars.low, bars.high, color=colours.text, linewidth=1.2)
    top = _top(bars)
    axes.set_xlim(0, top * 1.1)
    axes.set_ylim(len(bars.names) - 0.4, -0.6)
    shown = _spaced(len(places), label_every, bars.output)
    for place in shown:
        note = bars.notes[place]
        if label_every == 1 or place == bars.output:
            colour, slope = (colours.quiet, "italic") if note else (colours.text, "normal")
            at = top * 0.006 + (0.0 if note else bars.tops[place])
            style = plain_text(SMALL_POINTS, colour, fontstyle=slope)
            axes.text(
                at, place, note or _number(bars.means[place]), ha="left", va="center_baseline", in_layout=False, **style
            )
    axes.set_yticks(shown, [bars.names[place] for place in shown])
    for place, label in zip(shown, axes.get_yticklabels(), strict=True):
        label.set(**_name_style(bars, colours, place))
    axes.set_xlabel("L measure (0 is linear)", labelpad=8, **plain_text(BODY_POINTS, colours.quiet))


def _draw_legend(axes: Axes, bars: _Bars, colours: Theme, whiskers: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Patch | Line2D] = []
    if bars.output is None or len(bars.names) > 1:
        entries.append(Patch(color=colours.plain, label="layer"))
    if bars.output is not None:
        entries.append(Patch(color=colours.accent, label="output"))
    if bars.high is not None:
        entries.append(Line2D([], [], color=colours.text, linewidth=1.2, label=whiskers))
    legend = axes.legend(
        handles=entries,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(entries),
        frameon=False,
        borderaxespad=0.3,
        borderpad=0,
        handlelength=1.2,
        handletextpad=0.5,
        columnspacing=1.6,
    )
    for label in legend.get_texts():
        label.set(**plain_text(SMALL_POINTS, colours.quiet))


def _fill_bars(axes: Axes, bars: _Bars, colours: Theme, *, upright: bool) -> None:
    """Draws all bars as one object: matplotlib takes milliseconds for each, and a network has hundreds."""
    from matplotlib.collections import PolyCollection

    half = 0.36
    corners = [
        [(place - half, 0.0), (place - half, value), (place + half, value), (place + half, 0.0)]
        for place, value in enumerate(bars.means.tolist())
    ]
    if not upright:
        corners = [[(y, x) for x, y in bar] for bar in corners]
    fills = [colours.accent if place == bars.output else colours.plain for place in range(len(corners))]
    axes.add_collection(PolyCollection(corners, facecolors=fills, linewidths=0), autolim=False)


def _name_style(bars: _Bars, colours: Theme, place: int) -> dict[str, object]:
    if place == bars.output:
        return plain_text(SMALL_POINTS, colours.text, fontweight="bold")
    return plain_text(SMALL_POINTS, colours.text)


def _spaced(count: int, every: int, always: int | None) -> list[int]:
    """Every so many places of `count`, and one that must be there, with room around it."""
    if always is None:
        return list(range(0, count, every))
    return sorted([*(place for place in range(0, count, every) if abs(place - always) >= every), always])


def _top(bars: _Bars) -> float:
    """The end of the scale; 1 where every bar has no length."""
    top = float(bars.tops.max())
    return top if top > 0 else 1.0


def _shorten(name: str) -> str:
    """Cuts a long name in its middle: both ends of a path tell layers apart."""
    if len(name) <= _LONGEST_NAME:
        return name
    head = _LONGEST_NAME // 2 - 1
    return f"{name[:head]}…{name[len(name) - (_LONGEST_NAME - head - 1) :]}"


def _number(value: float) -> str:
    """Three significant digits, without an exponent where that stays short."""
    if value == 0:
        return "0"
    return f"{value:#.3g}".rstrip(".") if 1e-3 <= value < 999.5 else f"{value:.1e}"


def _in_words(names: Sequence[str], bars: _Bars, title: str) -> str:
    def say(place: int) -> str:
        note = f" ({bars.notes[place]})" if bars.notes[place] else ""
        return f"{names[place]} {_number(bars.means[place])}{note}"

    places = [place for place in range(len(names)) if place != bars.output]
    output = "" if bars.output is None else f" The output, {say(bars.output)}."
    start = f"Bar chart: {title}. L measure of {len(names)} {'layer' if len(names) == 1 else 'layers'}"
    if not places:
        return f"{start}.{output}"
    if len(places) <= _MOST_IN_WORDS:
        return f"{start} in order of evaluation: {', '.join(say(place) for place in places)}.{output}"
    least, most = min(places, key=lambda p: bars.means[p]), max(places, key=lambda p: bars.means[p])
    return f"{start}. The most linear layer is {say(least)}, the least linear {say(most)}.{output}"
