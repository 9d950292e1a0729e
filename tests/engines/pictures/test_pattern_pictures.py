"""The pictures of activation patterns."""

from __future__ import annotations

import io
import struct
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from sidelight_engines.errors import InvalidField
from sidelight_engines.pictures import Picture, class_neighbours, firing_rates, pattern_distances
from sidelight_engines.pictures.grid import image_cells

RATES = np.random.default_rng(0).random((4, 12))
DISTANCES = np.abs(RATES[:, np.newaxis] - RATES).mean(axis=2)
CLASSES = [3, 5, 8, 9]
ORDER = np.argsort(DISTANCES, axis=1)


def draw(which: str, **options: Any) -> Picture:
    given: dict[str, Any] = {"layer": "dense", "title": "A title"} | options
    if which == "rates":
        return firing_rates(RATES, CLASSES, **given)
    if which == "distances":
        return pattern_distances(DISTANCES, CLASSES, distance="mean absolute", **given)
    return class_neighbours(ORDER, CLASSES, given.pop("examples", None), **given)


@pytest.mark.parametrize("which", ["rates", "distances", "neighbours"])
@pytest.mark.parametrize("width", [160, 961])
def test_a_png_has_the_size_it_claims(which: str, width: int) -> None:
    picture = draw(which, width_pixels=width)

    assert struct.unpack(">II", picture.data[16:24]) == (width, picture.height_pixels)


@pytest.mark.parametrize("which", ["rates", "distances", "neighbours"])
def test_an_svg_tells_what_it_shows(which: str) -> None:
    picture = draw(which, file_format="svg", dark=True)

    title = ElementTree.fromstring(picture.data).find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == picture.alternative_text
    assert "A title" in picture.alternative_text


@pytest.mark.parametrize("which", ["rates", "distances", "neighbours"])
def test_a_width_out_of_range_is_refused(which: str) -> None:
    with pytest.raises(InvalidField, match="160 to 4096"):
        draw(which, width_pixels=10)


def test_the_words_name_the_nearest_and_the_farthest_classes() -> None:
    apart = DISTANCES + np.eye(4)
    row, column = divmod(int(apart.argmin()), 4)

    words = draw("distances").alternative_text

    assert f"nearest classes are {CLASSES[row]} and {CLASSES[column]} ({DISTANCES[row, column]:.3g})" in words


def test_examples_are_shown_in_the_order_of_the_neighbours() -> None:
    shades = np.array([0.0, 0.4, 0.7, 1.0])
    examples = np.repeat(shades, 16).reshape(4, 4, 4, 1)
    ordered = class_neighbours(ORDER, CLASSES, examples, layer="dense", title="", width_pixels=480)
    # The same, with the examples brought into the order of one row beforehand.
    for row in range(4):
        one = class_neighbours(
            np.tile(np.arange(4), (4, 1)), CLASSES, examples[ORDER[row]], layer="dense", title="", width_pixels=480
        )
        height = ordered.height_pixels
        middle = slice(round(height * (row + 0.45) / 4), round(height * (row + 0.55) / 4))
        first, second = (imread(io.BytesIO(p.data), format="png")[middle, 80:460, 0] for p in (ordered, one))
        # Where the row's own cells are, both show the same.
        assert (np.abs(first - second) < 0.02).mean() > 0.5


@pytest.mark.parametrize(
    ("shape", "size"),
    [((8, 8), (8, 8)), ((8, 6, 1), (8, 6)), ((8, 6, 3), (8, 6)), ((3, 8, 6), (8, 6)), ((300, 8, 1), (100, 3))],
)
def test_images_of_any_layout_become_cells(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    cells = image_cells(np.random.default_rng(0).integers(0, 255, (2, *shape)))

    assert cells is not None
    assert cells.shape == (2, *size, 3)
    assert (cells.min(), cells.max()) == (0.0, 1.0)


@pytest.mark.parametrize("shape", [(12,), (8, 8, 5), (2, 3, 4, 5), (1, 8, 3, 3, 3)])
def test_what_is_no_image_becomes_no_cells(shape: tuple[int, ...]) -> None:
    assert image_cells(np.zeros((2, *shape))) is None


def test_no_more_classes_are_drawn_than_asked_for() -> None:
    few = draw("neighbours", most_classes=2)

    assert "class 3:" in few.alternative_text
    assert "class 8:" not in few.alternative_text


def test_cells_tell_distances_above_1_and_keep_two_digits_of_those_below() -> None:
    distances = [[0, 0.2, 1.37], [0.2, 0, 0.0051], [1.37, 0.0051, 0]]

    picture = pattern_distances(distances, [0, 1, 2], layer="dense", distance="CKA", title="A title", file_format="svg")

    # Matplotlib draws text as outlines and writes it beside them.
    for number in (".20", "1.4", ".0051"):
        assert picture.data.decode().count(f"<!-- {number} -->") == 2
