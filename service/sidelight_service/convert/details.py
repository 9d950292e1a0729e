"""An opened model to the ModelDetail that GetModel returns."""

from __future__ import annotations

from sidelight.v1 import model_pb2
from sidelight_engines.lrp import LrpSupport, lrp_support
from sidelight_engines.model import Model, Support
from sidelight_engines.runtime.gradient_check import CheckState, GradientCheck

from sidelight_service.convert.models import layer_to_proto, op_problem_to_proto, runtime_to_proto, spec_to_proto

_CHECK_STATES = {
    CheckState.PENDING: model_pb2.GradientCheck.STATE_PENDING,
    CheckState.PASSED: model_pb2.GradientCheck.STATE_PASSED,
    CheckState.FAILED: model_pb2.GradientCheck.STATE_FAILED,
    CheckState.NOT_NEEDED: model_pb2.GradientCheck.STATE_NOT_NEEDED,
}


def model_to_detail(model: Model) -> model_pb2.ModelDetail:
    """Everything that a worker knows of a model; name and version are the catalogue's to add."""
    graph = model.graph
    default_output = graph.outputs[0].name
    output_layer = graph.output_layers.get(default_output)
    lrp = lrp_support(graph)
    return model_pb2.ModelDetail(
        inputs=[spec_to_proto(spec) for spec in graph.inputs],
        outputs=[spec_to_proto(spec) for spec in graph.outputs],
        layers=[
            layer_to_proto(layer, is_output=layer.name == output_layer, lrp_supported=lrp.layers[layer.name])
            for layer in graph.layers
        ],
        parameter_count=graph.parameter_count,
        methods=_methods(model, lrp),
        gradient_check=_check_to_proto(model.gradient_check),
        producer=graph.producer,
        classifier=default_output in graph.head_ops,
    )


def _methods(model: Model, lrp: LrpSupport) -> list[model_pb2.MethodSupport]:
    return [
        _support(model_pb2.METHOD_LINEARITY, linearity_support(model)),
        _support(model_pb2.METHOD_SIMILARITY, similarity_support(model)),
        _support(model_pb2.METHOD_LRP, relevance_support(model, lrp)),
        _support(model_pb2.METHOD_ACTIVATION_PATTERN, activation_pattern_support(model)),
        _support(model_pb2.METHOD_INFLUENCE, influence_support(model)),
    ]


def linearity_support(model: Model) -> Support:
    """Whether linearity can be measured."""
    floating = [spec for spec in model.graph.inputs if spec.dtype.startswith("float")]
    if len(model.graph.inputs) == 1 and len(floating) == 1:
        return model.forward_support()
    listed = ", ".join(f"{spec.name} ({spec.dtype})" for spec in model.graph.inputs)
    return Support(model.native_runtime, f"it needs exactly one floating-point input; the model has {listed}")


def activation_pattern_support(model: Model) -> Support:
    """Whether activation patterns can be measured."""
    texts = [spec.name for spec in model.graph.inputs if spec.dtype == "string"]
    if texts:
        return Support(model.native_runtime, f"requests carry numbers alone, and input {texts[0]!r} takes text")
    return model.forward_support()


def influence_support(model: Model) -> Support:
    """Whether the model's own predictions can be explained by influence."""
    inputs = model.graph.inputs
    if len(inputs) == 1 and inputs[0].dtype.startswith(("float", "int", "uint", "bool")):
        return model.forward_support()
    listed = ", ".join(f"{spec.name} ({spec.dtype})" for spec in inputs)
    return Support(
        model.native_runtime,
        f"it needs exactly one numeric input; the model has {listed}; give predictions, and the features as one tensor",
    )


def similarity_support(model: Model) -> Support:
    """Whether gradients by the model's parameters can be compared."""
    support = model.gradient_support()
    if not support.supported:
        return support
    if model.graph.parameter_count == 0:
        return Support(support.runtime, "it has no parameters, by which gradients could be taken")
    texts = [spec.name for spec in model.graph.inputs if spec.dtype == "string"]
    if texts:
        return Support(support.runtime, f"its inputs {', '.join(texts)} are text, which reference sets do not hold")
    return support


def relevance_support(model: Model, lrp: LrpSupport) -> Support:
    """Whether relevance can be propagated without a fallback.

    Args:
        model: the model.
        lrp: what the table of operations says of it.
    """
    gradient = model.gradient_support()
    if not gradient.supported:
        return gradient
    if not any(spec.dtype.startswith("float") for spec in model.graph.outputs):
        return Support(gradient.runtime, "it has no floating-point output, from which relevance could start")
    return Support(gradient.runtime, lrp.reason, lrp.problems)


def _support(method: model_pb2.Method.ValueType, support: Support) -> model_pb2.MethodSupport:
    return model_pb2.MethodSupport(
        method=method,
        supported=support.supported,
        runtime=runtime_to_proto(support.runtime),
        reason=support.reason,
        unsupported_ops=[op_problem_to_proto(problem) for problem in support.problems],
    )


def _check_to_proto(check: GradientCheck) -> model_pb2.GradientCheck:
    return model_pb2.GradientCheck(
        state=_CHECK_STATES[check.state],
        max_absolute_error=check.max_absolute_error,
        max_relative_error=check.max_relative_error,
        tolerance=check.tolerance,
        probe_rows=check.probe_rows,
        message=check.message,
    )
