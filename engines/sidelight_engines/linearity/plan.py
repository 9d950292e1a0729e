"""Checks a request against the model and works out what it means."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sidelight_engines.errors import InvalidField, MethodNotSupported
from sidelight_engines.graph.graph import Graph, Layer, TensorSpec
from sidelight_engines.linearity.parameters import (
    Aggregation,
    ClassifierScale,
    DrawGenerator,
    LinearityParameters,
    ModelType,
    RandomDraws,
)
from sidelight_engines.linearity.result import Notice
from sidelight_engines.linearity.targets import (
    ExactLogProbability,
    LogProbability,
    Scale,
    Target,
    as_is,
)
from sidelight_engines.runtime.runtime import Array

_METHOD = "linearity"
_FLOATS = ("float16", "float32", "float64")
_MOST_SAMPLES = 10_000
_MOST_INSTANCES = 2**63 - 1


@dataclass(frozen=True)
class Plan:
    """A checked request.

    Attributes:
        spec: the model's input.
        instances: in the input's type, (instances, features); a view if it can be.
        instance_shape: the shape of one instance.
        parameters: with output, model type and coefficients resolved.
        coefficients: float64, (samples,) for GLOBAL and (2,) for PAIRWISE.
        targets: the output first, then the layers.
        notices: what a reader of the result should know.
    """

    spec: TensorSpec
    instances: Array
    instance_shape: tuple[int, ...]
    parameters: LinearityParameters
    coefficients: Array
    targets: tuple[Target, ...]
    notices: tuple[Notice, ...]


def make_plan(graph: Graph, instances: Array, field: str, parameters: LinearityParameters) -> Plan:
    """Checks a request, all but the sampling data, and resolves it.

    Args:
        graph: the model.
        instances: (instances, ...), of the input's type.
        field: the request field that the instances came from.
        parameters: the request.

    Raises:
        MethodNotSupported: the model has not exactly one floating-point input, or no logits where they
            are asked for.
        InvalidField: a value is not one that may be given; UnknownLayer for the name of a layer.
    """
    spec = _only_input(graph)
    _check_instances(instances, spec, field)
    _check_limits(parameters)
    _check_draws(parameters.draws, len(instances))
    coefficients = _coefficients(parameters)
    _check_confidence(parameters)
    output = _output(graph, parameters.output)
    model_type, scale_of_output, tensors = _output_scale(graph, output, parameters)
    maker = graph.output_layers.get(output.name)
    affine_output = any(layer.name == maker and layer.affine for layer in graph.layers) and scale_of_output is as_is
    # Coefficients that do not sum to 1 do not keep an affine function's constant term.
    sums_to_one = abs(_affine_sum(parameters, coefficients) - 1) < 1e-12
    # Called as its author called it where the file tells: outputs are often just numbered.
    targets = [Target(maker or output.name, True, tensors, scale_of_output, affine_output and sums_to_one, "", True)]
    notices = []
    chosen, left_out = _chosen_layers(graph, output, maker, parameters)
    for layer, layer_field in chosen:
        required = not parameters.layers.everything
        affine = layer.affine and sums_to_one
        targets.append(Target(layer.name, False, (layer.tensor,), as_is, affine, layer_field, required))
    if left_out:
        notices.append(layers_left_out(left_out))
    if not sums_to_one:
        notices.append(
            Notice(
                "COEFFICIENTS_SUM",
                f"the coefficients sum to {_affine_sum(parameters, coefficients):.6g}, so even an affine model is not "
                "linear by this measure",
            )
        )
    resolved = replace(
        parameters,
        output=output.name,
        model_type=model_type,
        coefficients=tuple(float(a) for a in coefficients),
        draws=replace(parameters.draws, total_instances=parameters.draws.total_instances or len(instances)),
    )
    shape = tuple(int(length) for length in instances.shape[1:])
    flat = instances.reshape(len(instances), -1)
    return Plan(spec, flat, shape, resolved, coefficients, tuple(targets), tuple(notices))


def layers_left_out(names: Sequence[str]) -> Notice:
    """The notice that some of all layers were not measured."""
    return Notice(
        "LAYERS_LEFT_OUT",
        f"{len(names)} layers hold no row of numbers per instance and were not measured: {', '.join(names)}",
    )


def check_finite(values: Array, field: str, what: str) -> None:
    """Raises InvalidField if an array holds NaN or infinity, naming the first row that does."""
    finite = np.isfinite(values)
    if not finite.all():
        where = np.argwhere(~finite)[0].tolist()
        raise InvalidField(field, f"{what} hold NaN or infinity, first at {where}", "give finite numbers")


def _only_input(graph: Graph) -> TensorSpec:
    if len(graph.inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in graph.inputs)
        raise MethodNotSupported(_METHOD, f"it needs one input, but the model has {len(graph.inputs)}: {names}")
    spec = graph.inputs[0]
    if spec.dtype not in _FLOATS:
        raise MethodNotSupported(
            _METHOD,
            f"its input {spec.name!r} is {spec.dtype}, and samples around an instance need {', '.join(_FLOATS)}",
        )
    return spec


def _check_instances(instances: Array, spec: TensorSpec, field: str) -> None:
    wanted = tuple("any" if length is None else length for length in spec.shape[1:])
    if instances.dtype != np.dtype(spec.dtype):
        raise InvalidField(field, f"is {instances.dtype}, but the input takes {spec.dtype}", f"give {spec.dtype}")
    given = instances.shape
    fits = len(given) == len(spec.shape) and all(
        length is None or length == have for length, have in zip(spec.shape[1:], given[1:], strict=True)
    )
    if not fits or 0 in given[1:]:
        raise InvalidField(
            field, f"has shape {given}, but one instance is shaped {wanted}", f"give shape (instances, *{wanted})"
        )
    if len(instances) == 0:
        raise InvalidField(field, "holds no instance", "give at least one")
    check_finite(instances, field, "the instances")


def _check_limits(parameters: LinearityParameters) -> None:
    samples = parameters.samples
    if not 2 <= samples <= _MOST_SAMPLES:
        raise InvalidField("parameters.samples", f"is {samples}", f"give 2 to {_MOST_SAMPLES}")
    floor = parameters.probability_floor
    if not (math.isfinite(floor) and floor >= 0):
        raise InvalidField("parameters.probability_floor", f"is {floor}", "give a finite number of at least 0")


def _check_draws(draws: RandomDraws, instances: int) -> None:
    mersenne = draws.generator is DrawGenerator.MERSENNE_TWISTER
    largest = 2**32 - 1 if mersenne else 2**64 - 1
    path = "parameters.draws"
    if not 0 <= draws.seed <= largest:
        raise InvalidField(f"{path}.seed", f"is {draws.seed}", f"give 0 to {largest} for {draws.generator.name}")
    if not 0 <= draws.first_instance <= _MOST_INSTANCES - instances:
        raise InvalidField(f"{path}.first_instance", f"is {draws.first_instance}", "give a position of at least 0")
    if draws.total_instances < 0:
        raise InvalidField(f"{path}.total_instances", f"is {draws.total_instances}", "give at least 0")
    if draws.word_offset < 0:
        raise InvalidField(f"{path}.word_offset", f"is {draws.word_offset}", "give at least 0")
    if not mersenne:
        if draws.word_offset:
            raise InvalidField(
                f"{path}.word_offset", f"is {draws.word_offset}, which COUNTER has no use for", "leave it out"
            )
        return
    if draws.first_instance and not draws.total_instances:
        raise InvalidField(
            f"{path}.total_instances",
            f"is missing beside a first_instance of {draws.first_instance}",
            "give the length of the whole list, because its signs are drawn before its sizes",
        )
    end = draws.first_instance + instances
    if draws.total_instances and draws.total_instances < end:
        raise InvalidField(
            f"{path}.total_instances",
            f"is {draws.total_instances}, but these instances end at {end}",
            "give the length of the whole list",
        )


def _coefficients(parameters: LinearityParameters) -> Array:
    pairwise = parameters.aggregation is Aggregation.PAIRWISE
    wanted = 2 if pairwise else parameters.samples
    if not parameters.coefficients:
        return np.full(wanted, 1.0 / wanted)
    given = np.asarray(parameters.coefficients, np.float64)
    if given.shape != (wanted,):
        meaning = "for the instance and for a sample" if pairwise else "one per sample"
        raise InvalidField("parameters.coefficients", f"are {given.size}", f"give {wanted}, {meaning}, or none")
    if not np.isfinite(given).all():
        raise InvalidField("parameters.coefficients", "hold NaN or infinity", "give finite numbers")
    return given


def _affine_sum(parameters: LinearityParameters, coefficients: Array) -> float:
    return math.fsum(coefficients.tolist())


def _check_confidence(parameters: LinearityParameters) -> None:
    level = parameters.confidence_level
    if level is None:
        return
    path = "parameters.confidence_level"
    if not 0 < level < 1:
        raise InvalidField(path, f"is {level}", "give a level above 0 and below 1, such as 0.95")
    if parameters.aggregation is Aggregation.GLOBAL:
        if parameters.coefficients:
            raise InvalidField(
                path,
                "can not be used with coefficients of your own under GLOBAL",
                "leave the coefficients out, or use PAIRWISE",
            )
        if parameters.samples < 3:
            raise InvalidField(path, f"needs 3 samples under GLOBAL, not {parameters.samples}", "ask for more samples")


def _output(graph: Graph, name: str) -> TensorSpec:
    if not graph.outputs:
        raise MethodNotSupported(_METHOD, "it has no output of dense numbers")
    if not name:
        return graph.outputs[0]
    for spec in graph.outputs:
        if spec.name == name:
            return spec
    names = [spec.name for spec in graph.outputs]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:3]
    raise InvalidField("parameters.output", f"the model has no output {name!r}", f"it has {', '.join(near)}")


def _output_scale(
    graph: Graph, output: TensorSpec, parameters: LinearityParameters
) -> tuple[ModelType, Scale, tuple[str, ...]]:
    """The model type, and how and from which tensors the output is measured."""
    model_type = parameters.model_type
    exact = parameters.classifier_scale is ClassifierScale.EXACT_LOG_PROBABILITY
    head = graph.head_ops.get(output.name)
    if exact and model_type is ModelType.REGRESSOR:
        raise InvalidField("parameters.classifier_scale", "EXACT_LOG_PROBABILITY is not for regressors", "leave it out")
    if exact:
        logits = graph.logits.get(output.name)
        if head is None or logits is None:
            raise MethodNotSupported(
                "linearity on the scale EXACT_LOG_PROBABILITY",
                f"output {output.name!r} does not come from a softmax or sigmoid; measure LOG_PROBABILITY",
            )
        return ModelType.CLASSIFIER, ExactLogProbability(head, output.name), (logits, output.tensor)
    if model_type is ModelType.BY_GRAPH:
        model_type = ModelType.REGRESSOR if head is None else ModelType.CLASSIFIER
    if model_type is ModelType.REGRESSOR:
        return model_type, as_is, (output.tensor,)
    return model_type, LogProbability(parameters.probability_floor), (output.tensor,)


def _chosen_layers(
    graph: Graph, output: TensorSpec, maker: str | None, parameters: LinearityParameters
) -> tuple[list[tuple[Layer, str]], list[str]]:
    """The layers to measure beside the output with their request fields; and the names of those left out."""
    selection = parameters.layers
    path = "parameters.layers"
    if selection.everything and selection.names:
        raise InvalidField(
            f"{path}.names", f"are {len(selection.names)} although `all` is set", "give the names or `all`, not both"
        )
    if selection.everything:
        asked = [(layer, f"{path}.all") for layer in graph.layers]
    else:
        fields = [f"{path}.names[{position}]" for position in range(len(selection.names))]
        asked = [(graph.layer(name, field), field) for name, field in zip(selection.names, fields, strict=True)]
    chosen: dict[str, tuple[Layer, str]] = {}
    left_out = []
    for layer, field in asked:
        if layer.tensor == output.tensor or layer.name == maker:
            continue
        if layer.dtype not in ("string", "object") and layer.shape != ():
            chosen.setdefault(layer.name, (layer, field))
        elif selection.everything:
            left_out.append(layer.name)
        else:
            raise no_row_per_instance(layer.name, field, f"holds {layer.dtype} of shape {layer.shape}")
    return list(chosen.values()), left_out


def no_row_per_instance(name: str, field: str, problem: str) -> InvalidField:
    """The error that a named layer can not be measured."""
    return InvalidField(
        field, f"layer {name!r} {problem}, which is no row of numbers per instance", "leave this layer out"
    )
