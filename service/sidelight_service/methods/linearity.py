"""ExplainLinearity as a worker runs it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from google.protobuf.proto import parse_length_prefixed
from sidelight.v1 import explanation_pb2, linearity_pb2, reference_pb2
from sidelight_engines.errors import MethodNotSupported
from sidelight_engines.linearity import Chunking, LinearityParameters, measure_linearity
from sidelight_engines.linearity.plan import make_plan
from sidelight_engines.pictures import Picture, linearity_by_layer
from sidelight_engines.runtime.runtime import Array, Runtime, RuntimeKind

from sidelight_service.convert.details import linearity_support
from sidelight_service.convert.instances import single_input
from sidelight_service.convert.linearity import enum_from_proto, parameters_from_proto, result_to_proto
from sidelight_service.convert.models import runtime_to_proto
from sidelight_service.convert.pictures import Rendering, picture_to_proto, rendering_from_proto
from sidelight_service.methods.context import MethodContext

_ZERO_WORDS: dict[int, str] = {
    linearity_pb2.ZERO_REASON_UNSPECIFIED: "",
    linearity_pb2.ZERO_REASON_AFFINE: "affine",
    linearity_pb2.ZERO_REASON_BELOW_NOISE_FLOOR: "below noise",
}


def explain(context: MethodContext, payload: bytes) -> bytes:
    """Measures linearity.

    Args:
        context: the model and all that is not in the request.
        payload: a serialized ExplainLinearityRequest.

    Returns:
        A serialized ExplainLinearityResponse.
    """
    task = _Task.read(context, payload)
    result = measure_linearity(
        context.model.graph,
        task.runtime,
        task.instances,
        task.parameters,
        context.control,
        instances_field=task.field,
        chunking=Chunking(memory_bytes=context.chunk_bytes),
    )
    warnings = [explanation_pb2.Warning(code=notice.code, message=notice.message) for notice in result.warnings]
    provenance = context.provenance(runtime_to_proto(task.runtime.kind), result.forward_rows, warnings)
    response = result_to_proto(result, provenance)
    response.effective_parameters.runtime = provenance.runtime
    if not task.parameters.coefficients:
        # The default says the same in one line of the contract as up to 10,000 equal numbers do.
        response.effective_parameters.ClearField("coefficients")
    if task.rendering is not None:
        response.pictures.append(picture_to_proto(_bar_chart(context, task.rendering, response)))
    return response.SerializeToString()


def check(context: MethodContext, payload: bytes) -> bytes:
    """Refuses what `explain` would refuse before it computes, so that it is told of the whole list at once.

    Args:
        context: the model and all that is not in the request.
        payload: a serialized ExplainLinearityRequest.

    Returns:
        If the instances are selected from a reference set: a serialized ReferenceSelection of the same by their
        positions. Otherwise nothing.
    """
    task = _Task.read(context, payload)
    make_plan(context.model.graph, task.instances, task.field, task.parameters)
    instances = linearity_pb2.ExplainLinearityRequest.FromString(payload).instances
    if instances.WhichOneof("source") != "reference":
        return b""
    selected = context.selector().select(instances.reference, task.field)
    return reference_pb2.ReferenceSelection(
        reference=instances.reference.reference,
        digest=instances.reference.digest,
        indices=selected.positions.tolist(),
    ).SerializeToString()


def draw(context: MethodContext, payload: bytes) -> bytes:
    """Adds the picture to a response that was put together from parts.

    Args:
        context: the model and all that is not in the request.
        payload: RenderOptions and an ExplainLinearityResponse, each serialized behind its length.

    Returns:
        The serialized ExplainLinearityResponse.
    """
    stream = io.BytesIO(payload)
    options = parse_length_prefixed(explanation_pb2.RenderOptions, stream)
    response = parse_length_prefixed(linearity_pb2.ExplainLinearityResponse, stream)
    if options is None or response is None:
        raise ValueError("a message is missing; the front process sends both")
    rendering = rendering_from_proto(options)
    if rendering is not None:
        response.pictures.append(picture_to_proto(_bar_chart(context, rendering, response)))
    return response.SerializeToString()


@dataclass(frozen=True)
class _Task:
    """A request as the engine takes it."""

    instances: Array
    field: str
    parameters: LinearityParameters
    runtime: Runtime
    rendering: Rendering | None

    @classmethod
    def read(cls, context: MethodContext, payload: bytes) -> Self:
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
        return cls(instances, field, parameters, model.runtime(_runtime(request.parameters)), rendering)


def _runtime(wire: linearity_pb2.LinearityParameters) -> RuntimeKind | None:
    descriptor = wire.DESCRIPTOR.fields_by_name["runtime"].enum_type
    kind = enum_from_proto(wire.runtime, "RUNTIME_", descriptor, RuntimeKind, "parameters.runtime")
    return None if kind is None else RuntimeKind(kind)


def _bar_chart(
    context: MethodContext, rendering: Rendering, response: linearity_pb2.ExplainLinearityResponse
) -> Picture:
    """The mean of each layer, in the order of evaluation as far as the result has it: the output last."""
    layers = [*response.layers[1:], response.layers[0]]
    bounds: dict[str, Any] = {
        end: [float(np.mean(values)) for values in columns] if all(columns) else None
        for end in ("low", "high")
        for columns in [[getattr(layer, f"confidence_{end}") for layer in layers]]
    }
    return linearity_by_layer(
        [layer.layer for layer in layers],
        [layer.mean for layer in layers],
        output_index=len(layers) - 1,
        **bounds,
        zero_reasons=[_ZERO_WORDS[layer.zero_reason] for layer in layers],
        title=f"Linearity of {context.name} around {response.instance_count} instances",
        file_format=rendering.format,
        width_pixels=rendering.width_pixels,
        dark=rendering.dark,
    )
