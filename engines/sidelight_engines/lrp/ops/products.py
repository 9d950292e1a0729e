"""Products of tensors that both depend on the inputs, and by constants."""

from __future__ import annotations

from typing import Any

from sidelight_engines.lrp.ops.registry import entry
from sidelight_engines.lrp.ops.sums import reduced
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.lrp.walk.node import Contributions, Node

_BOUNDED = frozenset({"Sigmoid", "Softmax"})
_PASSES = frozenset(
    {"Add", "AddV2", "BroadcastTo", "Cast", "ClipByValue", "ExpandDims", "Identity", "Maximum", "Minimum", "Mul"}
    | {"RealDiv", "Reshape", "Squeeze", "StopGradient", "Sub", "Tile", "Transpose"}
)


@entry("Mul")
def multiply(node: Node) -> Contributions:
    """By a constant: passes. By a gate: all to the signal. Else half to each operand (Achtibat et al. 2024)."""
    tensors = [tensor for tensor in node.op.inputs if node.view.carries(tensor)]
    if len(tensors) == 1:
        node.apply("pass")
        return [(tensors[0], reduced(node, node.relevance, tensors[0]))]
    if tensors[0] is tensors[1]:
        node.apply("pass")
        return [(tensors[0], node.relevance)]
    gates = [is_gate(tensor, node.view) for tensor in tensors]
    if gates[0] != gates[1]:
        signal = tensors[1] if gates[0] else tensors[0]
        node.apply("signal_takes_all")
        return [(signal, reduced(node, node.relevance, signal))]
    node.apply("uniform")
    return [(tensor, reduced(node, node.relevance / 2, tensor)) for tensor in tensors]


@entry("Div", "RealDiv")
def divide(node: Node) -> Contributions:
    """All to what is divided; the divisor is a normaliser, not evidence."""
    numerator = node.op.inputs[0]
    if not node.view.carries(numerator):
        raise node.refusal("it divides a constant by what depends on the inputs")
    node.apply("pass")
    return [(numerator, reduced(node, node.relevance, numerator))]


@entry("Neg")
def negate(node: Node) -> Contributions:
    """Passes: the same evidence, with its sign turned and that of its weights."""
    node.apply("pass")
    return [(node.op.inputs[0], node.relevance)]


def is_gate(tensor: Any, view: GraphView) -> bool:
    """Whether a tensor says how much of another passes: a sigmoid, hard sigmoid or softmax, or one less it."""
    op = tensor.op
    for _ in range(12):
        if op.type in _BOUNDED or (op.type == "Relu6"):
            return True
        carried = [source for source in op.inputs if view.depends(source)]
        if op.type in ("Minimum", "ClipByValue") and len(carried) == 1:
            return True
        if op.type not in _PASSES or len(carried) != 1:
            return False
        op = carried[0].op
    return False
