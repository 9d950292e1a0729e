"""A job as it is kept, and as callers see it."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import timestamp_pb2
from sidelight.v1 import job_pb2

QUEUED = job_pb2.JOB_STATE_QUEUED
RUNNING = job_pb2.JOB_STATE_RUNNING
SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
FAILED = job_pb2.JOB_STATE_FAILED
CANCELLED = job_pb2.JOB_STATE_CANCELLED

ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED})
"""The states that a job does not leave."""


def state_name(state: int) -> str:
    """The state without the prefix of its enum."""
    return job_pb2.JobState.Name(state).removeprefix("JOB_STATE_")  # type: ignore[arg-type]


@dataclass(frozen=True)
class JobRecord:
    """A job, all but its request and result. Times are in microseconds since 1970; 0 stands for "not yet".

    Attributes:
        number: in the order of creation.
        id: what callers call it.
        state: a JobState.
        field: of JobRequest that is set.
        outline: its JobRequest without tensors, serialized.
        done: units done and saved.
        total: units in all; 0 until known.
        attempts: how often the next unit was begun.
        version: of the model that the units done were made with; 0 before.
        digest: of that version.
        error: a JobError, serialized; empty unless it failed.
    """

    number: int
    id: str
    state: int
    field: str
    outline: bytes
    done: int
    total: int
    attempts: int
    version: int
    digest: str
    create_time: int
    start_time: int
    end_time: int
    expire_time: int
    error: bytes

    @property
    def ended(self) -> bool:
        """Whether it is in a state that it does not leave."""
        return self.state in ENDED

    def to_proto(self) -> job_pb2.ExplainJob:
        """The job as callers see it, its request without tensors."""
        job = job_pb2.ExplainJob(
            id=self.id,
            state=self.state,  # type: ignore[arg-type]
            request=job_pb2.JobRequest.FromString(self.outline),
            progress=job_pb2.JobProgress(done=self.done, total=self.total),
        )
        for name in ("create_time", "start_time", "end_time", "expire_time"):
            if moment := getattr(self, name):
                stamp = timestamp_pb2.Timestamp()
                stamp.FromMicroseconds(moment)
                getattr(job, name).CopyFrom(stamp)
        if self.error:
            job.error.CopyFrom(job_pb2.JobError.FromString(self.error))
        return job
