"""Influence: protobuf to the engine's dataclasses and back."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sidelight.v1 import explanation_pb2, influence_pb2, reference_pb2
from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.influence import InfluenceParameters, InfluenceResult, Metric, Rows, UnattainableTarget

from sidelight_service.convert.instances import Select, single_input
from sidelight_service.convert.linearity import enum_from_proto
from sidelight_service.convert.tensors import Array, array_to_tensor, tensor_to_array

_PARAMETERS = "parameters"
_REPEATED = ("features", "feature_names")
_OPTIONAL: tuple[Literal["low_quantile", "high_quantile", "confidence_level"], ...] = (
    "low_quantile",
    "high_quantile",
    "confidence_level",
)


def parameters_from_proto(wire: influence_pb2.InfluenceParameters) -> InfluenceParameters:
    """Reads the parameters; what the request leaves out takes the engine's default.

    Raises:
        InvalidField: an enum's number is not one of the contract. Limits are the engine's to check.
    """
    given: dict[str, Any] = {name: tuple(getattr(wire, name)) for name in _REPEATED}
    given |= {name: getattr(wire, name) for name in _OPTIONAL if wire.HasField(name)}
    for name in ("taus", "targets"):
        if values := getattr(wire, name):
            given[name] = tuple(values)
    descriptor = wire.DESCRIPTOR.fields_by_name["unattainable"].enum_type
    field = f"{_PARAMETERS}.unattainable"
    unattainable = enum_from_proto(wire.unattainable, "UNATTAINABLE_TARGET_", descriptor, UnattainableTarget, field)
    if unattainable is not None:
        given["unattainable"] = unattainable
    return InfluenceParameters(
        **given,
        metrics=tuple(_metric(wire, place) for place in range(len(wire.metrics))),
        ethik_compatible=wire.ethik_compatible,
    )


def _metric(wire: influence_pb2.InfluenceParameters, place: int) -> Metric:
    descriptor = wire.DESCRIPTOR.fields_by_name["metrics"].enum_type
    field = f"{_PARAMETERS}.metrics[{place}]"
    metric = enum_from_proto(wire.metrics[place], "METRIC_", descriptor, Metric, field)
    if metric is None:
        raise InvalidField(field, "is METRIC_UNSPECIFIED", "name a metric, such as METRIC_ACCURACY")
    return Metric(metric)


def rows_from_proto(
    wire: influence_pb2.InfluenceParameters, name: Literal["predictions", "labels", "groups"]
) -> Rows | None:
    """Predictions, labels or groups, as the tensor of that name in the parameters; None if it is not set.

    Raises:
        InvalidField: it is malformed.
    """
    if not wire.HasField(name):
        return None
    field = f"{_PARAMETERS}.{name}"
    return Rows(tensor_to_array(getattr(wire, name), field, "int64" if name == "groups" else "float64"), field)


def examples_from_proto(
    wire: reference_pb2.Instances, spec: TensorSpec | None, select: Select
) -> tuple[Rows, Rows | None]:
    """The examples, and their labels if they come from a set that has labels.

    Args:
        wire: the wire form.
        spec: the model's input; None without a model, for numbers as they come.
        select: resolves selections of reference sets.

    Raises:
        InvalidField: they are missing or malformed, or not of one tensor.
        ReferenceNotFound: they are selected from a set that is gone.
    """
    if wire.WhichOneof("source") == "reference":
        path = "instances.reference"
        selected = select(wire.reference, path)
        values = selected.single_array() if spec is None else selected.inputs((spec,))[spec.name]
        return Rows(values, path), None if selected.labels is None else Rows(selected.labels, path)
    if spec is not None:
        return Rows(*single_input(wire, "instances", spec, select)), None
    inputs = wire.inline.inputs
    path = "instances.inline.inputs"
    if len(inputs) != 1:
        problem = f"has {len(inputs)} tensors where predictions stand for the model"
        raise InvalidField(path, problem, "send the features as one tensor")
    return Rows(tensor_to_array(inputs[0].tensor, f"{path}[0].tensor", "float64"), f"{path}[0].tensor"), None


def result_to_proto(
    result: InfluenceResult, parameters: InfluenceParameters, provenance: explanation_pb2.Provenance
) -> influence_pb2.ExplainInfluenceResponse:
    """Writes the result."""
    tensors: dict[str, Array | None] = {
        "feature_means": result.feature_means,
        "targets": result.targets,
        "influences": result.influences,
        "standard_errors": result.standard_errors,
        "confidence_low": result.confidence_low,
        "confidence_high": result.confidence_high,
        "slopes": result.slopes,
        "attained": result.attained,
        "attained_means": result.attained_means,
        "effective_sample_sizes": result.effective_sample_sizes,
        "group_performances": result.group_performances,
        "group_performance_errors": result.group_performance_errors,
        "baseline_predictions": result.baseline_predictions,
    }
    if result.metrics:
        tensors |= {
            "performances": result.performances,
            "performance_errors": result.performance_errors,
            "baseline_performances": result.baseline_performances,
        }
    given: dict[str, Any] = {
        name: array_to_tensor(np.asarray(array)) for name, array in tensors.items() if array is not None
    }
    return influence_pb2.ExplainInfluenceResponse(
        **given,
        features=result.features.tolist(),
        feature_names=result.feature_names,
        example_shape=result.example_shape,
        taus=result.aims,
        absolute_targets=parameters.targets is not None,
        metrics=[influence_pb2.Metric.Value(f"METRIC_{metric.name}") for metric in result.metrics],
        groups=() if result.groups is None else result.groups.tolist(),
        provenance=provenance,
    )
