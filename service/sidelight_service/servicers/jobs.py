"""JobService over the jobs on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from sidelight.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from sidelight_engines.errors import InvalidField

from sidelight_service.calls import current_call
from sidelight_service.errors import NotAllowed
from sidelight_service.jobs.jobs import Jobs

_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000
_LONGEST_KEY = 128

Context = grpc.aio.ServicerContext[Any, Any]


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """JobService. Without a data directory every call is refused."""

    def __init__(self, jobs: Jobs | None) -> None:
        self._all = jobs

    @property
    def _jobs(self) -> Jobs:
        if self._all is None:
            raise NotAllowed(
                "data", "jobs are kept on disk, and this server has no data directory; start it with --data DIRECTORY"
            )
        return self._all

    async def CreateJob(  # noqa: N802 - the contract's name
        self, request: job_service_pb2.CreateJobRequest, context: Context
    ) -> job_service_pb2.CreateJobResponse:
        """Puts work in the queue and answers at once."""
        key = request.idempotency_key
        if len(key) > _LONGEST_KEY:
            raise InvalidField(
                "idempotency_key", f"has {len(key)} characters", f"give at most {_LONGEST_KEY}, such as a UUID"
            )
        job = await self._jobs.create(request.request, key or None)
        current_call.get().fields["job"] = job.id
        return job_service_pb2.CreateJobResponse(job=job)

    async def GetJob(  # noqa: N802 - the contract's name
        self, request: job_service_pb2.GetJobRequest, context: Context
    ) -> job_service_pb2.GetJobResponse:
        """Describes one job."""
        current_call.get().fields["job"] = request.id
        return job_service_pb2.GetJobResponse(job=await self._jobs.get_whole(request.id))

    async def GetJobResult(  # noqa: N802 - the contract's name
        self, request: job_service_pb2.GetJobResultRequest, context: Context
    ) -> job_service_pb2.GetJobResultResponse:
        """Returns the result of a job that succeeded."""
        current_call.get().fields["job"] = request.id
        result = await self._jobs.result(request.id)
        return job_service_pb2.GetJobResultResponse(result=job_pb2.JobResult.FromString(result))

    async def ListJobs(  # noqa: N802 - the contract's name
        self, request: job_service_pb2.ListJobsRequest, context: Context
    ) -> job_service_pb2.ListJobsResponse:
        """Lists jobs, newest first, a page at a time."""
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            raise InvalidField(
                "page_size", f"{request.page_size} is outside 0 to {_LARGEST_PAGE}", "give a size within, or none"
            )
        if request.page_token and not (request.page_token.isascii() and request.page_token.isdecimal()):
            raise InvalidField(
                "page_token", f"{request.page_token!r} is no token of this call", "give the last next_page_token"
            )
        for position, state in enumerate(request.states):
            if state == job_pb2.JOB_STATE_UNSPECIFIED or state not in job_pb2.JobState.values():
                names = ", ".join(job_pb2.JobState.keys()[1:])
                raise InvalidField(f"states[{position}]", f"{state} is no state of a job", f"give some of {names}")
        before = int(request.page_token) if request.page_token else None
        jobs, more = await self._jobs.page(set(request.states), before, request.page_size or _DEFAULT_PAGE)
        return job_service_pb2.ListJobsResponse(jobs=jobs, next_page_token="" if more is None else str(more))

    async def WatchJob(  # noqa: N802 - the contract's name
        self, request: job_service_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[job_service_pb2.WatchJobResponse]:
        """Follows a job until it has ended."""
        current_call.get().fields["job"] = request.id
        async for job in self._jobs.watch(request.id):
            yield job_service_pb2.WatchJobResponse(job=job)

    async def CancelJob(  # noqa: N802 - the contract's name
        self, request: job_service_pb2.CancelJobRequest, context: Context
    ) -> job_service_pb2.CancelJobResponse:
        """Stops a job within one chunk of its work."""
        current_call.get().fields["job"] = request.id
        return job_service_pb2.CancelJobResponse(job=await self._jobs.cancel(request.id))

    async def DeleteJob(  # noqa: N802 - the contract's name
        self, request: job_service_pb2.DeleteJobRequest, context: Context
    ) -> job_service_pb2.DeleteJobResponse:
        """Deletes a job that has ended, and its result."""
        current_call.get().fields["job"] = request.id
        await self._jobs.delete(request.id)
        return job_service_pb2.DeleteJobResponse()
