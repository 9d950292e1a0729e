"""The calls that one use of `Client.similarity` takes, and their answers as one result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.arrays import Inputs, from_tensor, to_array, to_tensor
from sidelight.decode import decode_picture, decode_provenance
from sidelight.errors import InvalidArgument
from sidelight.instances_run import InstancesRun
from sidelight.provenance import total_provenance
from sidelight.selection import ReferenceSelection
from sidelight.similarity import ClassMeans, GradientIndex, Neighbours, SimilarityExplanation
from sidelight.similarity_options import SimilarityOptions, similarity_request
from sidelight.v1 import job_pb2, reference_pb2, similarity_pb2

# Room for names, shapes and framing beside the bytes of the arrays.
_ENVELOPE_BYTES = 16 * 1024

Request = similarity_pb2.ExplainSimilarityRequest
Response = similarity_pb2.ExplainSimilarityResponse


class SimilarityRun(InstancesRun[Request, Response]):
    """The calls that one use of `Client.similarity` takes: one, unless instances must or shall be split."""

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
        super().__init__(similarity_request(model, options), x)
        self._labels: NDArray[Any] | None = None
        if not self._arrays:
            return
        if (labels := options.get("labels")) is not None:
            self._labels = to_array(labels, "labels")
            if self._labels.ndim == 0 or len(self._labels) != self.total:
                raise InvalidArgument(f"labels are of shape {self._labels.shape} for {self.total} instances")
            self._request.parameters.ClearField("labels")
        limit = self._plan(self._largest_call(max_message_bytes), instances_per_call, None)
        whole = "aggregate=" if self._request.parameters.aggregate_instances else "picture="
        if limit < self.total and (whole == "aggregate=" or self._request.HasField("render")):
            raise InvalidArgument(
                f"{whole} needs all instances in one call, which has room for {limit} of these {self.total}; "
                f"give fewer instances, or leave it out"
            )

    def result(self) -> SimilarityExplanation:
        """Puts the responses together."""
        return decode_similarity(self._responses)

    def _count(self, response: Response) -> int:
        return len(response.rankings)

    def _cut(self, request: Request, rows: slice) -> None:
        if self._labels is not None:
            request.parameters.labels.CopyFrom(to_tensor(self._labels[rows], "labels"))
        if self._responses:
            # As of the model, so of the references: the ones that answered first.
            request.parameters.reference.digest = self._responses[0].reference_digest

    def _largest_call(self, max_message_bytes: int) -> int:
        fixed = self._request.ByteSize() + _ENVELOPE_BYTES
        each = self._bytes_each()
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
