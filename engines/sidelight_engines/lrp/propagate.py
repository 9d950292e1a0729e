"""Layer-wise relevance propagation with a conservation ledger, and gradient methods through the same graph."""

from __future__ import annotations

from collections.abc import Mapping

from sidelight_engines.control import Control
from sidelight_engines.errors import MethodNotSupported
from sidelight_engines.lrp.parameters import Chunking, LrpParameters
from sidelight_engines.lrp.result import LrpResult
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
        MethodNotSupported: the model has no floating-point output, or nothing that LRP could start from.
        UnsupportedOp: an operation has no entry in the table and no fallback was asked for, or the model has
            operations without a TensorFlow form.
        GradientCheckFailed: the TensorFlow form of the model disagrees with ONNX Runtime.
        InvalidField: a value is not one that may be given; the error names the field.
        NonFiniteOutput: the model gave NaN or infinity.
        MemoryLimitExceeded: one instance takes more memory than is granted.
        Stopped: `control` asked for it.
    """
    raise MethodNotSupported("layer-wise relevance propagation", "it is not in place yet")
