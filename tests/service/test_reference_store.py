"""The store of reference sets: what goes in, what comes out, what is refused."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sidelight.v1 import model_pb2, tensor_pb2
from sidelight_engines.errors import InvalidField
from sidelight_service.errors import (
    NotAllowed,
    ReferenceExists,
    ReferenceInUse,
    ReferenceNotFound,
    StorageFull,
    UploadIncomplete,
)
from sidelight_service.references import files
from sidelight_service.references.fit import Fit
from sidelight_service.references.header import Header
from sidelight_service.references.opened import OpenedSet, open_set
from sidelight_service.references.store import Location, ReferenceStore
from sidelight_service.references.writer import Chunk, SetWriter

X = np.random.default_rng(0).random((10, 2, 3), dtype=np.float32)
CLASSES = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


@pytest.fixture
def store(tmp_path: Path) -> ReferenceStore:
    made = ReferenceStore(tmp_path)
    made.prepare()
    return made


def chunk(x: Any, labels: Any = None) -> Chunk:
    inputs = x if isinstance(x, dict) else {"": x}
    return Chunk(inputs, labels, {name: f"chunk.inputs[{i}].tensor" for i, name in enumerate(inputs)})


def create(
    store: ReferenceStore, *chunks: Chunk, name: str = "digits", fit: Fit | None = None, count: int = 0
) -> Header:
    writer = store.begin(name, "header.name", fit, count)
    try:
        for part in chunks:
            writer.append(part)
        return store.commit(writer)
    finally:
        writer.discard()


def opened(store: ReferenceStore, name: str = "digits") -> OpenedSet:
    with store.lease(name) as location:
        return open_set(location)


def left_behind(store: ReferenceStore, root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in (root / "references").rglob("*") if path.is_file())


def model_of(inputs: list[tuple[str, str, list[int]]], output: list[int], *, classifier: bool = True) -> Fit:
    detail = model_pb2.ModelDetail(
        inputs=[
            model_pb2.TensorSpec(name=name, data_type=tensor_pb2.DataType.Value(f"DATA_TYPE_{dtype}"), shape=shape)
            for name, dtype, shape in inputs
        ],
        outputs=[model_pb2.TensorSpec(name="o", data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=output)],
        classifier=classifier,
    )
    return Fit.of(detail, "m")


MODEL = model_of([("x", "FLOAT32", [-1, 2, 3])], [-1, 3])


# What goes in comes out


def test_what_was_written_is_mapped_back_and_described(store: ReferenceStore) -> None:
    header = create(store, chunk(X[:4], CLASSES[:4]), chunk(X[4:], CLASSES[4:]), fit=MODEL)

    got = opened(store)
    np.testing.assert_array_equal(got.inputs[""], X)
    assert not got.inputs[""].flags.writeable
    assert got.classes is not None
    np.testing.assert_array_equal(got.classes, CLASSES)
    assert (header.count, header.class_counts) == (10, {0: 4, 1: 3, 2: 3})
    (described,) = header.inputs
    assert (described.name, described.dtype, described.shape) == ("", "float32", (2, 3))
    assert (described.minimum, described.maximum) == (X.min(), X.max())
    ((least, greatest),) = store.feature_ranges("digits")
    np.testing.assert_array_equal(least, X.min(axis=0))
    np.testing.assert_array_equal(greatest, X.max(axis=0))
    assert store.header("digits") == got.header == header


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint64", "float16", "float64"])
def test_every_element_type_survives(store: ReferenceStore, dtype: str) -> None:
    x = (X * 3).astype(dtype)

    create(store, chunk(x))

    assert opened(store).inputs[""].dtype == x.dtype
    np.testing.assert_array_equal(opened(store).inputs[""], x)


def test_several_inputs_are_kept_by_name(store: ReferenceStore) -> None:
    right = np.arange(10, dtype=np.int64)

    create(store, chunk({"left": X, "right": right}))

    assert opened(store).inputs.keys() == {"left", "right"}
    np.testing.assert_array_equal(opened(store).inputs["right"], right)


def test_the_digest_does_not_depend_on_chunks_or_name_and_does_on_content(store: ReferenceStore) -> None:
    whole = create(store, chunk(X, CLASSES), name="whole")
    parts = create(store, *(chunk(X[i : i + 3], CLASSES[i : i + 3]) for i in range(0, 10, 3)), name="parts")
    moved = X.copy()
    moved[9, 1, 2] += 1
    others = [
        create(store, chunk(moved, CLASSES), name="values"),
        create(store, chunk(X, CLASSES[::-1].copy()), name="labels"),
        create(store, chunk(X), name="unlabelled"),
        create(store, chunk(X.reshape(10, 3, 2), CLASSES), name="shape"),
        create(store, chunk(X.astype(np.float64), CLASSES), name="type"),
    ]

    assert whole.digest == parts.digest
    assert len({whole.digest, *(other.digest for other in others)}) == 6


def test_a_second_server_on_the_same_data_finds_the_sets(store: ReferenceStore, tmp_path: Path) -> None:
    header = create(store, chunk(X, CLASSES))

    again = ReferenceStore(tmp_path)
    again.prepare()

    assert again.headers() == [header]


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES.astype(np.uint8),
        CLASSES.reshape(10, 1),
        np.eye(3, dtype=np.uint8)[CLASSES],
        np.eye(3, dtype=bool)[CLASSES],
        np.eye(3, dtype=np.float32)[CLASSES],
    ],
    ids=["uint8", "column", "one-hot integers", "one-hot booleans", "one-hot floats"],
)
def test_indices_and_one_hot_rows_are_the_same_classes(store: ReferenceStore, labels: Any) -> None:
    header = create(store, chunk(X[:7], labels[:7]), chunk(X[7:], labels[7:]), fit=MODEL)

    assert header.class_counts == {0: 4, 1: 3, 2: 3}
    np.testing.assert_array_equal(opened(store).classes, CLASSES)
    assert header.digest == create(store, chunk(X, CLASSES), name="indices").digest


def test_floats_are_targets_even_if_the_first_chunk_looks_one_hot(store: ReferenceStore) -> None:
    targets = np.eye(3, dtype=np.float32)[CLASSES]
    targets[9] = [0.2, 0.3, 0.5]

    header = create(store, chunk(X[:9], targets[:9]), chunk(X[9:], targets[9:]))

    assert header.class_counts == {}
    assert opened(store).classes is None
    np.testing.assert_array_equal(opened(store).labels, targets)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (np.where(np.arange(10) == 4, -1, CLASSES), "row 4 has class -1"),
        (np.where(np.arange(10) == 8, 3, CLASSES), r"class 3 where model 'm' has 3 \(row 8\)"),
        (np.eye(4, dtype=np.int8)[CLASSES], "one-hot of 4 classes where model 'm' has 3"),
        (np.tril(np.ones((10, 3), np.int8)), "row 1 is not one-hot"),
        (np.where(np.arange(10) == 6, np.nan, 1.0), "NaN at row 6"),
        (np.ones(10), "targets of 1 numbers where model 'm' gives 3"),
        (np.zeros((10, 2, 2), int), "give \\[n\\] classes"),
        (np.zeros(9, int), "not for 10 examples"),
        (np.array(["a"] * 10), "give numbers"),
        (np.full(10, 2**64 - 1, np.uint64), "beyond int64"),
    ],
)
def test_labels_that_mean_nothing_are_refused(
    store: ReferenceStore, tmp_path: Path, labels: Any, complaint: str
) -> None:
    with pytest.raises(InvalidField, match=complaint) as caught:
        create(store, chunk(X, labels), fit=MODEL)

    assert caught.value.field == "chunk.labels"
    assert left_behind(store, tmp_path) == []


def test_a_single_output_has_two_classes(store: ReferenceStore) -> None:
    binary = model_of([("x", "FLOAT32", [-1, 2, 3])], [-1, 1])

    assert create(store, chunk(X, CLASSES % 2), fit=binary).class_counts == {0: 7, 1: 3}
    with pytest.raises(InvalidField, match="has 2"):
        create(store, chunk(X, CLASSES), fit=binary, name="other")


# Refused examples


def spoiled(row: int, value: float) -> Any:
    x = X.copy()
    x[row, 1, 2] = value
    return x


@pytest.mark.parametrize("first_chunk", [3, 7, 8, 10])
@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_a_number_that_is_not_finite_is_refused_by_its_row_in_the_set(
    store: ReferenceStore, tmp_path: Path, first_chunk: int, value: float, name: str
) -> None:
    x = spoiled(7, value)

    with pytest.raises(InvalidField, match=f"{name} at row 7;") as caught:
        create(store, *(chunk(part) for part in np.split(x, [first_chunk]) if len(part)))

    assert caught.value.field == "chunk.inputs[0].tensor"
    assert left_behind(store, tmp_path) == []


@pytest.mark.parametrize(
    ("chunks", "complaint"),
    [
        ([X, X.reshape(10, 3, 2)], r"float32 \[3, 2\] where those before were float32 \[2, 3\]"),
        ([X, X.astype(np.float64)], "float64"),
        ([X, {"other": X}], "where those before were"),
        ([X, (X, CLASSES)], "were missing"),
        ([(X, CLASSES), X], "are missing here"),
        ([(X, CLASSES), (X, CLASSES.astype(np.int32))], "int32"),
        ([X[:0]], "holds no example"),
        ([np.zeros((3, 0), np.float32)], "holds no example"),
        ([np.float32(1)], "holds no example"),
        ([{"a": X, "b": X[:9]}], "has 9 examples where others have 10"),
        ([{}], "is empty"),
        ([X.astype(np.complex64)], "give numbers"),
        ([], "no examples"),
    ],
)
def test_chunks_that_do_not_go_together_are_refused(
    store: ReferenceStore, tmp_path: Path, chunks: list[Any], complaint: str
) -> None:
    with pytest.raises(InvalidField, match=complaint):
        create(store, *(chunk(*part) if isinstance(part, tuple) else chunk(part) for part in chunks))

    assert left_behind(store, tmp_path) == []
    assert store.headers() == []


@pytest.mark.parametrize(
    ("x", "inputs", "complaint"),
    [
        (X, [("x", "FLOAT32", [-1, 28, 28])], r"shape \[2, 3\] where model 'm' takes \[28, 28\]"),
        (X, [("a", "FLOAT32", [-1, 2, 3]), ("b", "FLOAT32", [-1, 2, 3])], "1 inputs where model 'm' has 2: 'a', 'b'"),
        ({"a": X, "c": X}, [("a", "FLOAT32", [-1, 2, 3]), ("b", "FLOAT32", [-1, 2, 3])], "no input 'c'"),
        (X, [("x", "INT64", [-1, 2, 3])], "int64 can not hold"),
        (np.full((2, 2, 3), 1e300), [("x", "FLOAT32", [-1, 2, 3])], "beyond float32"),
        (np.full((2, 2, 3), 300), [("x", "UINT8", [-1, 2, 3])], "outside 0 to 255"),
        (X, [("x", "STRING", [-1, 2, 3])], "takes string"),
    ],
)
def test_examples_that_a_model_can_not_take_are_refused(
    store: ReferenceStore, x: Any, inputs: Any, complaint: str
) -> None:
    with pytest.raises(InvalidField, match=complaint):
        create(store, chunk(x), fit=model_of(inputs, [-1, 3]))


def test_pixels_as_bytes_fit_a_floating_point_input_and_free_axes_take_any_length(store: ReferenceStore) -> None:
    free = model_of([("x", "FLOAT32", [-1, -1, -1])], [-1, -1])

    assert create(store, chunk(np.zeros((4, 9, 9), np.uint8)), fit=free).inputs[0].dtype == "uint8"


@pytest.mark.parametrize("name", ["", "Digits", "-x", ".x", "a/b", "../x", "a b", "x" * 64, "é", "x\n", "x\0"])
def test_a_name_that_is_none_is_refused(store: ReferenceStore, name: str) -> None:
    with pytest.raises(InvalidField, match="is not a name") as caught:
        create(store, chunk(X), name=name)

    assert caught.value.field == "header.name"


@pytest.mark.parametrize("name", ["a", "0", "digits-28x28_v1.2", "x" * 63])
def test_a_name_of_the_contract_is_taken(store: ReferenceStore, name: str) -> None:
    assert create(store, chunk(X), name=name).name == name


def test_fewer_examples_than_announced_are_incomplete_and_more_are_wrong(store: ReferenceStore, tmp_path: Path) -> None:
    with pytest.raises(UploadIncomplete, match="11 examples were announced and 10 arrived"):
        create(store, chunk(X), count=11)
    with pytest.raises(InvalidField, match="more examples arrive"):
        create(store, chunk(X), count=9)

    assert left_behind(store, tmp_path) == []


# Names are taken once


def test_a_name_that_is_taken_is_refused_before_and_after_the_upload(store: ReferenceStore, tmp_path: Path) -> None:
    late = store.begin("digits", "header.name", None, 0)
    late.append(chunk(X[:5]))
    first = create(store, chunk(X))

    with pytest.raises(ReferenceExists) as early:
        create(store, chunk(X[:5]))
    with pytest.raises(ReferenceExists):
        store.commit(late)
    late.discard()

    assert early.value.digest == first.digest
    assert store.headers() == [first]
    assert {path.split("/")[1] for path in left_behind(store, tmp_path)} == {"sets"}


def test_of_uploads_of_one_name_at_once_one_wins(store: ReferenceStore, tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def upload(value: int) -> str | None:
        writer = store.begin("digits", "header.name", None, 0)
        writer.append(chunk(np.full((5, 2), value)))
        together.wait()
        try:
            return store.commit(writer).digest
        except ReferenceExists:
            return None
        finally:
            writer.discard()

    with ThreadPoolExecutor(4) as threads:
        won = [digest for digest in threads.map(upload, range(4)) if digest]

    assert won == [store.header("digits").digest]
    assert len(np.unique(opened(store).inputs[""])) == 1
    assert not any("staging" in path for path in left_behind(store, tmp_path))


# Deleting


def test_a_set_is_deleted_only_when_no_request_uses_it(store: ReferenceStore, tmp_path: Path) -> None:
    create(store, chunk(X))

    with store.lease("digits") as location:
        mapped = open_set(location).inputs[""]
        with pytest.raises(ReferenceInUse, match="a request under way"):
            store.delete("digits")
    store.delete("digits")

    assert left_behind(store, tmp_path) == []
    np.testing.assert_array_equal(mapped, X)  # what is mapped stays readable
    for missing in (store.delete, store.header, lambda name: store.lease(name).__enter__()):
        with pytest.raises(ReferenceNotFound, match="there are: none"):
            missing("digits")
    create(store, chunk(X))


def test_a_set_is_deleted_only_when_no_job_or_index_uses_it(store: ReferenceStore) -> None:
    header = create(store, chunk(X))
    users = {header.digest: "job 7"}
    store.add_user_check(lambda name, digest: users.get(digest) if name == "digits" else None)

    with pytest.raises(ReferenceInUse, match="job 7"):
        store.delete("digits")
    users.clear()
    store.delete("digits")

    assert store.headers() == []


@pytest.mark.parametrize("name", ["..", ".", "", "../sets/digits", "/etc", "a\0b"])
def test_nothing_outside_the_store_can_be_deleted(store: ReferenceStore, name: str) -> None:
    create(store, chunk(X))

    with pytest.raises(ReferenceNotFound):
        store.delete(name)

    assert [header.name for header in store.headers()] == ["digits"]


# Damage and leftovers


@pytest.mark.parametrize("damage", ["cut header", "foreign header", "no header", "cut array", "other array"])
def test_a_damaged_set_is_never_read_and_can_be_deleted(store: ReferenceStore, tmp_path: Path, damage: str) -> None:
    create(store, chunk(X, CLASSES))
    folder = tmp_path / "references" / "sets" / "digits"
    header, array = folder / "header.json", folder / "input_0.npy"
    if damage == "cut header":
        header.write_bytes(header.read_bytes()[:100])
    elif damage == "foreign header":
        header.write_text(header.read_text().replace('"digits"', '"other"'))
    elif damage == "no header":
        header.unlink()
    elif damage == "cut array":
        array.write_bytes(array.read_bytes()[:-1])
    else:
        np.save(array, X[:5])
    again = ReferenceStore(tmp_path)
    again.prepare()

    with pytest.raises(ReferenceNotFound, match="damaged"):
        opened(again)
    again.delete("digits")

    create(again, chunk(X))


def test_a_set_replaced_since_it_was_leased_is_not_read(store: ReferenceStore, tmp_path: Path) -> None:
    create(store, chunk(X))

    with pytest.raises(ReferenceNotFound, match="replaced"):
        open_set(Location(str(tmp_path / "references" / "sets" / "digits"), "sha256:other"))


def test_a_starting_server_sweeps_dead_uploads_and_leaves_living_ones(store: ReferenceStore, tmp_path: Path) -> None:
    living = store.begin("living", "header.name", None, 0)
    living.append(chunk(X))
    dead = tmp_path / "references" / "staging" / "dead"
    dead.mkdir()
    (dead / "input_0.npy").write_bytes(b"half")

    again = ReferenceStore(tmp_path)
    again.prepare()

    assert not dead.exists()
    assert store.commit(living) == again.header("living")


# A full disk


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("operation", ["create_file", "write", "write_at", "sync", "make_folder"])
def test_a_full_disk_is_said_so_wherever_it_strikes_and_nothing_stays(
    store: ReferenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, code: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, operation, full)

    with pytest.raises(StorageFull) as caught:
        create(store, chunk(X, CLASSES))
    monkeypatch.undo()

    assert caught.value.free_bytes > 0
    assert left_behind(store, tmp_path) == []
    create(store, chunk(X, CLASSES))


def test_a_set_that_was_announced_too_large_is_refused_with_its_first_chunk(
    store: ReferenceStore, tmp_path: Path
) -> None:
    with pytest.raises(StorageFull) as caught:
        create(store, chunk(X), count=2**50)

    assert caught.value.needed_bytes == 2**50 * 24
    assert left_behind(store, tmp_path) == []


def test_without_a_data_directory_nothing_is_allowed_and_the_setting_named() -> None:
    store = ReferenceStore(None)
    store.prepare()

    for call in (store.headers, lambda: store.header("x"), lambda: store.delete("x"), lambda: create(store, chunk(X))):
        with pytest.raises(NotAllowed, match="set `data`") as caught:
            call()
        assert caught.value.setting == "data"


def test_an_upload_given_up_writes_no_more(store: ReferenceStore, tmp_path: Path) -> None:
    writer: SetWriter = store.begin("digits", "header.name", None, 0)
    writer.append(chunk(X))
    writer.discard()

    with pytest.raises(UploadIncomplete):
        writer.append(chunk(X))
    with pytest.raises(UploadIncomplete):
        store.commit(writer)
    assert left_behind(store, tmp_path) == []
