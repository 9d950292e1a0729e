"""The pictures of influence."""

from __future__ import annotations

import io
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from sidelight_engines.errors import InvalidField
from sidelight_engines.pictures import (
    InfluenceDrawing,
    Picture,
    influence_curves,
    influence_heatmaps,
    influence_ranking,
)
from sidelight_engines.pictures.influence_data import split_channels
from sidelight_engines.pictures.theme import DARK, LIGHT

Draw = Callable[..., Picture]
ALL: tuple[Draw, ...] = (influence_heatmaps, influence_ranking, influence_curves)


def drawing(shape: tuple[int, ...] = (6, 5), labels: int = 2, **more: Any) -> InfluenceDrawing:
    """Features whose influence on label 0 grows along them, from negative to positive."""
    count = int(np.prod(shape))
    change = np.linspace(-0.5, 0.5, count)[:, None, None] * np.array([-0.5, 0.5])[:, None]
    influences = 0.5 + np.concatenate([change * (1 - label) for label in range(labels)], axis=2)
    given: dict[str, Any] = {
        "model": "digits",
        "features": np.arange(count),
        "feature_names": (),
        "example_shape": shape,
        "aims": (-1.0, 1.0),
        "absolute_targets": False,
        "influences": influences,
        "standard_errors": np.full_like(influences, 0.01),
        "low": None,
        "high": None,
        "attained": np.ones((count, 2), bool),
        "baseline": np.full(labels, 0.5),
        "metric_names": (),
        "performances": np.empty((count, 2, 0)),
    }
    return InfluenceDrawing(**given | more)


def share(picture: Picture, colour: str) -> float:
    """How much of the picture has nearly this colour."""
    pixels = imread(io.BytesIO(picture.data), format="png")[..., :3]
    return float((np.abs(pixels - to_rgb(colour)).max(axis=-1) < 4 / 255).mean())


@pytest.mark.parametrize("draw", ALL)
@pytest.mark.parametrize("width", [160, 961])
def test_a_png_has_the_size_it_claims(draw: Draw, width: int) -> None:
    picture = draw(drawing(), width_pixels=width)

    assert struct.unpack(">II", picture.data[16:24]) == (width, picture.height_pixels)


@pytest.mark.parametrize("draw", ALL)
def test_an_svg_is_well_formed_and_tells_what_it_shows(draw: Draw) -> None:
    picture = draw(drawing(model="a<b&c $x$"), file_format="svg", width_pixels=500)

    root = ElementTree.fromstring(picture.data)
    assert root.get("width") == "500"
    assert "a<b&c $x$" in picture.alternative_text


@pytest.mark.parametrize("draw", ALL)
def test_dark_pictures_are_dark_and_light_ones_light(draw: Draw) -> None:
    assert share(draw(drawing()), LIGHT.ground) > 0.3
    assert share(draw(drawing(), dark=True), DARK.ground) > 0.3


@pytest.mark.parametrize("draw", ALL)
def test_a_width_out_of_range_is_refused(draw: Draw) -> None:
    with pytest.raises(InvalidField):
        draw(drawing(), width_pixels=100)


def test_what_is_lit_up_and_what_is_dimmed_differ_in_colour() -> None:
    picture = influence_heatmaps(drawing(labels=1))

    # One of 30 pixels of the map has the strongest colour of either sign.
    assert share(picture, LIGHT.accent) > 0.005
    assert share(picture, LIGHT.plain) > 0.005


def test_the_words_name_the_pixels_that_move_a_label_most() -> None:
    words = influence_heatmaps(drawing()).alternative_text

    assert "label 0: up by 0.5 at pixel 5, 4, down by 0.5 at pixel 0, 0" in words
    assert "tau 1 less tau -1" in words


def test_pixels_that_were_not_asked_for_have_a_colour_of_their_own() -> None:
    whole = drawing(labels=1)
    part = drawing(
        labels=1,
        features=np.arange(10),
        influences=whole.influences[:10],
        standard_errors=whole.standard_errors[:10],
        attained=whole.attained[:10],
        performances=whole.performances[:10],
    )

    assert share(influence_heatmaps(part), LIGHT.grid) > share(influence_heatmaps(whole), LIGHT.grid) + 0.05


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((28, 28), (0, 1, -1)), ((28, 28, 1), (0, 1, 2)), ((32, 30, 3), (0, 1, 2)), ((3, 32, 30), (1, 2, 0)),
     ((8, 8, 64), (0, 1, 2)), ((1, 28, 28), (1, 2, 0))],
)  # fmt: skip
def test_channels_are_found_first_or_last(shape: tuple[int, ...], axes: tuple[int, int, int]) -> None:
    assert split_channels(shape) == axes


@pytest.mark.parametrize("shape", [(6, 5, 1), (6, 5, 3), (3, 6, 5), (6, 5, 9)])
def test_images_of_any_number_of_channels_are_drawn(shape: tuple[int, ...]) -> None:
    picture = influence_heatmaps(drawing(shape))

    assert picture.data.startswith(b"\x89PNG")


def test_many_labels_leave_the_faintest_maps_out() -> None:
    picture = influence_heatmaps(drawing(labels=70), file_format="svg")

    assert "10 fainter maps left out" in picture.data.decode()


def test_metrics_get_maps_of_their_own_scale() -> None:
    performances = np.zeros((30, 2, 1))
    performances[7, 1] = 0.125

    picture = influence_heatmaps(drawing(metric_names=["accuracy"], performances=performances), file_format="svg")

    assert "±0.12" in picture.data.decode()


@pytest.mark.parametrize(
    ("shape", "aims", "is_image"),
    [((28, 28), (-1.0, 1.0), True), ((28, 28, 3), (-1.0, 1.0), True), ((784,), (-1.0, 1.0), False),
     ((28, 28), (1.0,), False), ((1, 13), (-1.0, 1.0), False)],
)  # fmt: skip
def test_an_image_has_two_sides_and_two_tilts(shape: tuple[int, ...], aims: tuple[float, ...], is_image: bool) -> None:
    assert drawing(shape, aims=aims).is_image is is_image


def test_the_ranking_begins_with_what_moves_most_and_keeps_the_order_of_equals() -> None:
    ranked = drawing((4,)).ranking().tolist()

    assert ranked == [0, 3, 1, 2]
    assert "feature 0 -0.5 for label 0, feature 3 +0.5" in influence_ranking(drawing((4,))).alternative_text


@pytest.mark.parametrize("draw", [influence_ranking, influence_curves])
def test_one_target_is_compared_with_the_data_as_they_are(draw: Draw) -> None:
    single = drawing(
        (4,),
        aims=(3.5,),
        absolute_targets=True,
        influences=np.full((4, 1, 1), 0.75),
        standard_errors=np.full((4, 1, 1), np.nan),
        attained=np.zeros((4, 1), bool),
        performances=np.empty((4, 1, 0)),
        baseline=np.array([0.5]),
    )

    picture = draw(single)

    assert "0.75" in picture.alternative_text or "+0.25" in picture.alternative_text


def test_what_is_missing_is_drawn_as_a_gap() -> None:
    values = drawing()
    influences = values.influences.copy()
    influences[3:, 0] = np.nan

    for draw in ALL:
        assert draw(drawing(influences=influences)).data.startswith(b"\x89PNG")
