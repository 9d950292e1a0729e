"""ExplainLrp in slices of instances, which do not depend on each other."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from google.protobuf.proto import serialize_length_prefixed
from sidelight.v1 import error_pb2, lrp_pb2, reference_pb2, tensor_pb2
from sidelight_engines.errors import NonFiniteOutput

from sidelight_service.jobs.parts import inline_rows, row_count, tensor_rows, total_provenance
from sidelight_service.status import Failure, error_info, reason_name, to_status

Request = lrp_pb2.ExplainLrpRequest
Response = lrp_pb2.ExplainLrpResponse

_COLUMNS = ("relevance_out", "relevance_in", "bias", "stabiliser", "empty_branch", "sink")
# What a picture shows at most; see RenderOptions.max_instances.
_MOST_DRAWN = 64


class LrpSlicer:
    """See `Slicer`; a unit is an instance."""

    check_method = "CheckLrp"
    finish_method = "DrawLrp"

    def needs_resolving(self, request: Request) -> bool:
        """See `Slicer.needs_resolving`."""
        return bool(request.instances.WhichOneof("source") == "reference")

    def resolved(self, request: Request, answer: bytes) -> Request:
        """See `Slicer.resolved`."""
        if not answer:
            return request
        resolved = Request(model=request.model, parameters=request.parameters)
        resolved.instances.reference.CopyFrom(reference_pb2.ReferenceSelection.FromString(answer))
        if request.HasField("render"):
            resolved.render.CopyFrom(request.render)
        return resolved

    def count(self, request: Request) -> int | None:
        """See `Slicer.count`."""
        if self.needs_resolving(request):
            count = len(request.instances.reference.indices) or None
        else:
            counts = {row_count(named.tensor) for named in request.instances.inline.inputs}
            count = counts.pop() if len(counts) == 1 else None
        # One per instance, or the worker says what is wrong with the whole.
        if count is not None and any(length != count for length in _lengths(request.parameters.target)):
            return None
        return count

    def smallest(self, request: Request) -> int:
        """See `Slicer.smallest`."""
        return 1

    def part(self, request: Request, first: int, units: int) -> bytes:
        """See `Slicer.part`."""
        part = Request(model=request.model, instances=self._instances(request, first, units))
        part.parameters.CopyFrom(request.parameters)
        part.parameters.first_instance += first
        target, whole = part.parameters.target, request.parameters.target
        what = whole.WhichOneof("what")
        if what == "class_per_instance":
            del target.class_per_instance.indices[:]
            target.class_per_instance.indices.extend(whole.class_per_instance.indices[first : first + units])
        elif what == "relevance":
            target.relevance.CopyFrom(tensor_rows(whole.relevance, first, units))
        return part.SerializeToString()

    def seconds(self, response: bytes) -> float:
        """See `Slicer.seconds`."""
        taken = Response.FromString(response).provenance.compute_time
        return float(taken.ToNanoseconds()) / 1e9

    def relocate(self, error: Exception, first: int) -> Exception:
        """See `Slicer.relocate`: an instance that the model gave NaN for is named by its place in the whole list."""
        info = error_info(error.status) if isinstance(error, Failure) else None
        if info is None or info.reason != reason_name(error_pb2.ERROR_REASON_NON_FINITE_OUTPUT):
            return error
        return Failure(to_status(NonFiniteOutput(info.metadata["layer"], int(info.metadata["row"]) + first)))

    def merge(self, request: Request, parts: Sequence[bytes]) -> bytes:
        """See `Slicer.merge`."""
        responses = [Response.FromString(part) for part in parts]
        first = responses[0]
        merged = Response(
            inputs=_join(response.inputs for response in responses),
            layers=_join(response.layers for response in responses),
            applied_rules=first.applied_rules,
            head_cut_at=first.head_cut_at,
            provenance=total_provenance([response.provenance for response in responses]),
        )
        start = 0
        for response in responses:
            for explained in response.explained:
                merged.explained.add().CopyFrom(explained)
                merged.explained[-1].instance += start
            start += response.inputs[0].tensor.shape[0]
        for position, entry in enumerate(first.ledger):
            whole = merged.ledger.add(layer=entry.layer)
            for response in responses:
                for column in _COLUMNS:
                    getattr(whole, column).extend(getattr(response.ledger[position], column))
        return merged.SerializeToString()

    def finishing(self, request: Request, merged: bytes) -> bytes | None:
        """See `Slicer.finishing`: pictures are of the whole, and of the inputs beside it."""
        if not request.HasField("render"):
            return None
        shown = min(self.count(request) or 0, _MOST_DRAWN)
        drawn = Request(instances=self._instances(request, 0, shown), render=request.render)
        stream = io.BytesIO()
        serialize_length_prefixed(drawn, stream)
        serialize_length_prefixed(Response.FromString(merged), stream)
        return stream.getvalue()

    def _instances(self, request: Request, first: int, units: int) -> reference_pb2.Instances:
        if not self.needs_resolving(request):
            return inline_rows(request.instances.inline, first, units)
        selection = request.instances.reference
        return reference_pb2.Instances(
            reference=reference_pb2.ReferenceSelection(
                reference=selection.reference,
                digest=selection.digest,
                indices=selection.indices[first : first + units],
            )
        )


def _lengths(target: lrp_pb2.LrpTarget) -> list[int | None]:
    """The lengths of what the target has one of per instance."""
    what = target.WhichOneof("what")
    if what == "class_per_instance":
        return [len(target.class_per_instance.indices)]
    return [row_count(target.relevance)] if what == "relevance" else []


def _join(parts: Iterable[Sequence[tensor_pb2.NamedTensor]]) -> list[tensor_pb2.NamedTensor]:
    """Tensors of consecutive instances end to end, by their place in the list."""
    joined = []
    for same in zip(*parts, strict=True):
        shape = (sum(named.tensor.shape[0] for named in same), *same[0].tensor.shape[1:])
        raw = b"".join(named.tensor.raw for named in same)
        tensor = tensor_pb2.Tensor(data_type=same[0].tensor.data_type, shape=shape, raw=raw)
        joined.append(tensor_pb2.NamedTensor(name=same[0].name, tensor=tensor))
    return joined
