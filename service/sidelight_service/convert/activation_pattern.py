"""Activation patterns: protobuf to the engine's dataclasses and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from sidelight.v1 import activation_pattern_pb2, explanation_pb2, reference_pb2
from sidelight_engines.activation import (
    Classes,
    LabelClasses,
    LayerPattern,
    LayerSelection,
    PatternDistance,
    PatternParameters,
    PatternResult,
    PredictedClasses,
    QuantileThreshold,
    UnitPooling,
    ValueThreshold,
)
from sidelight_engines.errors import InvalidField

from sidelight_service.convert.linearity import enum_from_proto
from sidelight_service.convert.tensors import array_to_tensor, tensor_to_array
from sidelight_service.references.selecting import SelectedExamples

_PARAMETERS = "parameters"


def parameters_from_proto(wire: activation_pattern_pb2.ActivationPatternParameters) -> PatternParameters:
    """Reads the parameters but for the classes; what the request leaves out takes the engine's default.

    Raises:
        InvalidField: something required is missing or malformed. Limits are the engine's to check.
    """
    given: dict[str, Any] = {}
    which = wire.WhichOneof("threshold")
    if which == "value":
        given["threshold"] = ValueThreshold(wire.value)
    elif which == "quantile":
        given["threshold"] = QuantileThreshold(wire.quantile)
    pooling = _member(wire, "pooling", "UNIT_POOLING_", UnitPooling)
    if pooling is not None:
        given["pooling"] = pooling
    if wire.HasField("specific_units"):
        given["specific_units"] = wire.specific_units
    if wire.distances:
        descriptor = wire.DESCRIPTOR.fields_by_name["distances"].enum_type
        distances = []
        for position, number in enumerate(wire.distances):
            field = f"{_PARAMETERS}.distances[{position}]"
            distance = enum_from_proto(number, "PATTERN_DISTANCE_", descriptor, PatternDistance, field)
            if distance is None:
                raise InvalidField(field, "is unspecified", "give a distance, or leave the list empty")
            distances.append(distance)
        given["distances"] = tuple(distances)
    return PatternParameters(
        layers=LayerSelection(tuple(wire.layers.names), everything=wire.layers.all), divisor=wire.divisor, **given
    )


def classes_from_proto(
    wire: activation_pattern_pb2.ActivationPatternParameters, selected: SelectedExamples | None
) -> Classes:
    """Reads how examples are grouped.

    Args:
        wire: the parameters.
        selected: the examples, if they come from a reference set.

    Raises:
        InvalidField: labels are missing where they are needed, or given where they are not.
    """
    field = f"{_PARAMETERS}.labels"
    if wire.class_source not in reference_pb2.ClassSource.values():
        raise InvalidField(
            f"{_PARAMETERS}.class_source", f"{wire.class_source} is not a value of it", "give LABEL or PREDICTION"
        )
    if wire.class_source == reference_pb2.CLASS_SOURCE_PREDICTION:
        if wire.HasField("labels"):
            raise InvalidField(field, "is given although classes are predicted", "leave it out, or group by LABEL")
        return PredictedClasses(wire.output)
    if wire.output:
        raise InvalidField(
            f"{_PARAMETERS}.output",
            "is given although no predictions are taken",
            "leave it out, or group by PREDICTION",
        )
    if selected is None:
        if not wire.HasField("labels"):
            raise InvalidField(
                field, "is missing", "give the class of each inline instance, or group by class_source PREDICTION"
            )
        return LabelClasses(tensor_to_array(wire.labels, field, "int64"), field)
    if wire.HasField("labels"):
        raise InvalidField(field, "is given beside a reference set, which has its own", "leave it out")
    labels = selected.labels
    if selected.reference.classes is None or labels is None:
        held = "no labels" if labels is None else "targets for regression in place of class labels"
        raise InvalidField(
            selected.field,
            f"reference set {selected.reference.header.name!r} has {held}",
            "group by class_source PREDICTION, or create the set with class labels",
        )
    return LabelClasses(labels, selected.field)


def result_to_proto(
    result: PatternResult, selected: SelectedExamples | None, provenance: explanation_pb2.Provenance
) -> activation_pattern_pb2.ExplainActivationPatternResponse:
    """Writes the result.

    Args:
        result: what the engine found.
        selected: the examples, if they come from a reference set.
        provenance: of the result.
    """
    examples = result.class_examples if selected is None else selected.positions[result.class_examples]
    return activation_pattern_pb2.ExplainActivationPatternResponse(
        layers=[_layer_to_proto(layer) for layer in result.layers],
        classes=result.classes.tolist(),
        class_counts=result.class_counts.tolist(),
        class_examples=examples.tolist(),
        provenance=provenance,
        effective_parameters=_parameters_to_proto(result),
    )


def _layer_to_proto(layer: LayerPattern) -> activation_pattern_pb2.LayerPattern:
    return activation_pattern_pb2.LayerPattern(
        layer=layer.name,
        firing_rates=array_to_tensor(layer.firing_rates),
        standard_errors=array_to_tensor(layer.standard_errors),
        distances=[
            activation_pattern_pb2.PatternDistanceMatrix(
                distance=_distance_to_proto(matrix.distance),
                values=array_to_tensor(matrix.values),
                neighbours=array_to_tensor(matrix.neighbours.astype(np.int64, copy=False)),
            )
            for matrix in layer.distances
        ],
        dead_units=layer.dead_units.tolist(),
        always_on_units=layer.always_on_units.tolist(),
        saturated_units=layer.saturated_units.tolist(),
        specific_units=[
            activation_pattern_pb2.SpecificUnit(
                class_index=unit.class_index, unit=unit.unit, excess_rate=unit.excess_rate
            )
            for unit in layer.specific_units
        ],
        thresholds=array_to_tensor(layer.thresholds),
        unit_shape=layer.unit_shape,
    )


def _parameters_to_proto(result: PatternResult) -> activation_pattern_pb2.ActivationPatternParameters:
    used = result.parameters
    source = "PREDICTION" if result.output else "LABEL"
    wire = activation_pattern_pb2.ActivationPatternParameters(
        layers=explanation_pb2.LayerSelection(all=used.layers.everything, names=used.layers.names),
        pooling=activation_pattern_pb2.UnitPooling.Value(f"UNIT_POOLING_{used.pooling.name}"),
        class_source=reference_pb2.ClassSource.Value(f"CLASS_SOURCE_{source}"),
        divisor=used.divisor,
        distances=[_distance_to_proto(distance) for distance in used.distances],
        specific_units=used.specific_units,
        output=result.output,
    )
    if isinstance(used.threshold, QuantileThreshold):
        wire.quantile = used.threshold.quantile
    else:
        wire.value = used.threshold.value
    return wire


def _distance_to_proto(distance: PatternDistance) -> activation_pattern_pb2.PatternDistance.ValueType:
    return activation_pattern_pb2.PatternDistance.Value(f"PATTERN_DISTANCE_{distance.name}")


def _member(wire: Any, name: str, prefix: str, kind: Any) -> Any:
    descriptor = wire.DESCRIPTOR.fields_by_name[name].enum_type
    return enum_from_proto(getattr(wire, name), prefix, descriptor, kind, f"{_PARAMETERS}.{name}")
