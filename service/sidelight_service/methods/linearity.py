"""ExplainLinearity as a worker runs it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sidelight.v1 import explanation_pb2, linearity_pb2
from sidelight_engines.errors import MethodNotSupported
from sidelight_engines.linearity import Chunking, LinearityResult, ZeroReason, measure_linearity
from sidelight_engines.pictures import Picture, linearity_by_layer
from sidelight_engines.runtime.runtime import RuntimeKind

from sidelight_service.convert.details import linearity_support
from sidelight_service.convert.instances import single_input
from sidelight_service.convert.linearity import enum_from_proto, parameters_from_proto, result_to_proto
from sidelight_service.convert.models import runtime_to_proto
from sidelight_service.convert.pictures import Rendering, picture_to_proto, rendering_from_proto
from sidelight_service.methods.context import MethodContext

_ZERO_WORDS = {ZeroReason.NONE: "", ZeroReason.AFFINE: "affine", ZeroReason.BELOW_NOISE_FLOOR: "below noise"}


def explain(context: MethodContext, payload: bytes) -> bytes:
    """Measures linearity.

    Args:
        context: the model and all that is not in the request.
        payload: a serialized ExplainLinearityRequest.

    Returns:
        A serialized ExplainLinearityResponse.
    """
    request = linearity_pb2.ExplainLinearityRequest.FromString(payload)
    model = context.model
    support = linearity_support(model)
    if not support.supported:
        raise MethodNotSupported("linearity", support.reason)
    rendering = rendering_from_proto(request.render)
    spec = model.graph.inputs[0]
    select = context.selector().select
    parameters = parameters_from_proto(request.parameters, spec, select)
    instances, field = single_input(request.instances, "instances", spec, select)
    runtime = model.runtime(_runtime(request.parameters))
    result = measure_linearity(
        model.graph,
        runtime,
        instances,
        parameters,
        context.control,
        instances_field=field,
        chunking=Chunking(memory_bytes=context.chunk_bytes),
    )
    warnings = [explanation_pb2.Warning(code=notice.code, message=notice.message) for notice in result.warnings]
    provenance = context.provenance(runtime_to_proto(runtime.kind), result.forward_rows, warnings)
    response = result_to_proto(result, provenance)
    response.effective_parameters.runtime = provenance.runtime
    if not request.parameters.coefficients:
        # The default says the same in one line of the contract as up to 10,000 equal numbers do.
        response.effective_parameters.ClearField("coefficients")
    if rendering is not None:
        response.pictures.append(picture_to_proto(_bar_chart(context, rendering, result)))
    return response.SerializeToString()


def _runtime(wire: linearity_pb2.LinearityParameters) -> RuntimeKind | None:
    descriptor = wire.DESCRIPTOR.fields_by_name["runtime"].enum_type
    kind = enum_from_proto(wire.runtime, "RUNTIME_", descriptor, RuntimeKind, "parameters.runtime")
    return None if kind is None else RuntimeKind(kind)


def _bar_chart(context: MethodContext, rendering: Rendering, result: LinearityResult) -> Picture:
    """The mean of each layer, in the order of evaluation as far as the result has it: the output last."""
    layers = [*result.layers[1:], result.layers[0]]
    bounds: dict[str, Any] = {
        end: None
        if getattr(layers[0], f"confidence_{end}") is None
        else [float(np.mean(getattr(layer, f"confidence_{end}"))) for layer in layers]
        for end in ("low", "high")
    }
    return linearity_by_layer(
        [layer.name for layer in layers],
        [layer.mean for layer in layers],
        output_index=len(layers) - 1,
        **bounds,
        zero_reasons=[_ZERO_WORDS[layer.zero_reason] for layer in layers],
        title=f"Linearity of {context.name} around {result.instance_count} instances",
        file_format=rendering.format,
        width_pixels=rendering.width_pixels,
        dark=rendering.dark,
    )
