"""Finds the softmax or sigmoid that a model ends in, and the logits that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidelight_engines.graph.step import Step

_HEADS = frozenset({"Sigmoid", "Softmax"})

# What passes values on as they are.
_PASSES = frozenset({"EnsureShape", "Flatten", "Identity", "Reshape", "Squeeze", "StopGradient", "Unsqueeze"})


@dataclass(frozen=True)
class Head:
    """The function that an output ends in.

    Attributes:
        op: ``Softmax`` or ``Sigmoid``.
        logits: the tensor that it reads; None where one operation computes both.
    """

    op: str
    logits: str | None


def find_head(tensor: str, makers: Mapping[str, Step]) -> Head | None:
    """Walks back from an output to its softmax or sigmoid.

    Args:
        tensor: the output's tensor.
        makers: tensor name -> the step that makes it.

    Returns:
        The head; None if the output does not end in one.
    """
    step = makers.get(tensor)
    while step is not None and (step.op in _PASSES or _casts_to_float(step)):
        tensor = step.inputs[0]
        step = makers.get(tensor)
    if step is None:
        return None
    if step.op in _HEADS:
        return Head(step.op, step.inputs[0])
    return _fused_head(step, tensor, makers)


def _fused_head(step: Step, tensor: str, makers: Mapping[str, Step]) -> Head | None:
    """The head inside a linear classifier of scikit-learn, as skl2onnx writes it."""
    normalised = step.op == "Normalizer"
    if normalised:
        before = makers.get(step.inputs[0])
        if before is None:
            return None
        step = before
    if step.op != "LinearClassifier" or tensor == step.outputs[0]:
        # The first output is the label.
        return None
    transform = step.attributes.get("post_transform", "NONE")
    # For more than two classes skl2onnx makes each row sum to one behind the classifier. For two classes the
    # classifier gives a column for each, the sigmoid and what it lacks to one: a distribution either way.
    if normalised or transform in ("SOFTMAX", "LOGISTIC"):
        return Head("Softmax", None)
    return None


def _casts_to_float(step: Step) -> bool:
    if step.op != "Cast":
        return False
    known = step.types.get(step.outputs[0])
    return known is not None and known.dtype.startswith(("float", "bfloat"))
