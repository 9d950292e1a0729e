"""What `Client.linearity` takes, and how it is written into a request.

A field is sent only when the caller gave it, so each default is stated once: by the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidelight.arrays import Inputs, to_array, to_arrays, to_instances, to_tensor
from sidelight.errors import InvalidArgument
from sidelight.selection import ReferenceSelection, parse_model
from sidelight.signatures import shows
from sidelight.v1 import explanation_pb2, linearity_pb2, model_pb2, reference_pb2
from sidelight.words import choose


class LinearityOptions(TypedDict, total=False):
    """The options of `Client.linearity`, which describes them; None is the same as not given."""

    layers: str | Sequence[str] | None
    samples: int | None
    aggregate: str | None
    feature_range: Sequence[ArrayLike] | NDArray[Any] | None
    range_data: ArrayLike | ReferenceSelection | None
    neighbours: ArrayLike | ReferenceSelection | None
    epsilon: float | None
    resolution: int | None
    clip: bool | None
    coefficients: Sequence[float] | None
    output: str | None
    model_type: str | None
    classifier_scale: str | None
    probability_floor: float | None
    seed: int | None
    draws: str | None
    first_instance: int | None
    total_instances: int | None
    word_offset: int | None
    confidence: float | None
    runtime: str | None
    picture: str | None
    picture_width: int | None
    picture_dark: bool | None


shows_linearity_options = shows(LinearityOptions)


def linearity_request(model: str, options: LinearityOptions) -> linearity_pb2.ExplainLinearityRequest:
    """Writes everything but the instances.

    Raises:
        InvalidArgument: a value can not be sent, or no way to draw samples was given.
        TypeError: an option that does not exist.
    """
    unknown = options.keys() - LinearityOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"linearity() got an unexpected keyword argument {min(unknown)!r}")
    parameters = linearity_pb2.LinearityParameters(
        samples=options.get("samples"),
        coefficients=options.get("coefficients"),
        output=options.get("output") or "",
        probability_floor=options.get("probability_floor"),
        confidence_level=options.get("confidence"),
    )
    _write_sampling(parameters, options)
    _write_layers(parameters, options.get("layers"))
    _write_draws(parameters, options)
    if (aggregate := options.get("aggregate")) is not None:
        parameters.aggregation = choose(linearity_pb2.Aggregation.DESCRIPTOR, aggregate, "aggregate")
    if (kind := options.get("model_type")) is not None:
        parameters.model_type = choose(linearity_pb2.ModelType.DESCRIPTOR, kind, "model_type")
    if (scale := options.get("classifier_scale")) is not None:
        parameters.classifier_scale = choose(linearity_pb2.ClassifierScale.DESCRIPTOR, scale, "classifier_scale")
    if (runtime := options.get("runtime")) is not None:
        parameters.runtime = choose(model_pb2.Runtime.DESCRIPTOR, runtime, "runtime")
    request = linearity_pb2.ExplainLinearityRequest(model=parse_model(model), parameters=parameters)
    if (picture := options.get("picture")) is not None:
        request.render.format = choose(explanation_pb2.PictureFormat.DESCRIPTOR, picture, "picture")
        if (width := options.get("picture_width")) is not None:
            request.render.width_pixels = width
        if (dark := options.get("picture_dark")) is not None:
            request.render.dark = dark
    return request


def instances(value: Inputs | ReferenceSelection, what: str) -> reference_pb2.Instances:
    """Writes an array, or a selection of a reference set, as instances."""
    if isinstance(value, ReferenceSelection):
        return reference_pb2.Instances(reference=value.to_proto())
    return to_instances(to_arrays(value, what), what)


def _write_sampling(parameters: linearity_pb2.LinearityParameters, options: LinearityOptions) -> None:
    given = {name for name, value in options.items() if value is not None}
    ways = given & {"feature_range", "range_data", "neighbours"}
    if not ways:
        raise InvalidArgument(
            'what "near an instance" means is not said: give feature_range=(minimum, maximum), each one number for '
            "all features or an array of the shape of one instance; or range_data=, whose least and greatest values "
            "are taken; or neighbours=, data in which to look for the nearest"
        )
    if len(ways) > 1:
        raise InvalidArgument(f"{' and '.join(sorted(ways))} exclude each other; give one of them")
    neighbours = options.get("neighbours")
    if neighbours is not None:
        grid_only = sorted(given & {"epsilon", "resolution", "clip"})
        if grid_only:
            raise InvalidArgument(f"{', '.join(grid_only)} can not go with neighbours=: they shape a grid; drop them")
        parameters.knn.data.CopyFrom(instances(neighbours, "neighbours"))
        return
    parameters.grid.feature_range.CopyFrom(_feature_range(options))
    if (epsilon := options.get("epsilon")) is not None:
        parameters.grid.epsilon = epsilon
    if (resolution := options.get("resolution")) is not None:
        parameters.grid.resolution = resolution
    if (clip := options.get("clip")) is not None:
        parameters.grid.clip = clip


def _feature_range(options: LinearityOptions) -> linearity_pb2.FeatureRange:
    data = options.get("range_data")
    if isinstance(data, ReferenceSelection):
        return linearity_pb2.FeatureRange(data=instances(data, "range_data"))
    if data is not None:
        # Reduced here, so that the data may be larger than a message and does not travel with each call.
        (array,) = _single(data, "range_data")
        low, high = array.min(axis=0), array.max(axis=0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InvalidArgument("range_data holds NaN or infinity; leave out those instances")
        return _per_feature(low, high)
    pair = options.get("feature_range")
    if pair is None or len(pair) != 2 or (isinstance(pair, np.ndarray) and pair.ndim > 1):
        raise InvalidArgument(
            "feature_range is not a pair; give (minimum, maximum), each one number or an array of the shape of one "
            "instance"
        )
    low, high = to_array(pair[0], "feature_range[0]"), to_array(pair[1], "feature_range[1]")
    if low.ndim == high.ndim == 0:
        return linearity_pb2.FeatureRange(uniform=linearity_pb2.UniformRange(minimum=low.item(), maximum=high.item()))
    if low.shape != high.shape:
        raise InvalidArgument(
            f"feature_range has a minimum of shape {low.shape} and a maximum of shape {high.shape}; give two numbers, "
            "or two arrays of the shape of one instance"
        )
    return _per_feature(low, high)


def _single(data: ArrayLike, what: str) -> tuple[NDArray[Any]]:
    arrays = tuple(to_arrays(data, what).values())
    if len(arrays) != 1:
        raise InvalidArgument(f"{what} has {len(arrays)} inputs; a feature range is of one")
    array = arrays[0]
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
        raise InvalidArgument(f"{what} has the element type {array.dtype}; give numbers")
    return (array,)


def _per_feature(low: NDArray[Any], high: NDArray[Any]) -> linearity_pb2.FeatureRange:
    return linearity_pb2.FeatureRange(
        per_feature=linearity_pb2.PerFeatureRange(
            minimum=to_tensor(low, "the minimum of the feature range"),
            maximum=to_tensor(high, "the maximum of the feature range"),
        )
    )


def _write_layers(parameters: linearity_pb2.LinearityParameters, layers: str | Sequence[str] | None) -> None:
    if layers == "all":
        parameters.layers.all = True
    elif isinstance(layers, str):
        parameters.layers.names.append(layers)
    elif layers:
        parameters.layers.names.extend(layers)


def _write_draws(parameters: linearity_pb2.LinearityParameters, options: Mapping[str, Any]) -> None:
    for name in ("seed", "first_instance", "total_instances", "word_offset"):
        if (value := options.get(name)) is not None:
            if value < 0:
                raise InvalidArgument(f"{name} is {value}; give a whole number of at least 0")
            setattr(parameters.draws, name, value)
    if (draws := options.get("draws")) is not None:
        parameters.draws.generator = choose(linearity_pb2.DrawGenerator.DESCRIPTOR, draws, "draws")
