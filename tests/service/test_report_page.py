"""The page of a report: escaped, self-contained, with its numbers in it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.image import imread
from sidelight_service.report.figures.bars import Bar, bars, boxes
from sidelight_service.report.figures.curves import Curve, curves
from sidelight_service.report.figures.images import coloured_png
from sidelight_service.report.figures.matrices import matrix, raster
from sidelight_service.report.page import MOST_ROWS, Data, Figure, Page, Section
from sidelight_service.report.rendering import render

HOSTILE = "\"><script>alert(1)</script>&<img src=x onerror=alert(1)>'"


class Elements(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.found if found == tag]


def page(*sections: Section, title: str = "digits, version 1") -> str:
    return render(Page(title, "sha256:abc", "today", sections))


def section(**fields: Any) -> Section:
    return Section("s", "A section", "What is asked?", "how it is read.", **fields)


def figure(**fields: Any) -> Figure:
    data = Data.of(("name", "value"), [("a", 1.5), ('b,"c', None), ("=1+1", -2.0)])
    return Figure(**({"title": "A figure", "body": Markup("<p>x</p>"), "words": "In short.", "data": data} | fields))


def test_names_from_a_model_file_can_not_become_elements_of_the_page() -> None:
    drawn = bars([Bar(HOSTILE, 1.0, note=HOSTILE)], HOSTILE) + boxes([(HOSTILE, np.ones(3))], HOSTILE)
    drawn += matrix(np.eye(2), [HOSTILE, "b"], title=HOSTILE, scale=HOSTILE, words=HOSTILE)
    drawn += matrix(np.eye(30), [HOSTILE] * 30, title=HOSTILE, scale=HOSTILE, words=HOSTILE)
    fields = {"title": HOSTILE, "words": HOSTILE, "body": drawn, "data": Data.of((HOSTILE,), [(HOSTILE,)])}

    html = page(
        section(figures=[figure(**fields)], settings=[(HOSTILE, HOSTILE)], trust=[HOSTILE]),
        section(unavailable=HOSTILE),
        title=HOSTILE,
    )

    elements = Elements(html)
    assert len(elements.all("script")) == 1
    assert not [attributes for _, attributes in elements.found if "onerror" in attributes]
    assert all(attributes["src"] != "x" for attributes in elements.all("img"))


def test_a_page_refers_to_nothing_outside_itself() -> None:
    elements = Elements(page(section(figures=[figure()])))

    targets = [
        value for _, attributes in elements.found for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(target is not None and target.startswith(("data:", "#")) for target in targets)
    (policy,) = [m["content"] for m in elements.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_the_policy_allows_the_pages_own_script_and_no_other() -> None:
    html = page(section())

    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html


def test_the_numbers_of_a_figure_are_a_download_that_reads_back() -> None:
    (link,) = [a for a in Elements(page(section(figures=[figure()]))).all("a") if "download" in a]

    kind, _, encoded = (link["href"] or "").partition(",")
    text = base64.b64decode(encoded).decode("utf-8-sig")
    assert kind == "data:text/csv;charset=utf-8;base64"
    assert link["download"] == "digits-1-a-figure.csv"
    # What a spreadsheet would run is kept from it.
    assert list(csv.reader(io.StringIO(text))) == [["name", "value"], ["a", "1.5"], ['b,"c', ""], ["'=1+1", "-2.0"]]


def test_no_more_numbers_are_kept_than_a_phone_can_open_and_the_page_says_so() -> None:
    made = []

    def rows() -> Iterator[tuple[int]]:
        for number in range(10**9):
            made.append(number)
            yield (number,)

    html = page(section(figures=[figure(data=Data.of(("n",), rows(), 10**9))]))

    assert len(made) == MOST_ROWS + 1
    assert "(CSV: the first 50,000 of 1,000,000,000 rows" in html


def test_a_section_says_how_to_read_it_its_settings_and_how_far_to_trust_it() -> None:
    html = page(section(figures=[figure()], settings=[("seed", "7")], trust=["Not far."]))

    for text in ("What is asked?", "how it is read.", "In short.", "<dt>seed</dt><dd>7</dd>", "<li>Not far.</li>"):
        assert text in html


def test_a_section_with_nothing_to_show_says_why() -> None:
    html = page(section(unavailable="node 'x': Loop: no entry", figures=[figure()]))

    assert "Not available for this model." in html
    assert "Node &#39;x&#39;: Loop: no entry." in html
    assert "<figure" not in html


def test_bars_share_a_scale_that_ends_at_the_highest_whisker() -> None:
    drawn = bars([Bar("a", 1.0, 0.5, 2.0), Bar("b", 0.0)], "L")

    assert 'style="width:50.0%"' in drawn
    assert 'style="left:25.0%;width:75.0%"' in drawn
    assert 'style="width:0.0%"' in drawn


def test_boxes_show_the_quartiles() -> None:
    drawn = boxes([("a", np.array([0.0, 1.0, 2.0, 3.0, 4.0]))], "L")

    assert 'class="line" style="left:0.0%;width:100.0%"' in drawn
    assert 'class="box" style="left:25.0%;width:50.0%"' in drawn
    assert 'class="median" style="left:50.0%"' in drawn


def test_curves_break_where_a_value_is_missing_and_share_round_ticks() -> None:
    places = np.linspace(-1, 1, 5)
    lines = [Curve("a", np.array([0.0, 1.0, np.nan, 2.0, 4.0]), np.full(5, 0.1)), Curve("b", np.ones(5))]

    drawn = curves(places, lines, x_name="tau", y_name="mean", words="Up it goes.")

    (first, second) = re.findall(r'class="curve c[01]" d="([^"]*)"/>\n', drawn)
    assert (first.count("M"), first.count("L")) == (2, 2)
    assert (second.count("M"), second.count("L")) == (1, 4)
    assert re.findall(r'text-anchor="end">([^<]*)<', drawn) == ["0", "1", "2", "3", "4"]
    assert 'aria-label="Up it goes."' in drawn


def test_a_matrix_as_an_image_has_a_pixel_per_cell_from_dark_to_bright() -> None:
    address = coloured_png(np.array([[0.0, 0.5, 1.0], [1.0, 0.0, 0.25]]))

    file = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    pixels = np.round(imread(io.BytesIO(file), format="png") * 255).astype(int)
    assert pixels.shape == (2, 3, 3)
    # The ends of cividis.
    assert pixels[0, 0].tolist() == [0, 34, 78]
    assert pixels[0, 2].tolist() == [254, 232, 56]


def test_a_matrix_of_very_many_columns_shows_means_of_neighbours() -> None:
    values = np.tile([0.0, 1.0, 0.5], 3000).reshape(1, -1)

    drawn = raster(values, ["a"], words="Wide.", low="0", high="1", columns="units")

    assert "units, 3 of them together as their mean" in drawn
    file = base64.b64decode((Elements(drawn).all("img")[0]["src"] or "").partition(",")[2])
    pixels = imread(io.BytesIO(file), format="png")
    assert pixels.shape[:2] == (1, 3000)
    assert np.ptp(pixels, axis=1).max() == 0


@pytest.mark.parametrize(("count", "tag"), [(24, "table"), (25, "img")])
def test_large_matrices_are_images_with_their_words(count: int, tag: str) -> None:
    drawn = matrix(np.eye(count), [str(i) for i in range(count)], title="classes", scale="", words="So it is.")

    elements = Elements(drawn)
    assert elements.all(tag)
    if tag == "img":
        assert elements.all("img")[0]["alt"] == "So it is."
