"""A job of a server, followed and read with the blocking client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar, cast

import grpc

from sidelight.errors import SidelightError, Unavailable, from_rpc_error
from sidelight.jobs import JobInfo, KnownJob, Patience, decode_job, decode_result, is_about_state
from sidelight.pace import Deadline
from sidelight.v1 import job_service_pb2

_Result = TypeVar("_Result")


class _Caller(Protocol):
    """The client that a job belongs to."""

    target: str

    def _call(self, method: Any, request: Any, deadline: Deadline) -> Any: ...


class Job(KnownJob, Generic[_Result]):
    """A job of a server. What it says of itself is as of the last call that asked.

    Attributes:
        info: the job as it was then.
    """

    def __init__(self, info: JobInfo, client: _Caller, stub: Any) -> None:
        """Made by the `submit_` methods of `sidelight.Client`, `jobs` and `job`."""
        super().__init__(info)
        self._client = client
        self._stub = stub

    def refresh(self, *, timeout: float | None = None) -> Job[_Result]:
        """Asks how the job is now; returns it."""
        # GetJob would send the whole request back, with all its tensors.
        for _ in self.watch(timeout=timeout):
            break
        return self

    def watch(self, *, timeout: float | None = None) -> Iterator[JobInfo]:
        """Follows the job: as it is now, at every change and at least every 10 seconds, until it has ended.

        A server that is restarted meanwhile is waited for, for a minute.

        Args:
            timeout: in seconds, for all of it.

        Raises:
            DeadlineExceeded: the timeout passed; the job goes on.
            SidelightError: the server does not answer any more, or does not know the job.
        """
        deadline, patience = Deadline(timeout), Patience()
        while True:
            stream = self._stub.WatchJob(job_service_pb2.WatchJobRequest(id=self.id), timeout=deadline.remaining())
            try:
                for answer in stream:
                    patience.heard()
                    self.info = decode_job(answer.job)
                    yield self.info
                return
            except grpc.RpcError as error:
                failure = from_rpc_error(error, self._client.target)
                delay = patience.failed() if isinstance(failure, Unavailable) else None
                if delay is None:
                    raise failure from error
            finally:
                stream.cancel()
            time.sleep(delay)

    def wait(self, *, progress: Callable[[int, int], None] | None = None, timeout: float | None = None) -> Job[_Result]:
        """Waits until the job has ended, whatever became of it; returns it.

        Args:
            progress: called with (done, total) units at every change.
            timeout: in seconds.

        Raises:
            DeadlineExceeded: the timeout passed; the job goes on.
            SidelightError: the server does not answer any more, or does not know the job.
        """
        for info in self.watch(timeout=timeout):
            if progress is not None and info.progress.total:
                progress(info.progress.done, info.progress.total)
        return self

    def result(self, *, timeout: float | None = None) -> _Result:
        """What the job came to: what the call would have returned, or the index that was built.

        Raises:
            FailedPrecondition: it has not ended, or was cancelled.
            SidelightError: it failed: what the call would have raised.
        """
        request = job_service_pb2.GetJobResultRequest(id=self.id)
        deadline = Deadline(timeout)
        try:
            answer = self._client._call(self._stub.GetJobResult, request, deadline)
            return cast(_Result, decode_result(answer.result))
        except SidelightError as error:
            if is_about_state(error):
                failure = self.refresh(timeout=deadline.remaining()).failure
                if failure is not None:
                    raise failure.to_error() from error
            raise

    def cancel(self, *, timeout: float | None = None) -> Job[_Result]:
        """Stops the job; one that has ended stays as it is. Returns it."""
        request = job_service_pb2.CancelJobRequest(id=self.id)
        self.info = decode_job(self._client._call(self._stub.CancelJob, request, Deadline(timeout)).job)
        return self

    def delete(self, *, timeout: float | None = None) -> None:
        """Deletes the job, which must have ended, and its result."""
        request = job_service_pb2.DeleteJobRequest(id=self.id)
        self._client._call(self._stub.DeleteJob, request, Deadline(timeout))
