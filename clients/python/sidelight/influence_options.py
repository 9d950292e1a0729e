"""What `Client.influence` takes, and how it is written into a request.

A field is sent only when the caller gave it, so each default is stated once: by the server.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar, get_type_hints

from numpy.typing import ArrayLike

from sidelight.arrays import Inputs, to_array, to_arrays, to_instances, to_tensor
from sidelight.errors import InvalidArgument
from sidelight.selection import ReferenceSelection, parse_model
from sidelight.v1 import explanation_pb2, influence_pb2, reference_pb2
from sidelight.words import choose

_Function = TypeVar("_Function", bound=Callable[..., Any])

_QUANTILES = 2


class InfluenceOptions(TypedDict, total=False):
    """The options of `Client.influence`, which describes them; None is the same as not given."""

    labels: ArrayLike | None
    taus: Sequence[float] | None
    targets: Sequence[float] | None
    metrics: str | Sequence[str] | None
    groups: ArrayLike | None
    predictions: ArrayLike | None
    output: str | None
    features: Sequence[int] | None
    feature_names: Sequence[str] | None
    quantiles: Sequence[float] | None
    unattainable: str | None
    confidence: float | None
    ethik_compatible: bool | None
    picture: str | None
    picture_width: int | None
    picture_dark: bool | None


def shows_influence_options(function: _Function) -> _Function:
    """Puts the options in the place of ``**options`` in a function's signature, for help() and editors."""
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in get_type_hints(InfluenceOptions).items()
    ]
    vars(function)["__signature__"] = signature.replace(parameters=kept + options)
    return function


def influence_request(
    model: str | None,
    x: Inputs | ReferenceSelection | None,
    reference: str | ReferenceSelection | None,
    options: InfluenceOptions,
) -> influence_pb2.ExplainInfluenceRequest:
    """Writes a request.

    Raises:
        InvalidArgument: a value can not be sent, or there are no examples.
        TypeError: an option that does not exist.
    """
    unknown = options.keys() - InfluenceOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"influence() got an unexpected keyword argument {min(unknown)!r}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    parameters = influence_pb2.InfluenceParameters(
        taus=_numbers(given, "taus"),
        targets=_numbers(given, "targets"),
        features=_whole_numbers(given, "features"),
        feature_names=options.get("feature_names"),
        output=options.get("output") or "",
        confidence_level=options.get("confidence"),
        ethik_compatible=bool(options.get("ethik_compatible")),
    )
    for name in ("labels", "groups", "predictions"):
        if name in given:
            getattr(parameters, name).CopyFrom(to_tensor(to_array(given[name], name), name))
    if "quantiles" in given:
        pair = _numbers(given, "quantiles")
        if len(pair) != _QUANTILES:
            raise InvalidArgument(f"quantiles has {len(pair)} numbers; give two, such as (0.05, 0.95)")
        parameters.low_quantile, parameters.high_quantile = pair
    if (metrics := options.get("metrics")) is not None:
        words = [metrics] if isinstance(metrics, str) else metrics
        # With underscores too, as Python and other libraries spell them.
        names = [word.replace("_", "-") for word in words]
        parameters.metrics.extend(choose(influence_pb2.Metric.DESCRIPTOR, name, "a metric") for name in names)
    if (unattainable := options.get("unattainable")) is not None:
        parameters.unattainable = choose(influence_pb2.UnattainableTarget.DESCRIPTOR, unattainable, "unattainable")
    request = influence_pb2.ExplainInfluenceRequest(
        model=None if model is None else parse_model(model), instances=_instances(x, reference), parameters=parameters
    )
    if (picture := options.get("picture")) is not None:
        request.render.format = choose(explanation_pb2.PictureFormat.DESCRIPTOR, picture, "picture")
        if (width := options.get("picture_width")) is not None:
            request.render.width_pixels = width
        if (dark := options.get("picture_dark")) is not None:
            request.render.dark = dark
    if model is None and "predictions" not in given:
        raise InvalidArgument("neither a model nor predictions are given; give one of them")
    return request


def check_size(request: influence_pb2.ExplainInfluenceRequest, max_message_bytes: int) -> None:
    """Refuses a request that no message has room for: examples are weighed together, and can not be split.

    Raises:
        InvalidArgument: it is too large.
    """
    size = request.ByteSize()
    if size > max_message_bytes:
        raise InvalidArgument(
            f"the examples and the rest of the request take {size} bytes, where a message may have "
            f"{max_message_bytes}; upload them once with create_reference and give reference=, or raise "
            "max_message_bytes here and on the server"
        )


def _instances(
    x: Inputs | ReferenceSelection | None, reference: str | ReferenceSelection | None
) -> reference_pb2.Instances:
    if (x is None) == (reference is None):
        raise InvalidArgument("give the examples: either x=, an array, or reference=, a set of the server")
    if isinstance(reference, str):
        reference = ReferenceSelection(reference)
    for selected in (x, reference):
        if isinstance(selected, ReferenceSelection):
            return reference_pb2.Instances(reference=selected.to_proto())
    arrays: Any = x
    return to_instances(to_arrays(arrays, "x"), "x")


def _numbers(given: dict[str, Any], name: str) -> list[float]:
    values = given.get(name)
    if values is None:
        return []
    array = to_array(values, name)
    if array.ndim != 1 or array.dtype.kind not in "iuf" or not len(array):
        raise InvalidArgument(f"{name} is {values!r}; give a list of at least one number")
    return [float(value) for value in array]


def _whole_numbers(given: dict[str, Any], name: str) -> list[int]:
    numbers = _numbers(given, name)
    if any(number != int(number) for number in numbers):
        raise InvalidArgument(f"{name} holds numbers that are not whole; give flat positions in an example")
    return [int(number) for number in numbers]
