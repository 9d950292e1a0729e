"""What `Client.activation_pattern` takes, and how it is written into a request.

A field is sent only when the caller gave it, so each default is stated once: by the server.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar, get_type_hints

from numpy.typing import ArrayLike

from sidelight.arrays import Inputs, to_array, to_tensor
from sidelight.errors import InvalidArgument
from sidelight.linearity_options import instances
from sidelight.selection import ReferenceSelection, parse_model
from sidelight.v1 import activation_pattern_pb2, explanation_pb2, reference_pb2
from sidelight.words import choose

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Room for names, shapes and framing beside the bytes of the arrays.
_ENVELOPE_BYTES = 16 * 1024


class ActivationPatternOptions(TypedDict, total=False):
    """The options of `Client.activation_pattern`, which describes them; None is the same as not given."""

    layers: str | Sequence[str] | None
    labels: ArrayLike | None
    by_prediction: bool | None
    threshold: float | None
    quantile: float | None
    pooling: str | None
    divisor: float | None
    distances: str | Sequence[str] | None
    specific_units: int | None
    output: str | None
    picture: str | None
    picture_width: int | None
    picture_dark: bool | None
    picture_instances: int | None


def shows_activation_pattern_options(function: _Function) -> _Function:
    """Puts the options in the place of ``**options`` in a function's signature, for help() and editors."""
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in get_type_hints(ActivationPatternOptions).items()
    ]
    vars(function)["__signature__"] = signature.replace(parameters=kept + options)
    return function


def activation_pattern_request(
    model: str, x: Inputs | ReferenceSelection, options: ActivationPatternOptions, max_message_bytes: int
) -> activation_pattern_pb2.ExplainActivationPatternRequest:
    """Writes the request.

    Raises:
        InvalidArgument: a value can not be sent.
        TypeError: an option that does not exist.
    """
    unknown = options.keys() - ActivationPatternOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"activation_pattern() got an unexpected keyword argument {min(unknown)!r}")
    parameters = activation_pattern_pb2.ActivationPatternParameters(
        divisor=options.get("divisor") or 0.0,
        specific_units=options.get("specific_units"),
        output=options.get("output") or "",
    )
    _write_layers(parameters, options.get("layers"))
    _write_threshold(parameters, options)
    if (pooling := options.get("pooling")) is not None:
        parameters.pooling = choose(activation_pattern_pb2.UnitPooling.DESCRIPTOR, pooling, "pooling")
    if (by_prediction := options.get("by_prediction")) is not None:
        parameters.class_source = (
            reference_pb2.CLASS_SOURCE_PREDICTION if by_prediction else reference_pb2.CLASS_SOURCE_LABEL
        )
    if (labels := options.get("labels")) is not None:
        parameters.labels.CopyFrom(to_tensor(to_array(labels, "labels"), "labels"))
    distances = options.get("distances") or ()
    for distance in [distances] if isinstance(distances, str) else distances:
        parameters.distances.append(choose(activation_pattern_pb2.PatternDistance.DESCRIPTOR, distance, "a distance"))
    request = activation_pattern_pb2.ExplainActivationPatternRequest(model=parse_model(model), parameters=parameters)
    request.instances.CopyFrom(instances(x, "x"))
    if options.get("picture") is not None:
        _write_render(request.render, options)
    size = request.ByteSize()
    if size + _ENVELOPE_BYTES > max_message_bytes:
        raise InvalidArgument(
            f"the examples take {size} bytes, where a message may have {max_message_bytes}; put them in a reference "
            "set with create_reference and give ReferenceSelection(name), or raise max_message_bytes here and on the "
            "server"
        )
    return request


def _write_layers(
    parameters: activation_pattern_pb2.ActivationPatternParameters, layers: str | Sequence[str] | None
) -> None:
    if not layers:
        raise InvalidArgument('layers is not given; name layers that client.model(...) lists, or give "all"')
    if layers == "all":
        parameters.layers.all = True
    elif isinstance(layers, str):
        parameters.layers.names.append(layers)
    else:
        parameters.layers.names.extend(layers)


def _write_threshold(
    parameters: activation_pattern_pb2.ActivationPatternParameters, options: ActivationPatternOptions
) -> None:
    threshold, quantile = options.get("threshold"), options.get("quantile")
    if threshold is not None and quantile is not None:
        raise InvalidArgument("threshold and quantile exclude each other; give one of them")
    if threshold is not None:
        parameters.value = threshold
    if quantile is not None:
        parameters.quantile = quantile


def _write_render(render: explanation_pb2.RenderOptions, options: ActivationPatternOptions) -> None:
    render.format = choose(explanation_pb2.PictureFormat.DESCRIPTOR, options.get("picture") or "", "picture")
    if (width := options.get("picture_width")) is not None:
        render.width_pixels = width
    if (dark := options.get("picture_dark")) is not None:
        render.dark = dark
    if (shown := options.get("picture_instances")) is not None:
        render.max_instances = shown
