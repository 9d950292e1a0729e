"""ExplainInfluence as a worker runs it."""

from __future__ import annotations

from collections.abc import Sequence

from sidelight.v1 import explanation_pb2, influence_pb2, model_pb2
from sidelight_engines.errors import InvalidField, MethodNotSupported
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.influence import (
    InfluenceParameters,
    InfluenceResult,
    Rows,
    check_request,
    explain_influence,
)
from sidelight_engines.pictures import (
    InfluenceDrawing,
    Picture,
    influence_curves,
    influence_heatmaps,
    influence_ranking,
)

from sidelight_service.convert.details import influence_support
from sidelight_service.convert.influence import (
    examples_from_proto,
    parameters_from_proto,
    result_to_proto,
    rows_from_proto,
)
from sidelight_service.convert.models import runtime_to_proto
from sidelight_service.convert.pictures import Rendering, picture_to_proto, rendering_from_proto
from sidelight_service.methods.context import MethodContext
from sidelight_service.methods.predictions import predicted_outputs


def explain(context: MethodContext, payload: bytes) -> bytes:
    """Tilts features and measures predictions and metrics.

    Args:
        context: the model, if the request names one, and all that is not in the request.
        payload: a serialized ExplainInfluenceRequest.

    Returns:
        A serialized ExplainInfluenceResponse.
    """
    request = influence_pb2.ExplainInfluenceRequest.FromString(payload)
    wire = request.parameters
    rendering = rendering_from_proto(request.render)
    parameters = parameters_from_proto(wire)
    predictions = rows_from_proto(wire, "predictions")
    if predictions is not None and wire.output:
        raise InvalidField("parameters.output", "is given although predictions are", "give one of the two")
    spec = _input_spec(context) if predictions is None else None
    examples, own_labels = examples_from_proto(request.instances, spec, context.selector().select)
    labels, groups = rows_from_proto(wire, "labels"), rows_from_proto(wire, "groups")
    if labels is not None and not parameters.metrics:
        raise InvalidField("parameters.labels", "are given, and no metrics that need them", "ask for metrics")
    if labels is None and parameters.metrics:
        labels = own_labels
    runtime, forward_rows = model_pb2.RUNTIME_UNSPECIFIED, 0
    if predictions is None:
        output = _output(context, wire.output)
        # Rather than after the model was run over everything.
        check_request(examples, parameters, labels, groups)
        predictions = _predict(context, examples, output)
        runtime, forward_rows = runtime_to_proto(context.model.native_runtime), len(predictions.values)
    result = explain_influence(
        examples,
        predictions,
        parameters,
        labels=labels,
        groups=groups,
        control=context.control,
        memory_bytes=context.chunk_bytes,
    )
    warnings = [explanation_pb2.Warning(code=notice.code, message=notice.message) for notice in result.warnings]
    provenance = context.provenance(runtime, forward_rows, warnings)
    response = result_to_proto(result, parameters, provenance)
    if rendering is not None:
        response.pictures.extend(picture_to_proto(picture) for picture in _draw(context, result, parameters, rendering))
    return response.SerializeToString()


def _input_spec(context: MethodContext) -> TensorSpec:
    support = influence_support(context.model)
    if not support.supported:
        raise MethodNotSupported("influence", support.reason)
    return context.model.graph.inputs[0]


def _output(context: MethodContext, name: str) -> TensorSpec:
    outputs = context.model.graph.outputs
    if not name:
        return outputs[0]
    for spec in outputs:
        if spec.name == name:
            return spec
    known = ", ".join(repr(spec.name) for spec in outputs)
    raise InvalidField("parameters.output", f"the model has no output {name!r}", f"name one of {known}")


def _predict(context: MethodContext, examples: Rows, output: TensorSpec) -> Rows:
    inputs = {context.model.graph.inputs[0].name: examples.values}
    limit = context.chunk_bytes
    values = predicted_outputs(context.model, inputs, output, context.control, context.chunk_bytes, limit)
    return Rows(values, f"output {output.name!r}")


def _draw(
    context: MethodContext, result: InfluenceResult, parameters: InfluenceParameters, rendering: Rendering
) -> Sequence[Picture]:
    drawing = InfluenceDrawing(
        model=context.name,
        features=result.features,
        feature_names=result.feature_names,
        example_shape=result.example_shape,
        aims=result.aims,
        absolute_targets=parameters.targets is not None,
        influences=result.influences,
        standard_errors=result.standard_errors,
        low=result.confidence_low,
        high=result.confidence_high,
        attained=result.attained,
        baseline=result.baseline_predictions,
        metric_names=[metric.value.replace("_", " ") for metric in result.metrics],
        performances=result.performances,
    )
    drawers = (influence_ranking, influence_curves)
    return [
        draw(drawing, file_format=rendering.format, width_pixels=rendering.width_pixels, dark=rendering.dark)
        for draw in ((influence_heatmaps, *drawers) if drawing.is_image else drawers)
    ]
