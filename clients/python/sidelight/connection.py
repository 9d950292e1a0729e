"""A connection to a server, and how calls are made over it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import grpc
from google.protobuf.message import Message

from sidelight.channel import DEFAULT_MAX_MESSAGE_BYTES, Option, channel_options
from sidelight.errors import from_rpc_error
from sidelight.job import Job
from sidelight.jobs import create_request, decode_job
from sidelight.pace import Deadline
from sidelight.v1 import (
    explain_service_pb2_grpc,
    job_service_pb2_grpc,
    model_service_pb2_grpc,
    reference_service_pb2_grpc,
    server_service_pb2_grpc,
)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

Progress = Callable[[int, int], None]
"""Called with how many instances are done, and how many there are."""


class Run(Protocol):
    """Work that takes one call or several.

    Attributes:
        done: how many instances are explained.
        total: how many there are; 0 while only the server knows.
    """

    done: int
    total: int

    def next_request(self) -> Any:
        """The next call to make; None if there is none."""
        ...

    def accept(self, response: Any, seconds: float) -> None:
        """Takes the answer, and how long it took."""
        ...


class Connection:
    """A channel and its stubs; the calls of `sidelight.Client` are made over it."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        options: Sequence[Option] = (),
    ) -> None:
        """See `connect`."""
        self.target = target
        self._max_message_bytes = max_message_bytes
        all_options = channel_options(max_message_bytes, options)
        if credentials is None:
            self._channel = grpc.insecure_channel(target, all_options)
        else:
            self._channel = grpc.secure_channel(target, credentials, all_options)
        self._server = server_service_pb2_grpc.ServerServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._references = reference_service_pb2_grpc.ReferenceServiceStub(self._channel)
        self._explain = explain_service_pb2_grpc.ExplainServiceStub(self._channel)
        self._jobs = job_service_pb2_grpc.JobServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        self._channel.close()

    def _drive(self, run: Run, method: Any, progress: Progress | None, timeout: float | None) -> None:
        """Makes the calls that a piece of work takes."""
        deadline = Deadline(timeout)
        while (request := run.next_request()) is not None:
            started = time.monotonic()
            response = self._call(method, request, deadline)
            run.accept(response, time.monotonic() - started)
            if progress is not None:
                progress(run.done, run.total)

    def _submit(self, request: Message, idempotency_key: str | None, timeout: float | None) -> Job[Any]:
        create = create_request(request, idempotency_key, self._max_message_bytes)
        answer = self._call(self._jobs.CreateJob, create, Deadline(timeout))
        return Job(decode_job(answer.job), self, self._jobs)

    def _call(
        self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, deadline: Deadline
    ) -> _Response:
        remaining = deadline.remaining()
        try:
            return method(request, timeout=remaining)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.target) from error
