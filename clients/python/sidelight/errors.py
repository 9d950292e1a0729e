"""What this client raises: one class per kind of gRPC status that a caller may want to catch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import grpc

from sidelight.status_details import STATUS_DETAILS_KEY, FieldViolation, StatusDetails, decode_status_details

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "InternalError",
    "InvalidArgument",
    "NotFound",
    "ResourceExhausted",
    "SidelightError",
    "Unavailable",
    "Unimplemented",
    "error_of",
    "from_rpc_error",
]


class SidelightError(Exception):
    """A call that failed, or could not be made.

    Attributes:
        message: what was wrong, where, and what to try.
        code: the gRPC status code.
        reason: a stable name for why, as the server gives it (``MODEL_NOT_FOUND``); empty if the
            failure did not come from a Sidelight server.
        metadata: the particulars of the reason, such as ``{"model": "digits"}``.
        field_violations: the fields of the request that are wrong, for invalid arguments.
        retry_after: after how many seconds to try again; None if the server does not say.
    """

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message


class InvalidArgument(SidelightError, ValueError):
    """A value that a call may not have; also raised before anything is sent."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(SidelightError, LookupError):
    """No such model, version, label, reference set or job."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(SidelightError):
    """Something of that name exists."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(SidelightError):
    """The call is sound, and the model or server is not in a state for it."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class ResourceExhausted(SidelightError):
    """A queue is full, a message too large, or the work needs more memory than the server grants."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unimplemented(SidelightError):
    """This server does not have the call or the option yet."""

    default_code = grpc.StatusCode.UNIMPLEMENTED


class Unavailable(SidelightError, ConnectionError):
    """No server answered, it is shutting down, or its compute worker was lost."""

    default_code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(SidelightError, TimeoutError):
    """The timeout passed before the work was done."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class DataLoss(SidelightError):
    """An upload broke off before all of it had arrived."""

    default_code = grpc.StatusCode.DATA_LOSS


class Cancelled(SidelightError):
    """The call was cancelled."""

    default_code = grpc.StatusCode.CANCELLED


class InternalError(SidelightError):
    """A fault of the server's own; `metadata` holds the incident that its log has too."""

    default_code = grpc.StatusCode.INTERNAL


_BY_CODE: dict[grpc.StatusCode, type[SidelightError]] = {
    cls.default_code: cls
    for cls in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        ResourceExhausted,
        Unimplemented,
        Unavailable,
        DeadlineExceeded,
        DataLoss,
        Cancelled,
        InternalError,
    )
}


def error_of(
    code: grpc.StatusCode, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None
) -> SidelightError:
    """The error of the class that goes with a status code."""
    return _BY_CODE.get(code, SidelightError)(message, code=code, reason=reason, metadata=metadata)


def from_rpc_error(error: grpc.RpcError, target: str) -> SidelightError:
    """Turns an error of the gRPC library, blocking or asyncio, into one of this module.

    Args:
        error: what the call raised.
        target: the address that was called, to name it in the message.

    Returns:
        The error to raise in its place.
    """
    # Everything the library raises from a call is also a Call; its base class does not say so.
    call = cast(grpc.Call, error)
    code = call.code() or grpc.StatusCode.UNKNOWN
    details = StatusDetails()
    for key, value in call.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            details = decode_status_details(value)
    message = call.details() or code.name
    if not details.reason:
        message = _explain_foreign(code, message, target)
    return _BY_CODE.get(code, SidelightError)(
        message,
        code=code,
        reason=details.reason,
        metadata=details.metadata,
        field_violations=details.field_violations,
        retry_after=details.retry_after,
    )


def _explain_foreign(code: grpc.StatusCode, message: str, target: str) -> str:
    """Says more about a status that gRPC itself, or something on the way, made."""
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"no answer from a Sidelight server at {target}: {message}; check that it runs and the address"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{target} had not answered when the timeout passed; give a longer timeout or ask for less"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return f"{message}; give a lower instances_per_call, or raise max_message_bytes on both sides"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return f"what answers at {target} does not offer this call: {message}; check that it is a Sidelight server"
    return message
