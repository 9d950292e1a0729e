"""How similar the references of each class are to an instance on average, as bars for each instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidelight_engines.pictures.canvas import MARGIN, TITLE_LINE, new_canvas, title_lines, write, write_title
from sidelight_engines.pictures.examples import draw_example, value_range
from sidelight_engines.pictures.picture import Picture, PictureFormat, layout_width, render
from sidelight_engines.pictures.similarity_strip import DrawnExample
from sidelight_engines.pictures.theme import SMALL_POINTS, Theme, dress_axes, plain_text, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = 13
_GAP = 10
_AXIS = 46  # Left of bars, for values.
_NAMES = 18  # Below bars, for classes.
_HEIGHT = 110
_MOST_CLASSES = 20
_TALLEST = 30_000


@dataclass(frozen=True)
class ClassScores:
    """Mean scores for one instance.

    Attributes:
        instance: the instance.
        by_label: (class, mean score) by the labels of the references; empty if they have none.
        by_prediction: the same by what the model predicts for them.
    """

    instance: DrawnExample
    by_label: Sequence[tuple[int, float]]
    by_prediction: Sequence[tuple[int, float]]


def similarity_class_means(
    rows: Sequence[ClassScores],
    *,
    title: str,
    file_format: PictureFormat = "png",
    width_pixels: int = 960,
    dark: bool = False,
) -> Picture:
    """Draws a row per instance: the instance, and bars of mean scores by true and by predicted class.

    Args:
        rows: at least one, of classes.
        title: of the picture.
        file_format: of the file.
        width_pixels: 160 to 4096; the height follows from the number of rows.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``similarity-class-means``. Classes stand in the order of their scores, the greatest
        first, up to 20 of them; the instance's own is accented.

    Raises:
        InvalidField: the width is out of range.
    """
    width, colours = layout_width(width_pixels), theme(dark)
    sources = [name for name in ("by_label", "by_prediction") if any(getattr(row, name) for row in rows)]
    words = {
        "by_label": "mean score by label of the references",
        "by_prediction": "mean score by predicted class of them",
    }
    heading = title_lines(title, width)
    above = MARGIN + len(heading) * TITLE_LINE + 2 * _LINE + _GAP
    row_height = _HEIGHT + _NAMES + 2 * _GAP
    shown = rows[: max(1, int((_TALLEST - above) // row_height))]
    height = round(above + len(shown) * row_height + MARGIN / 2)
    figure, canvas = new_canvas(width, height, colours)
    y = write_title(canvas, heading, colours)
    write(canvas, MARGIN, y, "accented: the class of the instance", SMALL_POINTS, colours.quiet)
    side = min(_HEIGHT, width / 6)
    bars_left = MARGIN + side + _GAP
    each = (width - bars_left - MARGIN) / max(1, len(sources))
    lefts = [bars_left + _AXIS + i * each for i in range(len(sources))]
    for left, source in zip(lefts, sources, strict=True):
        write(canvas, left, y + _LINE, words[source], SMALL_POINTS, colours.quiet, fontweight="bold")
    limits = value_range([row.instance.example for row in shown])
    top = float(above)
    for row in shown:
        draw_example(canvas, row.instance.example, (MARGIN, top, side), limits, colours)
        write(canvas, MARGIN, top + side + 4, _caption(row.instance), SMALL_POINTS, colours.text)
        for left, source in zip(lefts, sources, strict=True):
            box = (left / width, 1 - (top + _HEIGHT) / height, (each - _AXIS) / width, _HEIGHT / height)
            _draw_bars(figure, box, getattr(row, source), row.instance.known_class, colours)
        top += row_height
    return render(
        figure,
        "similarity-class-means",
        file_format=file_format,
        width_pixels=width_pixels,
        alternative_text=_in_words(shown, title),
    )


def _draw_bars(
    figure: Figure,
    box: tuple[float, float, float, float],
    means: Sequence[tuple[int, float]],
    own: int | None,
    colours: Theme,
) -> None:
    axes: Axes = figure.add_axes(box)
    dress_axes(axes, colours, values_upwards=True)
    ordered = sorted(means, key=lambda pair: (-pair[1], pair[0]))[:_MOST_CLASSES]
    fills = [colours.accent if each == own else colours.plain for each, _ in ordered]
    axes.bar(range(len(ordered)), [mean for _, mean in ordered], width=0.72, color=fills)
    axes.axhline(0, color=colours.quiet, linewidth=0.8)
    axes.set_xticks(range(len(ordered)), [str(each) for each, _ in ordered])
    axes.locator_params(axis="y", nbins=4)
    for label, (each, _) in zip(axes.get_xticklabels(), ordered, strict=True):
        label.set(**plain_text(SMALL_POINTS, colours.text, fontweight="bold" if each == own else "normal"))
    if len(means) > len(ordered):
        note = f"{len(ordered)} of {len(means)} classes"
        axes.set_title(note, loc="right", pad=2, **plain_text(SMALL_POINTS, colours.quiet))


def _caption(instance: DrawnExample) -> str:
    said = [] if instance.label is None else [f"label {instance.label}"]
    if instance.prediction is not None:
        said.append(f"pred. {instance.prediction}")
    return ", ".join(said)


def _in_words(rows: Sequence[ClassScores], title: str) -> str:
    said = []
    for number, row in enumerate(rows[:10], start=1):
        own = row.instance.known_class
        name = f"instance {number}" if own is None else f"instance {number} of class {own}"
        for source, means in (("label", row.by_label), ("prediction", row.by_prediction)):
            if means:
                best, score = max(means, key=lambda pair: (pair[1], -pair[0]))
                said.append(f"{name}, by {source}: highest for class {best} ({score:.3g})")
    return f"Bar charts: {title}. {'; '.join(said)}."
