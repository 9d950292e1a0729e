"""Servers with a data directory, and what tests ask their jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import Running, running
from sidelight.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc, linearity_pb2
from sidelight_service.settings import Settings

SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
FAILED = job_pb2.JOB_STATE_FAILED
CANCELLED = job_pb2.JOB_STATE_CANCELLED
RUNNING = job_pb2.JOB_STATE_RUNNING
QUEUED = job_pb2.JOB_STATE_QUEUED


@dataclass
class JobServer:
    """A server, and its jobs by the calls of the contract."""

    server: Running
    stub: Any

    async def create(self, request: linearity_pb2.ExplainLinearityRequest, key: str = "") -> job_pb2.ExplainJob:
        return await self.create_work(job_pb2.JobRequest(linearity=request), key)

    async def create_work(self, work: job_pb2.JobRequest, key: str = "") -> job_pb2.ExplainJob:
        created = job_service_pb2.CreateJobRequest(request=work, idempotency_key=key)
        return (await self.stub.CreateJob(created)).job

    async def get(self, job: str) -> job_pb2.ExplainJob:
        return (await self.stub.GetJob(job_service_pb2.GetJobRequest(id=job))).job

    async def cancel(self, job: str) -> job_pb2.ExplainJob:
        return (await self.stub.CancelJob(job_service_pb2.CancelJobRequest(id=job))).job

    async def delete(self, job: str) -> None:
        await self.stub.DeleteJob(job_service_pb2.DeleteJobRequest(id=job))

    async def listed(self, **fields: Any) -> Any:
        return await self.stub.ListJobs(job_service_pb2.ListJobsRequest(**fields))

    async def result(self, job: str) -> linearity_pb2.ExplainLinearityResponse:
        return (await self.outcome(job)).linearity

    async def outcome(self, job: str) -> job_pb2.JobResult:
        return (await self.stub.GetJobResult(job_service_pb2.GetJobResultRequest(id=job))).result

    async def watched(self, job: str) -> list[job_pb2.ExplainJob]:
        """Every state of a job until it has ended."""
        stream = self.stub.WatchJob(job_service_pb2.WatchJobRequest(id=job))
        return [answer.job async for answer in stream]

    async def ended(self, job: str, seconds: float = 60.0) -> job_pb2.ExplainJob:
        async with asyncio.timeout(seconds):
            return (await self.watched(job))[-1]

    async def until_done(self, job: str, units: int, seconds: float = 60.0) -> job_pb2.ExplainJob:
        """Waits until so many units are done."""
        async with asyncio.timeout(seconds):
            async for answer in self.stub.WatchJob(job_service_pb2.WatchJobRequest(id=job)):
                if answer.job.progress.done >= units:
                    return answer.job
        raise AssertionError(f"job {job} ended before {units} units")

    async def direct(self, request: linearity_pb2.ExplainLinearityRequest) -> linearity_pb2.ExplainLinearityResponse:
        return await self.server.explain.ExplainLinearity(request)


@asynccontextmanager
async def job_server(repository: Path, data: Path, *wait_for: str, **settings: Any) -> AsyncIterator[JobServer]:
    """A server with a data directory; it stops at the end of the block."""
    given = {
        "models": repository,
        "data": data,
        "addresses": ("127.0.0.1:0",),
        "settle_seconds": 0.0,
        "drain_seconds": 5.0,
    }
    async with running(Settings(**(given | settings))) as server:
        await server.until_available(*wait_for)
        yield JobServer(server, job_service_pb2_grpc.JobServiceStub(server.channel))


def without_cost(response: linearity_pb2.ExplainLinearityResponse) -> linearity_pb2.ExplainLinearityResponse:
    """A response without the times that it took, which differ every time."""
    rest = linearity_pb2.ExplainLinearityResponse()
    rest.CopyFrom(response)
    rest.provenance.ClearField("queue_time")
    rest.provenance.ClearField("compute_time")
    return rest
