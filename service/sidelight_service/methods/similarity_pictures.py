"""The pictures of a similarity result: strips of neighbours, and mean scores by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sidelight.v1 import reference_pb2, similarity_pb2
from sidelight_engines.pictures import (
    ClassScores,
    DrawnExample,
    Picture,
    Strip,
    similarity_class_means,
    similarity_strip,
)
from sidelight_engines.similarity import Examples, label_classes, make_task

from sidelight_service.convert.pictures import Rendering
from sidelight_service.convert.similarity import examples_from_proto, parameters_from_proto
from sidelight_service.methods.context import MethodContext
from sidelight_service.references.arrays import Array
from sidelight_service.references.selecting import SelectedExamples

_LABEL = reference_pb2.CLASS_SOURCE_LABEL
_NO_CLASS = -1


def draw_pictures(
    context: MethodContext,
    request: similarity_pb2.ExplainSimilarityRequest,
    response: similarity_pb2.ExplainSimilarityResponse,
    rendering: Rendering,
) -> list[Picture]:
    """Draws what a result has.

    Args:
        context: the model and the reference sets.
        request: with at least as many instances as are drawn.
        response: with mean scores by class.
        rendering: how pictures are wanted.

    Returns:
        The strip if references were asked for, and mean scores if there are classes. A picture of several
        instances together shows the first of them.
    """
    select = context.selector().select
    instances = examples_from_proto(request, context.model.graph.inputs, select)
    selected = select(request.parameters.reference, "parameters.reference")
    rankings = response.rankings[: rendering.max_instances]
    drawn = _drawn_instances(context, request, instances, rankings)
    name = f"{response.provenance.model}:{response.provenance.version}"
    count = len(response.rankings)
    first = f"the first {len(rankings)} of " if count > len(rankings) else ""
    among = f"{name}, {first}{count} {'instance' if count == 1 else 'instances'}"
    if request.parameters.aggregate_instances:
        among = f"{name}, several instances together, of which the first is shown"
    look = {"file_format": rendering.format, "width_pixels": rendering.width_pixels, "dark": rendering.dark}
    pictures = []
    if all(ranking.most_similar for ranking in rankings):
        strips = [
            Strip(instance, _neighbours(context, selected, ranking.most_similar))
            for instance, ranking in zip(drawn, rankings, strict=True)
        ]
        pictures.append(similarity_strip(strips, title=f"Most similar by gradient: {among}", **look))  # type: ignore[arg-type]
    if any(ranking.class_means for ranking in rankings):
        rows = [
            ClassScores(instance, _means(ranking, by_label=True), _means(ranking, by_label=False))
            for instance, ranking in zip(drawn, rankings, strict=True)
        ]
        pictures.append(similarity_class_means(rows, title=f"Mean similarity by class: {among}", **look))  # type: ignore[arg-type]
    return pictures


def _drawn_instances(
    context: MethodContext,
    request: similarity_pb2.ExplainSimilarityRequest,
    instances: Examples,
    rankings: Sequence[similarity_pb2.SimilarityRanking],
) -> list[DrawnExample]:
    first = {name: np.asarray(array[: len(rankings)]) for name, array in instances.inputs.items()}
    labels = np.full(len(rankings), _NO_CLASS)
    if instances.labels is not None:
        loss = make_task(context.model, parameters_from_proto(request.parameters).gradients).loss
        labels = label_classes(loss, np.asarray(instances.labels.values[: len(rankings)]))
    return [
        DrawnExample(
            _shown({name: array[i] for name, array in first.items()}),
            None if labels[i] == _NO_CLASS else int(labels[i]),
            ranking.prediction if ranking.HasField("prediction") else None,
        )
        for i, ranking in enumerate(rankings)
    ]


def _neighbours(
    context: MethodContext, selected: SelectedExamples, found: Sequence[similarity_pb2.SimilarExample]
) -> list[DrawnExample]:
    rows = np.asarray([example.index for example in found], np.int64)
    inputs = SelectedExamples(selected.reference, rows, selected.field).inputs(context.model.graph.inputs)
    return [
        DrawnExample(
            _shown({name: array[i] for name, array in inputs.items()}),
            example.label if example.HasField("label") else None,
            example.prediction if example.HasField("prediction") else None,
            example.score,
        )
        for i, example in enumerate(found)
    ]


def _shown(inputs: Mapping[str, Array]) -> Array:
    """The input that is drawn: of several the first."""
    return next(iter(inputs.values()))


def _means(ranking: similarity_pb2.SimilarityRanking, *, by_label: bool) -> list[tuple[int, float]]:
    return [(mean.class_index, mean.mean) for mean in ranking.class_means if (mean.source == _LABEL) == by_label]
