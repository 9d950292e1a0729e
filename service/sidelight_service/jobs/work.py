"""What a job does: which field of JobRequest goes with which method and which result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sidelight.v1 import job_pb2
from sidelight_engines.errors import InvalidField

from sidelight_service.status import error_info, to_status

_WORKS = [field.name for field in job_pb2.JobRequest.DESCRIPTOR.oneofs_by_name["work"].fields]


@dataclass(frozen=True)
class Work:
    """The work of a job.

    Attributes:
        field: of JobRequest and JobResult.
        method: the name of the RPC, or what stands for one.
        request: of that method, any of the Explain requests.
    """

    field: str
    method: str
    request: Any


def work_of(request: job_pb2.JobRequest) -> Work:
    """Reads what is to be done.

    Raises:
        InvalidField: nothing is.
    """
    field = request.WhichOneof("work")
    if field is None:
        raise InvalidField("request.work", "is not set", f"set one of {', '.join(_WORKS)}")
    inner = getattr(request, field)
    # ExplainLinearityRequest is what ExplainLinearity takes: the contract names all of them so.
    return Work(field, inner.DESCRIPTOR.name.removesuffix("Request"), inner)


def result_of(field: str, response: bytes) -> bytes:
    """The serialized JobResult around the serialized response of a method."""
    result = job_pb2.JobResult()
    outcome = getattr(result, field)
    outcome.SetInParent()
    outcome.ParseFromString(response)
    return result.SerializeToString()


def job_error(error: BaseException) -> job_pb2.JobError:
    """Why a job failed, as the call would have said it."""
    status = to_status(error)
    described = job_pb2.JobError(code=status.code, message=status.message)
    info = error_info(status)
    if info is not None:
        described.reason = info.reason
        described.metadata.update(info.metadata)
    return described
