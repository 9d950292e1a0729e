"""Instances and the references most like them, as a strip of small pictures for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from sidelight_engines.pictures.canvas import MARGIN, TITLE_LINE, new_canvas, title_lines, write, write_title
from sidelight_engines.pictures.examples import draw_example, value_range
from sidelight_engines.pictures.picture import Picture, PictureFormat, layout_width, render
from sidelight_engines.pictures.theme import SMALL_POINTS, Theme, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINE = 13
_GAP = 10
# Between the instance and its neighbours.
_WIDE_GAP = 28
_LARGEST = 150
_FRAME = 2.5
_CHARACTER = 5.8
# Beside each other in a strip; with more they would be too small to see.
_MOST = 10
_TALLEST = 30_000


@dataclass(frozen=True)
class DrawnExample:
    """An example and what is known of it.

    Attributes:
        example: without a batch axis.
        label: its class; None if it has none.
        prediction: the class that the model predicts; None if it predicts none.
        score: its similarity; None for the instance itself.
    """

    example: NDArray[Any]
    label: int | None
    prediction: int | None
    score: float | None = None

    @property
    def known_class(self) -> int | None:
        """The class that it is compared by."""
        return self.prediction if self.label is None else self.label


@dataclass(frozen=True)
class Strip:
    """An instance and its neighbours, the most similar first."""

    instance: DrawnExample
    neighbours: Sequence[DrawnExample]


def similarity_strip(
    strips: Sequence[Strip],
    *,
    title: str,
    file_format: PictureFormat = "png",
    width_pixels: int = 960,
    dark: bool = False,
) -> Picture:
    """Draws a row per instance: the instance, then the references most similar to it, with labels and predictions.

    Args:
        strips: at least one, each with at least one neighbour; up to ten neighbours are shown.
        title: of the picture.
        file_format: of the file.
        width_pixels: 160 to 4096; the height follows from the number of rows.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``similarity-strip``. References of another class than the instance are framed.

    Raises:
        InvalidField: the width is out of range.
    """
    width, colours = layout_width(width_pixels), theme(dark)
    columns = min(_MOST, max(len(strip.neighbours) for strip in strips))
    side = min(_LARGEST, (width - 2 * MARGIN - _WIDE_GAP - (columns - 1) * _GAP) / (columns + 1))
    wide = side >= _CHARACTER * len("label 10, predicted 10")
    row_height = side + (2 if wide else 3) * _LINE + 2 * _GAP
    heading = title_lines(title, width)
    framed = any(_differs(strip.instance, n) for strip in strips for n in strip.neighbours[:columns])
    above = MARGIN + len(heading) * TITLE_LINE + (2 if framed else 1) * _LINE + _GAP
    rows = strips[: max(1, int((_TALLEST - above) // row_height))]
    figure, canvas = new_canvas(width, round(above + len(rows) * row_height + MARGIN / 2), colours)
    y = write_title(canvas, heading, colours)
    if framed:
        write(canvas, MARGIN, y, "framed: of another class than the instance", SMALL_POINTS, colours.quiet)
        y += _LINE
    lefts = [MARGIN, *(MARGIN + side + _WIDE_GAP + i * (side + _GAP) for i in range(columns))]
    for number, left in enumerate(lefts):
        name = "instance" if number == 0 else f"{_ordinal(number)} most similar" if wide else _ordinal(number)
        write(canvas, left, y + _GAP / 2, name, SMALL_POINTS, colours.quiet, fontweight="bold")
    y = above
    shown = [example for strip in rows for example in (strip.instance, *strip.neighbours[:columns])]
    limits = value_range([example.example for example in shown])
    for strip in rows:
        for left, example in zip(lefts, (strip.instance, *strip.neighbours), strict=False):
            draw_example(canvas, example.example, (left, y, side), limits, colours)
            if _differs(strip.instance, example):
                _draw_frame(canvas, left, y, side, colours)
            for line, text in enumerate(_caption(example, wide=wide)):
                colour = colours.text if line == 0 else colours.quiet
                write(canvas, left, y + side + 4 + line * _LINE, text, SMALL_POINTS, colour)
        y += row_height
    return render(
        figure,
        "similarity-strip",
        file_format=file_format,
        width_pixels=width_pixels,
        alternative_text=_in_words(rows, columns, title),
    )


def _differs(instance: DrawnExample, other: DrawnExample) -> bool:
    one, two = instance.known_class, other.known_class
    return other is not instance and one is not None and two is not None and one != two


def _draw_frame(canvas: Axes, left: float, top: float, side: float, colours: Theme) -> None:
    from matplotlib.patches import Rectangle

    frame = Rectangle((left, top), side, side, fill=False, edgecolor=colours.accent, linewidth=_FRAME * 0.75)
    canvas.add_patch(frame)


def _caption(example: DrawnExample, *, wide: bool) -> list[str]:
    said = []
    if example.label is not None:
        said.append(f"label {example.label}")
    if example.prediction is not None:
        said.append(f"predicted {example.prediction}" if wide else f"pred. {example.prediction}")
    lines = [", ".join(said)] if wide and said else said
    return lines if example.score is None else [*lines, f"{example.score:.4g}"]


def _ordinal(number: int) -> str:
    teen = 10 <= number % 100 <= 20
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _in_words(strips: Sequence[Strip], columns: int, title: str) -> str:
    said = []
    for number, strip in enumerate(strips[:_MOST], start=1):
        own = strip.instance.known_class
        classes = [neighbour.known_class for neighbour in strip.neighbours[:columns]]
        name = f"instance {number}" if own is None else f"instance {number} of class {own}"
        known = ", ".join(str(each) for each in classes if each is not None)
        said.append(f"{name}: {f'classes {known}' if known else f'{len(classes)} references'}")
    return f"Strips of examples: {title}. Most similar to {'; '.join(said)}."
