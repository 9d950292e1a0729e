"""ExplainActivationPattern as a worker runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sidelight.v1 import activation_pattern_pb2, explanation_pb2
from sidelight_engines.activation import Chunking, LayerPattern, PatternResult, measure_activation_patterns
from sidelight_engines.errors import InvalidField, MethodNotSupported
from sidelight_engines.pictures import Picture, class_neighbours, firing_rates, pattern_distances
from sidelight_engines.runtime.runtime import Array

from sidelight_service.convert.activation_pattern import classes_from_proto, parameters_from_proto, result_to_proto
from sidelight_service.convert.details import activation_pattern_support
from sidelight_service.convert.instances import all_inputs
from sidelight_service.convert.models import runtime_to_proto
from sidelight_service.convert.pictures import Rendering, picture_to_proto, rendering_from_proto
from sidelight_service.methods.context import MethodContext

# Each layer takes a picture of its rates, one per distance and a grid: tenths of a second.
_MOST_DRAWN_LAYERS = 16


def explain(context: MethodContext, payload: bytes) -> bytes:
    """Measures activation patterns.

    Args:
        context: the model and all that is not in the request.
        payload: a serialized ExplainActivationPatternRequest.

    Returns:
        A serialized ExplainActivationPatternResponse.
    """
    request = activation_pattern_pb2.ExplainActivationPatternRequest.FromString(payload)
    model = context.model
    support = activation_pattern_support(model)
    if not support.supported:
        raise MethodNotSupported("activation patterns", support.reason)
    rendering = rendering_from_proto(request.render)
    parameters = parameters_from_proto(request.parameters)
    layers = parameters.layers
    if rendering is not None:
        drawn = len(model.graph.layers) if layers.everything else len(set(layers.names))
        if drawn > _MOST_DRAWN_LAYERS:
            raise InvalidField(
                "render.format",
                f"asks for pictures of {drawn} layers",
                f"select at most {_MOST_DRAWN_LAYERS} layers, or leave the pictures out",
            )
    inputs, fields, selected = all_inputs(request.instances, "instances", model.graph.inputs, context.selector().select)
    runtime = model.runtime()
    result = measure_activation_patterns(
        model.graph,
        runtime,
        inputs,
        classes_from_proto(request.parameters, selected),
        parameters,
        context.control,
        fields=fields,
        chunking=Chunking(memory_bytes=context.chunk_bytes),
    )
    warnings = [explanation_pb2.Warning(code=notice.code, message=notice.message) for notice in result.warnings]
    provenance = context.provenance(runtime_to_proto(runtime.kind), result.forward_rows, warnings)
    response = result_to_proto(result, selected, provenance)
    if rendering is not None:
        for picture in _pictures(context, rendering, result, inputs):
            context.control.checkpoint()
            response.pictures.append(picture_to_proto(picture))
    return response.SerializeToString()


def _pictures(
    context: MethodContext, rendering: Rendering, result: PatternResult, inputs: Mapping[str, Array]
) -> Iterator[Picture]:
    examples = _examples(inputs, result)
    for layer in result.layers:
        yield from _layer_pictures(context, rendering, result, layer, examples)


def _layer_pictures(
    context: MethodContext, rendering: Rendering, result: PatternResult, layer: LayerPattern, examples: Array | None
) -> Iterator[Picture]:
    classes = result.classes.tolist()
    yield firing_rates(
        layer.firing_rates,
        classes,
        layer=layer.name,
        title=f"Firing rates at {layer.name} of {context.name}",
        file_format=rendering.format,
        width_pixels=rendering.width_pixels,
        dark=rendering.dark,
    )
    for matrix in layer.distances:
        named = matrix.distance.name.lower().replace("_", " ")
        yield pattern_distances(
            matrix.values,
            classes,
            layer=layer.name,
            distance="CKA" if named == "cka" else named,
            title=f"Distance of classes at {layer.name} of {context.name}",
            file_format=rendering.format,
            width_pixels=rendering.width_pixels,
            dark=rendering.dark,
        )
    yield class_neighbours(
        layer.distances[0].neighbours,
        classes,
        examples,
        layer=layer.name,
        title=f"Each class and its neighbours at {layer.name} of {context.name}",
        most_classes=rendering.max_instances,
        file_format=rendering.format,
        width_pixels=rendering.width_pixels,
        dark=rendering.dark,
    )


def _examples(inputs: Mapping[str, Array], result: PatternResult) -> Array | None:
    """An example of each class; None where the model has several inputs, of which none stands for the example."""
    if len(inputs) != 1:
        return None
    (array,) = inputs.values()
    found: Array = array[result.class_examples]
    return found
