"""Jobs through the ends of servers and workers: what runs goes on, and comes to the same result."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import onnx
import pytest
from google.protobuf import json_format
from job_serving import FAILED, QUEUED, RUNNING, SUCCEEDED, JobServer, job_server, without_cost
from serving import FEATURES, dense_network, linearity_request, put_model, taken_apart
from sidelight.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc, linearity_pb2, model_service_pb2
from test_process import _served, _until_available

ROWS = 1500


@pytest.fixture(scope="module")
def steady_model() -> onnx.ModelProto:
    """Some milliseconds per instance: several seconds for ROWS."""
    return dense_network([FEATURES, *[256] * 10, 3])


@pytest.fixture
def steady(repository: Path, steady_model: onnx.ModelProto) -> Path:
    """The repository with the model that takes its time."""
    put_model(repository, "steady", 1, steady_model)
    return repository


@pytest.fixture(scope="module")
async def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, steady_model: onnx.ModelProto
) -> linearity_pb2.ExplainLinearityResponse:
    """What the job of these tests comes to if nothing happens."""
    models = tmp_path_factory.mktemp("models")
    put_model(models, "steady", 1, steady_model)
    async with job_server(models, tmp_path_factory.mktemp("data"), "steady") as jobs:
        return without_cost(await jobs.direct(linearity_request("steady", rows=ROWS)))


async def test_a_job_goes_on_where_it_was_when_the_server_is_stopped_and_started(
    steady: Path, tmp_path: Path, undisturbed: Any
) -> None:
    async with AsyncExitStack() as outlives:
        async with job_server(steady, tmp_path / "data", "steady") as jobs:
            job = await jobs.create(linearity_request("steady", rows=ROWS))
            waiting = await jobs.create(linearity_request("small"))
            await jobs.until_done(job.id, 200)
            channel = grpc.aio.insecure_channel(jobs.server.server.addresses[0])
            await outlives.enter_async_context(channel)
            follower = job_service_pb2_grpc.JobServiceStub(channel).WatchJob(job_service_pb2.WatchJobRequest(id=job.id))
            await follower.read()
            began = time.monotonic()

        # Neither the job nor who follows it holds the server up.
        assert time.monotonic() - began < 4.0
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await _read_to_the_end(follower)
        assert taken_apart(told.value).reason == "SHUTTING_DOWN"

    async with job_server(steady, tmp_path / "data") as jobs:
        resumed = await jobs.get(job.id)
        assert resumed.state in (QUEUED, RUNNING)
        assert 0 < resumed.progress.done < ROWS
        assert (await jobs.ended(job.id)).state == SUCCEEDED
        # The sum over slices: none was made twice.
        assert without_cost(await jobs.result(job.id)) == undisturbed
        assert (await jobs.ended(waiting.id)).state == SUCCEEDED


def test_a_job_goes_on_where_it_was_when_the_server_is_killed(steady: Path, tmp_path: Path, undisturbed: Any) -> None:
    options = ("--data", str(tmp_path / "data"), "--address", "127.0.0.1:0")
    with _served(steady, *options) as (process, address, _), grpc.insecure_channel(address) as channel:
        _until_available(channel, "steady")
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        work = job_pb2.JobRequest(linearity=linearity_request("steady", rows=ROWS))
        job = stub.CreateJob(job_service_pb2.CreateJobRequest(request=work)).job.id
        with suppress(grpc.RpcError):
            for answer in stub.WatchJob(job_service_pb2.WatchJobRequest(id=job), timeout=60):
                if answer.job.progress.done >= 200:
                    process.send_signal(signal.SIGKILL)

    with _served(steady, *options) as (_, address, _), grpc.insecure_channel(address) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        seen = [a.job for a in stub.WatchJob(job_service_pb2.WatchJobRequest(id=job), timeout=60, wait_for_ready=True)]

        assert 0 < seen[0].progress.done < ROWS
        assert seen[-1].state == SUCCEEDED
        result = stub.GetJobResult(job_service_pb2.GetJobResultRequest(id=job)).result.linearity
        assert without_cost(result) == undisturbed


async def test_a_slice_is_tried_again_when_its_worker_is_killed(steady: Path, tmp_path: Path, undisturbed: Any) -> None:
    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        job = await jobs.create(linearity_request("steady", rows=ROWS))
        await jobs.until_done(job.id, 200)

        for pid in jobs.server.server.worker_pids:
            os.kill(pid, signal.SIGKILL)

        assert (await jobs.ended(job.id)).state == SUCCEEDED
        assert without_cost(await jobs.result(job.id)) == undisturbed


async def test_a_job_whose_worker_dies_again_and_again_fails_and_says_so(steady: Path, tmp_path: Path) -> None:
    # One slice of one instance that takes long enough to be killed.
    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        job = await jobs.create(linearity_request("steady", rows=4, samples=10_000))
        ended = asyncio.create_task(jobs.ended(job.id))
        while not ended.done():
            await asyncio.sleep(0.05)
            if (await jobs.get(job.id)).state == RUNNING and jobs.server.server.all_workers_ready:
                for pid in jobs.server.server.worker_pids:
                    os.kill(pid, signal.SIGKILL)

        failed = await ended
        assert (failed.state, failed.error.reason) == (FAILED, "WORKER_LOST")
        assert "3 times" in failed.error.message


async def test_a_job_starts_over_if_its_model_was_changed_while_the_server_was_down(
    steady: Path, tmp_path: Path
) -> None:
    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        job = await jobs.create(linearity_request("steady", rows=400))
        await jobs.until_done(job.id, 30)
    (steady / "steady" / "1" / "model.onnx").unlink()
    put_model(steady, "steady", 1, dense_network([FEATURES, *[128] * 3, 3], seed=5))

    async with job_server(steady, tmp_path / "data") as jobs:
        assert (await jobs.ended(job.id)).state == SUCCEEDED
        expected = await jobs.direct(linearity_request("steady", rows=400))
        assert without_cost(await jobs.result(job.id)) == without_cost(expected)


async def test_a_new_version_does_not_disturb_a_job_that_runs(steady: Path, tmp_path: Path, undisturbed: Any) -> None:
    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        job = await jobs.create(linearity_request("steady", rows=ROWS))
        await jobs.until_done(job.id, 30)
        put_model(steady, "steady", 2, dense_network([FEATURES, 8, 3]))
        await jobs.server.models.LoadModel(_load("steady"))
        assert (await jobs.direct(linearity_request("steady"))).provenance.version == 2

        await jobs.ended(job.id)

        assert without_cost(await jobs.result(job.id)) == undisturbed


async def _read_to_the_end(stream: Any) -> None:
    while await stream.read():
        pass


def _load(model: str) -> Any:
    return json_format.ParseDict({"model": {"name": model}}, model_service_pb2.LoadModelRequest())


async def test_a_job_whose_model_is_gone_after_a_restart_fails_and_says_so(steady: Path, tmp_path: Path) -> None:
    async with job_server(steady, tmp_path / "data", "steady") as jobs:
        job = await jobs.create(linearity_request("steady", rows=ROWS))
        await jobs.until_done(job.id, 1)
    (steady / "steady" / "1" / "model.onnx").unlink()
    (steady / "steady" / "1").rmdir()

    async with job_server(steady, tmp_path / "data") as jobs:
        failed = await jobs.ended(job.id)
        assert (failed.state, failed.error.reason) == (FAILED, "MODEL_NOT_FOUND")
        assert dict(failed.error.metadata) == {"model": "steady"}


async def test_a_result_can_be_read_after_a_restart(repository: Path, tmp_path: Path) -> None:
    async with job_server(repository, tmp_path / "data", "small") as jobs:
        job = await jobs.ended((await jobs.create(linearity_request())).id)
        result = await jobs.result(job.id)

    async with job_server(repository, tmp_path / "data") as jobs:
        assert await jobs.get(job.id) == job_with_request(job)
        assert await jobs.result(job.id) == result


def job_with_request(job: job_pb2.ExplainJob) -> job_pb2.ExplainJob:
    whole = job_pb2.ExplainJob()
    whole.CopyFrom(job)
    whole.request.linearity.CopyFrom(linearity_request())
    return whole


async def test_two_servers_do_not_share_a_data_directory(repository: Path, tmp_path: Path) -> None:
    async with job_server(repository, tmp_path / "data") as jobs:
        assert isinstance(jobs, JobServer)
        with pytest.raises(OSError, match="in use by another server"):
            async with job_server(repository, tmp_path / "data"):
                pass
