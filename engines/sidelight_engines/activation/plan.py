"""Checks a request against the model and works out what it means."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sidelight_engines.activation.parameters import (
    Classes,
    LabelClasses,
    PatternParameters,
    PredictedClasses,
    QuantileThreshold,
    ValueThreshold,
)
from sidelight_engines.errors import InvalidField, MethodNotSupported
from sidelight_engines.graph.graph import Graph, Layer, TensorSpec
from sidelight_engines.notice import Notice
from sidelight_engines.runtime.runtime import Array

METHOD = "activation patterns"
_MOST_SPECIFIC_UNITS = 1000
# Operations whose every value is above 0: a threshold of 0 tells nothing of their units.
_POSITIVE = frozenset({"Exp", "Sigmoid", "Softmax", "Softplus"})
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class ObservedLayer:
    """A layer to observe.

    Attributes:
        layer: the layer.
        field: the request field that asks for it.
        required: whether it was asked for by name.
    """

    layer: Layer
    field: str
    required: bool


@dataclass(frozen=True)
class Plan:
    """A checked request.

    Attributes:
        inputs: input name -> (examples, ...), in the input's type; may be memory-mapped.
        fields: input name -> the request field that it came from.
        count: the number of examples.
        layers: what to observe.
        classes: int64, (examples,), the class of each example; None where the model says it.
        classes_field: the request field that the classes came from.
        output: where the model says it; None for labels.
        single_probability: whether that output, if it is a single number, is a probability.
        notices: what a reader of the result should know.
    """

    inputs: Mapping[str, Array]
    fields: Mapping[str, str]
    count: int
    layers: tuple[ObservedLayer, ...]
    classes: Array | None
    classes_field: str
    output: TensorSpec | None
    single_probability: bool
    notices: tuple[Notice, ...]


def make_plan(
    graph: Graph,
    inputs: Mapping[str, Array],
    fields: Mapping[str, str],
    classes: Classes,
    parameters: PatternParameters,
) -> Plan:
    """Checks a request and resolves it.

    Args:
        graph: the model.
        inputs: input name -> (examples, ...), of the input's type.
        fields: input name -> the request field that it came from.
        classes: how examples are grouped.
        parameters: the request.

    Raises:
        MethodNotSupported: the model takes text.
        InvalidField: a value is not one that may be given; UnknownLayer for the name of a layer.
    """
    for spec in graph.inputs:
        if spec.dtype == "string":
            raise MethodNotSupported(METHOD, f"its input {spec.name!r} takes text, which no request carries")
        _check_input(inputs[spec.name], spec, fields[spec.name])
    first = graph.inputs[0].name
    count = len(inputs[first])
    for spec in graph.inputs:
        if len(inputs[spec.name]) != count:
            raise InvalidField(
                fields[spec.name],
                f"holds {len(inputs[spec.name])} examples where {fields[first]} holds {count}",
                "give as many for every input",
            )
    _check_limits(parameters)
    output, labels = None, None
    if isinstance(classes, LabelClasses):
        labels = _checked_labels(classes, count)
    else:
        output = _output(graph, classes)
    layers, left_out = _chosen_layers(graph, parameters)
    notices = []
    if left_out:
        notices.append(layers_left_out(left_out))
    threshold = parameters.threshold
    positive = [observed.layer.name for observed in layers if observed.layer.op in _POSITIVE]
    if isinstance(threshold, ValueThreshold) and threshold.value <= 0 and positive:
        notices.append(
            Notice(
                "THRESHOLD_BELOW_RANGE",
                f"every value of layer {_listed(positive)} is above {threshold.value:g} by its operation, so all its "
                "units fire for every example; give a threshold within its range, or a quantile",
            )
        )
    return Plan(
        inputs=inputs,
        fields=fields,
        count=count,
        layers=tuple(layers),
        classes=labels,
        classes_field=classes.field if isinstance(classes, LabelClasses) else "parameters.class_source",
        output=output,
        single_probability=output is not None and output.name in graph.head_ops,
        notices=tuple(notices),
    )


def layers_left_out(names: list[str]) -> Notice:
    """Tells of layers that `all` includes and that can not be observed."""
    return Notice("LAYERS_LEFT_OUT", f"layer {_listed(names)} holds no row of numbers per example and was left out")


def no_row_per_example(observed: ObservedLayer, problem: str) -> InvalidField:
    """The error that a named layer can not be observed."""
    return InvalidField(
        observed.field,
        f"layer {observed.layer.name!r} {problem}, which is no row of numbers per example",
        "leave this layer out",
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def _check_input(array: Array, spec: TensorSpec, field: str) -> None:
    if array.dtype != np.dtype(spec.dtype):
        raise InvalidField(field, f"is {array.dtype}, but the input takes {spec.dtype}", f"give {spec.dtype}")
    wanted = tuple("any" if length is None else length for length in spec.shape[1:])
    fits = array.ndim == len(spec.shape) and all(
        length is None or length == have for length, have in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if not fits or 0 in array.shape[1:]:
        raise InvalidField(
            field, f"has shape {array.shape}, but one example is shaped {wanted}", f"give shape (examples, *{wanted})"
        )
    if len(array) == 0:
        raise InvalidField(field, "holds no example", "give at least one")


def _check_limits(parameters: PatternParameters) -> None:
    threshold = parameters.threshold
    if isinstance(threshold, QuantileThreshold):
        if not 0 <= threshold.quantile <= 1:
            raise InvalidField("parameters.quantile", f"is {threshold.quantile}", "give 0 to 1")
    elif not math.isfinite(threshold.value):
        raise InvalidField("parameters.value", f"is {threshold.value}", "give a finite number")
    if not (math.isfinite(parameters.divisor) and parameters.divisor >= 0):
        raise InvalidField(
            "parameters.divisor",
            f"is {parameters.divisor}",
            "give a number above 0, or 0 for the number of examples of the class",
        )
    if not 0 <= parameters.specific_units <= _MOST_SPECIFIC_UNITS:
        raise InvalidField(
            "parameters.specific_units", f"is {parameters.specific_units}", f"give 0 to {_MOST_SPECIFIC_UNITS}"
        )
    seen = set()
    for position, distance in enumerate(parameters.distances):
        if distance in seen:
            raise InvalidField(
                f"parameters.distances[{position}]", f"{distance.name} is given twice", "give each distance once"
            )
        seen.add(distance)


def _checked_labels(classes: LabelClasses, count: int) -> Array:
    values = classes.values
    if values.ndim != 1:
        raise InvalidField(
            classes.field, f"has shape {values.shape}", f"give one class index per example, of shape ({count},)"
        )
    if len(values) != count:
        raise InvalidField(classes.field, f"holds {len(values)} labels for {count} examples", "give one per example")
    if values.dtype.kind not in "iu":
        raise InvalidField(classes.field, f"is {values.dtype}", "give whole numbers")
    values = values.astype(np.int64, copy=False)
    if values.min() < 0:
        position = int(np.argmin(values))
        raise InvalidField(classes.field, f"label {position} is {values[position]}", "give class indices from 0")
    return values


def _output(graph: Graph, classes: PredictedClasses) -> TensorSpec:
    if not classes.output:
        return graph.outputs[0]
    for spec in graph.outputs:
        if spec.name == classes.output:
            return spec
    names = [spec.name for spec in graph.outputs]
    near = difflib.get_close_matches(classes.output, names, n=3, cutoff=0.5) or names[:3]
    raise InvalidField("parameters.output", f"the model has no output {classes.output!r}", f"it has {', '.join(near)}")


def _chosen_layers(graph: Graph, parameters: PatternParameters) -> tuple[list[ObservedLayer], list[str]]:
    """What to observe, and the names of layers that `all` includes and that hold no numbers."""
    selection = parameters.layers
    path = "parameters.layers"
    if selection.everything and selection.names:
        raise InvalidField(
            f"{path}.names", f"are {len(selection.names)} although `all` is set", "give the names or `all`, not both"
        )
    if not selection.everything and not selection.names:
        raise InvalidField(path, "selects no layer", "name layers that GetModel lists, or set `all`")
    if selection.everything:
        asked = [ObservedLayer(layer, f"{path}.all", required=False) for layer in graph.layers]
    else:
        fields = [f"{path}.names[{position}]" for position in range(len(selection.names))]
        asked = [
            ObservedLayer(graph.layer(name, field), field, required=True)
            for name, field in zip(selection.names, fields, strict=True)
        ]
    chosen: dict[str, ObservedLayer] = {}
    left_out = []
    for observed in asked:
        layer = observed.layer
        if layer.dtype not in ("string", "object") and layer.shape != ():
            chosen.setdefault(layer.name, observed)
        elif observed.required:
            raise no_row_per_example(observed, f"holds {layer.dtype} of shape {layer.shape}")
        else:
            left_out.append(layer.name)
    if not chosen:
        raise InvalidField(path, "leaves no layer that holds a row of numbers per example", "name other layers")
    return list(chosen.values()), left_out
