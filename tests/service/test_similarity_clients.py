"""Similarity by the Python clients and the command line, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sidelight
from sidelight_service.cli import app
from similarity_serving import IMAGES, INSTANCES, LABELS, REFERENCES, X, Y, put_digits
from test_process import _served, _until_available
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a process of its own, with the network and its references."""
    folder = tmp_path_factory.mktemp("similarity")
    put_digits(folder / "models")
    with _served(folder / "models", "--data", str(folder / "data"), "--address", "127.0.0.1:0") as (_, where, _lines):
        with grpc.insecure_channel(where) as channel, sidelight.connect(where) as client:
            _until_available(channel, "digits")
            client.create_reference("train", IMAGES[INSTANCES:], LABELS[INSTANCES:])
        yield where


@pytest.fixture
def client(address: str) -> Iterator[sidelight.Client]:
    with sidelight.connect(address) as connected:
        yield connected


@pytest.fixture
def files(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    monkeypatch.setenv("SIDELIGHT_SERVER", address)
    return tmp_path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "240"})


def explain(files: Path, *arguments: object) -> Any:
    x, y = files / "x.npy", files / "y.npy"
    given = ("--model", "digits", "--reference", "train", "--input", x, "--labels", y)
    return run("explain", "similarity", *given, *arguments)


def test_an_index_is_built_and_used(client: sidelight.Client) -> None:
    expected = client.similarity("digits", X, reference="train", labels=Y, bottom=2, class_means=True)
    assert expected.provenance.forward_rows == INSTANCES + REFERENCES

    index = client.submit_gradient_index("digits", "train").wait(timeout=60).result()

    assert isinstance(index, sidelight.GradientIndex)
    assert index.reference_digest == client.reference("train").digest == expected.reference_digest
    found = client.similarity("digits", X, reference="train", labels=Y, bottom=2, class_means=True)
    assert found.provenance.forward_rows == INSTANCES
    np.testing.assert_array_equal(found.most_similar.indices, expected.most_similar.indices)
    np.testing.assert_allclose(found.most_similar.scores, expected.most_similar.scores, atol=1e-5)
    assert found.by_label is not None
    assert found.by_label.counts.sum() == REFERENCES
    np.testing.assert_array_equal(found.most_similar.labels, LABELS[INSTANCES + found.most_similar.indices])


async def test_a_job_gives_what_the_call_gives(client: sidelight.Client, address: str) -> None:
    expected = client.similarity("digits", X, reference="train", function="dot", top=3)
    job = client.submit_similarity("digits", X, reference="train", function="dot", top=3).wait(timeout=60)
    assert job.info.kind == "similarity"
    np.testing.assert_array_equal(job.result().most_similar.indices, expected.most_similar.indices)

    async with sidelight.connect_async(address) as other:
        again = await other.submit_similarity("digits", X, reference="train", function="dot", top=3)
        found = await (await again.wait(timeout=60)).result()
        assert isinstance(found, sidelight.SimilarityExplanation)
        np.testing.assert_array_equal(found.most_similar.scores, job.result().most_similar.scores)
        built = await (await (await other.submit_gradient_index("digits", "train")).wait(timeout=60)).result()
        assert built.values_per_reference > 0


def test_the_command_line_shows_and_draws(files: Path) -> None:
    done = explain(files, "--top", 2, "--bottom", 1, "--class-means", "--plot", files / "strip.png", "--plot-means",
                   files / "means.png", "--out", files / "r.npz")  # fmt: skip

    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["row", "predicted", "gradient", "norm"]
    assert "index (label) score" in lines[0]
    with np.load(files / "r.npz") as held:
        index, score = held["most_similar_indices"][0, 0], held["most_similar_scores"][0, 0]
    assert f"{index} ({LABELS[INSTANCES + index]}) {score:.4g}, " in lines[1]
    for name in ("strip.png", "means.png"):
        assert (files / name).read_bytes().startswith(b"\x89PNG")


def test_every_option_of_the_command_line_reaches_the_server(files: Path) -> None:
    done = explain(
        files,
        *(
            "--function",
            "asym-dot",
            "--loss",
            "categorical-cross-entropy",
            "--layers",
            "dense_1",
            "--norm-offset",
            1e-7,
        ),
        *("--all-scores", "--layer-contributions", "--indices", "7,3,5", "--top", 3, "--aggregate", "--json"),
        *("--checkpoint", "digits:1=-1"),
    )

    assert done.exit_code == 0, done.output
    read = json.loads(done.stdout)
    assert read["layers"] == ["dense_1"]
    assert read["most_similar"]["indices"] == [[3, 5, 7]]  # all the same, because the checkpoint takes all away
    assert read["scores"] == [[0, 0, 0]]
    assert np.shape(read["most_similar"]["layer_scores"]) == (1, 3, 1)
    assert read["predictions"] is None


def test_a_job_of_the_command_line_can_be_read_later(files: Path) -> None:
    made = explain(files, "--top", 1, "--job")
    assert made.exit_code == 0, made.output
    job = made.stdout.strip()
    assert run("jobs", "watch", job).exit_code == 0

    shown = run("jobs", "result", job, "--json")
    assert np.shape(json.loads(shown.stdout)["most_similar"]["indices"]) == (INSTANCES, 1)
    undrawn = run("jobs", "result", job, "--plot", files / "late.png")
    assert undrawn.exit_code == 1
    assert "none was asked for" in undrawn.stderr

    waited = explain(files, "--job", "--wait", "--plot", files / "job.svg")
    assert waited.exit_code == 0, waited.output
    assert (files / "job.svg").read_bytes().startswith(b"<?xml")


def test_the_command_line_builds_indexes(files: Path) -> None:
    built = run("index", "build", "--model", "digits", "--reference", "train", "--precision", "float16")
    assert built.exit_code == 0, built.output
    assert "numbers per reference" in built.stdout

    detached = run("index", "build", "--model", "digits", "--reference", "train", "--detach", "--json")
    job = json.loads(detached.stdout)["id"]
    assert run("jobs", "watch", job).exit_code == 0
    assert json.loads(run("jobs", "result", job, "--json").stdout)["values_per_reference"] > 0
    wrong = run("jobs", "result", job, "--plot", files / "x.png")
    assert "the job has built an index" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (("--plot", "strip.gif"), 2, "--plot: strip.gif ends neither"),
        (("--plot-means", "/nowhere/m.png"), 2, "--plot-means: there is no directory"),
        (("--plot", "a.png", "--plot-means", "b.svg"), 2, "both come in one format"),
        (("--wait",), 2, "--wait: goes with --job"),
        (("--job", "--out", "r.npz"), 2, "a job has no result yet"),
        (("--checkpoint", "digits"), 2, "is not MODEL=WEIGHT"),
        (("--layers", "dense"), 2, "did you mean"),
        (("--loss", "squared-error", "--plot-means", "m.png"), 1, "there are no classes"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    files: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, complaint: str
) -> None:
    monkeypatch.chdir(files)
    done = explain(files, *arguments)

    assert done.exit_code == status
    assert complaint in done.stderr
