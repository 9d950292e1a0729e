"""The bar chart of linearity by layer."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from sidelight_engines.errors import InvalidField
from sidelight_engines.pictures import Picture, linearity_by_layer
from sidelight_engines.pictures.theme import DARK, LIGHT, Theme

NAMES = ["conv_1", "relu_1", "dense_1", "softmax"]
MEANS = [0.0, 0.2, 0.5, 0.8]


def draw(names: list[str] = NAMES, means: Any = MEANS, **options: Any) -> Picture:
    return linearity_by_layer(names, means, **{"output_index": len(names) - 1, "title": "Linearity"} | options)


def pixels(picture: Picture) -> np.ndarray[Any, Any]:
    return imread(io.BytesIO(picture.data), format="png")[..., :3]


def share(picture: Picture, colour: str) -> float:
    """How much of the picture has exactly this colour."""
    return float((np.abs(pixels(picture) - to_rgb(colour)).max(axis=-1) < 0.5 / 255).mean())


def luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2.2."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", [160, 479, 961, 2048])
def test_a_png_has_the_size_it_claims(width: int) -> None:
    picture = draw(width_pixels=width)

    assert picture.data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture.data[16:24]) == (width, picture.height_pixels)
    assert picture.width_pixels == width


@pytest.mark.parametrize("width", [333, 1001])
def test_an_svg_has_the_size_it_claims_and_tells_what_it_shows(width: int) -> None:
    picture = draw(width_pixels=width, file_format="svg")

    root = ElementTree.fromstring(picture.data)
    assert (root.get("width"), root.get("height")) == (str(width), str(picture.height_pixels))
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == picture.alternative_text


@pytest.mark.parametrize("width", [159, 4097, 0, -1])
def test_a_width_out_of_range_is_refused(width: int) -> None:
    with pytest.raises(InvalidField, match="160 to 4096"):
        draw(width_pixels=width)


@pytest.mark.parametrize("dark", [False, True])
def test_the_output_alone_has_the_accent_colour(dark: bool) -> None:
    theme = DARK if dark else LIGHT
    with_output, without = draw(dark=dark), draw(dark=dark, output_index=None)

    assert share(with_output, theme.accent) > 0.05
    assert share(with_output, theme.plain) > 0.05
    assert share(with_output, theme.ground) > 0.5
    assert share(without, theme.accent) == 0


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_stand_out_for_every_kind_of_colour_vision(theme: Theme) -> None:
    # WCAG 2.2: 1.4.3 asks 4.5 of text, 1.4.11 asks 3 of marks. Luminance does not depend on hue.
    assert min(contrast(theme.text, theme.ground), contrast(theme.quiet, theme.ground)) >= 4.5
    assert min(contrast(theme.plain, theme.ground), contrast(theme.accent, theme.ground)) >= 3
    assert contrast(theme.plain, theme.accent) > 1.4


def test_the_words_name_every_layer_its_value_and_why_it_is_zero() -> None:
    picture = draw(zero_reasons=["affine", "below noise", "", ""])

    assert picture.alternative_text == (
        "Bar chart: Linearity. L measure of 4 layers in order of evaluation: "
        "conv_1 0 (affine), relu_1 0.200, dense_1 0.500. The output, softmax 0.800."
    )


def test_the_words_for_many_layers_name_the_extremes() -> None:
    names = [f"layer_{i}" for i in range(60)]

    text = draw(names, np.linspace(0.1, 2, 60)).alternative_text

    assert "60 layers" in text
    assert "most linear layer is layer_0 0.100, the least linear layer_58" in text
    assert len(text) < 250


def test_zero_bars_are_labelled_and_others_are_not() -> None:
    bare, labelled = draw(means=[0.0] * 4), draw(means=[0.0] * 4, zero_reasons=["affine"] * 4)
    unaffected = draw(means=[1.0] * 4, zero_reasons=["affine"] * 4)

    assert bare.data != labelled.data
    assert unaffected.data == draw(means=[1.0] * 4).data


def test_whiskers_are_drawn_inside_the_picture() -> None:
    plain = draw()
    whiskers = draw(low=[0, 0.1, 0.3, 0.5], high=[0, 0.3, 0.9, 4.0])

    assert plain.data != whiskers.data
    # The scale ends above the longest whisker, so the bars are shorter.
    assert share(whiskers, LIGHT.accent) < share(plain, LIGHT.accent) / 2


def test_many_layers_lie_and_the_picture_grows_up_to_four_times_its_width() -> None:
    sizes = [draw([f"block_{i}/conv" for i in range(n)], np.ones(n), width_pixels=480) for n in (15, 40, 110)]

    assert [picture.height_pixels for picture in sizes] == sorted({picture.height_pixels for picture in sizes})
    assert sizes[-1].height_pixels == 4 * 480


def test_names_from_a_model_file_are_not_taken_for_markup() -> None:
    draw(["$x_{", "_hidden", "a" * 300, r"\frac$"], [1, 2, 3, 4.0], title="$of_$ a:1")


def test_a_single_layer_can_be_drawn() -> None:
    assert "The output, y 2.0e-05" in draw(["y"], [2e-5]).alternative_text


def test_the_same_result_gives_the_same_png() -> None:
    assert draw().data == draw().data


def test_drawing_leaves_the_process_as_it_was() -> None:
    before = dict(mpl.rcParams)

    draw()

    assert dict(mpl.rcParams) == before


def test_matplotlib_is_imported_when_a_picture_is_drawn_and_pyplot_never() -> None:
    program = (
        "import sys; from sidelight_engines.pictures import linearity_by_layer; print('matplotlib' in sys.modules);"
        "linearity_by_layer(['a'], [1.0], output_index=0, title='t');"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True", "False"]
