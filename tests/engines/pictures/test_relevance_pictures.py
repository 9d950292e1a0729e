"""Heatmaps and the ledger as pictures."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.image import imread
from sidelight_engines.errors import InvalidField
from sidelight_engines.pictures import RelevanceMap, ledger_by_layer, relevance_heatmaps
from sidelight_engines.pictures.diverging import diverging, hex_colour
from sidelight_engines.pictures.ledger import _shares
from sidelight_engines.pictures.relevance import channel_axis, colour_end

RANDOM = np.random.default_rng(4)

# Machado, Oliveira and Fernandes 2009: what is seen without cones of the long or middle wavelengths, on linear RGB.
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colours: Any) -> Any:
    share = np.asarray(colours, np.float64) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(light: Any) -> Any:
    """CIE L*a*b* of linear RGB under D65 (CIE 15:2004)."""
    scaled = (np.clip(light, 0, 1) @ TO_XYZ.T) / np.array([0.9505, 1.0, 1.089])
    cube = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    x, y, z = np.moveaxis(cube, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def maps(shape: tuple[int, ...], count: int = 2, targets: int = 1) -> list[RelevanceMap]:
    return [
        RelevanceMap(
            RANDOM.random(shape),
            RANDOM.normal(size=(targets, *shape)),
            tuple(f"class {target}: 1.5" for target in range(targets)),
            f"instance {i}",
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_colours_go_evenly_from_the_ground_to_ends_of_one_lightness(dark: bool) -> None:
    lightness = lab(linear(diverging(np.linspace(-1, 1, 41), dark=dark)))[:, 0]

    assert np.all(np.diff(lightness[:21]) * (-1 if dark else 1) > 0)
    assert np.all(np.diff(lightness[20:]) * (1 if dark else -1) > 0)
    np.testing.assert_allclose(lightness, lightness[::-1], atol=6)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("vision", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["all cones", "protan", "deutan"])
def test_equal_sizes_of_both_signs_are_told_apart_by_every_colour_vision(vision: Any, dark: bool) -> None:
    for size in (0.5, 1.0):
        below, above = lab(linear(diverging(np.array([-size, size]), dark=dark)) @ vision.T)
        assert np.linalg.norm(below - above) > 30


def test_zero_is_the_ground_and_what_is_beyond_the_ends_is_cut() -> None:
    assert hex_colour(0.0) == "#ffffff"
    assert hex_colour(5.0) == hex_colour(1.0)
    assert hex_colour(-5.0) == hex_colour(-1.0) != hex_colour(1.0)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((28, 28), None), ((8, 8, 1), 2), ((1, 8, 8), 0), ((3, 32, 32), 0), ((32, 32, 3), 2), ((16, 9, 9), 2)],
)
def test_channels_are_found_first_or_last(shape: tuple[int, ...], axis: int | None) -> None:
    assert channel_axis(shape) == axis


def test_one_strong_pixel_does_not_fade_all_others() -> None:
    relevance = np.full((40, 40), 0.1)
    relevance[0, 0] = 100.0

    assert colour_end(relevance) == pytest.approx(0.1)
    assert colour_end(np.zeros((4, 4))) == 1.0
    one = np.zeros((40, 40))
    one[3, 3] = -2.0
    assert colour_end(one) == 2.0


@pytest.mark.parametrize(
    "shape", [(8, 8), (8, 8, 1), (3, 10, 16), (30,), (4, 4, 4, 2)], ids=["plane", "grey", "colour", "features", "cube"]
)
def test_every_kind_of_input_is_drawn(shape: tuple[int, ...]) -> None:
    picture = relevance_heatmaps(maps(shape, targets=2), title="Relevance in digits", width_pixels=640)

    assert (picture.name, picture.format, picture.width_pixels) == ("relevance", "png", 640)
    assert imread(io.BytesIO(picture.data)).shape[:2] == (picture.height_pixels, 640)
    assert "instance 1, class 1: 1.5" in picture.alternative_text


def test_relevance_is_summed_over_channels() -> None:
    relevance = np.zeros((1, 6, 6, 3))
    relevance[0, 2, 2] = [1.0, 1.0, -2.0]
    relevance[0, 4, 4] = [0.0, 1.0, 0.0]
    drawn = [
        imread(io.BytesIO(relevance_heatmaps([RelevanceMap(np.zeros((6, 6, 3)), r, ("c",), "i")], title="t").data))
        for r in (relevance, np.where(np.arange(3) == 1, relevance.sum(axis=-1, keepdims=True), 0))
    ]

    np.testing.assert_array_equal(*drawn)


def test_many_instances_make_a_picture_of_several_rows() -> None:
    few, many = [relevance_heatmaps(maps((8, 8), count=count), title="t") for count in (2, 30)]

    assert many.height_pixels > few.height_pixels
    assert many.width_pixels == few.width_pixels


def test_an_svg_is_well_formed_and_says_what_it_shows() -> None:
    picture = relevance_heatmaps(maps((8, 8)), title="Relevance in $digits$", file_format="svg")

    root = ElementTree.fromstring(picture.data)
    assert root.get("width") == "960"
    assert "$digits$" in picture.alternative_text


def test_a_width_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidField, match=r"render\.width_pixels"):
        relevance_heatmaps(maps((8, 8)), title="t", width_pixels=10)


COLUMNS = {
    "relevance_in": [[0.9, -1.8], [0.8, -1.8], [0.8, -1.8]],
    "bias": [[0.1, -0.2], [0.0, 0.0], [0.1, -0.2]],
    "stabiliser": [[0.0, 0.0], [0.05, 0.0], [0.05, 0.0]],
    "empty_branch": [[0.0, 0.0], [0.05, 0.0], [0.05, 0.0]],
    "sink": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
}


def test_shares_of_explanations_of_both_signs_add_up() -> None:
    ledger = _shares(["dense", "conv", "total"], np.array([1.0, -2.0]), COLUMNS)

    # (0.1 + 0.2) / 3 at the first layer, whatever the signs.
    np.testing.assert_allclose(ledger.shares["bias"], [0.1, 0.0, 0.1])
    np.testing.assert_allclose(ledger.arrived, [0.9, 2.6 / 3, 2.6 / 3])


@pytest.mark.parametrize("dark", [False, True])
def test_the_ledger_is_drawn_and_said_in_words(dark: bool) -> None:
    picture = ledger_by_layer(["dense", "conv", "total"], [1.0, -2.0], COLUMNS, title="Ledger", dark=dark)

    assert picture.name == "relevance-ledger"
    assert imread(io.BytesIO(picture.data)).shape[1] == 960
    assert "86.67 % reached the inputs" in picture.alternative_text
    assert "bias most at dense (10 %)" in picture.alternative_text


def test_a_ledger_of_hundreds_of_layers_stays_a_picture() -> None:
    names = [f"layer_{i}" for i in range(400)] + ["total"]
    columns = {name: np.full((401, 1), 0.001) for name in COLUMNS}

    picture = ledger_by_layer(names, [1.0], columns, title="Ledger", width_pixels=480)

    assert picture.height_pixels <= 4 * 480


def test_nothing_is_drawn_with_pyplot() -> None:
    program = (
        "import sys, numpy as np; from sidelight_engines.pictures import *; "
        "relevance_heatmaps([RelevanceMap(np.zeros((4, 4)), np.zeros((1, 4, 4)), ('c',), 'i')], title='t'); "
        "print('matplotlib.pyplot' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
