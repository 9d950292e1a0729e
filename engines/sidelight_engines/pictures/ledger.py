"""Where relevance went, layer by layer, as stacked bars."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

Array = NDArray[Any]

CAUSES = {"bias": "bias", "stabiliser": "stabiliser", "empty_branch": "empty branch", "sink": "constants and padding"}
"""What takes relevance on its way, and how it is said."""

# Told apart in lightness too: for every kind of colour vision, and in print (Okabe and Ito 2008).
_FILLS = {
    False: {"bias": "#0072b2", "stabiliser": "#e69f00", "empty_branch": "#a03060", "sink": "#9aa3ad"},
    True: {"bias": "#56b4e9", "stabiliser": "#e69f00", "empty_branch": "#d5679c", "sink": "#7b8794"},
}
_LINE_UNITS = 17
_BESIDE_UNITS = 150
_TALLEST = 4
_LONGEST_NAME = 28
_TITLE_CHARACTER_UNITS = 9
_LEAST_SPAN = 1e-6


@dataclass(frozen=True)
class _Ledger:
    """What is drawn, one entry per layer.

    Attributes:
        names: of the layers, output first; the last is the total.
        shares: by cause, (layers,): of the relevance that started, the mean over explanations.
        arrived: (layers,): what the layer handed to its inputs, as such a share.
    """

    names: list[str]
    shares: Mapping[str, Array]
    arrived: Array


def ledger_by_layer(
    names: Sequence[str],
    started: ArrayLike,
    columns: Mapping[str, ArrayLike],
    *,
    title: str,
    file_format: PictureFormat = "png",
    width_pixels: int = 960,
    dark: bool = False,
) -> Picture:
    """Draws for each layer what biases, stabilisers, empty branches and constants took of the relevance.

    Everything is a share of the relevance that started, summed over explanations: of each by its size, so that
    explanations of both signs do not cancel.

    Args:
        names: of the layers, output first; the last is the total.
        started: (explanations,), the relevance that started.
        columns: ``relevance_in``, ``bias``, ``stabiliser``, ``empty_branch`` and ``sink``, each
            (layers, explanations).
        title: of the picture.
        file_format: of the file.
        width_pixels: 160 to 4096; the height follows from the number of layers.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``relevance-ledger``.

    Raises:
        InvalidField: the width is out of range.
    """
    ledger = _shares(names, np.asarray(started, np.float64), columns)
    width = layout_width(width_pixels)
    colours = theme(dark)
    height = min(_BESIDE_UNITS + len(names) * _LINE_UNITS, _TALLEST * width)
    figure = new_figure(width, height)
    figure.set_facecolor(colours.ground)
    axes = figure.add_subplot()
    dress_axes(axes, colours, values_upwards=False)
    _draw(axes, ledger, colours, every=-(-len(names) * _LINE_UNITS // height), dark=dark)
    wrapped = textwrap.fill(title, (width - 60) // _TITLE_CHARACTER_UNITS)
    axes.set_title(wrapped, loc="left", pad=26, **plain_text(TITLE_POINTS, colours.text, fontweight="bold"))
    return render(
        figure,
        "relevance-ledger",
        file_format=file_format,
        width_pixels=width_pixels,
        alternative_text=_in_words(names, ledger, title),
    )


def _shares(names: Sequence[str], started: Array, columns: Mapping[str, ArrayLike]) -> _Ledger:
    whole = float(np.abs(started).sum()) or 1.0
    # Relative to each explanation's own sign.
    signs = np.where(started < 0, -1.0, 1.0)

    def share(name: str) -> Array:
        return np.asarray(np.asarray(columns[name], np.float64) @ signs / whole)

    shortened = [name if len(name) <= _LONGEST_NAME else f"{name[:13]}…{name[-14:]}" for name in names]
    return _Ledger(shortened, {cause: share(cause) for cause in CAUSES}, share("relevance_in"))


def _draw(axes: Axes, ledger: _Ledger, colours: Theme, *, every: int, dark: bool) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    count = len(ledger.names)
    corners, fills = [], []
    ends = {1: np.zeros(count), -1: np.zeros(count)}
    half = 0.36
    for cause, shares in ledger.shares.items():
        for place, value in enumerate(shares.tolist()):
            side = -1 if value < 0 else 1
            start = float(ends[side][place])
            ends[side][place] = stop = start + value
            corners.append([(start, place - half), (start, place + half), (stop, place + half), (stop, place - half)])
            fills.append(_FILLS[dark][cause])
    axes.add_collection(PolyCollection(corners, facecolors=fills, linewidths=0), autolim=False)
    low, high = min(float(ends[-1].min()), 0.0), max(float(ends[1].max()), 0.0)
    span = max(high - low, _LEAST_SPAN)
    axes.set_xlim(low - 0.03 * span, high + 0.03 * span)
    axes.set_ylim(count - 0.4, -0.6)
    axes.axvline(0, color=colours.quiet, linewidth=0.8)
    axes.axhline(count - 1.5, color=colours.grid, linewidth=0.8)
    shown = sorted({*range(0, count - 1, every), count - 1})
    axes.set_yticks(shown, [ledger.names[place] for place in shown])
    for place, label in zip(shown, axes.get_yticklabels(), strict=True):
        weight = "bold" if place == count - 1 else "normal"
        label.set(**plain_text(SMALL_POINTS, colours.text, fontweight=weight))
    # What is left stands at the right edge, where bars end before it.
    for place in shown:
        style = plain_text(SMALL_POINTS, colours.quiet if place < count - 1 else colours.text)
        axes.annotate(
            _percent(float(ledger.arrived[place])),
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            ha="left",
            va="center",
            annotation_clip=False,
            **style,
        )
    style = plain_text(SMALL_POINTS, colours.quiet)
    axes.annotate(
        "handed on",
        (1, -0.6),
        xycoords=("axes fraction", "data"),
        xytext=(6, 3),
        textcoords="offset points",
        ha="left",
        va="bottom",
        annotation_clip=False,
        **style,
    )
    axes.xaxis.set_major_formatter(lambda value, position: _percent(value, signed=True))
    axes.set_xlabel(
        "taken, as a share of the relevance that started", labelpad=8, **plain_text(BODY_POINTS, colours.quiet)
    )
    legend = axes.legend(
        handles=[Patch(color=_FILLS[dark][cause], label=said) for cause, said in CAUSES.items()],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(CAUSES),
        frameon=False,
        borderaxespad=0.3,
        borderpad=0,
        handlelength=1.2,
        handletextpad=0.5,
        columnspacing=1.6,
    )
    for text in legend.get_texts():
        text.set(**plain_text(SMALL_POINTS, colours.quiet))


def _percent(share: float, *, signed: bool = False) -> str:
    """Three significant digits, and no exponent where that stays short."""
    value = 100 * share
    if value == 0:
        return "0 %"
    size = abs(value)
    digits = ".1e" if size >= 1000 or size < 1e-3 else ".3g" if signed else ".4g"
    return f"{value:{digits}} %".replace("-", "\N{MINUS SIGN}", 1 if value < 0 else 0)


def _in_words(names: Sequence[str], ledger: _Ledger, title: str) -> str:
    causes = ", ".join(f"{said} {_percent(float(ledger.shares[cause][-1]))}" for cause, said in CAUSES.items())
    largest = []
    for cause, said in CAUSES.items():
        shares = np.abs(ledger.shares[cause][:-1])
        if shares.size and shares.max() > 0:
            place = int(shares.argmax())
            largest.append(f"{said} most at {names[place]} ({_percent(float(ledger.shares[cause][place]))})")
    where = f" {'; '.join(largest)}." if largest else ""
    return (
        f"Stacked bars: {title}. Of the relevance that started, {_percent(float(ledger.arrived[-1]))} reached the "
        f"inputs; taken on the way: {causes}.{where}"
    )
