"""ExplainLinearity in slices of instances.

The draws of an instance depend on its place in the whole list and on nothing else, so every split gives the
same numbers (docs/adr/0002).
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from google.protobuf.proto import serialize_length_prefixed
from sidelight.v1 import error_pb2, linearity_pb2, reference_pb2
from sidelight_engines.errors import NonFiniteOutput

from sidelight_service.jobs.parts import inline_rows, row_count, total_provenance
from sidelight_service.status import Failure, error_info, reason_name, to_status

_MOST_COSTLY_SLICES = 64
_COLUMNS = ("linearity", "normalized", "noise_floor", "confidence_low", "confidence_high")

Request = linearity_pb2.ExplainLinearityRequest
Response = linearity_pb2.ExplainLinearityResponse


class LinearitySlicer:
    """See `Slicer`; a unit is an instance."""

    check_method = "CheckLinearity"
    finish_method = "DrawLinearity"

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
            return len(request.instances.reference.indices) or None
        inputs = request.instances.inline.inputs
        return row_count(inputs[0].tensor) if len(inputs) == 1 else None

    def smallest(self, request: Request) -> int:
        """See `Slicer.smallest`."""
        parameters = request.parameters
        # Each slice runs this generator from its beginning to the place of the slice, and reads this data anew.
        costly = (
            parameters.draws.generator == linearity_pb2.DRAW_GENERATOR_MERSENNE_TWISTER
            or parameters.HasField("knn")
            or parameters.grid.feature_range.HasField("data")
        )
        return math.ceil((self.count(request) or 1) / _MOST_COSTLY_SLICES) if costly else 1

    def part(self, request: Request, first: int, units: int) -> bytes:
        """See `Slicer.part`."""
        part = Request(model=request.model, parameters=request.parameters)
        if self.needs_resolving(request):
            selection = request.instances.reference
            chosen = selection.indices[first : first + units]
            part.instances.reference.CopyFrom(
                reference_pb2.ReferenceSelection(reference=selection.reference, digest=selection.digest, indices=chosen)
            )
        else:
            part.instances.CopyFrom(inline_rows(request.instances.inline, first, units))
        draws = part.parameters.draws
        if not draws.total_instances:
            draws.total_instances = draws.first_instance + (self.count(request) or 0)
        draws.first_instance += first
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
        merged = Response(
            layers=[_join([response.layers[i] for response in responses]) for i in range(len(responses[0].layers))],
            instance_count=sum(response.instance_count for response in responses),
            next_word_offset=responses[-1].next_word_offset,
            provenance=total_provenance([response.provenance for response in responses]),
            effective_parameters=responses[0].effective_parameters,
        )
        draws, asked = merged.effective_parameters.draws, request.parameters.draws
        draws.first_instance = asked.first_instance
        draws.total_instances = asked.total_instances or merged.instance_count
        return merged.SerializeToString()

    def finishing(self, request: Request, merged: bytes) -> bytes | None:
        """See `Slicer.finishing`: the picture is of the whole."""
        if not request.HasField("render"):
            return None
        stream = io.BytesIO()
        serialize_length_prefixed(request.render, stream)
        serialize_length_prefixed(Response.FromString(merged), stream)
        return stream.getvalue()


def _join(parts: list[linearity_pb2.LayerLinearity]) -> linearity_pb2.LayerLinearity:
    joined = linearity_pb2.LayerLinearity(layer=parts[0].layer, output=parts[0].output)
    for part in parts:
        for column in _COLUMNS:
            getattr(joined, column).extend(getattr(part, column))
        joined.zero_reason = joined.zero_reason or part.zero_reason
        joined.zero_count += part.zero_count
    # As the engine takes them, to the last bit.
    values = np.asarray(joined.linearity, np.float64)
    joined.mean = float(values.mean())
    joined.standard_deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return joined
