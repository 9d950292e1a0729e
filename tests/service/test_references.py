"""Reference sets over the wire: uploaded, imported, listed, used, deleted; and every refusal."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from serving import (
    CLASSES,
    FEATURES,
    Running,
    Start,
    inline,
    linearity_request,
    put_model,
    raw_tensor,
    refusal,
    running,
)
from sidelight.v1 import linearity_pb2, reference_pb2, reference_service_pb2, tensor_pb2
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.model import open_model
from sidelight_service.references import files
from sidelight_service.settings import Settings

COUNT = 40
X = np.random.default_rng(0).random((COUNT, FEATURES), dtype=np.float32)
Y = np.arange(COUNT) % CLASSES

Request = reference_service_pb2.CreateReferenceRequest
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


class Served:
    """A server with a data and an import directory."""

    def __init__(self, server: Running, data: Path, imports: Path, repository: Path) -> None:
        self.server = server
        self.stub = server.references
        self.data = data
        self.imports = imports
        self.repository = repository

    async def put(self, name: str, x: Any = X, y: Any = Y, **header: Any) -> reference_pb2.ReferenceSet:
        response = await self.stub.CreateReference(iter(upload(name, x, y, **header)))
        return response.reference

    async def names(self) -> list[str]:
        listed = await self.stub.ListReferences(reference_service_pb2.ListReferencesRequest(page_size=1000))
        return [reference.name for reference in listed.references]

    def staged(self) -> list[Path]:
        return list((self.data / "references" / "staging").iterdir())


def upload(
    name: str, x: Any = X, y: Any = Y, *, rows: int = 16, trailer: int | None = None, **header: Any
) -> list[Any]:
    """The messages of an upload."""
    messages = [Request(header=reference_service_pb2.ReferenceHeader(name=name, **header))]
    for first in range(0, len(x), rows):
        chunk = reference_service_pb2.ReferenceChunk(
            inputs=[tensor_pb2.NamedTensor(tensor=raw_tensor(x[first : first + rows]))]
        )
        if y is not None:
            chunk.labels.CopyFrom(raw_tensor(np.ascontiguousarray(y[first : first + rows])))
        messages.append(Request(chunk=chunk))
    count = len(x) if trailer is None else trailer
    return [*messages, Request(trailer=reference_service_pb2.ReferenceTrailer(count=count))]


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory, small_model: onnx.ModelProto) -> AsyncIterator[Served]:
    models, data, imports = (tmp_path_factory.mktemp(name) for name in ("models", "data", "imports"))
    put_model(models, "small", 1, small_model)
    settings = Settings(
        models=models, data=data, import_directory=imports, addresses=("127.0.0.1:0",), settle_seconds=0.0
    )
    async with running(settings) as server:
        await server.until_available("small")
        one = Served(server, data, imports, models)
        await one.put("digits", model="small")
        yield one


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "served" in request.fixturenames:
        assert request.getfixturevalue("served").staged() == []


def get(name: str) -> reference_service_pb2.GetReferenceRequest:
    return reference_service_pb2.GetReferenceRequest(name=name)


def delete(name: str) -> reference_service_pb2.DeleteReferenceRequest:
    return reference_service_pb2.DeleteReferenceRequest(name=name)


def import_(name: str, path: str, **more: str) -> reference_service_pb2.ImportReferenceRequest:
    return reference_service_pb2.ImportReferenceRequest(name=name, path=path, **more)


def selection(reference: str = "digits", **given: Any) -> reference_pb2.Instances:
    return reference_pb2.Instances(reference=reference_pb2.ReferenceSelection(reference=reference, **given))


# Uploading


async def test_an_uploaded_set_is_described(served: Served) -> None:
    created = await served.put("described", model="small:1", count=COUNT)

    assert (await served.stub.GetReference(get("described"))).reference == created
    assert (created.count, created.labelled, dict(created.class_counts)) == (COUNT, True, {0: 14, 1: 13, 2: 13})
    (held,) = created.inputs
    assert (held.name, held.data_type, list(held.shape)) == ("", tensor_pb2.DATA_TYPE_FLOAT32, [FEATURES])
    assert (held.minimum, held.maximum) == (X.min(), X.max())
    assert created.digest == (await served.stub.GetReference(get("digits"))).reference.digest
    assert created.size_bytes > X.nbytes
    assert created.HasField("create_time")


async def test_the_range_of_each_feature_is_told_if_asked_for(served: Served) -> None:
    asked = reference_service_pb2.GetReferenceRequest(name="digits", feature_ranges=True)
    (told,) = (await served.stub.GetReference(asked)).reference.inputs
    (plain,) = (await served.stub.GetReference(get("digits"))).reference.inputs

    for tensor, expected in ((told.feature_minimum, X.min(axis=0)), (told.feature_maximum, X.max(axis=0))):
        assert (tensor.data_type, list(tensor.shape)) == (tensor_pb2.DATA_TYPE_FLOAT32, [FEATURES])
        assert np.frombuffer(tensor.raw, np.float32).tolist() == expected.tolist()
    assert not plain.HasField("feature_minimum")
    assert not plain.HasField("feature_maximum")


async def test_values_written_out_take_their_type_from_the_model(served: Served) -> None:
    messages = upload("typed", X[:2], None, model="small")
    messages[1].chunk.inputs[0].tensor.CopyFrom(
        tensor_pb2.Tensor(shape=[2, FEATURES], double_values=tensor_pb2.DoubleValues(values=X[:2].ravel().tolist()))
    )
    messages[1].chunk.labels.CopyFrom(tensor_pb2.Tensor(shape=[2], int64_values=tensor_pb2.Int64Values(values=[2, 0])))

    created = (await served.stub.CreateReference(iter(messages))).reference

    assert created.digest == (await served.put("raw", X[:2], np.array([2, 0]))).digest
    messages[0].header.name, messages[0].header.model = "untyped", ""
    refused = await refusal(served.stub.CreateReference(iter(messages)))
    assert refused.fields == ["chunk.inputs[0].tensor.data_type"]


async def test_sets_are_listed_by_name_a_page_at_a_time(served: Served) -> None:
    for name in ("page-b", "page-a", "page-c"):
        await served.put(name, X[:2], None)

    found, token = [], ""
    while True:
        page = await served.stub.ListReferences(
            reference_service_pb2.ListReferencesRequest(page_size=2, page_token=token)
        )
        assert len(page.references) <= 2
        found += [reference.name for reference in page.references]
        token = page.next_page_token
        if not token:
            break

    assert found == sorted(found) == await served.names()
    assert {"page-a", "page-b", "page-c"} <= set(found)
    refused = await refusal(served.stub.ListReferences(reference_service_pb2.ListReferencesRequest(page_size=1001)))
    assert refused.fields == ["page_size"]


def nan_at_row_7() -> Any:
    x = X.copy()
    x[7, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ("messages", "code", "reason", "complaint"),
    [
        (upload("bad", X[:, :5], model="small"), "INVALID_ARGUMENT", "INVALID_FIELD", "model 'small' takes [6]"),
        (upload("bad", nan_at_row_7(), rows=5), "INVALID_ARGUMENT", "INVALID_FIELD", "NaN at row 7"),
        (upload("bad", X, Y + 1, model="small"), "INVALID_ARGUMENT", "INVALID_FIELD", "model 'small' has 3"),
        (upload("bad")[:-1], "DATA_LOSS", "UPLOAD_INCOMPLETE", "after 40 examples without its trailer"),
        (upload("bad", trailer=41), "DATA_LOSS", "UPLOAD_INCOMPLETE", "says 41 examples and 40 arrived"),
        (upload("bad", count=41), "DATA_LOSS", "UPLOAD_INCOMPLETE", "41 examples were announced"),
        (upload("bad")[:0], "DATA_LOSS", "UPLOAD_INCOMPLETE", "before its header"),
        (upload("digits"), "ALREADY_EXISTS", "REFERENCE_EXISTS", "never overwritten"),
        (upload("Bad"), "INVALID_ARGUMENT", "INVALID_FIELD", "header.name"),
        (upload("bad", count=-1), "INVALID_ARGUMENT", "INVALID_FIELD", "header.count"),
        (upload("bad", model="none"), "NOT_FOUND", "MODEL_NOT_FOUND", "'none'"),
        (upload("bad", model="small:9"), "NOT_FOUND", "VERSION_NOT_FOUND", "version 9"),
        (upload("bad", model="small:"), "INVALID_ARGUMENT", "INVALID_FIELD", "names no model"),
        (upload("bad")[1:], "INVALID_ARGUMENT", "INVALID_FIELD", "is not the first message"),
        ([*upload("bad")[:2], *upload("bad")], "INVALID_ARGUMENT", "INVALID_FIELD", "second header"),
        ([*upload("bad")[:2], Request()], "INVALID_ARGUMENT", "INVALID_FIELD", "part: is not set"),
        (upload("bad", X[:0]), "INVALID_ARGUMENT", "INVALID_FIELD", "no examples"),
        ([*upload("bad", X, Y)[:2], *upload("bad", X, None)[2:]], "INVALID_ARGUMENT", "INVALID_FIELD", "chunk.labels"),
    ],
)  # fmt: skip
async def test_a_bad_upload_is_refused_with_a_clear_error(
    served: Served, messages: list[Any], code: str, reason: str, complaint: str
) -> None:
    before = await served.names()

    refused = await refusal(served.stub.CreateReference(iter(messages)))

    assert (refused.code.name, refused.reason) == (code, reason)
    assert complaint in refused.message
    assert bool(refused.fields) == (reason == "INVALID_FIELD")
    assert await served.names() == before


async def test_a_full_disk_is_resource_exhausted_and_the_server_goes_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    refused = await refusal(served.stub.CreateReference(iter(upload("full"))))
    monkeypatch.undo()

    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
    assert int(refused.metadata["free_bytes"]) > 0
    assert int(refused.metadata["needed_bytes"]) > 0
    await served.put("full")


async def test_of_two_uploads_of_one_name_one_wins(served: Served) -> None:
    calls = [served.stub.CreateReference(iter(upload("race", X + i, rows=1))) for i in range(3)]

    results = await asyncio.gather(*calls, return_exceptions=True)

    created = [result.reference for result in results if not isinstance(result, BaseException)]
    errors = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert [error.code() for error in errors] == [grpc.StatusCode.ALREADY_EXISTS] * 2
    assert created == [(await served.stub.GetReference(get("race"))).reference]


async def test_a_cancelled_upload_leaves_nothing(served: Served) -> None:
    call = served.stub.CreateReference()
    for message in upload("cancelled")[:3]:
        await call.write(message)
    async with asyncio.timeout(10):
        while not served.staged():
            await asyncio.sleep(0.01)

    call.cancel()

    async with asyncio.timeout(10):
        while served.staged():
            await asyncio.sleep(0.01)
    assert "cancelled" not in await served.names()


async def test_an_upload_that_its_caller_forgot_ends_at_the_limit_on_calls(start: Start, tmp_path: Path) -> None:
    server = await start(data=tmp_path / "data", max_call_seconds=0.5)
    call = server.references.CreateReference()
    for message in upload("forgotten")[:2]:
        await call.write(message)

    refused = await refusal(call)

    assert (refused.code, refused.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert list((tmp_path / "data" / "references" / "staging").iterdir()) == []


async def test_calls_are_answered_while_a_large_set_is_written(served: Served) -> None:
    large = np.zeros((200_000, 50), np.float32)
    call = asyncio.ensure_future(served.put("large", large, None, rows=50_000))
    answered = 0
    while not call.done():
        await served.names()
        answered += not call.done()

    assert (await call).count == 200_000
    assert answered >= 3


# Importing


def npz(path: Path, **arrays: Any) -> None:
    np.savez_compressed(path, **arrays)


async def test_the_same_examples_are_the_same_set_however_they_come(served: Served) -> None:
    folder = served.imports
    (folder / "sub").mkdir(exist_ok=True)
    npz(folder / "a.npz", x=X, y=Y)
    np.savez(folder / "b.npz", images=X, classes=np.eye(CLASSES)[Y], y=Y[:3])
    np.save(folder / "sub" / "x.npy", X.astype(">f4"))
    np.save(folder / "y.npy", Y.astype(np.int32))

    made = [
        (await served.stub.ImportReference(request)).reference
        for request in (
            import_("from-npz", "a.npz", model="small"),
            import_("from-keys", "b.npz", inputs_key="images", labels_key="classes"),
            import_("from-npy", "sub/x.npy", labels_key="y.npy"),
        )
    ]

    digits = (await served.stub.GetReference(get("digits"))).reference
    assert {reference.digest for reference in made} == {digits.digest}
    unlabelled = (await served.stub.ImportReference(import_("unlabelled", "a.npz", labels_key="-"))).reference
    assert not unlabelled.labelled
    assert not (await served.stub.ImportReference(import_("npy-alone", "sub/x.npy"))).reference.labelled


@needs_pyarrow
async def test_parquet_columns_are_imported_as_the_same_set(served: Served) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fixed = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), FEATURES)
    table = pa.table({"x": fixed, "y": Y, "lists": pa.array(X.tolist()), "nested": X.reshape(COUNT, 2, 3).tolist()})
    pq.write_table(table, served.imports / "a.parquet", row_group_size=7)

    digest = (await served.stub.GetReference(get("digits"))).reference.digest
    made = (await served.stub.ImportReference(import_("parquet", "a.parquet", model="small"))).reference
    nested = (
        await served.stub.ImportReference(import_("nested", "a.parquet", inputs_key="nested", labels_key="-"))
    ).reference

    assert made.digest == digest
    assert list(nested.inputs[0].shape) == [2, 3]
    assert not nested.labelled


@needs_pyarrow
@pytest.mark.parametrize(
    ("columns", "more", "field", "complaint"),
    [
        ({"x": [[1.0], [2.0, 3.0]]}, {}, "inputs_key", "lists of different lengths"),
        ({"x": [[1.0, 2.0], [1.0, None]]}, {}, "inputs_key", "no value at row 1"),
        ({"x": [[1.0], None]}, {}, "inputs_key", "no value at row 1"),
        ({"x": ["a", "b"]}, {}, "inputs_key", "holds string"),
        ({"z": [1.0]}, {}, "inputs_key", "no column 'x'"),
        ({"x": [1.0]}, {"labels_key": "t"}, "labels_key", "no column 't'"),
        ({"x": [1.0, float("nan")]}, {}, "inputs_key", "NaN at row 1"),
        (None, {}, "path", "can not be read"),
    ],
)
async def test_a_parquet_file_that_holds_no_examples_is_refused(
    served: Served, columns: Any, more: dict[str, str], field: str, complaint: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = served.imports / "bad.parquet"
    path.write_bytes(b"PAR1nothing")
    if columns is not None:
        pq.write_table(pa.table(columns), path)

    refused = await refusal(served.stub.ImportReference(import_("bad", "bad.parquet", **more)))

    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert complaint in refused.message


async def test_parquet_without_its_reader_says_what_to_install(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    (served.imports / "b.parquet").write_bytes(b"PAR1")

    refused = await refusal(served.stub.ImportReference(import_("missing", "b.parquet")))

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
    assert "sidelight[parquet]" in refused.message


@pytest.mark.parametrize(
    ("path", "more", "field", "complaint"),
    [
        ("none.npz", {}, "path", "there is no file"),
        ("", {}, "path", "there is no file"),
        ("sub", {}, "path", "there is no file"),
        ("../outside.npy", {}, "path", "outside the import directory"),
        ("{outside}", {}, "path", "outside the import directory"),
        ("link.npy", {}, "path", "outside the import directory"),
        ("a\0.npy", {}, "path", "there is no file"),
        ("a.csv", {}, "path", ".npz, .npy or .parquet"),
        ("ok.npz", {"inputs_key": "z"}, "inputs_key", "no array 'z'; it has x, short"),
        ("ok.npz", {"labels_key": "z"}, "labels_key", "no array 'z'"),
        ("ok.npz", {"labels_key": "short"}, "labels_key", "3 labels for 40 examples"),
        ("x.npy", {"inputs_key": "x"}, "inputs_key", "single array"),
        ("x.npy", {"labels_key": "none.npy"}, "labels_key", "there is no file"),
        ("x.npy", {"labels_key": "../outside.npy"}, "labels_key", "outside"),
        ("cut.npy", {}, "path", "ends before its last row"),
        ("empty.npy", {}, "path", "can not be read"),
        ("cut.npz", {}, "path", "can not be read"),
        ("objects.npy", {}, "path", "Python objects"),
        ("columns.npy", {}, "path", "ascontiguousarray"),
        ("scalar.npy", {}, "path", "holds no row"),
        ("nan.npy", {}, "path", "NaN at row 7"),
        ("x.npy", {"model": "none"}, "", "'none'"),
    ],
)
async def test_a_file_that_can_not_be_imported_is_refused(
    served: Served, tmp_path: Path, path: str, more: dict[str, str], field: str, complaint: str
) -> None:
    folder = served.imports
    outside = folder.parent / "outside.npy"
    for name, array in (
        ("x", X),
        ("scalar", np.float32(1)),
        ("columns", np.asfortranarray(X)),
        ("nan", nan_at_row_7()),
    ):
        np.save(folder / f"{name}.npy", array)
    np.save(outside, X)
    np.savez(folder / "ok.npz", x=X, short=Y[:3])
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:-5])
    (folder / "cut.npz").write_bytes((folder / "ok.npz").read_bytes()[:-50])
    (folder / "empty.npy").write_bytes(b"")
    (folder / "a.csv").write_text("1,2")
    (folder / "link.npy").unlink(missing_ok=True)
    (folder / "link.npy").symlink_to(outside)

    refused = await refusal(served.stub.ImportReference(import_("bad", path.format(outside=outside), **more)))

    assert refused.fields == ([field] if field else [])
    assert complaint in refused.message
    assert str(folder) not in refused.message
    assert "bad" not in await served.names()


# Deleting, and what the settings do not allow


async def test_a_deleted_set_is_gone_and_its_name_free(served: Served) -> None:
    await served.put("gone", X[:3], None)

    await served.stub.DeleteReference(delete("gone"))

    for call in (served.stub.GetReference(get("gone")), served.stub.DeleteReference(delete("gone"))):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "REFERENCE_NOT_FOUND")
        assert refused.metadata == {"reference": "gone"}
    assert (await served.put("gone", X[:4], None)).count == 4


async def test_a_set_is_not_deleted_under_a_running_request(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await served.put("busy")
    pool = served.server.server._pool
    real, running, go_on = pool.run, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> bytes:
        running.set()
        await go_on.wait()
        return await real(*arguments)

    monkeypatch.setattr(pool, "run", slow)
    call = asyncio.ensure_future(explained(served, selection("busy")))
    await running.wait()

    refused = await refusal(served.stub.DeleteReference(delete("busy")))
    go_on.set()
    await call

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REFERENCE_IN_USE")
    assert refused.metadata == {"reference": "busy"}
    await served.stub.DeleteReference(delete("busy"))


async def test_a_server_that_keeps_nothing_names_the_setting_in_every_refusal(shared_server: Running) -> None:
    stub = shared_server.references
    explain = linearity_request()
    explain.instances.CopyFrom(selection())

    for call, setting in (
        (stub.ListReferences(reference_service_pb2.ListReferencesRequest()), "data"),
        (stub.GetReference(get("x")), "data"),
        (stub.DeleteReference(delete("x")), "data"),
        (stub.CreateReference(iter(upload("x"))), "data"),
        (shared_server.explain.ExplainLinearity(explain), "data"),
        (stub.ImportReference(import_("x", "x.npy")), "import_directory"),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ALLOWED")
        assert refused.metadata == {"setting": setting}


# Using


async def explained(served: Served, instances: Any = None, **parameters: Any) -> linearity_pb2.ExplainLinearityResponse:
    request = linearity_request()
    if instances is not None:
        request.instances.CopyFrom(instances)
    if parameters:
        request.parameters.MergeFrom(linearity_pb2.LinearityParameters(**parameters))
    response = await served.server.explain.ExplainLinearity(request)
    for field in ("provenance", "effective_parameters"):
        response.ClearField(field)
    return response


def by_range(data: reference_pb2.Instances) -> linearity_pb2.GridSampling:
    return linearity_pb2.GridSampling(feature_range=linearity_pb2.FeatureRange(data=data))


def by_neighbours(data: reference_pb2.Instances) -> linearity_pb2.KnnSampling:
    return linearity_pb2.KnnSampling(data=data)


async def test_a_selection_means_the_same_as_its_examples_inline(served: Served) -> None:
    odd = np.flatnonzero(Y == 1)

    for chosen, rows in (
        (selection(), np.arange(COUNT)),
        (selection(indices=[9, 3, 3]), np.array([9, 3, 3])),
        (selection(class_filter={"classes": [1]}), odd),
        (selection(indices=odd[::-1], sample={"count": len(odd)}), odd[::-1]),
    ):
        examples = inline(np.ascontiguousarray(X[rows]))
        assert await explained(served, chosen) == await explained(served, examples)
        if len(rows) >= 5:
            for way, make in (("grid", by_range), ("knn", by_neighbours)):
                by_set = await explained(served, samples=5, **{way: make(chosen)})
                assert by_set == await explained(served, samples=5, **{way: make(examples)})


async def test_classes_by_prediction_are_those_of_the_model(served: Served) -> None:
    model = open_model(served.repository / "small" / "1", ModelFormat.ONNX)
    (outputs,) = model.runtime().forward([model.graph.outputs[0].tensor])({"x": X})
    predicted = outputs.argmax(axis=1)
    wanted = int(np.bincount(predicted).argmax())
    source = reference_pb2.CLASS_SOURCE_PREDICTION

    by_set = await explained(served, selection(class_filter={"classes": [wanted], "source": source}))

    assert by_set == await explained(served, inline(np.ascontiguousarray(X[predicted == wanted])))


@pytest.mark.parametrize("place", ["instances", "grid", "knn"])
@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"reference": "none"}, "NOT_FOUND", ""),
        ({"reference": ""}, "INVALID_ARGUMENT", "reference"),
        ({"digest": "sha256:other"}, "INVALID_ARGUMENT", "digest"),
        ({"indices": [0, COUNT]}, "INVALID_ARGUMENT", "indices[1]"),
        ({"reference": "plain", "class_filter": {"classes": [1]}}, "INVALID_ARGUMENT", "class_filter"),
        ({"sample": {"count": COUNT + 1}}, "INVALID_ARGUMENT", "sample.count"),
        ({"reference": "narrow"}, "INVALID_ARGUMENT", None),
    ],
)
async def test_a_selection_that_can_not_be_made_is_refused_wherever_it_stands(
    served: Served, place: str, given: dict[str, Any], code: str, field: str | None
) -> None:
    names = await served.names()
    for name, x in (("plain", X), ("narrow", X[:, :5])):
        if name not in names:
            await served.put(name, x, None)
    chosen = selection(**({"reference": "digits"} | given))
    paths = {
        "instances": "instances.reference",
        "grid": "parameters.grid.feature_range.data.reference",
        "knn": "parameters.knn.data.reference",
    }

    call = (
        explained(served, chosen)
        if place == "instances"
        else explained(served, **{place: (by_range if place == "grid" else by_neighbours)(chosen)})
    )
    refused = await refusal(call)

    assert refused.code.name == code
    if code == "NOT_FOUND":
        assert refused.reason == "REFERENCE_NOT_FOUND"
        assert f"{paths[place]}.reference: no reference set 'none'" in refused.message
        assert "digits" in refused.message
    else:
        assert refused.fields == [paths[place] + (f".{field}" if field else "")]


async def test_a_set_put_on_the_disk_by_another_hand_is_found(served: Served) -> None:
    sets = served.data / "references" / "sets"
    shutil.copytree(sets / "digits", served.data / "copied")
    header = json.loads((served.data / "copied" / "header.json").read_text()) | {"name": "copied"}
    (served.data / "copied" / "header.json").write_text(json.dumps(header))
    (served.data / "copied").rename(sets / "copied")

    assert await explained(served, selection("copied")) == await explained(served, selection())
