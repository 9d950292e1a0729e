"""Gradient indexes through their lives: built by jobs, used, refused, killed, removed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from job_serving import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, JobServer, job_server
from serving import refusal
from sidelight.v1 import (
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    model_pb2,
    model_service_pb2,
    reference_pb2,
    reference_service_pb2_grpc,
    similarity_pb2,
)
from sidelight_engines.control import Control
from sidelight_engines.errors import Stopped
from sidelight_service.errors import StorageFull
from sidelight_service.indexes.places import is_index
from sidelight_service.indexes.shelf import IndexShelf
from sidelight_service.indexes.store import IndexStore
from similarity_serving import (
    IMAGES,
    INSTANCES,
    LABELS,
    REFERENCES,
    indices_of,
    put_digits,
    put_references,
    scores_of,
    similarity_request,
)
from test_process import _served, _until_available
from test_references import delete, upload

COPIES = 30
COUNT = COPIES * REFERENCES


def built_of(name: str = "train", **fields: Any) -> job_pb2.JobRequest:
    """The work of building an index."""
    request = job_pb2.BuildGradientIndexRequest(model=model_pb2.ModelSelector(name="digits"), reference=name, **fields)
    return job_pb2.JobRequest(build_gradient_index=request)


def indexes(data: Path) -> list[Path]:
    """The whole indexes on the disk."""
    return sorted(folder for folder in (data / "indexes").glob("*/*/*") if folder.is_dir() and is_index(folder))


def parts(data: Path) -> list[Path]:
    return sorted((data / "indexes").glob("*/*/*.partial"))


async def built(jobs: JobServer, work: job_pb2.JobRequest | None = None) -> job_pb2.BuildGradientIndexResponse:
    """Builds an index."""
    job = await jobs.ended((await jobs.create_work(work or built_of())).id)
    assert job.state == SUCCEEDED, job.error
    assert job.progress.done == job.progress.total
    return (await jobs.outcome(job.id)).build_gradient_index


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[JobServer, Path]]:
    """A server that computes the gradients of few references only, and has an index of more; and its data."""
    folder = tmp_path_factory.mktemp("indexed")
    put_digits(folder / "repository")
    async with job_server(folder / "repository", folder / "data", "digits", unindexed_mebibytes=1) as jobs:
        await put_references(jobs.server, copies=COPIES)
        await put_references(jobs.server, "other", copies=COPIES - 1)
        await built(jobs)
        yield jobs, folder / "data"


async def test_an_index_says_what_it_is(shared: tuple[JobServer, Path]) -> None:
    jobs, data = shared
    response = await built(jobs)  # it is there already

    (folder,) = [each for each in indexes(data) if (each / "scales.npy").is_file()]
    model = (await jobs.server.models.GetModel(_of("digits"))).model
    assert response.model_digest == model.status.digest
    assert response.reference_digest.startswith("sha256:")
    assert response.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert 0 < response.values_per_reference < model.parameter_count
    assert not response.materialised_layers
    assert not parts(data)


def _of(name: str) -> model_service_pb2.GetModelRequest:
    return model_service_pb2.GetModelRequest(model=model_pb2.ModelSelector(name=name))


async def test_an_index_gives_what_the_examples_give(shared: tuple[JobServer, Path]) -> None:
    jobs, _ = shared
    few = list(range(40, 100))

    def selected(reference: str) -> similarity_pb2.ExplainSimilarityRequest:
        selection = reference_pb2.ReferenceSelection(reference=reference, indices=few)
        return similarity_request(selection=selection, all_scores=True, layer_contributions=True, bottom=3)

    indexed = await jobs.server.explain.ExplainSimilarity(selected("train"))
    computed = await jobs.server.explain.ExplainSimilarity(selected("other"))

    assert indexed.provenance.forward_rows == INSTANCES
    assert computed.provenance.forward_rows == INSTANCES + len(few)
    np.testing.assert_allclose(scores_of(indexed), scores_of(computed), atol=1e-5)
    for one, other in zip(indexed.rankings, computed.rankings, strict=True):
        assert indices_of(one) == indices_of(other)
        assert [e.label for e in one.most_similar] == [LABELS[INSTANCES + e.index] for e in one.most_similar]


async def test_many_references_are_searched_by_their_index_alone(shared: tuple[JobServer, Path]) -> None:
    jobs, _ = shared
    response = await jobs.server.explain.ExplainSimilarity(similarity_request(top=COPIES + 1))

    for ranking in response.rankings:
        # The same example again and again, by its positions; then another.
        found = indices_of(ranking)
        assert found[:COPIES] == list(range(found[0], COUNT, REFERENCES))
        assert found[COPIES] % REFERENCES != found[0]

    refused = await refusal(jobs.server.explain.ExplainSimilarity(similarity_request(reference="other")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INDEX_MISSING")
    assert refused.metadata["reference"] == "other"
    assert int(refused.metadata["needed_bytes"]) > int(refused.metadata["limit_bytes"]) == 1 << 20
    assert "sidelight index build --model digits:1 --reference other" in refused.message


@pytest.mark.parametrize(
    "different",
    [{"loss": similarity_pb2.LOSS_HUBER}, {"selection": reference_pb2.ReferenceSelection(reference="other")}],
)
async def test_an_index_of_something_else_is_not_used(shared: tuple[JobServer, Path], different: Any) -> None:
    jobs, _ = shared
    refused = await refusal(jobs.server.explain.ExplainSimilarity(similarity_request(**different)))

    assert refused.reason == "INDEX_MISSING"


async def test_a_job_of_similarity_equals_the_call(shared: tuple[JobServer, Path]) -> None:
    jobs, _ = shared
    x, y = IMAGES[:60], LABELS[:60]
    request = similarity_request(x=x, labels=y, top=4, class_means=True, self_influence=True)
    expected = await jobs.server.explain.ExplainSimilarity(request)

    seen = await jobs.watched((await jobs.create_work(job_pb2.JobRequest(similarity=request))).id)

    assert seen[-1].state == SUCCEEDED, seen[-1].error
    assert seen[-1].progress.done == seen[-1].progress.total == 60
    found = (await jobs.outcome(seen[-1].id)).similarity
    assert found.reference_digest == expected.reference_digest
    assert found.provenance.forward_rows == expected.provenance.forward_rows
    for one, other in zip(found.rankings, expected.rankings, strict=True):
        assert indices_of(one) == indices_of(other)
        np.testing.assert_allclose(
            [e.score for e in one.most_similar], [e.score for e in other.most_similar], atol=1e-6
        )
        np.testing.assert_allclose([m.mean for m in one.class_means], [m.mean for m in other.class_means], atol=1e-6)
    assert not found.pictures


async def test_a_job_on_selected_instances_draws_its_pictures_of_the_whole(shared: tuple[JobServer, Path]) -> None:
    jobs, _ = shared
    request = similarity_request(labels=None, label_source=similarity_pb2.LABEL_SOURCE_GIVEN)
    request.parameters.reference.class_filter.classes.extend([1, 2, 3])
    request.instances.reference.CopyFrom(
        reference_pb2.ReferenceSelection(reference="train", sample=reference_pb2.ReferenceSample(count=12, seed=4))
    )
    request.render.format = 1
    expected = await jobs.server.explain.ExplainSimilarity(request)

    job = await jobs.ended((await jobs.create_work(job_pb2.JobRequest(similarity=request))).id)

    assert job.state == SUCCEEDED, job.error
    found = (await jobs.outcome(job.id)).similarity
    assert [indices_of(r) for r in found.rankings] == [indices_of(r) for r in expected.rankings]
    assert [p.alternative_text for p in found.pictures] == [p.alternative_text for p in expected.pictures]
    assert len(found.pictures) == 2
    assert not any(ranking.class_means for ranking in found.rankings)


async def test_a_job_of_instances_together_runs_as_one(shared: tuple[JobServer, Path]) -> None:
    jobs, _ = shared
    request = similarity_request(aggregate_instances=True)
    expected = await jobs.server.explain.ExplainSimilarity(request)

    job = await jobs.ended((await jobs.create_work(job_pb2.JobRequest(similarity=request))).id)

    assert job.state == SUCCEEDED, job.error
    assert (await jobs.outcome(job.id)).similarity.rankings == expected.rankings


@pytest.mark.parametrize(
    ("work", "field"),
    [
        (built_of(""), "request.build_gradient_index.reference"),
        (job_pb2.JobRequest(build_gradient_index={"reference": "train"}), "request.build_gradient_index.model.name"),
        (
            job_pb2.JobRequest(similarity=similarity_request(reference="")),
            "request.similarity.parameters.reference.reference",
        ),
    ],
)
async def test_a_job_without_a_name_is_refused_at_once(
    shared: tuple[JobServer, Path], work: job_pb2.JobRequest, field: str
) -> None:
    assert (await refusal(shared[0].create_work(work))).fields == [field]


@pytest.mark.parametrize(
    ("fields", "metadata"),
    [
        ({"loss": 99}, {"field": "loss"}),
        ({"precision": 99}, {"field": "precision"}),
        ({"label_source": 99}, {"field": "label_source"}),
        ({"label_source": similarity_pb2.LABEL_SOURCE_PREDICTION}, {"field": "label_source"}),
        ({"output": "logits"}, {"field": "output"}),
        ({"name": "bare"}, {"field": "label_source"}),
    ],
)
async def test_a_job_that_can_not_build_says_which_field_is_wrong(
    shared: tuple[JobServer, Path], fields: dict[str, Any], metadata: dict[str, str]
) -> None:
    jobs, _ = shared
    if fields.get("name") == "bare":
        await put_references(jobs.server, "bare", labels=False)

    job = await jobs.ended((await jobs.create_work(built_of(**fields))).id)

    assert (job.state, job.error.reason) == (FAILED, "INVALID_FIELD")
    assert dict(job.error.metadata) == metadata


async def test_predictions_and_half_precision_have_indexes_of_their_own(shared: tuple[JobServer, Path]) -> None:
    jobs, data = shared
    before = indexes(data)
    await put_references(jobs.server, "unlabelled", labels=False, copies=COPIES)
    predicted = built_of(
        "unlabelled",
        label_source=similarity_pb2.LABEL_SOURCE_PREDICTION,
        precision=job_pb2.INDEX_PRECISION_FLOAT16,
    )
    await built(jobs, predicted)

    response = await jobs.server.explain.ExplainSimilarity(similarity_request(labels=None, reference="unlabelled"))

    assert response.provenance.forward_rows == INSTANCES
    assert [warning.code for warning in response.provenance.warnings] == ["INDEX_FLOAT16"]
    (new,) = set(indexes(data)) - set(before)

    # An index goes with the last set of its content.
    await jobs.server.references.DeleteReference(delete("unlabelled"))
    await _until_gone(new)
    assert indexes(data) == before


async def test_a_build_holds_its_set_can_be_cancelled_and_gone_on_with(shared: tuple[JobServer, Path]) -> None:
    jobs, data = shared
    before = indexes(data)
    await put_references(jobs.server, "third", copies=COPIES - 2)
    job = await jobs.create_work(built_of("third"))
    assert (await refusal(jobs.server.references.DeleteReference(delete("third")))).reason == "REFERENCE_IN_USE"
    await jobs.until_done(job.id, 512)
    assert (await jobs.cancel(job.id)).state == CANCELLED
    assert len(parts(data)) == 1
    assert indexes(data) == before

    await built(jobs, built_of("third"))

    assert not parts(data)
    (new,) = set(indexes(data)) - set(before)
    await jobs.server.references.DeleteReference(delete("third"))
    await _until_gone(new)


async def test_damage_death_and_change(tmp_path: Path) -> None:
    """The life of one index: damaged, built anew though its worker is killed over it, out of date, built anew."""
    models, data = tmp_path / "repository", tmp_path / "data"
    put_digits(models)
    async with job_server(models, data, "digits", unindexed_mebibytes=1) as jobs:
        await put_references(jobs.server, copies=COPIES)
        first = await built(jobs)
        (folder,) = indexes(data)
        content = bytearray((folder / "field_000.npy").read_bytes())
        content[-5] ^= 1
        (folder / "field_000.npy").write_bytes(content)

        refused = await refusal(jobs.server.explain.ExplainSimilarity(similarity_request()))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INDEX_STALE")
        assert "build the index anew" in refused.message

        job = await jobs.create_work(built_of())
        await jobs.until_done(job.id, 512)
        await _kill_workers(jobs)
        assert (await jobs.ended(job.id)).state == SUCCEEDED
        await _require_whole(jobs, data)

        _change(models)
        load = model_service_pb2.LoadModelRequest(model=model_pb2.ModelSelector(name="digits"))
        await jobs.server.models.LoadModel(load)
        refused = await refusal(jobs.server.explain.ExplainSimilarity(similarity_request()))
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INDEX_STALE")
        assert refused.metadata["digest"] == first.model_digest
        assert "build it anew" in refused.message

        second = await built(jobs)
        assert second.model_digest != first.model_digest
        # It took the place of the one that nothing can use any more.
        assert indexes(data) != [folder]
        await _require_whole(jobs, data)


async def _kill_workers(jobs: JobServer) -> None:
    before = jobs.server.server.worker_pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while jobs.server.server.worker_pids == before or not jobs.server.server.all_workers_ready:
            await asyncio.sleep(0.02)


def _change(models: Path) -> None:
    """The same network under another digest."""
    path = models / "digits" / "1" / "model.onnx"
    model = onnx.load(path)
    model.producer_version = "another"
    unfinished = path.with_name("unfinished")
    onnx.save(model, unfinished)
    unfinished.replace(path)


async def _until_gone(path: Path) -> None:
    async with asyncio.timeout(10):
        while path.exists():
            await asyncio.sleep(0.02)


async def _require_whole(jobs: JobServer, data: Path) -> None:
    """An index is there, and gives what the examples give."""
    (folder,) = indexes(data)
    assert not parts(data)
    request = similarity_request(all_scores=True)
    indexed = await jobs.server.explain.ExplainSimilarity(request)
    assert indexed.provenance.forward_rows == INSTANCES
    few = list(range(COUNT - REFERENCES, COUNT))
    folder.rename(data / "away")
    selection = reference_pb2.ReferenceSelection(reference="train", indices=few)
    computed = await jobs.server.explain.ExplainSimilarity(similarity_request(selection=selection, all_scores=True))
    (data / "away").rename(folder)
    assert computed.provenance.forward_rows > INSTANCES
    np.testing.assert_allclose(scores_of(indexed)[:, few], scores_of(computed), atol=1e-5)


async def test_killing_the_server_while_it_builds_leaves_nothing_or_all(tmp_path: Path) -> None:
    models, data = tmp_path / "repository", tmp_path / "data"
    put_digits(models)
    options = ("--data", str(data), "--address", "127.0.0.1:0")
    with _served(models, *options) as (process, address, _), grpc.insecure_channel(address) as channel:
        _until_available(channel, "digits")
        x, y = np.tile(IMAGES[INSTANCES:], (COPIES, 1, 1, 1)), np.tile(LABELS[INSTANCES:], COPIES)
        references = reference_service_pb2_grpc.ReferenceServiceStub(channel)
        references.CreateReference(iter(upload("train", x, y, rows=500)))
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        job = stub.CreateJob(job_service_pb2.CreateJobRequest(request=built_of())).job.id
        with suppress(grpc.RpcError):
            for answer in stub.WatchJob(job_service_pb2.WatchJobRequest(id=job), timeout=60):
                if answer.job.progress.done >= 512:
                    process.send_signal(signal.SIGKILL)
    assert not indexes(data)
    assert len(parts(data)) == 1

    async with job_server(models, data, "digits") as jobs:
        assert (await jobs.get(job)).state in (QUEUED, RUNNING)
        assert (await jobs.ended(job)).state == SUCCEEDED
        await _require_whole(jobs, data)


def test_what_has_no_room_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "digits" / "1" / "0123"
    (tmp_path / "other" / "1" / "4567").mkdir(parents=True)
    (tmp_path / "other" / "1" / "4567" / "field.npy").write_bytes(bytes(600))
    place.with_name("0123.partial").mkdir(parents=True)
    (place.with_name("0123.partial") / "field.npy").write_bytes(bytes(300))
    shelf = IndexShelf(tmp_path, 1000)

    shelf.require_room(place, 400)  # what is there of it already does not count twice
    with pytest.raises(StorageFull) as refused:
        shelf.require_room(place, 401)
    assert (refused.value.needed_bytes, refused.value.free_bytes) == (401, 400)
    with pytest.raises(StorageFull):
        IndexShelf(tmp_path, 1 << 60).require_room(place, 1 << 59)


def test_one_at_a_time_builds_at_a_place(tmp_path: Path) -> None:
    place, order = tmp_path / "0123", []
    shelves = [IndexShelf(tmp_path, 1000) for _ in range(2)]
    held, release = threading.Event(), threading.Event()

    def first() -> None:
        with shelves[0].locked(place, Control()):
            order.append("first")
            held.set()
            release.wait(10)
            order.append("first is done")

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(10)
    with pytest.raises(Stopped), shelves[1].locked(place, Control(iter([False, False, True]).__next__)):
        pass
    threading.Timer(0.2, release.set).start()
    with shelves[1].locked(place, Control()):
        order.append("second")
    thread.join()
    assert order == ["first", "first is done", "second"]


def test_indexes_of_what_is_gone_are_removed(tmp_path: Path) -> None:
    for path in _some_indexes(tmp_path):
        path.mkdir(parents=True)
        if path.suffix != ".partial":
            digests = {"model_digest": path.name.split("-")[0], "reference_digest": path.name.split("-")[1]}
            (path / "header.json").write_text(str(digests).replace("'", '"'))
        os.utime(path, (0, 0))
    fresh = tmp_path / "gone" / "1" / "m1-r1-fresh"
    os.utime(fresh)
    store = IndexStore(tmp_path, 3600)
    store.prepare()
    contents = {("there", 1): "m1", ("unknown", 1): ""}

    store.sweep(contents, {"r1"}, building=True)
    assert (tmp_path / "there" / "1" / "m1-r1.partial").is_dir()

    store.sweep(contents, {"r1"}, building=False)
    assert (tmp_path / "gone" / "2").is_dir()  # a job may have come that moment
    os.utime(tmp_path / "gone" / "2", (0, 0))
    store.sweep(contents, {"r1"}, building=False)
    assert not (tmp_path / "gone" / "2").exists()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*/*")}
    # One that fits, one of a content that is not known, one that was used a moment ago.
    assert left == {"there/1/m1-r1", "unknown/1/m1-r1", "gone/1/m1-r1-fresh"}


def _some_indexes(root: Path) -> Iterator[Path]:
    yield root / "there" / "1" / "m1-r1"
    yield root / "there" / "1" / "m2-r1"  # of an earlier content
    yield root / "there" / "1" / "m1-r2"  # of a set that was deleted
    yield root / "there" / "1" / "m1-r1.partial"
    yield root / "there" / "1" / "m1-r3.doomed"
    yield root / "unknown" / "1" / "m1-r1"
    yield root / "gone" / "1" / "m1-r1"
    yield root / "gone" / "1" / "m1-r1-fresh"
    yield root / "gone" / "2" / "m1-r1"
