"""The calls that one use of `Client.linearity` takes, and their answers as one result.

The draws of each instance depend on its position in the whole list, so the result does not depend on the split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sidelight.arrays import Inputs
from sidelight.decode import decode_picture, decode_provenance, runtime
from sidelight.errors import InvalidArgument
from sidelight.instances_run import InstancesRun
from sidelight.linearity import LayerLinearity, LinearityExplanation, LinearityParameters
from sidelight.linearity_options import LinearityOptions, linearity_request
from sidelight.provenance import total_provenance
from sidelight.selection import ReferenceSelection
from sidelight.v1 import linearity_pb2
from sidelight.words import word

# Room for names, shapes and framing beside the bytes of the arrays.
_ENVELOPE_BYTES = 16 * 1024
# How many layers "all" is taken to be when the size of a response is foreseen.
_MANY_LAYERS = 512
_BYTES_PER_RESULT = 5 * 8


class LinearityRun(InstancesRun[linearity_pb2.ExplainLinearityRequest, linearity_pb2.ExplainLinearityResponse]):
    """The calls that one use of `Client.linearity` takes."""

    def __init__(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        options: LinearityOptions,
        *,
        instances_per_call: int | None,
        paced: bool,
        max_message_bytes: int,
    ) -> None:
        """Checks what can be checked without a server.

        Args:
            model: which, as `parse_model` reads it.
            x: the instances.
            options: the options of the call.
            instances_per_call: at most so many per call; None to let the size of messages decide.
            paced: whether to make calls of about a second, so that progress can be told.
            max_message_bytes: the largest message of the channel.
        """
        super().__init__(linearity_request(model, options), x)
        if not self._arrays:
            return
        drawn = self._request.HasField("render")
        # Neighbours travel with every call, so fewer and longer ones.
        seconds = 10.0 if self._request.parameters.HasField("knn") else 1.0
        limit = self._plan(
            self._largest_call(max_message_bytes), instances_per_call, seconds if paced and not drawn else None
        )
        if drawn and self.total > limit:
            raise InvalidArgument(
                f"a picture is drawn from one call, which has room for {limit} of these {self.total} instances; "
                "give fewer instances, or leave out picture="
            )

    def result(self) -> LinearityExplanation:
        """Puts the responses together."""
        return decode_linearity(self._responses)

    def _count(self, response: linearity_pb2.ExplainLinearityResponse) -> int:
        return response.instance_count

    def _cut(self, request: linearity_pb2.ExplainLinearityRequest, rows: slice) -> None:
        if self._sent < self.total and request.parameters.HasField("grid"):
            self._place(request.parameters.draws)

    def _place(self, draws: linearity_pb2.RandomDraws) -> None:
        """Says where in the whole list the next chunk begins."""
        caller_placed = draws.first_instance != 0
        draws.first_instance += self.done
        mersenne = draws.generator == linearity_pb2.DRAW_GENERATOR_MERSENNE_TWISTER
        # A caller whose list is itself part of a longer one is the only one to know how long that is.
        if mersenne and draws.total_instances == 0 and not caller_placed:
            draws.total_instances = self.total

    def _largest_call(self, max_message_bytes: int) -> int:
        """How many instances go into one request, and their results into one response."""
        fixed = self._request.ByteSize() + _ENVELOPE_BYTES
        each = self._bytes_each()
        if fixed + each > max_message_bytes:
            large = "neighbours" if fixed > each else "one instance"
            raise InvalidArgument(
                f"{large} and the rest of a request take {fixed + each} bytes, where a message may have "
                f"{max_message_bytes}; give less, or raise max_message_bytes here and on the server"
            )
        selection = self._request.parameters.layers
        layers = 1 + (_MANY_LAYERS if selection.all else len(selection.names))
        by_request = (max_message_bytes - fixed) // max(each, 1)
        return max(1, min(by_request, max_message_bytes // (layers * _BYTES_PER_RESULT)))


def decode_linearity(responses: list[linearity_pb2.ExplainLinearityResponse]) -> LinearityExplanation:
    """Puts the responses to consecutive instances together as one explanation.

    Args:
        responses: in the order of the instances, at least one, of the same layers.
    """
    first = responses[0]
    return LinearityExplanation(
        layers=tuple(_join([response.layers[i] for response in responses]) for i in range(len(first.layers))),
        provenance=total_provenance([decode_provenance(response.provenance) for response in responses]),
        parameters=_parameters(first.effective_parameters),
        pictures=tuple(decode_picture(picture) for response in responses for picture in response.pictures),
        next_word_offset=responses[-1].next_word_offset,
    )


def _join(parts: list[linearity_pb2.LayerLinearity]) -> LayerLinearity:
    def column(name: str) -> NDArray[np.float64]:
        return np.concatenate([np.asarray(getattr(part, name), dtype=np.float64) for part in parts])

    linearity = column("linearity")
    low, high = column("confidence_low"), column("confidence_high")
    reasons = [part.zero_reason for part in parts if part.zero_reason] or [linearity_pb2.ZERO_REASON_UNSPECIFIED]
    return LayerLinearity(
        name=parts[0].layer,
        is_output=parts[0].output,
        linearity=linearity,
        normalized=column("normalized"),
        noise_floor=column("noise_floor"),
        confidence_low=low if low.size else None,
        confidence_high=high if high.size else None,
        # Taken anew even from one response, so that the last bit does not depend on the split.
        mean=float(linearity.mean()),
        standard_deviation=float(linearity.std(ddof=1)) if linearity.size > 1 else 0.0,
        zero_reason=word(linearity_pb2.ZeroReason.DESCRIPTOR, reasons[0]),
        zero_count=sum(part.zero_count for part in parts),
    )


def _parameters(message: linearity_pb2.LinearityParameters) -> LinearityParameters:
    grid = message.grid if message.HasField("grid") else None
    return LinearityParameters(
        sampling=message.WhichOneof("sampling") or "",
        epsilon=grid.epsilon if grid else None,
        resolution=grid.resolution if grid else None,
        clip=grid.clip if grid else None,
        samples=message.samples,
        aggregate=word(linearity_pb2.Aggregation.DESCRIPTOR, message.aggregation),
        coefficients=tuple(message.coefficients),
        output=message.output,
        model_type=word(linearity_pb2.ModelType.DESCRIPTOR, message.model_type),
        classifier_scale=word(linearity_pb2.ClassifierScale.DESCRIPTOR, message.classifier_scale),
        probability_floor=message.probability_floor if message.HasField("probability_floor") else None,
        seed=message.draws.seed,
        draws=word(linearity_pb2.DrawGenerator.DESCRIPTOR, message.draws.generator),
        confidence=message.confidence_level if message.HasField("confidence_level") else None,
        runtime=runtime(message.runtime),
    )
