"""Jobs: created, followed, read, listed, refused, cancelled, expired."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from google.protobuf import json_format
from job_serving import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, JobServer, job_server, without_cost
from serving import FEATURES, Running, dense_network, inline, linearity_request, put_model, refusal
from sidelight.v1 import explanation_pb2, job_service_pb2, job_service_pb2_grpc, linearity_pb2, model_service_pb2

PRECISE = (grpc.StatusCode.FAILED_PRECONDITION, "JOB_STATE")


@pytest.fixture(scope="session")
def steady_model() -> onnx.ModelProto:
    """Some milliseconds per instance: a minute for thousands, three slices for some fifty."""
    return dense_network([FEATURES, *[256] * 10, 3])


@pytest.fixture(scope="module")
async def jobs(
    tmp_path_factory: pytest.TempPathFactory, small_model: onnx.ModelProto, steady_model: onnx.ModelProto
) -> AsyncIterator[JobServer]:
    """One server for the tests of this module, each of which leaves it without a job that runs."""
    models = tmp_path_factory.mktemp("models")
    put_model(models, "small", 1, small_model)
    put_model(models, "steady", 1, steady_model)
    async with job_server(models, tmp_path_factory.mktemp("data"), "small", "steady") as server:
        yield server


@pytest.mark.parametrize(
    "parameters",
    [
        {"layers": explanation_pb2.LayerSelection(all=True), "confidence_level": 0.9},
        {"aggregation": linearity_pb2.AGGREGATION_PAIRWISE},
        {
            "draws": linearity_pb2.RandomDraws(
                seed=7, generator=linearity_pb2.DRAW_GENERATOR_MERSENNE_TWISTER, word_offset=3
            )
        },
        {"draws": linearity_pb2.RandomDraws(seed=7, first_instance=20)},
    ],
    ids=["every layer", "pairwise", "mersenne twister", "part of a longer list"],
)
async def test_the_result_of_a_job_equals_that_of_the_call(jobs: JobServer, parameters: dict[str, Any]) -> None:
    request = linearity_request("steady", rows=60, **parameters)
    expected = await jobs.direct(request)

    job = await jobs.ended((await jobs.create(request)).id)

    assert job.state == SUCCEEDED
    assert without_cost(await jobs.result(job.id)) == without_cost(expected)


async def test_a_job_with_neighbours_equals_the_call(jobs: JobServer) -> None:
    data = np.random.default_rng(3).random((50, FEATURES), dtype=np.float32)
    request = linearity_request("steady", rows=60)
    request.parameters.knn.data.CopyFrom(inline(data))
    expected = await jobs.direct(request)

    job = await jobs.ended((await jobs.create(request)).id)

    assert without_cost(await jobs.result(job.id)) == without_cost(expected)


async def test_a_job_of_typed_values_equals_the_call(jobs: JobServer) -> None:
    request = linearity_request("small", rows=30)
    tensor = request.instances.inline.inputs[0].tensor
    tensor.double_values.values.extend(np.frombuffer(tensor.raw, np.float32).tolist())
    expected = await jobs.direct(request)

    job = await jobs.ended((await jobs.create(request)).id)

    assert without_cost(await jobs.result(job.id)) == without_cost(expected)


async def test_a_job_draws_one_picture_of_all_its_slices(jobs: JobServer) -> None:
    request = linearity_request("small", rows=30, confidence_level=0.9)
    request.render.format = explanation_pb2.PICTURE_FORMAT_SVG
    expected = await jobs.direct(request)

    job = await jobs.ended((await jobs.create(request)).id)

    (picture,) = (await jobs.result(job.id)).pictures
    assert picture.alternative_text == expected.pictures[0].alternative_text
    assert "30 instances" in picture.data.decode()


async def test_a_method_without_slices_runs_whole_and_tells_of_its_progress(
    jobs: JobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("jobs", "runner"):
        monkeypatch.setattr(f"sidelight_service.jobs.{module}.SLICERS", {})
    request = linearity_request("steady", rows=600)
    expected = await jobs.direct(request)

    seen = await jobs.watched((await jobs.create(request)).id)

    assert without_cost(await jobs.result(seen[0].id)) == without_cost(expected)
    assert [(seen[0].progress.done, seen[0].progress.total)] == [(0, 0)]
    assert any(0 < answer.progress.done < answer.progress.total == 600 for answer in seen)


async def test_a_watcher_sees_a_job_from_the_queue_to_its_end(jobs: JobServer) -> None:
    job = await jobs.create(linearity_request("steady", rows=600))

    seen = await jobs.watched(job.id)

    states = [state for state, _ in itertools.groupby(answer.state for answer in seen)]
    assert states in ([QUEUED, RUNNING, SUCCEEDED], [RUNNING, SUCCEEDED])
    done = [answer.progress.done for answer in seen]
    assert done == sorted(done)
    assert done[-1] == 600
    assert all(answer.progress.total == 600 for answer in seen)
    midway = [answer for answer in seen if 0 < answer.progress.done < 600]
    assert len(midway) >= 2
    assert any(answer.progress.rate > 0 and answer.progress.HasField("remaining") for answer in midway)
    end = seen[-1]
    assert end.create_time.ToNanoseconds() <= end.start_time.ToNanoseconds() <= end.end_time.ToNanoseconds()
    assert end.expire_time.seconds - end.end_time.seconds == 168 * 3600
    assert await jobs.watched(job.id) == [end]


async def test_only_get_sends_the_tensors_of_a_request_back(jobs: JobServer) -> None:
    request = linearity_request("small", rows=8)
    created = await jobs.create(request)
    (watched, *_) = await jobs.watched(created.id)
    (listed,) = (await jobs.listed(page_size=1)).jobs
    whole = await jobs.get(created.id)

    assert whole.request.linearity == request
    for outline in (created, watched, listed):
        tensor = outline.request.linearity.instances.inline.inputs[0].tensor
        assert tensor.WhichOneof("content") is None
        assert list(tensor.shape) == [8, FEATURES]
        assert outline.request.linearity.parameters == request.parameters


async def test_the_same_idempotency_key_gives_the_job_of_the_first_call(jobs: JobServer) -> None:
    first = await jobs.create(linearity_request("small"), key="nightly-2026-01-01")

    again = await jobs.create(linearity_request("small", rows=5), key="nightly-2026-01-01")
    other = await jobs.create(linearity_request("small"), key="nightly-2026-01-02")

    assert again.id == first.id
    assert other.id != first.id
    await jobs.ended(first.id)
    await jobs.delete(first.id)
    assert (await jobs.create(linearity_request("small"), key="nightly-2026-01-01")).id != first.id


async def test_jobs_are_listed_newest_first_a_page_at_a_time(jobs: JobServer) -> None:
    created = [(await jobs.create(linearity_request("small"))).id for _ in range(5)]
    await jobs.ended(created[-1])

    first = await jobs.listed(page_size=2, states=[SUCCEEDED])
    second = await jobs.listed(page_size=3, states=[SUCCEEDED], page_token=first.next_page_token)

    assert [job.id for job in (*first.jobs, *second.jobs)] == created[::-1]
    assert not (await jobs.listed(states=[QUEUED, RUNNING])).jobs
    assert (await jobs.listed(page_size=1000)).next_page_token == ""


@pytest.mark.parametrize(
    ("request_json", "reason", "field"),
    [
        ({}, "INVALID_FIELD", "request.work"),
        ({"request": {"linearity": {}}}, "INVALID_FIELD", "request.linearity.model.name"),
        ({"request": {"linearity": {"model": {"name": "none"}}}}, "MODEL_NOT_FOUND", None),
        ({"request": {"linearity": {"model": {"name": "small", "version": 9}}}}, "VERSION_NOT_FOUND", None),
        (
            {"request": {"buildGradientIndex": {"model": {"name": "small"}}}},
            "INVALID_FIELD",
            "request.build_gradient_index.reference",
        ),
        ({"idempotencyKey": "k" * 129}, "INVALID_FIELD", "idempotency_key"),
    ],
)
async def test_what_can_not_be_run_is_refused_at_creation(
    jobs: JobServer, request_json: dict[str, Any], reason: str, field: str | None
) -> None:
    request = json_format.ParseDict(request_json, job_service_pb2.CreateJobRequest())

    refused = await refusal(jobs.stub.CreateJob(request))

    assert refused.reason == reason
    assert refused.fields == ([] if field is None else [field])


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"page_size": 1001}, "page_size"), ({"page_token": "x"}, "page_token"), ({"states": [0]}, "states[0]")],
)
async def test_a_listing_names_the_field_that_is_wrong(jobs: JobServer, fields: dict[str, Any], field: str) -> None:
    assert (await refusal(jobs.listed(**fields))).fields == [field]


async def test_an_unknown_job_is_not_found_by_any_call(jobs: JobServer) -> None:
    calls = [jobs.get("none"), jobs.cancel("none"), jobs.delete("none"), jobs.result("none"), jobs.watched("none")]
    for call in calls:
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
        assert refused.metadata == {"job": "none"}


@pytest.mark.parametrize(
    ("spoil", "reason", "metadata"),
    [
        (lambda r: r.parameters.layers.names.append("dense_9"), "UNKNOWN_LAYER", {"layer": "dense_9"}),
        (lambda r: r.ClearField("parameters"), "INVALID_FIELD", {"field": "parameters.sampling"}),
        (lambda r: r.render.MergeFrom(_rendering(width_pixels=9)), "INVALID_FIELD", {"field": "render.width_pixels"}),
        (lambda r: r.instances.inline.inputs[0].tensor.shape.append(2), "INVALID_FIELD", {}),
    ],
    ids=["layer", "sampling", "render", "shape"],
)
async def test_a_job_fails_as_the_call_would(
    jobs: JobServer, spoil: Any, reason: str, metadata: dict[str, str]
) -> None:
    request = linearity_request("small", rows=20)
    spoil(request)
    expected = await refusal(jobs.direct(request))

    job = await jobs.ended((await jobs.create(request)).id)

    assert (job.state, job.progress.done) == (FAILED, 0)
    assert (job.error.code, job.error.reason) == (expected.code.value[0], expected.reason)
    assert job.error.message == expected.message
    assert dict(job.error.metadata) == expected.metadata
    assert job.error.reason == reason
    assert metadata.items() <= dict(job.error.metadata).items()
    refused = await refusal(jobs.result(job.id))
    assert (refused.code, refused.reason) == PRECISE
    assert refused.metadata == {"job": job.id, "state": "FAILED"}


def _rendering(**options: Any) -> explanation_pb2.RenderOptions:
    return explanation_pb2.RenderOptions(format=explanation_pb2.PICTURE_FORMAT_PNG, **options)


@pytest.mark.parametrize("value", [np.nan, 3e38], ids=["nan", "overflow in the model"])
async def test_a_bad_instance_is_named_by_its_place_in_the_whole_list(jobs: JobServer, value: float) -> None:
    x = np.random.default_rng(1).random((50, FEATURES), dtype=np.float32)
    x[37] = value
    request = linearity_request("small")
    request.instances.CopyFrom(inline(x))
    expected = await refusal(jobs.direct(request))

    job = await jobs.ended((await jobs.create(request)).id)

    assert "37" in expected.message
    assert job.error.message == expected.message
    assert dict(job.error.metadata) == expected.metadata


async def test_cancelling_a_running_job_frees_its_worker(jobs: JobServer) -> None:
    job = await jobs.create(linearity_request("steady", rows=20_000))
    await jobs.until_done(job.id, 1)
    following = asyncio.create_task(jobs.ended(job.id))
    await asyncio.sleep(0.1)

    cancelled = await jobs.cancel(job.id)

    assert cancelled.state == CANCELLED
    began = time.monotonic()
    await jobs.direct(linearity_request("small"))
    assert time.monotonic() - began < 10.0
    assert (await following).state == CANCELLED
    assert (await jobs.cancel(job.id)).state == CANCELLED
    assert (await refusal(jobs.result(job.id))).metadata["state"] == "CANCELLED"


async def test_a_queued_job_is_cancelled_without_having_run(jobs: JobServer) -> None:
    first = await jobs.create(linearity_request("steady", rows=20_000))
    second = await jobs.create(linearity_request("small"))
    await jobs.until_done(first.id, 1)

    assert (await jobs.cancel(second.id)).state == CANCELLED
    await jobs.cancel(first.id)

    assert not (await jobs.get(second.id)).HasField("start_time")


async def test_a_job_that_ended_stays_as_it_is_when_cancelled(jobs: JobServer) -> None:
    job = await jobs.ended((await jobs.create(linearity_request("small"))).id)

    assert (await jobs.cancel(job.id)).state == SUCCEEDED
    assert (await jobs.result(job.id)).instance_count == 4


async def test_a_job_is_deleted_after_it_ended_and_not_before(jobs: JobServer) -> None:
    job = await jobs.create(linearity_request("steady", rows=20_000))
    refused = await refusal(jobs.delete(job.id))
    assert (refused.code, refused.reason) == PRECISE
    await jobs.cancel(job.id)

    await jobs.delete(job.id)

    assert (await refusal(jobs.get(job.id))).reason == "JOB_NOT_FOUND"


async def test_a_call_waits_for_no_more_than_about_a_slice_of_a_job(jobs: JobServer) -> None:
    job = await jobs.create(linearity_request("steady", rows=20_000))
    begun = await jobs.until_done(job.id, 50)
    waits = []
    for _ in range(4):
        began = time.monotonic()
        await jobs.direct(linearity_request("small"))
        waits.append(time.monotonic() - began)

    assert max(waits) < 3.0
    assert (await jobs.cancel(job.id)).progress.done > begun.progress.done


async def test_more_jobs_than_may_wait_are_refused(repository: Path, tmp_path: Path, steady_model: Any) -> None:
    put_model(repository, "steady", 1, steady_model)
    async with job_server(repository, tmp_path / "data", "steady", job_queue_limit=1) as jobs:
        running = await jobs.create(linearity_request("steady", rows=20_000))
        await jobs.until_done(running.id, 1)
        await jobs.create(linearity_request("steady"), key="known")

        refused = await refusal(jobs.create(linearity_request("steady")))

        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
        assert refused.metadata == {"limit": "1"}
        assert refused.retry_seconds is not None
        assert (await jobs.create(linearity_request("steady"), key="known")).state == QUEUED
        await jobs.cancel(running.id)


async def test_a_job_and_its_result_are_gone_when_its_time_is_up(repository: Path, tmp_path: Path) -> None:
    async with job_server(repository, tmp_path / "data", "small", job_retention_hours=1.0 / 3600) as jobs:
        job = await jobs.ended((await jobs.create(linearity_request())).id)
        assert job.expire_time.ToMilliseconds() - job.end_time.ToMilliseconds() == 1000
        assert (await jobs.result(job.id)).instance_count == 4

        async with asyncio.timeout(10):
            while (await jobs.listed()).jobs:
                await asyncio.sleep(0.1)

        assert (await refusal(jobs.result(job.id))).reason == "JOB_NOT_FOUND"


async def test_a_result_that_no_message_has_room_for_fails_before_all_is_computed(
    repository: Path, tmp_path: Path
) -> None:
    async with job_server(repository, tmp_path / "data", "small", max_message_mebibytes=1) as jobs:
        request = linearity_request(
            rows=15_000,
            samples=2,
            aggregation=linearity_pb2.AGGREGATION_PAIRWISE,
            layers=explanation_pb2.LayerSelection(all=True),
            confidence_level=0.9,
        )
        job = await jobs.ended((await jobs.create(request)).id)

        assert (job.state, job.error.reason) == (FAILED, "MESSAGE_TOO_LARGE")
        assert 0 < job.progress.done < 15_000


async def test_without_a_data_directory_jobs_are_not_allowed(shared_server: Running) -> None:
    jobs = JobServer(shared_server, job_service_pb2_grpc.JobServiceStub(shared_server.channel))
    for call in (jobs.create(linearity_request()), jobs.listed(), jobs.watched("x")):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ALLOWED")
        assert refused.metadata == {"setting": "data"}


async def test_a_model_that_a_job_uses_stays_until_the_job_has_ended(
    repository: Path, tmp_path: Path, steady_model: Any
) -> None:
    put_model(repository, "steady", 1, steady_model)
    async with job_server(repository, tmp_path / "data", "steady") as jobs:
        job = await jobs.create(linearity_request("steady", rows=200))
        await jobs.until_done(job.id, 1)
        request = model_service_pb2.UnloadModelRequest()
        request.model.name = "steady"

        await jobs.server.models.UnloadModel(request)

        assert (await jobs.get(job.id)).state == SUCCEEDED
