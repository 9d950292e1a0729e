"""Layer-wise relevance propagation with a conservation ledger, and gradient methods through the same graph.

Relevance starts at what is explained and is handed down, operation by operation, to the inputs; the rules are in
`rules`, the table of operations in `ops`. What does not arrive is booked in the ledger: it closes up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

from sidelight_engines.control import Control
from sidelight_engines.lrp.gradients.methods import attribute_by_gradients
from sidelight_engines.lrp.parameters import Chunking, GradientMethod, LrpParameters
from sidelight_engines.lrp.quality.checks import with_quality
from sidelight_engines.lrp.request.resolved import make_request
from sidelight_engines.lrp.request.validation import check_parameters
from sidelight_engines.lrp.result import LrpResult
from sidelight_engines.lrp.running.passes import RelevancePasses
from sidelight_engines.lrp.structure.prepared import find_output, prepare
from sidelight_engines.model import Model
from sidelight_engines.runtime.runtime import Array

_UNWATCHED = Control()
_CHUNKING = Chunking()


def propagate_relevance(
    model: Model,
    inputs: Mapping[str, Array],
    parameters: LrpParameters,
    control: Control = _UNWATCHED,
    *,
    instances_field: str = "instances.inline.inputs",
    chunking: Chunking = _CHUNKING,
) -> LrpResult:
    """Finds which inputs carried the evidence for an output.

    Args:
        model: the model.
        inputs: input name -> (n, ...), the same n of at least 1 in all, finite.
        parameters: how relevance is propagated.
        control: asked for a stop before every pass, told of progress in instances.
        instances_field: the request field that the instances came from, for errors.
        chunking: how the work is cut into passes. No result depends on it but by rounding.

    Returns:
        The relevance at the inputs and at the layers asked for, and the ledger.

    Raises:
        MethodNotSupported: the explained output is not of floating-point numbers or depends on no input, or the
            instances are not its first axis.
        UnsupportedOp: an operation has no entry in the table and no fallback was asked for, or the model has
            operations without a TensorFlow form.
        GradientCheckFailed: the TensorFlow form of the model disagrees with ONNX Runtime.
        InvalidField: a value is not one that may be given; the error names the field.
        NonFiniteOutput: the model gave NaN or infinity.
        NonFiniteRelevance: relevance overflowed.
        MemoryLimitExceeded: one instance takes more memory than is granted.
        Stopped: `control` asked for it.
    """
    check_parameters(parameters)
    output = find_output(model.graph, parameters.target.output)
    prepared = prepare(model, output, inputs, parameters.method)
    request = make_request(model, prepared, inputs, parameters, instances_field)
    if isinstance(parameters.method, GradientMethod):
        result = attribute_by_gradients(model, request, control, chunking)
    else:
        result = RelevancePasses(model, request, control, chunking).run()
    return with_quality(model, request, result, control, chunking)
