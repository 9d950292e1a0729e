"""Linearity: protobuf to the engine's dataclasses and back."""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from enum import Enum
from typing import Any

from sidelight.v1 import explanation_pb2, linearity_pb2, reference_pb2
from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.linearity import (
    Aggregation,
    ClassifierScale,
    DataRange,
    DrawGenerator,
    FeatureRange,
    GridSampling,
    KnnSampling,
    LayerLinearity,
    LayerSelection,
    LinearityParameters,
    LinearityResult,
    ModelType,
    PerFeatureRange,
    RandomDraws,
    Rows,
    UniformRange,
    ZeroReason,
)

from sidelight_service.convert.instances import Select, single_input
from sidelight_service.convert.tensors import tensor_to_array

_PARAMETERS = "parameters"


def enum_from_proto(wire: int, prefix: str, descriptor: Any, kind: type[Enum], field: str) -> Enum | None:
    """The engine's member for a wire value; None where the caller leaves the choice to the default.

    Raises:
        InvalidField: the number is not one of the contract.
    """
    known = descriptor.values_by_number.get(wire)
    if known is None:
        names = ", ".join(value.name for value in descriptor.values[1:])
        raise InvalidField(field, f"{wire} is not a value of it", f"give one of {names}")
    return None if wire == 0 else kind[known.name.removeprefix(prefix)]


def parameters_from_proto(
    wire: linearity_pb2.LinearityParameters, spec: TensorSpec, select: Select
) -> LinearityParameters:
    """Reads the parameters; what the request leaves out takes the engine's default.

    Args:
        wire: the wire form.
        spec: the model's input, whose type tensors without one have.
        select: resolves selections of reference sets.

    Raises:
        InvalidField: something required is missing or malformed. Limits are the engine's to check.
    """
    given: dict[str, Any] = {"sampling": _sampling(wire, spec, select)}
    for name in ("samples", "probability_floor", "confidence_level"):
        if wire.HasField(name):
            given[name] = getattr(wire, name)
    for name, kind in (
        ("aggregation", Aggregation),
        ("model_type", ModelType),
        ("classifier_scale", ClassifierScale),
    ):
        descriptor = wire.DESCRIPTOR.fields_by_name[name].enum_type
        member = enum_from_proto(getattr(wire, name), f"{name.upper()}_", descriptor, kind, f"{_PARAMETERS}.{name}")
        if member is not None:
            given[name] = member
    if wire.layers.all and wire.layers.names:
        raise InvalidField(f"{_PARAMETERS}.layers.names", "is given although `all` is set", "give one of the two")
    return LinearityParameters(
        **given,
        coefficients=tuple(wire.coefficients),
        layers=LayerSelection(tuple(wire.layers.names), everything=wire.layers.all),
        output=wire.output,
        draws=_draws(wire.draws),
    )


def _draws(wire: linearity_pb2.RandomDraws) -> RandomDraws:
    descriptor = wire.DESCRIPTOR.fields_by_name["generator"].enum_type
    generator = enum_from_proto(
        wire.generator, "DRAW_GENERATOR_", descriptor, DrawGenerator, f"{_PARAMETERS}.draws.generator"
    )
    return RandomDraws(
        seed=wire.seed,
        generator=RandomDraws().generator if generator is None else DrawGenerator(generator),
        first_instance=wire.first_instance,
        total_instances=wire.total_instances,
        word_offset=wire.word_offset,
    )


def _sampling(wire: linearity_pb2.LinearityParameters, spec: TensorSpec, select: Select) -> GridSampling | KnnSampling:
    which = wire.WhichOneof("sampling")
    if which is None:
        raise InvalidField(
            f"{_PARAMETERS}.sampling", "is not set", "set `grid` with a feature_range, or `knn` with data"
        )
    if which == "knn":
        field = f"{_PARAMETERS}.knn.data"
        return KnnSampling(_rows(wire.knn.data, field, spec, select))
    given = {name: getattr(wire.grid, name) for name in ("epsilon", "resolution") if wire.grid.HasField(name)}
    return GridSampling(_feature_range(wire.grid.feature_range, spec, select), clip=wire.grid.clip, **given)


def _feature_range(wire: linearity_pb2.FeatureRange, spec: TensorSpec, select: Select) -> FeatureRange:
    field = f"{_PARAMETERS}.grid.feature_range"
    which = wire.WhichOneof("source")
    if which is None:
        raise InvalidField(field, "is not set", "set `uniform`, `per_feature` or `data`: what is near depends on it")
    if which == "uniform":
        for name in ("minimum", "maximum"):
            if not wire.uniform.HasField(name):
                raise InvalidField(f"{field}.uniform.{name}", "is not set", "give both ends of the range")
        return UniformRange(wire.uniform.minimum, wire.uniform.maximum)
    if which == "per_feature":
        bounds = wire.per_feature
        return PerFeatureRange(
            tensor_to_array(bounds.minimum, f"{field}.per_feature.minimum", "float64"),
            tensor_to_array(bounds.maximum, f"{field}.per_feature.maximum", "float64"),
        )
    return DataRange(_rows(wire.data, f"{field}.data", spec, select))


def _rows(wire: reference_pb2.Instances, field: str, spec: TensorSpec, select: Select) -> Rows:
    array, path = single_input(wire, field, spec, select)
    return Rows(array, path)


def result_to_proto(
    result: LinearityResult, provenance: explanation_pb2.Provenance
) -> linearity_pb2.ExplainLinearityResponse:
    """Writes the result."""
    return linearity_pb2.ExplainLinearityResponse(
        layers=[_layer_to_proto(layer) for layer in result.layers],
        instance_count=result.instance_count,
        next_word_offset=result.next_word_offset,
        provenance=provenance,
        effective_parameters=_parameters_to_proto(result.parameters),
    )


def _layer_to_proto(layer: LayerLinearity) -> linearity_pb2.LayerLinearity:
    zero_reason = (
        linearity_pb2.ZERO_REASON_UNSPECIFIED
        if layer.zero_reason is ZeroReason.NONE
        else linearity_pb2.ZeroReason.Value(f"ZERO_REASON_{layer.zero_reason.name}")
    )
    return linearity_pb2.LayerLinearity(
        layer=layer.name,
        output=layer.is_output,
        linearity=layer.linearity,
        normalized=layer.normalized,
        noise_floor=layer.noise_floor,
        confidence_low=() if layer.confidence_low is None else layer.confidence_low,
        confidence_high=() if layer.confidence_high is None else layer.confidence_high,
        mean=layer.mean,
        standard_deviation=layer.standard_deviation,
        zero_reason=zero_reason,
        zero_count=layer.zero_count,
    )


def _parameters_to_proto(used: LinearityParameters) -> linearity_pb2.LinearityParameters:
    """The parameters as they were used, without sampling data and ranges."""
    wire = linearity_pb2.LinearityParameters(
        samples=used.samples,
        aggregation=linearity_pb2.Aggregation.Value(f"AGGREGATION_{used.aggregation.name}"),
        coefficients=used.coefficients,
        layers=explanation_pb2.LayerSelection(all=used.layers.everything, names=used.layers.names),
        output=used.output,
        model_type=linearity_pb2.ModelType.Value(f"MODEL_TYPE_{used.model_type.name}"),
        classifier_scale=linearity_pb2.ClassifierScale.Value(f"CLASSIFIER_SCALE_{used.classifier_scale.name}"),
        probability_floor=used.probability_floor,
        draws=linearity_pb2.RandomDraws(
            **{f.name: getattr(used.draws, f.name) for f in dataclass_fields(used.draws) if f.name != "generator"},
            generator=linearity_pb2.DrawGenerator.Value(f"DRAW_GENERATOR_{used.draws.generator.name}"),
        ),
        confidence_level=used.confidence_level,
    )
    if isinstance(used.sampling, GridSampling):
        grid = used.sampling
        wire.grid.CopyFrom(linearity_pb2.GridSampling(epsilon=grid.epsilon, resolution=grid.resolution, clip=grid.clip))
    else:
        wire.knn.SetInParent()
    return wire
