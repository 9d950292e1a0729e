"""ExplainSimilarity as a worker runs it."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from google.protobuf.proto import parse_length_prefixed
from sidelight.v1 import explanation_pb2, similarity_pb2
from sidelight_engines.errors import MethodNotSupported
from sidelight_engines.model import Model
from sidelight_engines.similarity import (
    Checkpoint,
    Chunking,
    Examples,
    GradientIndex,
    Precision,
    SimilarityParameters,
    SimilarityResult,
    check_similarity,
    explain_similarity,
)

from sidelight_service.convert.details import similarity_support
from sidelight_service.convert.models import runtime_to_proto
from sidelight_service.convert.pictures import picture_to_proto, rendering_from_proto
from sidelight_service.convert.similarity import (
    examples_from_proto,
    parameters_from_proto,
    references_from_proto,
    result_to_proto,
)
from sidelight_service.convert.zero_gradients import zero_gradient_warnings
from sidelight_service.errors import MessageTooLarge
from sidelight_service.methods.context import MethodContext, Version
from sidelight_service.methods.similarity_pictures import draw_pictures
from sidelight_service.methods.similarity_references import FoundReferences, find_references
from sidelight_service.references.arrays import Array
from sidelight_service.references.selecting import SelectedExamples

# What an example, a ranking and a class mean take in a response beside what is counted, at most.
_EXAMPLE_BYTES = 64
_RANKING_BYTES = 64
_MEAN_BYTES = 32
_LAYER_SCORE_BYTES = 8
_SCORE_BYTES = 4
# A slice reads the index anew, so that a job has at most so many.
_MOST_SLICES = 64


def explain(context: MethodContext, payload: bytes) -> bytes:
    """Finds the references that the model treats like each instance.

    Args:
        context: the model and all that is not in the request.
        payload: a serialized ExplainSimilarityRequest.

    Returns:
        A serialized ExplainSimilarityResponse.
    """
    task = _Task.read(context, payload)
    task.require_room(context.limits.message_bytes)
    main = task.found[0]
    result = explain_similarity(
        context.model,
        task.instances,
        task.parameters,
        main.references,
        context.control,
        selection=main.selection,
        checkpoints=task.checkpoints(),
        chunking=Chunking(memory_bytes=context.chunk_bytes, reference_bytes=context.limits.unindexed_bytes),
        threads=context.threads,
    )
    runtime = similarity_support(context.model).runtime
    provenance = context.provenance(runtime_to_proto(runtime), task.forward_rows, task.warnings(result))
    asked = task.request.parameters
    response = result_to_proto(
        result,
        provenance,
        reference_digest=task.selected.reference.header.digest,
        labelled=task.selected.labels is not None,
        pick=task.pick if asked.include_examples else None,
    )
    return _drawn(context, task.request, response).SerializeToString()


def check(context: MethodContext, payload: bytes) -> bytes:
    """Refuses what `explain` would refuse before it computes, so that it is told of the whole list at once.

    Args:
        context: the model and all that is not in the request.
        payload: a serialized ExplainSimilarityRequest.

    Returns:
        JSON: `instances`, their number; `least`, the fewest for a part; `positions` of the instances and
        `references` in their sets, null where the request can stay as it is.
    """
    task = _Task.read(context, payload)
    task.require_room(context.limits.message_bytes)
    count = len(task.instances)
    indexed = all(isinstance(found.references, GradientIndex) for found in task.found)
    request = task.request
    instances = None
    if request.instances.WhichOneof("source") == "reference":
        instances = context.selector().select(request.instances.reference, "instances.reference").positions.tolist()
    narrowed = request.parameters.reference.HasField("class_filter")
    return json.dumps(
        {
            "instances": count,
            # Without an index each part would compute the gradients of the references anew.
            "least": math.ceil(count / _MOST_SLICES) if indexed else count,
            "positions": instances,
            "references": task.selected.positions.tolist() if narrowed else None,
        }
    ).encode()


def draw(context: MethodContext, payload: bytes) -> bytes:
    """Adds the pictures to a response that was put together from parts.

    Args:
        context: the model and all that is not in the request.
        payload: an ExplainSimilarityRequest with the instances to draw, and an ExplainSimilarityResponse with mean
            scores by class, each serialized behind its length.

    Returns:
        The serialized ExplainSimilarityResponse.
    """
    stream = io.BytesIO(payload)
    request = parse_length_prefixed(similarity_pb2.ExplainSimilarityRequest, stream)
    response = parse_length_prefixed(similarity_pb2.ExplainSimilarityResponse, stream)
    if request is None or response is None:
        raise ValueError("a message is missing; the front process sends both")
    return _drawn(context, request, response).SerializeToString()


def _drawn(
    context: MethodContext,
    request: similarity_pb2.ExplainSimilarityRequest,
    response: similarity_pb2.ExplainSimilarityResponse,
) -> similarity_pb2.ExplainSimilarityResponse:
    """Adds the pictures that are asked for; then takes away what only they needed."""
    rendering = rendering_from_proto(request.render)
    if rendering is not None:
        response.pictures.extend(
            picture_to_proto(picture) for picture in draw_pictures(context, request, response, rendering)
        )
    if not request.parameters.class_means:
        for ranking in response.rankings:
            ranking.ClearField("class_means")
    return response


@dataclass(frozen=True)
class _Task:
    """A request as the engine takes it.

    Attributes:
        request: as it came.
        model: the model.
        instances: what is explained.
        parameters: how to compare.
        selected: the references that count.
        versions: the model version and those of the checkpoints, in order.
        found: the references of each.
    """

    request: similarity_pb2.ExplainSimilarityRequest
    model: Model
    instances: Examples
    parameters: SimilarityParameters
    selected: SelectedExamples
    versions: tuple[Version, ...]
    found: tuple[FoundReferences, ...]

    @classmethod
    def read(cls, context: MethodContext, payload: bytes) -> Self:
        request = similarity_pb2.ExplainSimilarityRequest.FromString(payload)
        model = context.model
        support = similarity_support(model)
        if not support.supported:
            raise MethodNotSupported("similarity", support.reason)
        rendering = rendering_from_proto(request.render)
        parameters = parameters_from_proto(request.parameters)
        select = context.selector().select
        instances = examples_from_proto(request, model.graph.inputs, select)
        selected = references_from_proto(request.parameters, select)
        versions = [Version(model, context.owner)]
        for position, _ in enumerate(request.parameters.checkpoints):
            version = context.versions[f"parameters.checkpoints[{position}].model"]
            support = similarity_support(version.model)
            if not support.supported:
                raise MethodNotSupported(
                    "similarity", f"checkpoint {version.owner.model}:{version.owner.version}: {support.reason}"
                )
            versions.append(version)
        check_similarity(
            model,
            instances,
            parameters,
            checkpoints=[
                Checkpoint(version.model, checkpoint.weight, instances)
                for version, checkpoint in zip(versions[1:], request.parameters.checkpoints, strict=True)
            ],
        )
        found = tuple(find_references(context, version, selected, parameters.gradients) for version in versions)
        # The picture of mean scores needs them whether they are asked for or not.
        parameters = replace(parameters, class_means=parameters.class_means or rendering is not None)
        return cls(request, model, instances, parameters, selected, tuple(versions), found)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints with their references."""
        given = zip(self.versions[1:], self.request.parameters.checkpoints, self.found[1:], strict=True)
        return [Checkpoint(version.model, wire.weight, found.references) for version, wire, found in given]

    def pick(self, index: int) -> Mapping[str, Array]:
        """A reference by its position in the set, as the model takes it."""
        one = SelectedExamples(self.selected.reference, np.asarray([index]), self.selected.field)
        return {name: array[0] for name, array in one.inputs(self.model.graph.inputs).items()}

    def require_room(self, limit: int) -> None:
        """Refuses what no message has room for, before it is computed rather than after.

        Raises:
            MessageTooLarge: by the numbers that are asked for.
        """
        asked, parameters = self.request.parameters, self.parameters
        count = len(self.selected)
        rankings = 1 if parameters.aggregate_instances else len(self.instances)
        each = _EXAMPLE_BYTES
        if asked.include_examples:
            each += sum(array.nbytes for array in self.pick(int(self.selected.positions[0])).values())
        if asked.layer_contributions:
            each += _LAYER_SCORE_BYTES * sum(layer.parameter_count > 0 for layer in self.model.graph.layers)
        listed = min(parameters.top, count) + min(parameters.bottom, count)
        size = _RANKING_BYTES + listed * each
        if asked.all_scores:
            size += _SCORE_BYTES * count
        if asked.class_means:
            size += 2 * _MEAN_BYTES * len(self.selected.reference.header.class_counts)
        if rankings * size > limit:
            fitting = limit // size
            fewer = f"explain at most {fitting} instances at a time, " if fitting and rankings > 1 else ""
            remedy = f"{fewer}ask for fewer references or without examples or all scores, or raise the server's "
            raise MessageTooLarge("response", rankings * size, limit, f"{remedy}max_message_mebibytes")

    @property
    def forward_rows(self) -> int:
        """The rows that are sent through the models."""
        computed = [found.references for found in self.found if isinstance(found.references, Examples)]
        return len(self.versions) * len(self.instances) + sum(map(len, computed))

    def warnings(self, result: SimilarityResult) -> list[explanation_pb2.Warning]:
        """What a reader of the result should know."""
        said = zero_gradient_warnings([ranking.gradient_norm for ranking in result.rankings])
        if result.materialised_layers:
            said.append(
                explanation_pb2.Warning(
                    code="GRADIENTS_KEPT_WHOLE",
                    message=f"the gradients of {', '.join(result.materialised_layers)} could not be factored, so each "
                    "example's was kept whole: the scores are as exact, and took more time and memory",
                )
            )
        indexes = [found.references for found in self.found if isinstance(found.references, GradientIndex)]
        if any(index.header.precision is Precision.FLOAT16 for index in indexes):
            said.append(
                explanation_pb2.Warning(
                    code="INDEX_FLOAT16",
                    message="the gradients of the references are kept in float16, which moves cosines by about 1e-4; "
                    "build an index in float32 where that matters",
                )
            )
        return said
