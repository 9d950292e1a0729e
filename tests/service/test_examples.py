"""The published experiments in `examples`, run as a user runs them against a server."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import sidelight
from similarity_serving import IMAGES, LABELS, put_digits
from test_process import _served, _until_available

CLASSES = range(10)
Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a process of its own, with a network of 8 x 8 digits."""
    folder = tmp_path_factory.mktemp("examples")
    put_digits(folder / "models")
    with _served(folder / "models", "--data", str(folder / "data"), "--address", "127.0.0.1:0") as (_, where, _lines):
        with grpc.insecure_channel(where) as channel:
            _until_available(channel, "digits")
        yield where


@pytest.fixture
def run(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example on 8 x 8 digits; the lines that it prints."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    np.savez(tmp_path / "digits.npz", x=IMAGES[..., 0], y=LABELS)

    def run_example(name: str, *options: object, source: str = str(tmp_path / "digits.npz")) -> list[str]:
        given = ["--server", address, "--images", source, "--out", str(tmp_path / "made"), *map(str, options)]
        importlib.import_module(name).main(given)
        return capsys.readouterr().out.splitlines()

    return run_example


def made(tmp_path: Path) -> set[str]:
    folder = tmp_path / "made"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_class_patterns_are_counted_over_the_published_divisor(run: Run, tmp_path: Path, address: str) -> None:
    lines = run("class_patterns", "--model", "digits", "--count-divisor", 1000)

    assert made(tmp_path) == {
        "class-neighbours-relu_3.png", "firing-rates-relu_3.png", "pattern-distances-relu_3-mean-absolute.png",
        "patterns.npz",
    }  # fmt: skip
    with sidelight.connect(address) as client:
        rates = client.activation_pattern("digits", IMAGES, labels=LABELS, layers=["relu_3"])["relu_3"].firing_rates
    counts = rates * np.bincount(LABELS)[:, np.newaxis]
    saved = np.load(tmp_path / "made" / "patterns.npz")
    np.testing.assert_allclose(saved["firing_rates_0"], counts / 1000, atol=1e-12)
    expected = np.abs(counts[:, np.newaxis] - counts).mean(axis=2) / 1000
    np.testing.assert_allclose(saved["distances_mean-absolute_0"], expected, atol=1e-12)
    nearest = lines[lines.index("The other classes, nearest first") + 1 :][:10]
    assert [line.split()[0] for line in nearest] == [str(label) for label in CLASSES]
    for label, line in enumerate(nearest):
        others = [int(word) for word in line.split("  ", 1)[1].split(", ")]
        assert sorted([*others, label]) == list(CLASSES)
        assert (np.diff(expected[label][others]) >= -1e-12).all()


def test_images_and_words_of_fashion_mnist_come_from_the_users_own_keras(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = ((IMAGES[:9, ..., 0], LABELS[:9]), (IMAGES[..., 0], LABELS))
    fashion = SimpleNamespace(load_data=lambda: halves)
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(datasets=SimpleNamespace(fashion_mnist=fashion)))

    lines = run("class_patterns", "--model", "digits", "--layer", "dense_1", source="fashion_mnist")

    assert lines[-1].startswith(f"{len(LABELS)} images, dense_1: ")
    nearest = lines[lines.index("The other classes, nearest first") + 1 :][:10]
    assert {line.split("  ")[0] for line in nearest} == {
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    }  # fmt: skip


def test_linearity_is_told_by_layer_and_by_class(run: Run, tmp_path: Path) -> None:
    lines = run("linearity_by_layer", "--model", "digits", "--instances", 10, "--per-class", 3)

    assert made(tmp_path) == {"linearity-by-layer.png", "linearity-by-layer.npz", "linearity-by-class.png"}
    by_layer = {line.split()[0]: line.split()[1:] for line in lines[1 : lines.index("")]}
    assert by_layer["conv_1"] == ["0.0000", "(affine)"]
    assert float(by_layer["relu_1"][0]) > 0
    assert list(by_layer)[-1] == "softmax"
    by_class = [line.split() for line in lines[lines.index("") + 2 :]]
    assert [words[0] for words in by_class] == [str(label) for label in CLASSES]
    assert all(float(words[1]) > 0 and words[2:] == ["over", "3"] for words in by_class)


def test_similar_examples_are_found_and_the_references_deleted(run: Run, tmp_path: Path, address: str) -> None:
    lines = run("similar_examples", "--model", "digits", "--references", 100, "--queries", 3)

    assert made(tmp_path) == {
        "most-and-least-similar.png", "similarity-strip.png", "similarity-class-means.png", "similarity.npz",
    }  # fmt: skip
    saved = np.load(tmp_path / "made" / "similarity.npz")
    assert saved["most_similar_scores"].shape == saved["least_similar_scores"].shape == (3, 5)
    assert (saved["most_similar_scores"].min(axis=1) > saved["least_similar_scores"].max(axis=1)).all()
    # No image is among its own references: each would be the most similar to itself, with a score of 1.
    assert saved["most_similar_scores"].max() < 0.9999
    assert sum("most  similar: " in line for line in lines) == 3
    with sidelight.connect(address) as client:
        assert client.references() == ()


def test_relevance_is_conserved_up_to_what_the_ledger_books(run: Run, tmp_path: Path) -> None:
    lines = run("conserved_relevance", "--model", "digits", "--instances", 4)

    numbers = {line[:30].strip(): line[30:].split() for line in lines[1 : lines.index("")]}
    assert len(numbers) == 6
    for error, *shares, residual in numbers.values():
        gone = sum(float(share.rstrip("%")) / 100 for share in shares)
        # Shares are printed to a thousandth, the error to two digits.
        assert abs(gone) == pytest.approx(float(error), rel=0.05, abs=0.003)
        assert float(residual) < 1e-5
    assert all(shares[1] == "0.0%" for name, shares in numbers.items() if name.endswith("no bias"))
    assert numbers["alpha 2 beta 1, renormalised"][3] == "0.0%"
    expected = {"relevance.png", "relevance-ledger.png", "relevance.npz"}
    assert {name.rpartition("/")[2] for name in made(tmp_path)} == expected
    assert len({name.partition("/")[0] for name in made(tmp_path)}) == 6


@pytest.mark.parametrize("from_file", [True, False])
def test_the_influence_of_pixels_on_every_label_is_written(run: Run, tmp_path: Path, from_file: bool) -> None:
    np.save(tmp_path / "p.npy", np.random.default_rng(0).dirichlet(np.ones(10), len(LABELS)))
    options = ["--predictions", tmp_path / "p.npy"] if from_file else ["--model", "digits"]

    lines = run("pixel_influence", *options)

    assert sum(line.startswith("label ") for line in lines) == 10
    assert "label 2: +" in "\n".join(lines)
    assert made(tmp_path) == {
        "influence-heatmaps.png", "influence-ranking.png", "influence-curves.png", "influence.npz",
    }  # fmt: skip
