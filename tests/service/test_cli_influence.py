"""``sidelight explain influence`` against a fake server in this process."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sidelight.v1 import influence_pb2
from sidelight_service.cli import app
from typer.testing import CliRunner

X = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)


@pytest.fixture(scope="module")
def fakes() -> Any:
    """The fake server's module, which lives with the tests of the client."""
    sys.path.append(str(Path(__file__).parents[1] / "clients" / "python"))
    return importlib.import_module("fake_server")


@pytest.fixture
def fake(fakes: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with fakes.serving() as server:
        monkeypatch.setenv("SIDELIGHT_SERVER", server.address)
        yield server


@pytest.fixture
def x(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


def explain(*arguments: object) -> Any:
    words = [str(argument) for argument in ("explain", "influence", *arguments)]
    return CliRunner().invoke(app, words, env={"COLUMNS": "240"})


def test_the_features_that_move_most_come_first(fake: Any, x: Path) -> None:
    done = explain("--model", "digits", "--input", x)

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split()[:5] == ["feature", "label", "mean", "at", "-1"]
    assert lines[1].split()[:5] == ["a", "0", "6", "0.2500", "1.0000"]
    assert lines[1].endswith("not attained")
    assert lines[2].split()[:2] == ["d", "0"]
    assert "log-loss" in done.stdout
    assert "0.5000 ± 0.01 by d" in done.stdout
    assert "digits:3" in done.stdout
    assert "Warning TARGETS_NOT_ATTAINED: 1 of 4" in done.stderr


def test_every_option_of_influence_reaches_the_server(fake: Any, x: Path, fakes: Any, tmp_path: Path) -> None:
    files = {}
    for name, values in (("labels", [0, 1, 0]), ("groups", [5, 5, 6]), ("predictions", [[0.5, 0.5]] * 3)):
        files[name] = tmp_path / f"{name}.npy"
        np.save(files[name], values)

    done = explain(
        "--model", "digits:2", "--input", x, "--metric", "accuracy", "--metric", "log-loss", "--taus=-0.5,0.5",
        "--features", "3,0", "--feature-names", "a,b,c,d", "--quantiles", "0.1,0.9", "--unattainable", "missing",
        "--confidence", "0.9", "--ethik-compatible", *(part for n, f in files.items() for part in (f"--{n}", f)),
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    (sent,) = fake.requests
    assert (sent.model.name, sent.model.version) == ("digits", 2)
    parameters = sent.parameters
    for name, path in files.items():
        np.testing.assert_array_equal(fakes.to_array(getattr(parameters, name)), np.load(path))
        parameters.ClearField(name)
    assert parameters == influence_pb2.InfluenceParameters(
        taus=[-0.5, 0.5], features=[3, 0], feature_names=list("abcd"), low_quantile=0.1, high_quantile=0.9,
        metrics=[1, 2], unattainable=2, confidence_level=0.9, ethik_compatible=True,
    )  # fmt: skip


def test_a_number_of_taus_is_that_many_evenly_spaced(fake: Any, x: Path) -> None:
    explain("--model", "digits", "--input", x, "--taus", "5")

    assert list(fake.requests[0].parameters.taus) == [-1, -0.5, 0, 0.5, 1]


def test_examples_of_a_reference_set_are_selected_there(fake: Any) -> None:
    explain("--model", "digits", "--reference", "train", "--classes", "3,4", "--sample", "50", "--output", "p")

    (sent,) = fake.requests
    assert sent.instances.reference.reference == "train"
    assert list(sent.instances.reference.class_filter.classes) == [3, 4]
    assert sent.instances.reference.sample.count == 50
    assert sent.parameters.output == "p"


def test_json_is_all_there_is_on_standard_output(fake: Any, x: Path) -> None:
    done = explain("--model", "digits", "--input", x, "--json")

    assert json.loads(done.stdout)["features"] == [3, 0]


def test_files_and_pictures_are_written(fake: Any, x: Path, tmp_path: Path) -> None:
    names = {option: tmp_path / f"r{number}.{kind}" for number, (option, kind) in enumerate(
        {"--out": "npz", "--csv": "csv", "--plot": "png", "--plot-curves": "svg", "--plot-ranking": "png"}.items()
    )}  # fmt: skip

    done = explain("--model", "digits", "--input", x, *(part for pair in names.items() for part in pair))

    assert done.exit_code == 0, done.output
    starts = {option: path.read_bytes()[:8] for option, path in names.items()}
    assert starts["--out"].startswith(b"PK")
    assert starts["--csv"] == b"feature,"
    assert starts["--plot"].startswith(b"\x89PNG")
    assert starts["--plot-curves"].startswith(b"<?xml")
    assert starts["--plot-ranking"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "m"), "--input FILE or --reference NAME"),
        (("--reference", "r"), "--model NAME, or --predictions FILE"),
        (("--model", "m", "--reference", "r", "--taus", "a,b"), "no list of numbers"),
        (("--model", "m", "--reference", "r", "--plot", "r.jpg"), "neither in .png nor in .svg"),
        (("--model", "m", "--reference", "r", "--csv", "/nowhere/r.csv"), "no directory /nowhere"),
        (("--model", "m", "--reference", "r", "--csv", "/nowhere/r.csv"), "--csv: there"),
        (("--model", "m", "--reference", "r", "--plot-curves", "r.jpg"), "--plot-curves: r.jpg ends"),
        (("--model", "m", "--reference", "r", "--plot-ranking", "/nowhere/r.png"), "--plot-ranking: there"),
        (("--model", "m", "--reference", "r", "--wait"), "goes with --job"),
        (("--model", "m", "--reference", "r", "--job", "--csv", "r.csv"), "add --wait"),
        (("--model", "m", "--reference", "r", "--metric", "speed"), "Invalid value for '--metric'"),
    ],
)
def test_a_wrong_call_ends_with_status_two_before_anything_is_sent(
    fake: Any, arguments: tuple[str, ...], words: str
) -> None:
    done = explain(*arguments)

    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())
    assert not fake.requests
