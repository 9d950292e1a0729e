"""What a job is and how far it is, without asking a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
from google.protobuf.message import Message

from sidelight.activation_pattern import ActivationPatternExplanation, decode_activation_pattern
from sidelight.errors import FailedPrecondition, InvalidArgument, SidelightError, Unimplemented, error_of
from sidelight.influence import InfluenceExplanation
from sidelight.influence_decode import decode_influence
from sidelight.linearity import LinearityExplanation
from sidelight.linearity_run import decode_linearity
from sidelight.lrp import LrpExplanation
from sidelight.lrp_run import decode_lrp
from sidelight.similarity import GradientIndex, SimilarityExplanation
from sidelight.similarity_run import decode_gradient_index, decode_similarity
from sidelight.v1 import job_pb2, job_service_pb2
from sidelight.words import choose, word

Result = (
    LinearityExplanation
    | SimilarityExplanation
    | LrpExplanation
    | ActivationPatternExplanation
    | InfluenceExplanation
    | GradientIndex
)
"""What jobs come to, by what they do."""

_DECODERS: Mapping[str, Callable[[job_pb2.JobResult], Result]] = {
    "linearity": lambda result: decode_linearity([result.linearity]),
    "similarity": lambda result: decode_similarity([result.similarity]),
    "lrp": lambda result: decode_lrp([result.lrp]),
    "activation_pattern": lambda result: decode_activation_pattern(result.activation_pattern),
    "influence": lambda result: decode_influence(result.influence),
    "build_gradient_index": lambda result: decode_gradient_index(result.build_gradient_index),
}

ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""The states that a job does not leave."""


@dataclass(frozen=True)
class JobProgress:
    """How far a job is.

    Attributes:
        done: units done, such as instances.
        total: units in all; 0 until known.
        rate: units per second, lately.
        remaining_seconds: the time left at that rate; None until known.
    """

    done: int
    total: int
    rate: float
    remaining_seconds: float | None


@dataclass(frozen=True)
class JobFailure:
    """Why a job failed.

    Attributes:
        code: the status that the call would have failed with.
        reason: a stable name for why, such as ``UNKNOWN_LAYER``.
        message: for a person.
        metadata: the particulars of the reason.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_error(self) -> SidelightError:
        """What the call would have raised."""
        return error_of(self.code, self.message, reason=self.reason, metadata=self.metadata)


@dataclass(frozen=True)
class JobInfo:
    """A job as it was when the server was asked.

    Attributes:
        id: the server's name for it.
        state: ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``.
        kind: what it does, such as ``linearity``.
        model: what it explains, as the caller named it: ``digits``, ``digits:3`` or ``digits@stable``.
        progress: how far it is.
        create_time: when it was created.
        start_time: when it began to run; None before.
        end_time: when it ended; None before.
        expire_time: when it will be deleted; None before it ended.
        failure: why it failed; None otherwise.
    """

    id: str
    state: str
    kind: str
    model: str
    progress: JobProgress
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    expire_time: datetime | None
    failure: JobFailure | None

    @property
    def ended(self) -> bool:
        """Whether it is in a state that it does not leave."""
        return self.state in ENDED


class KnownJob:
    """What both clients' jobs say of themselves: as of the last call that asked.

    Attributes:
        info: the job as it was then.
    """

    def __init__(self, info: JobInfo) -> None:
        """Made by the jobs of either client."""
        self.info = info

    @property
    def id(self) -> str:
        """The server's name for it."""
        return self.info.id

    @property
    def state(self) -> str:
        """``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``."""
        return self.info.state

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        return self.info.progress

    @property
    def failure(self) -> JobFailure | None:
        """Why it failed; None if it did not."""
        return self.info.failure

    def __repr__(self) -> str:
        done = f"{self.progress.done} of {self.progress.total or '?'}"
        return f"<Job {self.id}: {self.info.kind} of {self.info.model}, {self.state}, {done}>"


def decode_job(message: job_pb2.ExplainJob) -> JobInfo:
    """Reads a job."""
    kind = message.request.WhichOneof("work") or ""
    progress = message.progress
    times = {
        name: getattr(message, name).ToDatetime(UTC) if message.HasField(name) else None
        for name in ("create_time", "start_time", "end_time", "expire_time")
    }
    has_remaining = progress.HasField("remaining")
    return JobInfo(
        id=message.id,
        state=word(job_pb2.JobState.DESCRIPTOR, message.state),
        kind=kind.replace("_", "-"),
        model=_model(message.request, kind),
        progress=JobProgress(
            done=progress.done,
            total=progress.total,
            rate=progress.rate,
            remaining_seconds=progress.remaining.ToMilliseconds() / 1000 if has_remaining else None,
        ),
        failure=_failure(message.error) if message.HasField("error") else None,
        **times,
    )


def unknown_job(job: str) -> JobInfo:
    """A job of which nothing but the id is known."""
    return decode_job(job_pb2.ExplainJob(id=job))


def _model(request: job_pb2.JobRequest, kind: str) -> str:
    if not kind:
        return ""
    selector = getattr(request, kind).model
    choice = selector.WhichOneof("choice")
    if choice is None:
        return str(selector.name)
    return f"{selector.name}:{selector.version}" if choice == "version" else f"{selector.name}@{selector.label}"


def _failure(error: job_pb2.JobError) -> JobFailure:
    codes = {code.value[0]: code for code in grpc.StatusCode}
    code = codes.get(error.code, grpc.StatusCode.UNKNOWN)
    return JobFailure(code, error.reason, error.message, dict(error.metadata))


def create_request(
    request: Message, idempotency_key: str | None, max_message_bytes: int
) -> job_service_pb2.CreateJobRequest:
    """Writes the call that creates a job.

    Args:
        request: the work: a message of one of the kinds that JobRequest may hold.
        idempotency_key: the caller's own name for the call.
        max_message_bytes: the largest message of the channel.

    Raises:
        InvalidArgument: no message has room for the request.
    """
    created = job_service_pb2.CreateJobRequest(idempotency_key=idempotency_key or "")
    for kind in job_pb2.JobRequest.DESCRIPTOR.oneofs_by_name["work"].fields:
        if kind.message_type is request.DESCRIPTOR:
            getattr(created.request, kind.name).CopyFrom(request)
    size = created.ByteSize()
    if size > max_message_bytes:
        raise InvalidArgument(
            f"the job takes {size} bytes, where a message may have {max_message_bytes}; give fewer instances per job, "
            "or raise max_message_bytes here and on the server"
        )
    return created


def list_request(states: Iterable[str]) -> job_service_pb2.ListJobsRequest:
    """Writes the call for the first page of jobs in some states, by their words.

    Raises:
        InvalidArgument: there is no such state.
    """
    chosen = [choose(job_pb2.JobState.DESCRIPTOR, state, "a state") for state in states]
    return job_service_pb2.ListJobsRequest(states=chosen)


def decode_result(result: job_pb2.JobResult) -> Result:
    """Reads what a job came to.

    Raises:
        Unimplemented: it is of a kind that this client can not read.
    """
    kind = result.WhichOneof("outcome")
    decode = _DECODERS.get(kind or "")
    if decode is None:
        raise Unimplemented(f"this client can not read the result of a job of kind {kind!r}; use a newer one")
    return decode(result)


def is_about_state(error: SidelightError) -> bool:
    """Whether the server refused because of the state that a job is in."""
    return isinstance(error, FailedPrecondition) and error.reason == "JOB_STATE"


class Patience:
    """How long a follower of a job waits for a server that does not answer, such as one that restarts."""

    _MOST_SECONDS = 60.0
    _DELAYS = (0.2, 0.5, 1.0, 2.0, 3.0)

    def __init__(self) -> None:
        self._failures = 0
        self._since = 0.0

    def heard(self) -> None:
        """The server answered."""
        self._failures = 0

    def failed(self) -> float | None:
        """The server did not answer; the seconds until the next try, None if it is time to give up."""
        now = time.monotonic()
        if self._failures == 0:
            self._since = now
        self._failures += 1
        if now - self._since > self._MOST_SECONDS:
            return None
        return self._DELAYS[min(self._failures, len(self._DELAYS)) - 1]
