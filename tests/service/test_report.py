"""The report of a served model, opened in a browser."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import sidelight
from job_serving import job_server
from onnx import TensorProto, helper
from serving import CLASSES, FEATURES, put_model
from sidelight_service.cli import app
from typer.testing import CliRunner

_BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
X = np.random.default_rng(0).normal(size=(60, FEATURES)).astype(np.float32)


def integer_model() -> onnx.ModelProto:
    """A model that takes whole numbers, around which nothing can be sampled."""
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Relu", ["floats"], ["hidden"], name="hidden"),
        helper.make_node("Softmax", ["hidden"], ["y"], name="softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "integers",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", FEATURES])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
async def reports(tmp_path_factory: pytest.TempPathFactory, small_model: onnx.ModelProto) -> Any:
    """Reports by what they are about, and what the command said."""
    root = tmp_path_factory.mktemp("report")
    put_model(root / "models", "small", 1, small_model)
    put_model(root / "models", "integers", 1, integer_model())
    np.save(root / "x.npy", X[:3])
    labels = np.arange(len(X)) % CLASSES
    made: dict[str, tuple[Path, Any]] = {}
    async with job_server(root / "models", root / "data", "small", "integers") as server:
        address = server.server.server.addresses[0]
        async with sidelight.connect_async(address) as client:
            await client.create_reference("labelled", X, labels)
            await client.create_reference("plain", X)
            await client.create_reference("integers", np.abs(X * 9).astype(np.int64), labels)
        for name, model, reference, more in (
            ("labelled", "small", "labelled", ()),
            ("plain", "small", "plain", ("--input", root / "x.npy", "--sample", 20)),
            ("integers", "integers", "integers", ()),
        ):
            path = root / f"{name}.html"
            command = ["report", "--server", address, "--model", model, "--reference", reference, "--out", path, *more]
            done = await asyncio.to_thread(CliRunner().invoke, app, [str(part) for part in command])
            assert done.exit_code == 0, done.output
            made[name] = (path, done)
        unknown = [
            "report",
            "--server",
            address,
            "--model",
            "small",
            "--reference",
            "none",
            "--out",
            root / "none.html",
        ]
        made["unknown"] = (
            root / "none.html",
            await asyncio.to_thread(CliRunner().invoke, app, [str(part) for part in unknown]),
        )
    return made


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Any]:
    """A browser of this machine."""
    named = os.environ.get("SIDELIGHT_TEST_BROWSER")
    path = named or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip("no browser to open the report with; install Chromium, or name one in SIDELIGHT_TEST_BROWSER")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        # Its sandbox needs rights that containers do not give.
        running = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        await running.close()


@asynccontextmanager
async def opened(browser: Any, path: Path, **options: Any) -> AsyncIterator[Any]:
    """A page; nothing may go wrong on it until it is closed."""
    wrong: list[str] = []
    context = await browser.new_context(**options)
    page = await context.new_page()
    page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url[:100]}"))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(f"asked: {request.url}"),
    )
    await page.goto(path.as_uri())
    yield page
    await context.close()
    assert wrong == []


NAMES = ["labelled", "plain", "integers"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_report_opens_without_an_error_or_a_request(reports: Any, browser: Any, name: str, scheme: str) -> None:
    async with opened(browser, reports[name][0], color_scheme=scheme) as page:
        assert await page.locator("h2").count() >= 3
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("name", NAMES)
async def test_a_report_fits_a_phone(reports: Any, browser: Any, name: str) -> None:
    size = {"width": 360, "height": 740}
    async with opened(browser, reports[name][0], viewport=size, is_mobile=True, has_touch=True) as page:
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        small = await page.evaluate(
            """() => [...document.querySelectorAll('button, nav a, a.download, summary')]
                .filter(e => e.getBoundingClientRect().height < 24).map(e => e.textContent)"""
        )
        assert small == []


@pytest.mark.parametrize("name", NAMES)
async def test_every_figure_has_words_and_numbers_that_can_be_downloaded(reports: Any, browser: Any, name: str) -> None:
    async with opened(browser, reports[name][0]) as page:
        count = await page.locator("figure").count()
        assert count >= 4
        for image in await page.locator("img").all():
            assert len(await image.get_attribute("alt") or "") > 20
            assert await image.evaluate("image => image.naturalWidth") > 0
    # Chromium holds the eleventh of many downloads from one tab back until somebody allows it.
    for first in range(0, count, 8):
        async with opened(browser, reports[name][0]) as page:
            for figure in (await page.locator("figure").all())[first : first + 8]:
                assert len(await figure.locator(".words").inner_text()) > 20
                async with page.expect_download() as started:
                    await figure.locator("a.download").click()
                download = await started.value
                rows = list(csv.reader(io.StringIO(Path(await download.path()).read_text("utf-8-sig"))))
                assert download.suggested_filename.endswith(".csv")
                assert len(rows) > 1
                assert len({len(row) for row in rows}) == 1


async def test_a_report_can_be_used_by_keyboard_alone(reports: Any, browser: Any) -> None:
    async with opened(browser, reports["labelled"][0]) as page:
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.id") == "theme"
        grounds = []
        for _ in range(3):
            await page.keyboard.press("Enter")
            grounds.append(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        # Light, dark, and as the system again, which is light here.
        assert grounds[0] == grounds[2] == "rgb(255, 255, 255)" != grounds[1]
        reached = set()
        for _ in range(80):
            await page.keyboard.press("Tab")
            reached.add(await page.evaluate("document.activeElement.tagName"))
            outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            on_page = await page.evaluate("document.activeElement !== document.body")
            assert outline != "none" or not on_page
        assert {"A", "SUMMARY"} <= reached
        await page.locator("summary").first.focus()
        await page.keyboard.press("Enter")
        assert await page.locator("details[open] table").first.is_visible()


async def test_what_a_screen_reader_meets_has_names_and_an_order(reports: Any, browser: Any) -> None:
    async with opened(browser, reports["labelled"][0]) as page:
        levels = await page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
        unnamed = await page.evaluate(
            """() => [...document.querySelectorAll('[role=region], nav, svg[role=img]')]
                .filter(e => !e.getAttribute('aria-label')).map(e => e.outerHTML.slice(0, 80))"""
        )
        assert unnamed == []
        ids = await page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))
        assert await page.get_attribute("html", "lang") == "en"
        links = await page.evaluate("[...document.querySelectorAll('nav a')].map(e => e.getAttribute('href').slice(1))")
        assert set(links) <= set(ids)


async def test_text_stands_out_from_its_ground_in_both_themes(reports: Any, browser: Any) -> None:
    contrast = """() => {
        const luminance = c => {
            const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
            canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
                .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ground = e => {
            for (; e; e = e.parentElement) {
                const c = getComputedStyle(e).backgroundColor;
                if (!/rgba?\\(.*, 0\\)$/.test(c)) return c;
            }
        };
        return [...document.querySelectorAll('p, td, th, dd, dt, li, a, h1, h2, h3, summary, button, figcaption')]
            .filter(e => e.textContent.trim() && e.getBoundingClientRect().height > 0)
            .map(e => {
                const [a, b] = [luminance(getComputedStyle(e).color), luminance(ground(e))].sort((x, y) => x - y);
                return [(b + 0.05) / (a + 0.05), e.textContent.trim().slice(0, 30)];
            }).filter(([ratio]) => ratio < 4.5);
    }"""
    for scheme in ("light", "dark"):
        async with opened(browser, reports["labelled"][0], color_scheme=scheme) as page:
            # WCAG 2.2, 1.4.3.
            assert await page.evaluate(contrast) == []


def test_the_command_says_where_the_report_is_and_what_is_not_in_it(reports: Any) -> None:
    path, done = reports["integers"]

    assert f"{path} (" in done.stdout
    assert "not in the report: Linearity: it needs exactly one floating-point input" in done.stderr
    html = path.read_text()
    assert "Not available for this model.</strong> It needs exactly one floating-point input" in html


def test_the_numbers_in_a_report_are_those_of_the_calls(reports: Any) -> None:
    html = reports["labelled"][0].read_text()
    at = html.index('download="small-1-firing-rates-at-relu-1.csv"')
    encoded = html[:at].rpartition("base64,")[2].partition('"')[0]
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(encoded).decode("utf-8-sig"))))

    assert len(rows) == CLASSES * 8
    # 60 examples in three classes: every rate is a multiple of 1/20.
    assert all((float(row["firing rate"]) * 20) % 1 == pytest.approx(0, abs=1e-9) for row in rows)


def test_a_reference_set_that_is_not_there_is_said_at_once(reports: Any) -> None:
    path, done = reports["unknown"]

    assert done.exit_code == 1
    assert "none" in done.output
    assert not path.exists()
