"""What a gRPC status says beside its code: google.rpc's ErrorInfo, BadRequest and RetryInfo.

The messages are described here, in a pool of their own and under names of their own, so that this
client needs no googleapis-common-protos and yet lives beside it in one process. Only the field
numbers and types matter on the wire; they are those of google/rpc/status.proto and
google/rpc/error_details.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

STATUS_DETAILS_KEY = "grpc-status-details-bin"

_PACKAGE = "sidelight.client.status"
_Field = descriptor_pb2.FieldDescriptorProto


@dataclass(frozen=True)
class FieldViolation:
    """A field of a request that has a value it may not have.

    Attributes:
        field: the path of the field in the request: ``parameters.samples``.
        description: what is wrong with it and what to give in its place.
    """

    field: str
    description: str


@dataclass(frozen=True)
class StatusDetails:
    """The details of a status.

    Attributes:
        reason: the name of the reason, such as ``MODEL_NOT_FOUND``; empty if the status names none.
        metadata: the particulars of the reason.
        field_violations: the fields that are wrong, for invalid arguments.
        retry_after: after how many seconds to try again; None if the status does not say.
    """

    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    field_violations: tuple[FieldViolation, ...] = ()
    retry_after: float | None = None


def decode_status_details(data: bytes) -> StatusDetails:
    """Reads the value of the trailing metadata `grpc-status-details-bin`.

    Args:
        data: a serialized google.rpc.Status.

    Returns:
        Its details; those of unknown kinds are skipped. Empty if the bytes are not a Status: the
        code and message of the call are worth more than a complaint about their decoration.
    """
    reason = ""
    metadata: dict[str, str] = {}
    violations: list[FieldViolation] = []
    retry_after: float | None = None
    try:
        for detail in _parse("Status", data).details:
            kind = detail.type_url.rpartition("/")[2]
            if kind == "google.rpc.ErrorInfo":
                info = _parse("ErrorInfo", detail.value)
                reason, metadata = info.reason, dict(info.metadata)
            elif kind == "google.rpc.BadRequest":
                bad = _parse("BadRequest", detail.value)
                violations += [FieldViolation(v.field, v.description) for v in bad.field_violations]
            elif kind == "google.rpc.RetryInfo":
                delay = _parse("RetryInfo", detail.value).retry_delay
                retry_after = delay.seconds + delay.nanos / 1e9
    except DecodeError:
        return StatusDetails()
    return StatusDetails(reason, metadata, tuple(violations), retry_after)


def _parse(name: str, data: bytes) -> Any:
    """Parses one of the messages below; Any, because their classes are made at run time."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}")).FromString(data)


def _message(name: str, *fields: descriptor_pb2.FieldDescriptorProto) -> descriptor_pb2.DescriptorProto:
    return descriptor_pb2.DescriptorProto(name=name, field=fields)


def _scalar(name: str, number: int, kind: descriptor_pb2.FieldDescriptorProto.Type.ValueType) -> _Field:
    return _Field(name=name, number=number, type=kind, label=_Field.LABEL_OPTIONAL)


def _nested(name: str, number: int, of: str, *, repeated: bool) -> _Field:
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    return _Field(name=name, number=number, type=_Field.TYPE_MESSAGE, type_name=f".{_PACKAGE}.{of}", label=label)


def _build_pool() -> descriptor_pool.DescriptorPool:
    error_info = _message(
        "ErrorInfo",
        _scalar("reason", 1, _Field.TYPE_STRING),
        _scalar("domain", 2, _Field.TYPE_STRING),
        _nested("metadata", 3, "ErrorInfo.MetadataEntry", repeated=True),
    )
    entry = _message("MetadataEntry", _scalar("key", 1, _Field.TYPE_STRING), _scalar("value", 2, _Field.TYPE_STRING))
    entry.options.map_entry = True
    error_info.nested_type.append(entry)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(
        descriptor_pb2.FileDescriptorProto(
            name="sidelight/client/status.proto",
            package=_PACKAGE,
            syntax="proto3",
            message_type=[
                _message("Any", _scalar("type_url", 1, _Field.TYPE_STRING), _scalar("value", 2, _Field.TYPE_BYTES)),
                _message(
                    "Status",
                    _scalar("code", 1, _Field.TYPE_INT32),
                    _scalar("message", 2, _Field.TYPE_STRING),
                    _nested("details", 3, "Any", repeated=True),
                ),
                error_info,
                _message(
                    "FieldViolation",
                    _scalar("field", 1, _Field.TYPE_STRING),
                    _scalar("description", 2, _Field.TYPE_STRING),
                ),
                _message("BadRequest", _nested("field_violations", 1, "FieldViolation", repeated=True)),
                _message("Duration", _scalar("seconds", 1, _Field.TYPE_INT64), _scalar("nanos", 2, _Field.TYPE_INT32)),
                _message("RetryInfo", _nested("retry_delay", 1, "Duration", repeated=False)),
            ],
        )
    )
    return pool


_POOL = _build_pool()
