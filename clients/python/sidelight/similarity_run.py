"""The calls that one use of `Client.similarity` takes, and their answers as one result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.arrays import Inputs, from_tensor, to_array, to_arrays, to_instances, to_tensor
from sidelight.decode import decode_picture, decode_provenance
from sidelight.errors import InvalidArgument
from sidelight.provenance import total_provenance
from sidelight.selection import ReferenceSelection
from sidelight.similarity import ClassMeans, GradientIndex, Neighbours, SimilarityExplanation
from sidelight.similarity_options import SimilarityOptions, similarity_request
from sidelight.v1 import job_pb2, reference_pb2, similarity_pb2

# Room for names, shapes and framing beside the bytes of the arrays.
_ENVELOPE_BYTES = 16 * 1024

Request = similarity_pb2.ExplainSimilarityRequest
Response = similarity_pb2.ExplainSimilarityResponse


class SimilarityRun:
    """The calls that one use of `Client.similarity` takes: one, unless instances must or shall be split.

    Attributes:
        done: how many instances are explained.
        total: how many there are; 0 while only the server knows.
    """

    def __init__(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        options: SimilarityOptions,
        *,
        instances_per_call: int | None,
        max_message_bytes: int,
    ) -> None:
        """Checks what can be checked without a server.

        Args:
            model: which, as `parse_model` reads it.
            x: the instances.
            options: the options of the call.
            instances_per_call: at most so many per call; None for as many as a message has room for.
            max_message_bytes: the largest message of the channel.
        """
        self._request = similarity_request(model, options)
        self._responses: list[Response] = []
        self._arrays: dict[str, NDArray[Any]] = {}
        self._labels: NDArray[Any] | None = None
        self._sent = 0
        self.done = 0
        self.total = 0
        if isinstance(x, ReferenceSelection):
            self._request.instances.reference.CopyFrom(x.to_proto())
            return
        self._arrays = to_arrays(x, "x")
        self.total = len(next(iter(self._arrays.values())))
        if (labels := options.get("labels")) is not None:
            self._labels = to_array(labels, "labels")
            if self._labels.ndim == 0 or len(self._labels) != self.total:
                raise InvalidArgument(f"labels are of shape {self._labels.shape} for {self.total} instances")
            self._request.parameters.ClearField("labels")
        self._per_call = self._largest_call(max_message_bytes)
        if instances_per_call is not None:
            if instances_per_call < 1:
                raise InvalidArgument(f"instances_per_call is {instances_per_call}; give at least 1")
            self._per_call = min(self._per_call, instances_per_call)
        whole = "aggregate=" if self._request.parameters.aggregate_instances else "picture="
        if self._per_call < self.total and (whole == "aggregate=" or self._request.HasField("render")):
            raise InvalidArgument(
                f"{whole} needs all instances in one call, which has room for {self._per_call} of these {self.total}; "
                f"give fewer instances, or leave it out"
            )

    def next_request(self) -> Request | None:
        """The next request to send; None when there is none left."""
        if not self._arrays:
            return None if self._responses else self._request
        if self.done == self.total:
            return None
        request = Request()
        request.CopyFrom(self._request)
        self._sent = min(self._per_call, self.total - self.done)
        rows = slice(self.done, self.done + self._sent)
        request.instances.CopyFrom(to_instances({name: array[rows] for name, array in self._arrays.items()}, "x"))
        if self._labels is not None:
            request.parameters.labels.CopyFrom(to_tensor(self._labels[rows], "labels"))
        if self._responses:
            # The model that answered first answers to the end, whatever is loaded meanwhile.
            first = self._responses[0]
            request.model.version, request.model.digest = first.provenance.version, first.provenance.digest
            request.parameters.reference.digest = first.reference_digest
        return request

    def accept(self, response: Response) -> None:
        """Takes the response to the last request."""
        self._responses.append(response)
        if self._arrays:
            self.done += self._sent
        else:
            self.done = self.total = len(response.rankings)

    def result(self) -> SimilarityExplanation:
        """Puts the responses together."""
        return decode_similarity(self._responses)

    def _largest_call(self, max_message_bytes: int) -> int:
        fixed = self._request.ByteSize() + _ENVELOPE_BYTES
        each = sum(array.nbytes // len(array) for array in self._arrays.values())
        if self._labels is not None:
            each += self._labels.nbytes // len(self._labels)
        if fixed + each > max_message_bytes:
            raise InvalidArgument(
                f"one instance and the rest of a request take {fixed + each} bytes, where a message may have "
                f"{max_message_bytes}; give less, or raise max_message_bytes here and on the server"
            )
        return max(1, (max_message_bytes - fixed) // max(each, 1))


def decode_similarity(responses: list[Response]) -> SimilarityExplanation:
    """Puts the responses to consecutive instances together as one explanation.

    Args:
        responses: in the order of the instances, at least one, to the same parameters.
    """
    first = responses[0]
    rankings = [ranking for response in responses for ranking in response.rankings]
    own = [ranking.self_influence for ranking in rankings if ranking.HasField("self_influence")]
    predicted = [ranking.prediction for ranking in rankings if ranking.HasField("prediction")]
    scores = [from_tensor(ranking.scores) for ranking in rankings if ranking.HasField("scores")]
    return SimilarityExplanation(
        most_similar=_neighbours([list(ranking.most_similar) for ranking in rankings]),
        least_similar=_neighbours([list(ranking.least_similar) for ranking in rankings]),
        gradient_norms=np.array([ranking.gradient_norm for ranking in rankings], np.float64),
        predictions=np.array(predicted, np.int64) if len(predicted) == len(rankings) else None,
        scores=np.stack(scores) if scores else None,
        by_label=_class_means(rankings, reference_pb2.CLASS_SOURCE_LABEL),
        by_prediction=_class_means(rankings, reference_pb2.CLASS_SOURCE_PREDICTION),
        self_influence=np.array(own, np.float64) if own else None,
        layers=tuple(first.layers),
        reference_digest=first.reference_digest,
        provenance=total_provenance([decode_provenance(response.provenance) for response in responses]),
        pictures=tuple(decode_picture(picture) for response in responses for picture in response.pictures),
    )


def decode_gradient_index(message: job_pb2.BuildGradientIndexResponse) -> GradientIndex:
    """An index that was built."""
    return GradientIndex(
        model_digest=message.model_digest,
        reference_digest=message.reference_digest,
        values_per_reference=message.values_per_reference,
        size_bytes=message.size_bytes,
        materialised_layers=tuple(message.materialised_layers),
    )


def _neighbours(found: list[list[similarity_pb2.SimilarExample]]) -> Neighbours:
    flat = [example for row in found for example in row]
    shape = (len(found), len(found[0]) if found else 0)

    def classes(name: str) -> NDArray[np.int64] | None:
        if not flat or not all(example.HasField(name) for example in flat):  # type: ignore[arg-type]
            return None
        return np.array([getattr(example, name) for example in flat], np.int64).reshape(shape)

    layered = bool(flat) and bool(flat[0].layer_scores)
    inputs = [named.name for named in flat[0].example] if flat else []
    return Neighbours(
        indices=np.array([example.index for example in flat], np.int64).reshape(shape),
        scores=np.array([example.score for example in flat], np.float64).reshape(shape),
        labels=classes("label"),
        predictions=classes("prediction"),
        layer_scores=np.array([list(e.layer_scores) for e in flat], np.float64).reshape(*shape, -1)
        if layered
        else None,
        examples={
            name: _reshaped(np.stack([from_tensor(example.example[place].tensor) for example in flat]), shape)
            for place, name in enumerate(inputs)
        },
    )


def _reshaped(array: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    return array.reshape(*shape, *array.shape[1:])


def _class_means(rankings: list[similarity_pb2.SimilarityRanking], source: int) -> ClassMeans | None:
    chosen = [[mean for mean in ranking.class_means if mean.source == source] for ranking in rankings]
    if not chosen or not chosen[0]:
        return None
    return ClassMeans(
        classes=np.array([mean.class_index for mean in chosen[0]], np.int64),
        means=np.array([[mean.mean for mean in row] for row in chosen], np.float64),
        counts=np.array([mean.count for mean in chosen[0]], np.int64),
    )
