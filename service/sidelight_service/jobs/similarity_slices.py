"""ExplainSimilarity in slices of instances, where each is ranked for by itself."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.proto import serialize_length_prefixed
from sidelight.v1 import error_pb2, reference_pb2, similarity_pb2
from sidelight_engines.errors import NonFiniteGradient

from sidelight_service.convert.zero_gradients import ZERO_GRADIENT, zero_gradient_warnings
from sidelight_service.jobs.parts import inline_rows, row_count, tensor_rows, total_provenance
from sidelight_service.status import Failure, error_info, reason_name, to_status

Request = similarity_pb2.ExplainSimilarityRequest
Response = similarity_pb2.ExplainSimilarityResponse

_MOST_DRAWN = 64


@dataclass(frozen=True)
class _Resolved:
    """A request whose instances are counted, and can be told by their positions.

    Attributes:
        request: selections by position, where parts could not share them otherwise.
        count: the instances.
        least: the fewest for a part.
    """

    request: Request
    count: int
    least: int


class SimilaritySlicer:
    """See `Slicer`; a unit is an instance."""

    check_method = "CheckSimilarity"
    finish_method = "DrawSimilarity"

    def needs_resolving(self, request: Request | _Resolved) -> bool:
        """See `Slicer.needs_resolving`: only a worker knows whether there is an index."""
        return isinstance(request, Request) and not request.parameters.aggregate_instances

    def resolved(self, request: Request, answer: bytes) -> _Resolved:
        """See `Slicer.resolved`."""
        told = json.loads(answer)
        resolved = Request()
        resolved.CopyFrom(request)
        for selection, positions in (
            (resolved.instances.reference if told["positions"] is not None else None, told["positions"]),
            (resolved.parameters.reference, told["references"]),
        ):
            if selection is not None and positions is not None:
                selection.CopyFrom(
                    reference_pb2.ReferenceSelection(
                        reference=selection.reference, digest=selection.digest, indices=positions
                    )
                )
        return _Resolved(resolved, told["instances"], told["least"])

    def count(self, request: Request | _Resolved) -> int | None:
        """See `Slicer.count`."""
        if isinstance(request, _Resolved):
            return request.count
        if request.parameters.aggregate_instances or request.instances.WhichOneof("source") != "inline":
            return None
        counts = {row_count(named.tensor) for named in request.instances.inline.inputs}
        return counts.pop() if len(counts) == 1 else None

    def smallest(self, request: _Resolved) -> int:
        """See `Slicer.smallest`."""
        return request.least

    def part(self, request: _Resolved, first: int, units: int) -> bytes:
        """See `Slicer.part`."""
        part = _some(request.request, first, units)
        if request.request.HasField("render"):
            # The picture of the whole needs them; it is drawn at the end.
            part.parameters.class_means = True
            part.ClearField("render")
        return part.SerializeToString()

    def seconds(self, response: bytes) -> float:
        """See `Slicer.seconds`."""
        taken = Response.FromString(response).provenance.compute_time
        return float(taken.ToNanoseconds()) / 1e9

    def relocate(self, error: Exception, first: int) -> Exception:
        """See `Slicer.relocate`: an instance whose gradient is NaN is named by its place in the whole list."""
        info = error_info(error.status) if isinstance(error, Failure) else None
        if info is None or info.reason != reason_name(error_pb2.ERROR_REASON_NON_FINITE_OUTPUT):
            return error
        if info.metadata["example"] != "instance":
            return error
        return Failure(
            to_status(NonFiniteGradient("instance", int(info.metadata["row"]) + first, info.metadata["layer"]))
        )

    def merge(self, request: _Resolved, parts: Sequence[bytes]) -> bytes:
        """See `Slicer.merge`."""
        responses = [Response.FromString(part) for part in parts]
        provenance = total_provenance([response.provenance for response in responses])
        rankings = [ranking for response in responses for ranking in response.rankings]
        # Each part counts its own.
        kept = [warning for warning in provenance.warnings if warning.code != ZERO_GRADIENT]
        del provenance.warnings[:]
        provenance.warnings.extend([*zero_gradient_warnings([r.gradient_norm for r in rankings]), *kept])
        return Response(
            rankings=rankings,
            reference_digest=responses[0].reference_digest,
            layers=responses[0].layers,
            provenance=provenance,
        ).SerializeToString()

    def finishing(self, request: _Resolved, merged: bytes) -> bytes | None:
        """See `Slicer.finishing`: pictures are of the whole."""
        if not request.request.HasField("render"):
            return None
        stream = io.BytesIO()
        serialize_length_prefixed(_some(request.request, 0, min(request.count, _MOST_DRAWN)), stream)
        serialize_length_prefixed(Response.FromString(merged), stream)
        return stream.getvalue()


def _some(request: Request, first: int, units: int) -> Request:
    """The request for consecutive ones of its instances."""
    part = Request(model=request.model, parameters=request.parameters)
    if request.HasField("render"):
        part.render.CopyFrom(request.render)
    if request.instances.WhichOneof("source") == "reference":
        selection = request.instances.reference
        part.instances.reference.CopyFrom(
            reference_pb2.ReferenceSelection(
                reference=selection.reference,
                digest=selection.digest,
                indices=selection.indices[first : first + units],
            )
        )
    else:
        part.instances.CopyFrom(inline_rows(request.instances.inline, first, units))
    if request.parameters.HasField("labels"):
        part.parameters.labels.CopyFrom(tensor_rows(request.parameters.labels, first, units))
    return part
