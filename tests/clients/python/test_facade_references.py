"""How reference sets are uploaded, imported, listed and deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sidelight
from fake_server import FakeServer, reference_set, to_array

X = np.arange(60, dtype=np.float32).reshape(10, 2, 3)
Y = np.arange(10)


def sent(fake: FakeServer) -> tuple[Any, list[Any], Any]:
    """The header, chunks and trailer of the one upload."""
    (parts,) = fake.requests
    assert [part.WhichOneof("part") for part in parts] == ["header", *["chunk"] * (len(parts) - 2), "trailer"]
    return parts[0].header, [part.chunk for part in parts[1:-1]], parts[-1].trailer


def arrived(chunks: list[Any]) -> tuple[Any, Any]:
    x = np.concatenate([to_array(chunk.inputs[0].tensor) for chunk in chunks])
    labelled = all(chunk.HasField("labels") for chunk in chunks)
    return x, np.concatenate([to_array(chunk.labels) for chunk in chunks]) if labelled else None


def test_arrays_are_uploaded_with_their_number_announced(client: sidelight.Client, fake: FakeServer) -> None:
    created = client.create_reference("digits", X, Y, model="small:3")

    header, chunks, trailer = sent(fake)
    assert (header.name, header.model, header.count, trailer.count) == ("digits", "small:3", 10, 10)
    x, y = arrived(chunks)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert (created.name, created.count) == ("digits", 10)


def test_large_arrays_go_in_chunks_below_the_message_limit(fake: FakeServer) -> None:
    x = np.random.default_rng(0).random((100, 1000))
    told: list[tuple[int, int]] = []
    with sidelight.connect(fake.address, max_message_bytes=100_000) as client:
        client.create_reference("digits", x, progress=lambda done, total: told.append((done, total)))

    _, chunks, _ = sent(fake)
    assert max(chunk.ByteSize() for chunk in chunks) <= 100_000
    assert len(chunks) == 10
    np.testing.assert_array_equal(arrived(chunks)[0], x)
    assert told == [(done, 100) for done in range(10, 101, 10)]


def test_a_memory_mapped_file_is_uploaded_as_it_is(client: sidelight.Client, fake: FakeServer, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.astype(">f8"))

    client.create_reference("digits", np.load(tmp_path / "x.npy", mmap_mode="r"))

    x, y = arrived(sent(fake)[1])
    np.testing.assert_array_equal(x, X)
    assert y is None


def test_several_inputs_are_uploaded_by_name(client: sidelight.Client, fake: FakeServer) -> None:
    client.create_reference("pairs", {"left": X, "right": X[:, 0]})

    _, (chunk,), _ = sent(fake)
    assert [named.name for named in chunk.inputs] == ["left", "right"]


def test_an_iterator_gives_chunks_of_any_size(client: sidelight.Client, fake: FakeServer) -> None:
    def chunks() -> Iterator[Any]:
        yield X[:3], Y[:3]
        yield X[3:4], Y[3:4]
        yield X[4:], Y[4:]

    told: list[tuple[int, int]] = []
    client.create_reference("digits", chunks(), progress=lambda done, total: told.append((done, total)))

    header, parts, trailer = sent(fake)
    assert (header.count, trailer.count) == (0, 10)
    assert told == [(3, 0), (4, 0), (10, 0)]
    x, y = arrived(parts)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_what_an_iterator_raises_reaches_the_caller(client: sidelight.Client, fake: FakeServer) -> None:
    def chunks() -> Iterator[Any]:
        yield X
        raise KeyError("the file of the next chunk")

    with pytest.raises(KeyError, match="next chunk"):
        client.create_reference("digits", chunks())

    # Nothing follows that would make a set of the half.
    assert [part.WhichOneof("part") for part in fake.requests[0]] == ["header", "chunk"]


@pytest.mark.parametrize(
    ("x", "labels", "complaint"),
    [
        (np.zeros((0, 2)), None, "holds no instance"),
        (X, Y[:9], "not for 10 examples"),
        (iter([X]), Y, "let it give pairs"),
        (np.array(["a"]), None, "can not carry"),
        ([[1, 2], [3]], None, "rows of equal length"),
    ],
)
def test_what_can_not_be_uploaded_is_refused(client: sidelight.Client, x: Any, labels: Any, complaint: str) -> None:
    with pytest.raises(sidelight.InvalidArgument, match=complaint):
        client.create_reference("digits", x, labels)


def test_an_example_larger_than_a_message_is_refused(fake: FakeServer) -> None:
    with (
        sidelight.connect(fake.address, max_message_bytes=100_000) as client,
        pytest.raises(sidelight.InvalidArgument, match="raise max_message_bytes"),
    ):
        client.create_reference("digits", np.zeros((2, 30_000)))


def test_a_refusal_in_the_midst_of_an_upload_reaches_the_caller(client: sidelight.Client, fake: FakeServer) -> None:
    fake.refuse_chunk = 1

    with pytest.raises(sidelight.InvalidArgument, match="no such chunk"):
        client.create_reference("digits", (X for _ in range(1000)))


def test_an_upload_that_broke_off_is_data_loss() -> None:
    assert sidelight.DataLoss("broke off").code.name == "DATA_LOSS"


def test_all_pages_of_the_sets_are_read_and_described(client: sidelight.Client, fake: FakeServer) -> None:
    fake.references = [reference_set(name) for name in "abc"]

    found = client.references()

    assert [reference.name for reference in found] == ["a", "b", "c"]
    assert found[0] == client.reference("a")
    assert found[0] == sidelight.ReferenceSet(
        name="a",
        digest="sha256:" + "b" * 64,
        count=1500,
        inputs=(sidelight.ReferenceInput("", "float32", (8, 8, 1), 0.0, 1.0),),
        labelled=True,
        size_bytes=384_512,
        create_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        class_counts={0: 1000, 1: 500},
    )
    assert list(found[0].class_counts) == [0, 1]


def test_a_file_of_the_server_is_imported_and_a_set_deleted_by_name(client: sidelight.Client, fake: FakeServer) -> None:
    imported = client.import_reference("train", "mnist.npz", inputs_key="images", labels_key="-", model="digits")
    client.delete_reference("train")

    assert imported.name == "train"
    order, deletion = fake.requests
    assert (order.name, order.path, order.inputs_key, order.labels_key, order.model) == (
        "train",
        "mnist.npz",
        "images",
        "-",
        "digits",
    )
    assert deletion.name == "train"


async def test_the_asyncio_client_does_the_same(fake: FakeServer) -> None:
    async def chunks() -> AsyncIterator[Any]:
        yield X[:6]
        yield X[6:]

    async def failing() -> AsyncIterator[Any]:
        yield X
        raise KeyError("the next chunk")

    fake.references = [reference_set("a")]
    async with sidelight.connect_async(fake.address) as client:
        assert (await client.create_reference("arrays", X, Y)).count == 10
        assert (await client.create_reference("chunks", iter([X, X]))).count == 20
        assert (await client.create_reference("asynchronous", chunks())).count == 10
        with pytest.raises(KeyError, match="next chunk"):
            await client.create_reference("failing", failing())
        assert [reference.name for reference in await client.references()] == ["a"]
        assert (await client.reference("a")).count == 1500
        assert (await client.import_reference("b", "b.npy")).name == "b"
        await client.delete_reference("b")
        fake.refuse_chunk = 1
        with pytest.raises(sidelight.InvalidArgument, match="no such chunk"):
            await client.create_reference("refused", (X for _ in range(1000)))


def test_an_asynchronous_iterator_is_for_the_asyncio_client(client: sidelight.Client) -> None:
    async def chunks() -> AsyncIterator[Any]:
        yield X

    with pytest.raises(sidelight.InvalidArgument, match="AsyncClient"):
        client.create_reference("digits", chunks())  # type: ignore[arg-type]
