"""BuildGradientIndex in slices of references.

What a slice makes lies in the index that grows on the disk; each goes on from there. So a slice says how far the
index must be at its end, and the one that reaches all references completes it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf import duration_pb2, wrappers_pb2
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from sidelight.v1 import job_pb2

# As many as are written to the disk at a time: with fewer, a slice might leave nothing behind.
_SMALLEST = 512

Request = job_pb2.BuildGradientIndexRequest


@dataclass(frozen=True)
class _Counted:
    """A request and how many references it means."""

    request: Request
    count: int


class GradientIndexSlicer:
    """See `Slicer`; a unit is a reference."""

    check_method = "CheckGradientIndex"
    finish_method = ""

    def needs_resolving(self, request: Request | _Counted) -> bool:
        """See `Slicer.needs_resolving`."""
        return isinstance(request, Request)

    def resolved(self, request: Request, answer: bytes) -> _Counted:
        """See `Slicer.resolved`."""
        return _Counted(request, wrappers_pb2.Int64Value.FromString(answer).value)

    def count(self, request: Request | _Counted) -> int | None:
        """See `Slicer.count`."""
        return request.count if isinstance(request, _Counted) else None

    def smallest(self, request: _Counted) -> int:
        """See `Slicer.smallest`."""
        return _SMALLEST

    def part(self, request: _Counted, first: int, units: int) -> bytes:
        """See `Slicer.part`."""
        stream = io.BytesIO()
        serialize_length_prefixed(request.request, stream)
        for number in (first, first + units):
            serialize_length_prefixed(wrappers_pb2.Int64Value(value=number), stream)
        return stream.getvalue()

    def seconds(self, response: bytes) -> float:
        """See `Slicer.seconds`."""
        taken, _ = _read(response)
        return float(taken.ToNanoseconds()) / 1e9

    def relocate(self, error: Exception, first: int) -> Exception:
        """See `Slicer.relocate`: references are counted from the first of the set in every slice."""
        return error

    def merge(self, request: _Counted, parts: Sequence[bytes]) -> bytes:
        """See `Slicer.merge`."""
        _, response = _read(parts[-1])
        return response.SerializeToString()

    def finishing(self, request: _Counted, merged: bytes) -> bytes | None:
        """See `Slicer.finishing`."""
        return None


def _read(response: bytes) -> tuple[duration_pb2.Duration, job_pb2.BuildGradientIndexResponse]:
    stream = io.BytesIO(response)
    taken = parse_length_prefixed(duration_pb2.Duration, stream)
    made = parse_length_prefixed(job_pb2.BuildGradientIndexResponse, stream)
    if taken is None or made is None:
        raise ValueError("a message is missing; the workers send both")
    return taken, made
