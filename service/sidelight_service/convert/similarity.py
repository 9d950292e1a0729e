"""Similarity: protobuf to the engine's dataclasses and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sidelight.v1 import explanation_pb2, reference_pb2, similarity_pb2, tensor_pb2
from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.similarity import (
    ClassSource,
    Examples,
    GradientOptions,
    Labels,
    LabelSource,
    LayerSelection,
    Loss,
    SimilarExample,
    SimilarityFunction,
    SimilarityParameters,
    SimilarityRanking,
    SimilarityResult,
)

from sidelight_service.convert.instances import Select, all_inputs
from sidelight_service.convert.linearity import enum_from_proto
from sidelight_service.convert.tensors import Array, array_to_tensor, tensor_to_array
from sidelight_service.references.selecting import SelectedExamples

_PARAMETERS = "parameters"
_MOST_CHECKPOINTS = 32
_SOURCES = {
    ClassSource.LABEL: reference_pb2.CLASS_SOURCE_LABEL,
    ClassSource.PREDICTION: reference_pb2.CLASS_SOURCE_PREDICTION,
}

Pick = Callable[[int], Mapping[str, Array]]
"""The inputs of the reference at a position of its set, by name."""


def gradient_options(loss: int, output: str, descriptor: Any, field: str, layers: LayerSelection) -> GradientOptions:
    """Reads which gradients are meant.

    Args:
        loss: the wire value.
        output: by name; empty for the model's first.
        descriptor: of the enum.
        field: the path of the loss in the request.
        layers: the layers that count.

    Raises:
        InvalidField: the loss is none of the contract.
    """
    member = enum_from_proto(loss, "LOSS_", descriptor, Loss, field)
    return GradientOptions(Loss.BY_GRAPH if member is None else Loss(member), output, layers)


def label_source(wire: int, descriptor: Any, field: str, default: LabelSource) -> LabelSource:
    """Reads where labels come from.

    Raises:
        InvalidField: it is none of the contract.
    """
    member = enum_from_proto(wire, "LABEL_SOURCE_", descriptor, LabelSource, field)
    return default if member is None else LabelSource(member)


def parameters_from_proto(wire: similarity_pb2.SimilarityParameters) -> SimilarityParameters:
    """Reads how to compare; what the request leaves out takes the engine's default.

    Args:
        wire: the wire form. References, labels and checkpoints are read by other functions.

    Raises:
        InvalidField: something is malformed. Limits are the engine's to check.
    """
    enums = wire.DESCRIPTOR.fields_by_name
    function = enum_from_proto(
        wire.function,
        "SIMILARITY_FUNCTION_",
        enums["function"].enum_type,
        SimilarityFunction,
        f"{_PARAMETERS}.function",
    )
    if wire.layers.all and wire.layers.names:
        raise InvalidField(f"{_PARAMETERS}.layers.names", "is given although `all` is set", "give one of the two")
    if len(wire.checkpoints) > _MOST_CHECKPOINTS:
        raise InvalidField(
            f"{_PARAMETERS}.checkpoints", f"are {len(wire.checkpoints)}", f"give at most {_MOST_CHECKPOINTS}"
        )
    for position, checkpoint in enumerate(wire.checkpoints):
        if not checkpoint.HasField("model"):
            field = f"{_PARAMETERS}.checkpoints[{position}].model"
            raise InvalidField(field, "is not set", "name the model and the version of the checkpoint")
    given: dict[str, Any] = {} if function is None else {"function": SimilarityFunction(function)}
    if wire.HasField("top"):
        given["top"] = wire.top
    return SimilarityParameters(
        **given,
        gradients=gradient_options(
            wire.loss,
            wire.output,
            enums["loss"].enum_type,
            f"{_PARAMETERS}.loss",
            LayerSelection(tuple(wire.layers.names)),
        ),
        bottom=wire.bottom,
        all_scores=wire.all_scores,
        class_means=wire.class_means,
        layer_contributions=wire.layer_contributions,
        self_influence=wire.self_influence,
        aggregate_instances=wire.aggregate_instances,
        norm_offset=wire.norm_offset,
    )


def examples_from_proto(
    wire: similarity_pb2.ExplainSimilarityRequest, specs: tuple[TensorSpec, ...], select: Select
) -> Examples:
    """Reads the instances and their labels.

    Args:
        wire: the whole request.
        specs: the model's inputs.
        select: resolves selections of reference sets.

    Raises:
        InvalidField: something required is missing, contradicts itself, or is malformed.
        ReferenceNotFound: they are selected from a set that is gone.
    """
    inputs, fields, selected = all_inputs(wire.instances, "instances", specs, select)
    path = next(iter(fields.values()))
    own = None if selected is None or selected.labels is None else Labels(selected.labels, path)
    return Examples(inputs, _labels(wire.parameters, own), path)


def _labels(wire: similarity_pb2.SimilarityParameters, own: Labels | None) -> Labels | None:
    given = wire.HasField("labels")
    field = f"{_PARAMETERS}.labels"
    source = label_source(
        wire.label_source,
        wire.DESCRIPTOR.fields_by_name["label_source"].enum_type,
        f"{_PARAMETERS}.label_source",
        LabelSource.GIVEN if given else LabelSource.PREDICTION,
    )
    if source is LabelSource.PREDICTION:
        if given:
            raise InvalidField(field, "is set although label_source is PREDICTION", "give one of the two")
        return None
    if not given:
        if own is None:
            raise InvalidField(
                field, "is not set although label_source is GIVEN", "give one label per instance, or PREDICTION"
            )
        return own
    default = "int64" if wire.labels.WhichOneof("content") == "int64_values" else "float64"
    return Labels(tensor_to_array(wire.labels, field, default), field)


def references_from_proto(wire: similarity_pb2.SimilarityParameters, select: Select) -> SelectedExamples:
    """Reads which references are searched.

    Raises:
        InvalidField: none are named, or they lack the labels that are needed.
        ReferenceNotFound: the set is gone.
    """
    field = f"{_PARAMETERS}.reference"
    if not wire.HasField("reference"):
        raise InvalidField(field, "is not set", "select the examples to search of a reference set")
    selected = select(wire.reference, field)
    if selected.labels is None and (wire.HasField("labels") or wire.label_source == similarity_pb2.LABEL_SOURCE_GIVEN):
        raise InvalidField(
            field,
            f"reference set {wire.reference.reference!r} has no labels, and those of the instances are given",
            "create it with labels, or compare by predictions: label_source PREDICTION and no labels",
        )
    return selected


def result_to_proto(
    result: SimilarityResult,
    provenance: explanation_pb2.Provenance,
    *,
    reference_digest: str,
    labelled: bool,
    pick: Pick | None,
) -> similarity_pb2.ExplainSimilarityResponse:
    """Writes the result.

    Args:
        result: the engine's.
        provenance: of the result.
        reference_digest: of the reference set.
        labelled: whether the set has labels of its own.
        pick: gives the examples found; None if they were not asked for.
    """
    return similarity_pb2.ExplainSimilarityResponse(
        rankings=[_ranking_to_proto(ranking, labelled=labelled, pick=pick) for ranking in result.rankings],
        reference_digest=reference_digest,
        layers=result.layers,
        provenance=provenance,
    )


def _ranking_to_proto(
    ranking: SimilarityRanking, *, labelled: bool, pick: Pick | None
) -> similarity_pb2.SimilarityRanking:
    def examples(found: tuple[SimilarExample, ...]) -> list[similarity_pb2.SimilarExample]:
        return [_example_to_proto(example, labelled=labelled, pick=pick) for example in found]

    wire = similarity_pb2.SimilarityRanking(
        most_similar=examples(ranking.most_similar),
        least_similar=examples(ranking.least_similar),
        class_means=_class_means_to_proto(ranking, labelled=labelled),
        self_influence=ranking.self_influence,
        prediction=ranking.prediction,
        gradient_norm=ranking.gradient_norm,
    )
    if ranking.scores is not None:
        wire.scores.CopyFrom(array_to_tensor(ranking.scores))
    return wire


def _example_to_proto(example: SimilarExample, *, labelled: bool, pick: Pick | None) -> similarity_pb2.SimilarExample:
    inputs = {} if pick is None else pick(example.index)
    return similarity_pb2.SimilarExample(
        index=example.index,
        score=example.score,
        label=example.label if labelled else None,
        prediction=example.prediction,
        layer_scores=example.layer_scores,
        example=[
            tensor_pb2.NamedTensor(name=name, tensor=array_to_tensor(np.asarray(array)))
            for name, array in inputs.items()
        ],
    )


def _class_means_to_proto(ranking: SimilarityRanking, *, labelled: bool) -> list[similarity_pb2.ClassMeanScore]:
    """By label only where the set has labels."""
    return [
        similarity_pb2.ClassMeanScore(
            class_index=mean.class_index, source=_SOURCES[mean.source], mean=mean.mean, count=mean.count
        )
        for mean in ranking.class_means
        if labelled or mean.source is ClassSource.PREDICTION
    ]
