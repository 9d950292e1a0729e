"""The one table from errors to gRPC statuses.

Every status carries ErrorInfo; invalid fields also BadRequest, and what is worth a retry RetryInfo
(google.rpc, https://google.aip.dev/193). An error that the table does not know is INTERNAL with a fixed
text: its details go to the log, under an incident id that the caller gets.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from sidelight.v1 import error_pb2
from sidelight_engines import errors as engine

from sidelight_service import errors as service

DOMAIN = "sidelight"
_PREFIX = "ERROR_REASON_"

Metadata = Callable[[Any], dict[str, str]]


def _nothing(error: Any) -> dict[str, str]:
    return {}


def _fields(*names: str) -> Metadata:
    return lambda error: {name: str(getattr(error, name)) for name in names}


def _first_op(error: engine.UnsupportedOp) -> dict[str, str]:
    problem = error.problems[0]
    return {
        "node": problem.node,
        "op": problem.op,
        "domain": problem.domain,
        "opset": str(problem.opset),
        "count": str(len(error.problems)),
    }


@dataclass(frozen=True)
class Row:
    """How one type of error becomes a status."""

    code: grpc.StatusCode
    reason: error_pb2.ErrorReason.ValueType
    metadata: Metadata = _nothing
    retry_after_seconds: float | None = None


TABLE: dict[type[BaseException], Row] = {
    engine.InvalidField: Row(grpc.StatusCode.INVALID_ARGUMENT, error_pb2.ERROR_REASON_INVALID_FIELD, _fields("field")),
    engine.UnknownLayer: Row(
        grpc.StatusCode.INVALID_ARGUMENT,
        error_pb2.ERROR_REASON_UNKNOWN_LAYER,
        lambda error: {"field": error.field, "layer": error.layer, "nearest": json.dumps(error.nearest)},
    ),
    engine.UnsupportedOp: Row(grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_OP_NOT_SUPPORTED, _first_op),
    engine.ModelFilesIncomplete: Row(
        grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_MODEL_FILES_INCOMPLETE
    ),
    engine.ModelInvalid: Row(grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_MODEL_INVALID),
    engine.MethodNotSupported: Row(
        grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_METHOD_NOT_SUPPORTED, _fields("method")
    ),
    engine.GradientCheckFailed: Row(grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_GRADIENT_CHECK_FAILED),
    engine.NonFiniteOutput: Row(
        grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_NON_FINITE_OUTPUT, _fields("layer", "row")
    ),
    engine.NonFiniteGradient: Row(
        grpc.StatusCode.FAILED_PRECONDITION,
        error_pb2.ERROR_REASON_NON_FINITE_OUTPUT,
        _fields("example", "layer", "row"),
    ),
    engine.NonFiniteRelevance: Row(
        grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_NON_FINITE_OUTPUT, _fields("layer", "row")
    ),
    engine.NonFiniteRelevance: Row(
        grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_NON_FINITE_OUTPUT, _fields("layer", "row")
    ),
    engine.IndexStale: Row(
        grpc.StatusCode.FAILED_PRECONDITION,
        error_pb2.ERROR_REASON_INDEX_STALE,
        lambda error: {"digest": error.built_for},
    ),
    # The remedy is the same: the index is to be built anew.
    engine.IndexDamaged: Row(grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_INDEX_STALE),
    engine.MemoryLimitExceeded: Row(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        error_pb2.ERROR_REASON_MEMORY_LIMIT,
        _fields("needed_bytes", "limit_bytes"),
    ),
    service.ModelNotFound: Row(grpc.StatusCode.NOT_FOUND, error_pb2.ERROR_REASON_MODEL_NOT_FOUND, _fields("model")),
    service.VersionNotFound: Row(
        grpc.StatusCode.NOT_FOUND, error_pb2.ERROR_REASON_VERSION_NOT_FOUND, _fields("model", "version")
    ),
    service.ModelNotLoaded: Row(
        grpc.StatusCode.FAILED_PRECONDITION,
        error_pb2.ERROR_REASON_MODEL_NOT_LOADED,
        _fields("model", "version", "state"),
    ),
    service.ModelChanged: Row(
        grpc.StatusCode.FAILED_PRECONDITION,
        error_pb2.ERROR_REASON_MODEL_CHANGED,
        _fields("model", "version", "digest"),
    ),
    service.NotAvailable: Row(
        grpc.StatusCode.UNIMPLEMENTED,
        error_pb2.ERROR_REASON_NOT_IMPLEMENTED,
        lambda error: {"method": error.what},
    ),
    service.MessageTooLarge: Row(
        grpc.StatusCode.RESOURCE_EXHAUSTED, error_pb2.ERROR_REASON_MESSAGE_TOO_LARGE, _fields("limit_bytes")
    ),
    service.MalformedMessage: Row(grpc.StatusCode.INVALID_ARGUMENT, error_pb2.ERROR_REASON_INVALID_FIELD),
    service.QueueFull: Row(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        error_pb2.ERROR_REASON_QUEUE_FULL,
        _fields("limit"),
        retry_after_seconds=1.0,
    ),
    service.WorkerLost: Row(grpc.StatusCode.UNAVAILABLE, error_pb2.ERROR_REASON_WORKER_LOST, retry_after_seconds=2.0),
    service.ShuttingDown: Row(
        grpc.StatusCode.UNAVAILABLE, error_pb2.ERROR_REASON_SHUTTING_DOWN, retry_after_seconds=5.0
    ),
    service.CallTimedOut: Row(grpc.StatusCode.DEADLINE_EXCEEDED, error_pb2.ERROR_REASON_DEADLINE_EXCEEDED),
    service.CallCancelled: Row(grpc.StatusCode.CANCELLED, error_pb2.ERROR_REASON_CANCELLED),
    engine.Stopped: Row(grpc.StatusCode.CANCELLED, error_pb2.ERROR_REASON_CANCELLED),
    service.NotAllowed: Row(
        grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_NOT_ALLOWED, _fields("setting")
    ),
    service.JobNotFound: Row(grpc.StatusCode.NOT_FOUND, error_pb2.ERROR_REASON_JOB_NOT_FOUND, _fields("job")),
    service.WrongJobState: Row(
        grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_JOB_STATE, _fields("job", "state")
    ),
    service.ReferenceNotFound: Row(
        grpc.StatusCode.NOT_FOUND, error_pb2.ERROR_REASON_REFERENCE_NOT_FOUND, _fields("reference")
    ),
    service.ReferenceExists: Row(
        grpc.StatusCode.ALREADY_EXISTS, error_pb2.ERROR_REASON_REFERENCE_EXISTS, _fields("reference", "digest")
    ),
    service.ReferenceInUse: Row(
        grpc.StatusCode.FAILED_PRECONDITION, error_pb2.ERROR_REASON_REFERENCE_IN_USE, _fields("reference")
    ),
    service.IndexMissing: Row(
        grpc.StatusCode.FAILED_PRECONDITION,
        error_pb2.ERROR_REASON_INDEX_MISSING,
        _fields("model", "version", "reference", "needed_bytes", "limit_bytes"),
    ),
    service.UploadIncomplete: Row(grpc.StatusCode.DATA_LOSS, error_pb2.ERROR_REASON_UPLOAD_INCOMPLETE),
    service.StorageFull: Row(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        error_pb2.ERROR_REASON_STORAGE_FULL,
        _fields("needed_bytes", "free_bytes"),
    ),
}


def reason_name(reason: error_pb2.ErrorReason.ValueType) -> str:
    """The reason as ErrorInfo carries it: the enum's name without its prefix."""
    return error_pb2.ErrorReason.Name(reason).removeprefix(_PREFIX)


class Failure(Exception):
    """A call that ended with a status that is already complete, as it came from a worker."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


def to_status(error: BaseException) -> status_pb2.Status:
    """The status of an error, with its details.

    Args:
        error: any exception. One that the table does not know becomes INTERNAL with an incident id.
    """
    if isinstance(error, Failure):
        return error.status
    row = TABLE.get(type(error))
    if row is None:
        return _internal()
    details: list[Any] = [
        error_details_pb2.ErrorInfo(reason=reason_name(row.reason), domain=DOMAIN, metadata=row.metadata(error))
    ]
    if isinstance(error, engine.InvalidField):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=f"{error.problem}; {error.remedy}"
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if row.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(row.retry_after_seconds * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return _pack(row.code, str(error), details)


def error_info(status: status_pb2.Status) -> Any:
    """The ErrorInfo of a status; None if it has none."""
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info
    return None


def incident_of(status: status_pb2.Status) -> str | None:
    """The incident id of an INTERNAL status, to be logged with the exception; None for others."""
    info = error_info(status)
    return None if info is None else info.metadata.get("incident")


def reason_and_message(error: engine.SidelightError | Failure) -> tuple[str, str]:
    """The reason and the message of an error, wherever it arose."""
    status = to_status(error)
    info = error_info(status)
    return reason_name(error_pb2.ERROR_REASON_INTERNAL) if info is None else info.reason, status.message


def _internal() -> status_pb2.Status:
    incident = uuid.uuid4().hex
    info = error_details_pb2.ErrorInfo(
        reason=reason_name(error_pb2.ERROR_REASON_INTERNAL), domain=DOMAIN, metadata={"incident": incident}
    )
    return _pack(
        grpc.StatusCode.INTERNAL,
        f"a fault of the server's own; its log has the details under incident {incident}",
        [info],
    )


def _pack(code: grpc.StatusCode, message: str, details: list[Any]) -> status_pb2.Status:
    packed = []
    for detail in details:
        item = any_pb2.Any()
        item.Pack(detail)
        packed.append(item)
    number: int = code.value[0]
    return status_pb2.Status(code=number, message=message, details=packed)
