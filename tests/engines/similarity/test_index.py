"""An index gives what its references give, survives crashes, and is refused when it does not fit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sidelight_engines.control import Control
from sidelight_engines.errors import IndexDamaged, IndexStale, NonFiniteGradient, Stopped
from sidelight_engines.similarity import (
    Chunking,
    Examples,
    GradientIndex,
    GradientOptions,
    IndexOptions,
    Labels,
    LayerSelection,
    Loss,
    Precision,
    SimilarityFunction,
    SimilarityParameters,
    build_index,
    explain_similarity,
    open_index,
)
from sidelight_engines.similarity.index import files

if TYPE_CHECKING:
    from tests.engines.similarity.conftest import Array, Digits, ZooNetwork

REFERENCES = slice(8, 208)
CHUNK_ROWS = 32


def build(digits: Digits, folder: Path, precision: Precision = Precision.FLOAT32, **more: Any) -> GradientIndex:
    options = IndexOptions(precision=precision, chunk_rows=CHUNK_ROWS)
    chunking = Chunking(rows=20)
    return build_index(
        digits.model, digits.examples(REFERENCES), options, folder, "model", "set", chunking=chunking, **more
    )


def scores(digits: Digits, references: GradientIndex | Examples, **more: Any) -> Array:
    parameters = SimilarityParameters(all_scores=True, **more)
    result = explain_similarity(digits.model, digits.examples(slice(0, 8)), parameters, references)
    return np.stack([r.scores for r in result.rankings if r.scores is not None]).astype(np.float64)


@pytest.fixture(scope="module")
def complete(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete index."""
    folder = tmp_path_factory.mktemp("index") / "complete"
    build(digits, folder)
    return folder


@pytest.fixture
def copied(complete: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(complete, tmp_path / "copied"))


@pytest.mark.parametrize("function", list(SimilarityFunction))
def test_an_index_gives_the_scores_of_its_references(
    digits: Digits, complete: Path, function: SimilarityFunction
) -> None:
    expected = scores(digits, digits.examples(REFERENCES), function=function)
    found = scores(digits, open_index(complete, "model"), function=function)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_an_index_says_what_it_holds(digits: Digits, complete: Path) -> None:
    index = open_index(complete, "model")
    assert len(index) == 200
    assert index.header.reference_digest == "set"
    assert index.header.options == GradientOptions(Loss.CATEGORICAL_CROSS_ENTROPY, digits.model.graph.outputs[0].name)
    np.testing.assert_array_equal(index.rows.labels, digits.labels[REFERENCES])
    assert index.size_bytes == sum(path.stat().st_size for path in complete.iterdir())
    assert not list(complete.parent.glob("*.partial"))


def test_float16_keeps_scores_and_the_first_five(digits: Digits, complete: Path, tmp_path: Path) -> None:
    half = build(digits, tmp_path / "half", Precision.FLOAT16)
    whole = open_index(complete, "model")
    assert sum(f.nbytes for f in half.rows.fields) * 2 == sum(f.nbytes for f in whole.rows.fields)
    exact, found = scores(digits, whole), scores(digits, half)
    # 11 bits of each number, relative to the largest of its row.
    np.testing.assert_allclose(found, exact, atol=3e-4)
    np.testing.assert_array_equal(np.argsort(-found)[:, :3], np.argsort(-exact)[:, :3])


def test_factors_over_positions_and_tables_are_scanned_as_they_are_compared(
    zoo: dict[str, ZooNetwork], tmp_path: Path
) -> None:
    model = zoo["sequence"].saved_model
    same = zoo["sequence"].examples(model, 30)
    for precision, tolerance in ((Precision.FLOAT32, 1e-5), (Precision.FLOAT16, 2e-3)):
        index = build_index(model, same, IndexOptions(precision=precision), tmp_path / precision.value, "m", "r")
        for layers in ((), ("over_time", "table"), ("wide",)):
            chosen = GradientOptions(layers=LayerSelection(layers))
            parameters = SimilarityParameters(gradients=chosen, all_scores=True, top=30)
            for ranking in explain_similarity(model, same, parameters, index).rankings:
                assert ranking.scores is not None
                exact = {example.index: example.score for example in ranking.most_similar}
                np.testing.assert_allclose(ranking.scores, [exact[i] for i in range(30)], atol=tolerance)


class CrashError(Exception):
    """Stands for the death of the process."""


def crashing_points(monkeypatch: pytest.MonkeyPatch, fatal: int) -> Iterator[int]:
    """Makes the `fatal`-th touch of the disk the last; yields nothing."""
    count = 0
    sync, replace, rename = files.os.fsync, Path.replace, Path.rename

    def touch() -> None:
        nonlocal count
        count += 1
        if count == fatal:
            raise CrashError

    def fsync(descriptor: int) -> None:
        touch()
        sync(descriptor)

    def replacing(self: Path, target: Path) -> Path:
        touch()
        return replace(self, target)

    def renaming(self: Path, target: Path) -> Path:
        touch()
        return rename(self, target)

    monkeypatch.setattr(files.os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replacing)
    monkeypatch.setattr(Path, "rename", renaming)
    yield from ()


@pytest.mark.parametrize("fatal", [1, 2, 3, 5, 9, 20, 47, 71, 83, *range(92, 101)])
def test_a_crash_at_any_point_leaves_what_can_be_gone_on_with(
    digits: Digits, complete: Path, tmp_path: Path, fatal: int
) -> None:
    folder = tmp_path / "index"
    with pytest.MonkeyPatch.context() as patch:
        list(crashing_points(patch, fatal))
        try:
            build(digits, folder)
        except CrashError:
            if folder.exists():
                open_index(folder, "model")
        else:
            assert fatal > 90
    seen: list[int] = []
    index = build(digits, folder, control=Control(progress=lambda done, total: seen.append(done)))
    expected = open_index(complete, "model")
    for found, wanted in zip(index.rows.fields, expected.rows.fields, strict=True):
        # A pass that is cut elsewhere may round otherwise.
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]


def test_a_stopped_build_goes_on_from_its_last_chunk(digits: Digits, tmp_path: Path) -> None:
    done: list[int] = []
    stopping = Control(should_stop=lambda: bool(done) and done[-1] >= 100, progress=lambda d, _: done.append(d))
    with pytest.raises(Stopped):
        build(digits, tmp_path / "index", control=stopping)
    again: list[int] = []
    build(digits, tmp_path / "index", control=Control(progress=lambda d, _: again.append(d)))
    assert again[0] == 96
    assert again[-1] == 200


def test_a_build_for_another_model_does_not_go_on_with_what_it_finds(digits: Digits, tmp_path: Path) -> None:
    done: list[int] = []
    stopping = Control(should_stop=lambda: bool(done) and done[-1] >= 100, progress=lambda d, _: done.append(d))
    with pytest.raises(Stopped):
        build(digits, tmp_path / "index", control=stopping)
    again: list[int] = []
    build_index(
        digits.model,
        digits.examples(REFERENCES),
        IndexOptions(chunk_rows=CHUNK_ROWS),
        tmp_path / "index",
        "another model",
        "set",
        Control(progress=lambda d, _: again.append(d)),
    )
    assert again[0] == 0
    open_index(tmp_path / "index", "another model")


def test_a_full_disk_is_an_error_that_building_goes_on_from(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            build(digits, tmp_path / "index")
    assert not (tmp_path / "index").exists()
    build(digits, tmp_path / "index")


def test_every_damaged_file_is_found_when_an_index_is_opened(copied: Path) -> None:
    for path in sorted(copied.glob("*.npy")):
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        with pytest.raises(IndexDamaged, match=r"rows 192 to 199 .* not as written"):
            open_index(copied, "model")
        content[-5] ^= 1
        path.write_bytes(content)
    open_index(copied, "model")


def test_a_missing_or_shortened_file_is_found(copied: Path) -> None:
    path = copied / "field_000.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-64])
    with pytest.raises(IndexDamaged, match="can not be read"):
        open_index(copied, "model")
    path.unlink()
    with pytest.raises(IndexDamaged, match="can not be read"):
        open_index(copied, "model")
    (copied / "header.json").write_text("{}")
    with pytest.raises(IndexDamaged, match="header"):
        open_index(copied, "model")


def test_an_index_of_another_model_is_refused(complete: Path) -> None:
    with pytest.raises(IndexStale, match="build it anew") as caught:
        open_index(complete, "another")
    assert caught.value.built_for == "model"
    assert caught.value.given == "another"


def test_an_index_of_another_loss_is_refused(digits: Digits, complete: Path) -> None:
    squared = SimilarityParameters(gradients=GradientOptions(Loss.SQUARED_ERROR))
    with pytest.raises(IndexStale, match="CATEGORICAL_CROSS_ENTROPY"):
        explain_similarity(digits.model, digits.examples(slice(0, 1)), squared, open_index(complete, "model"))


def test_a_reference_without_a_finite_gradient_is_named(digits: Digits, tmp_path: Path) -> None:
    images = digits.images[:50].copy()
    images[37, 2, 2] = np.nan
    references = Examples({digits.model.graph.inputs[0].name: images}, Labels(digits.labels[:50]))
    with pytest.raises(NonFiniteGradient, match="reference 37") as caught:
        build_index(digits.model, references, IndexOptions(), tmp_path / "index", "m", "r")
    assert caught.value.row == 37
    assert caught.value.example == "reference"
