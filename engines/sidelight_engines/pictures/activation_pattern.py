"""Activation patterns as pictures: firing rates, distances between classes, and each class beside its neighbours."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidelight_engines.pictures.grid import Grid, image_cells
from sidelight_engines.pictures.picture import Picture, PictureFormat, layout_width, new_figure, render
from sidelight_engines.pictures.theme import BODY_POINTS, SMALL_POINTS, TITLE_POINTS, Theme, plain_text, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# One map for all: its steps are seen as even with every kind of colour vision, and in grey.
_COLOURS = "cividis"
_BESIDE_UNITS = 150
_TITLE_CHARACTER_UNITS = 9
# Names of rows and columns need this much each; with less, only some are written.
_NAME_UNITS = 15
_CELL_UNITS = 30
_MOST_IN_WORDS = 12
_TALLEST = 2


def firing_rates(
    rates: ArrayLike,
    classes: Sequence[int],
    *,
    layer: str,
    title: str,
    file_format: PictureFormat = "png",
    width_pixels: int = 960,
    dark: bool = False,
) -> Picture:
    """Draws the firing-rate matrix: a row per class, a column per unit.

    Args:
        rates: (classes, units), at least 0.
        classes: what the rows stand for.
        layer: the name of the layer.
        title: of the picture.
        file_format: of the file.
        width_pixels: 160 to 4096.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``firing-rates-<layer>``.

    Raises:
        InvalidField: the width is out of range.
    """
    values = np.asarray(rates, np.float64)
    width = layout_width(width_pixels)
    height = min(max(len(classes) * 22, 120) + 110, _TALLEST * width)
    colours = theme(dark)
    figure = new_figure(width, height)
    figure.set_facecolor(colours.ground)
    axes = figure.add_subplot()
    # Rates over a fixed divisor may leave 0 to 1.
    top = max(1.0, float(values.max(initial=0.0)))
    image = _matrix(axes, values, colours, 0.0, top)
    _name_rows(axes, classes, (height - 110) / len(classes), colours)
    axes.set_xlabel(f"units of {layer}", **plain_text(BODY_POINTS, colours.quiet))
    axes.set_ylabel("class", **plain_text(BODY_POINTS, colours.quiet))
    _finish(axes, image, "firing rate", title, width, colours)
    means = values.mean(axis=1)
    told = [f"class {name} {mean:.2f}" for name, mean in zip(classes, means, strict=True)]
    shown = ", ".join(told[:_MOST_IN_WORDS]) + (" and more" if len(told) > _MOST_IN_WORDS else "")
    words = (
        f"Matrix: {title}. {len(classes)} classes by {values.shape[1]} units. Mean firing rate of each class: {shown}."
    )
    return render(
        figure, f"firing-rates-{layer}", file_format=file_format, width_pixels=width_pixels, alternative_text=words
    )


def pattern_distances(
    distances: ArrayLike,
    classes: Sequence[int],
    *,
    layer: str,
    distance: str,
    title: str,
    file_format: PictureFormat = "png",
    width_pixels: int = 960,
    dark: bool = False,
) -> Picture:
    """Draws the distances between classes, with their numbers as far as there is room.

    Args:
        distances: (classes, classes).
        classes: what rows and columns stand for.
        layer: the name of the layer.
        distance: what was measured, such as ``mean absolute``.
        title: of the picture.
        file_format: of the file.
        width_pixels: 160 to 4096.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``pattern-distances-<layer>-<distance>``.

    Raises:
        InvalidField: the width is out of range.
    """
    values = np.asarray(distances, np.float64)
    width = layout_width(width_pixels)
    height = max(300, width - 120)
    colours = theme(dark)
    figure = new_figure(width, height)
    figure.set_facecolor(colours.ground)
    axes = figure.add_subplot()
    top = float(values.max(initial=0.0)) or 1.0
    image = _matrix(axes, values, colours, 0.0, top)
    axes.set_aspect("equal")
    cell = (height - 110) / len(classes)
    _name_rows(axes, classes, cell, colours)
    _name_columns(axes, classes, cell, colours)
    if cell >= _CELL_UNITS:
        for row, column in np.ndindex(values.shape):
            ground = image.cmap(values[row, column] / top)
            ink = "#ffffff" if float(np.dot(ground[:3], [0.299, 0.587, 0.114])) < 0.5 else "#000000"
            number = _short(float(values[row, column]))
            axes.text(column, row, number, ha="center", va="center", **plain_text(SMALL_POINTS, ink))
    axes.set_xlabel("class", **plain_text(BODY_POINTS, colours.quiet))
    axes.set_ylabel("class", **plain_text(BODY_POINTS, colours.quiet))
    _finish(axes, image, f"{distance} distance (0 is alike)", title, width, colours)
    return render(
        figure,
        f"pattern-distances-{layer}-{distance.replace(' ', '-')}",
        file_format=file_format,
        width_pixels=width_pixels,
        alternative_text=f"Matrix: {title}. {_nearest_in_words(values, classes)}",
    )


def class_neighbours(
    neighbours: ArrayLike,
    classes: Sequence[int],
    examples: NDArray[Any] | None,
    *,
    layer: str,
    title: str,
    most_classes: int = 16,
    file_format: PictureFormat = "png",
    width_pixels: int = 960,
    dark: bool = False,
) -> Picture:
    """Draws each class followed by all others, nearest first, each shown by an example.

    Args:
        neighbours: (classes, classes), each row the positions of all classes, nearest first, itself first.
        classes: what the positions stand for.
        examples: (classes, ...), one example of each; None, or where they are no images, for the classes' numbers.
        layer: the name of the layer.
        title: of the picture.
        most_classes: at most so many rows and columns.
        file_format: of the file.
        width_pixels: 160 to 4096.
        dark: light text on a dark ground.

    Returns:
        The picture, named ``class-neighbours-<layer>``.

    Raises:
        InvalidField: the width is out of range.
    """
    order = np.asarray(neighbours, np.int64)[:most_classes, :most_classes]
    width = layout_width(width_pixels)
    cells = None if examples is None else image_cells(examples)
    side = (width - 70) / order.shape[1]
    colours = theme(dark)
    height = round(side * order.shape[0]) + 90
    figure = new_figure(width, height)
    figure.set_facecolor(colours.ground)
    axes = figure.add_subplot()
    grid = Grid(order, cells, [str(name) for name in classes], colours)
    grid.draw(axes, side)
    _name_rows(axes, [classes[row[0]] for row in order], side, colours)
    axes.set_ylabel("class", **plain_text(BODY_POINTS, colours.quiet))
    axes.set_xlabel("nearest class on the left, farthest on the right", **plain_text(BODY_POINTS, colours.quiet))
    _title(axes, title, width, colours)
    rows = [
        f"class {classes[row[0]]}: {', '.join(str(classes[position]) for position in row[1:6])}"
        for row in order[:_MOST_IN_WORDS]
        if len(row) > 1
    ]
    return render(
        figure,
        f"class-neighbours-{layer}",
        file_format=file_format,
        width_pixels=width_pixels,
        alternative_text=f"Grid: {title}. Nearest classes, nearest first. {'; '.join(rows)}.",
    )


def _short(distance: float) -> str:
    """A distance for a cell: two digits, and 0 for nothing but 0."""
    if distance == 0:
        return "0"
    if distance < 0.001:
        return "<.001"
    return f"{distance:.1f}" if distance >= 1 else f"{distance:#.2g}".removeprefix("0")


def _matrix(axes: Axes, values: NDArray[np.float64], colours: Theme, low: float, high: float) -> AxesImage:
    axes.set_facecolor(colours.ground)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(which="both", length=0, labelsize=SMALL_POINTS, labelcolor=colours.quiet)
    return axes.imshow(values, cmap=_COLOURS, vmin=low, vmax=high, aspect="auto", interpolation="nearest")


def _name_rows(axes: Axes, classes: Sequence[int], units: float, colours: Theme) -> None:
    every = max(1, round(_NAME_UNITS / max(units, 1e-9)))
    axes.set_yticks(range(0, len(classes), every), [str(name) for name in classes[::every]])
    for label in axes.get_yticklabels():
        label.set(**plain_text(SMALL_POINTS, colours.text))


def _name_columns(axes: Axes, classes: Sequence[int], units: float, colours: Theme) -> None:
    every = max(1, round(_NAME_UNITS / max(units, 1e-9)))
    axes.set_xticks(range(0, len(classes), every), [str(name) for name in classes[::every]])
    for label in axes.get_xticklabels():
        label.set(**plain_text(SMALL_POINTS, colours.text))


def _finish(axes: Axes, image: AxesImage, label: str, title: str, width: int, colours: Theme) -> None:
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("axes belong to a figure")
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=SMALL_POINTS, labelcolor=colours.quiet)
    bar.set_label(label, **plain_text(SMALL_POINTS, colours.quiet))
    _title(axes, title, width, colours)


def _title(axes: Axes, title: str, width: int, colours: Theme) -> None:
    wrapped = textwrap.fill(title, (width - _BESIDE_UNITS) // _TITLE_CHARACTER_UNITS)
    axes.set_title(wrapped, loc="left", pad=12, **plain_text(TITLE_POINTS, colours.text, fontweight="bold"))


def _nearest_in_words(values: NDArray[np.float64], classes: Sequence[int]) -> str:
    if len(classes) < 2:
        return "There is a single class."
    apart = values + np.where(np.eye(len(values), dtype=bool), np.inf, 0.0)
    row, column = divmod(int(np.argmin(apart)), len(classes))
    far_row, far_column = divmod(int(np.argmax(values)), len(classes))
    return (
        f"The two nearest classes are {classes[row]} and {classes[column]} ({values[row, column]:.3g}), the farthest "
        f"{classes[far_row]} and {classes[far_column]} ({values[far_row, far_column]:.3g})."
    )
