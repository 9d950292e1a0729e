"""ExplainLrp as a worker runs it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Self

from google.protobuf.proto import parse_length_prefixed
from sidelight.v1 import explanation_pb2, lrp_pb2, model_pb2, reference_pb2
from sidelight_engines.errors import InvalidField, MemoryLimitExceeded, MethodNotSupported
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.lrp import Chunking, Classes, GivenRelevance, LrpParameters, propagate_relevance
from sidelight_engines.lrp.request.resolved import make_request
from sidelight_engines.lrp.request.validation import check_parameters
from sidelight_engines.lrp.structure.prepared import find_output, prepare
from sidelight_engines.runtime.runtime import Array

from sidelight_service.convert.instances import all_inputs
from sidelight_service.convert.lrp import parameters_from_proto
from sidelight_service.convert.lrp_results import result_to_proto
from sidelight_service.convert.pictures import Rendering, picture_to_proto, rendering_from_proto
from sidelight_service.methods.context import MethodContext
from sidelight_service.methods.lrp_pictures import draw_pictures
from sidelight_service.references.fit import check_shape

_INSTANCES = "instances"
_BYTES_PER_NUMBER = 4


def explain(context: MethodContext, payload: bytes) -> bytes:
    """Propagates relevance.

    Args:
        context: the model and all that is not in the request.
        payload: a serialized ExplainLrpRequest.

    Returns:
        A serialized ExplainLrpResponse.
    """
    task = _Task.read(context, payload)
    result = propagate_relevance(
        context.model,
        task.inputs,
        task.parameters,
        context.control,
        instances_field=task.field,
        chunking=Chunking(memory_bytes=context.chunk_bytes),
    )
    warnings = [explanation_pb2.Warning(code=notice.code, message=notice.message) for notice in result.warnings]
    provenance = context.provenance(model_pb2.RUNTIME_TENSORFLOW, result.forward_rows, warnings)
    response = result_to_proto(result, provenance)
    if task.rendering is not None:
        pictures = draw_pictures(context.name, task.inputs, response, task.rendering)
        response.pictures.extend(picture_to_proto(picture) for picture in pictures)
    return response.SerializeToString()


def check(context: MethodContext, payload: bytes) -> bytes:
    """Refuses what `explain` would refuse of the request before its slices are run, and tells its units.

    Args:
        context: the model and all that is not in the request.
        payload: a serialized ExplainLrpRequest.

    Returns:
        If the instances are selected from a reference set: a serialized ReferenceSelection of the same by their
        positions. Otherwise nothing.
    """
    task = _Task.read(context, payload)
    check_parameters(task.parameters)
    output = find_output(context.model.graph, task.parameters.target.output)
    prepared = prepare(context.model, output, task.inputs, task.parameters.method)
    make_request(context.model, prepared, task.inputs, task.parameters, task.field)
    instances = lrp_pb2.ExplainLrpRequest.FromString(payload).instances
    if instances.WhichOneof("source") != "reference":
        return b""
    selected = context.selector().select(instances.reference, task.field)
    return reference_pb2.ReferenceSelection(
        reference=instances.reference.reference,
        digest=instances.reference.digest,
        indices=selected.positions.tolist(),
    ).SerializeToString()


def draw(context: MethodContext, payload: bytes) -> bytes:
    """Adds the pictures to a response that was put together from parts.

    Args:
        context: the model and all that is not in the request.
        payload: an ExplainLrpRequest with the instances that may be drawn and an ExplainLrpResponse to all, each
            serialized behind its length.

    Returns:
        The serialized ExplainLrpResponse.
    """
    stream = io.BytesIO(payload)
    request = parse_length_prefixed(lrp_pb2.ExplainLrpRequest, stream)
    response = parse_length_prefixed(lrp_pb2.ExplainLrpResponse, stream)
    if request is None or response is None:
        raise ValueError("a message is missing; the front process sends both")
    rendering = rendering_from_proto(request.render)
    if rendering is not None:
        inputs, _ = _read_inputs(context, request.instances)
        pictures = draw_pictures(context.name, inputs, response, rendering)
        response.pictures.extend(picture_to_proto(picture) for picture in pictures)
    return response.SerializeToString()


@dataclass(frozen=True)
class _Task:
    """A request as the engine takes it."""

    inputs: dict[str, Array]
    field: str
    parameters: LrpParameters
    rendering: Rendering | None

    @classmethod
    def read(cls, context: MethodContext, payload: bytes) -> Self:
        request = lrp_pb2.ExplainLrpRequest.FromString(payload)
        support = context.model.gradient_support()
        if not support.supported and not support.problems:
            raise MethodNotSupported("layer-wise relevance propagation", support.reason)
        rendering = rendering_from_proto(request.render)
        parameters = parameters_from_proto(request.parameters)
        inputs, field = _read_inputs(context, request.instances)
        _check_size(context, inputs, parameters)
        return cls(inputs, field, parameters, rendering)


def _check_size(context: MethodContext, inputs: dict[str, Array], parameters: LrpParameters) -> None:
    """Refuses a result that would be larger than what a worker is granted, as far as the file tells the shapes."""
    graph, what = context.model.graph, parameters.target.what
    rows = len(next(iter(inputs.values())))
    if isinstance(what, Classes):
        targets = len(set(what.indices))
    else:
        targets = what.values.shape[1] if isinstance(what, GivenRelevance) and what.values.ndim > 2 else 1
    chosen = parameters.layers
    layers = graph.layers if chosen.everything else [layer for layer in graph.layers if layer.name in chosen.names]
    numbers = sum(math.prod(array.shape[1:]) for array in inputs.values())
    numbers += sum(math.prod(length or 1 for length in layer.shape[1:]) for layer in layers if layer.shape)
    needed = rows * targets * numbers * _BYTES_PER_NUMBER
    if needed > context.chunk_bytes:
        raise MemoryLimitExceeded(needed, context.chunk_bytes, "ask for fewer instances, classes or layers at a time")


def _read_inputs(context: MethodContext, wire: reference_pb2.Instances) -> tuple[dict[str, Array], str]:
    """The instances by input name, and the path of what they came in."""
    specs = context.model.graph.inputs
    inputs, fields, selected = all_inputs(wire, _INSTANCES, specs, context.selector().select)
    if selected is not None:
        return inputs, f"{_INSTANCES}.reference"
    _check_fit(inputs, specs, fields)
    return inputs, f"{_INSTANCES}.inline.inputs"


def _check_fit(inputs: dict[str, Array], specs: tuple[TensorSpec, ...], fields: dict[str, str]) -> None:
    """Checks shapes and lengths while it is known which tensor of the request an input came in."""
    rows = None
    for spec in specs:
        array = inputs[spec.name]
        path = fields[spec.name]
        if array.ndim == 0 or len(array) == 0:
            raise InvalidField(path, "holds no instance", "give an array whose first axis is the batch")
        check_shape(array.shape[1:], spec, path, "the model")
        if rows is not None and len(array) != rows:
            raise InvalidField(path, f"has {len(array)} instances where another has {rows}", "give as many of each")
        rows = len(array)
