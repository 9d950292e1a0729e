"""Strips of neighbours, and mean scores by class."""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from sidelight_engines.errors import InvalidField
from sidelight_engines.pictures import (
    ClassScores,
    DrawnExample,
    Picture,
    Strip,
    similarity_class_means,
    similarity_strip,
)
from sidelight_engines.pictures.examples import as_image, value_range
from sidelight_engines.pictures.theme import DARK, LIGHT

GREY = np.linspace(0, 1, 64).reshape(8, 8)


def strips(count: int = 2, neighbours: int = 5, other: int = 3, example: Any = GREY) -> list[Strip]:
    """Instances of class 3 whose neighbours are of `other`."""
    found = [DrawnExample(example, other, other, 0.9 - rank / 10) for rank in range(neighbours)]
    return [Strip(DrawnExample(example, 3, 3), found)] * count


def rows(count: int = 2, classes: int = 4, *, by_label: bool = True) -> list[ClassScores]:
    means = [(each, each / classes - 0.3) for each in range(classes)]
    return [ClassScores(DrawnExample(GREY, 1, 1), means if by_label else [], means)] * count


def share(picture: Picture, colour: str) -> float:
    """How much of the picture has exactly this colour."""
    pixels = imread(io.BytesIO(picture.data), format="png")[..., :3]
    return float((np.abs(pixels - to_rgb(colour)).max(axis=-1) < 0.5 / 255).mean())


@pytest.mark.parametrize("width", [160, 700, 2048])
def test_both_have_the_size_they_claim(width: int) -> None:
    for picture in (
        similarity_strip(strips(), title="Similar", width_pixels=width),
        similarity_class_means(rows(), title="Means", width_pixels=width),
    ):
        assert struct.unpack(">II", picture.data[16:24]) == (width, picture.height_pixels)
        assert picture.width_pixels == width


def test_both_come_as_svg_with_what_they_show() -> None:
    for picture in (
        similarity_strip(strips(), title="Similar $x$", file_format="svg"),
        similarity_class_means(rows(), title="Means $y", file_format="svg"),
    ):
        text = picture.data.decode()
        assert re.search(r'<svg[^>]* width="960"', text)
        assert picture.alternative_text.split("$")[0] in text


def test_a_width_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidField, match=r"render\.width_pixels"):
        similarity_strip(strips(), title="Similar", width_pixels=100)
    with pytest.raises(InvalidField, match=r"render\.width_pixels"):
        similarity_class_means(rows(), title="Means", width_pixels=5000)


def test_references_of_another_class_are_framed() -> None:
    alike, others = similarity_strip(strips(), title="S"), similarity_strip(strips(other=5), title="S")

    assert share(alike, LIGHT.accent) == 0
    assert share(others, LIGHT.accent) > 0.005
    unknown = [Strip(DrawnExample(GREY, None, None), [DrawnExample(GREY, 1, 1, 0.5)])]
    assert share(similarity_strip(unknown, title="S"), LIGHT.accent) == 0


def test_a_picture_says_in_words_what_it_shows() -> None:
    strip = similarity_strip(strips(1, other=5), title="Most similar")
    means = similarity_class_means(rows(1), title="Means")

    assert strip.name == "similarity-strip"
    assert strip.alternative_text == (
        "Strips of examples: Most similar. Most similar to instance 1 of class 3: classes 5, 5, 5, 5, 5."
    )
    assert means.name == "similarity-class-means"
    assert "instance 1 of class 1, by label: highest for class 3 (0.45)" in means.alternative_text


def test_examples_are_drawn_on_one_scale_of_grey() -> None:
    dim, bright = np.zeros((8, 8)), np.ones((8, 8))
    picture = similarity_strip(
        [Strip(DrawnExample(dim, 0, 0), [DrawnExample(bright, 0, 0, 1.0), DrawnExample(bright / 2, 0, 0, 0.5)])],
        title="S",
        dark=True,
    )

    # Half of white is grey: each square takes a few percent.
    assert share(picture, "#ffffff") > 0.02
    assert share(picture, "#000000") > 0.02
    assert share(picture, "#7f7f7f") + share(picture, "#808080") > 0.02
    assert share(picture, DARK.ground) > 0.2


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((8, 9), (8, 9)),
        ((8, 9, 1), (8, 9)),
        ((1, 8, 9), (8, 9)),
        ((8, 9, 3), (8, 9, 3)),
        ((3, 8, 9), (8, 9, 3)),
        ((8, 9, 4), (8, 9, 4)),
        ((8, 9, 7), None),
        ((30,), None),
        ((2, 9), None),
        ((2, 8, 9, 3), None),
    ],
)
def test_what_is_an_image_is_known_by_its_shape(shape: tuple[int, ...], drawn: tuple[int, ...] | None) -> None:
    image = as_image(np.zeros(shape))
    assert (None if image is None else image.shape) == drawn


def test_numbers_that_are_no_image_are_drawn_as_a_line() -> None:
    picture = similarity_strip(strips(example=np.linspace(-1, 2, 30)), title="S")
    assert share(picture, LIGHT.plain) > 0.0005
    assert value_range([np.full(3, np.nan)]) == (0, 1)
    assert value_range([np.full(3, 2.0)]) == (2, 3)


def test_ten_neighbours_and_twenty_classes_are_the_most_that_are_drawn() -> None:
    assert (
        similarity_strip(strips(neighbours=10), title="S").height_pixels
        == similarity_strip(strips(neighbours=40), title="S").height_pixels
    )
    many = similarity_class_means(rows(1, classes=1000), title="M", file_format="svg")
    assert many.height_pixels == similarity_class_means(rows(1), title="M").height_pixels


def test_means_by_prediction_alone_take_the_whole_width() -> None:
    both, one = similarity_class_means(rows(), title="M"), similarity_class_means(rows(by_label=False), title="M")
    # Bars of one source on twice the width cover about as much as those of two.
    assert share(one, LIGHT.plain) == pytest.approx(share(both, LIGHT.plain), rel=0.25)
    assert share(both, LIGHT.accent) > 0
