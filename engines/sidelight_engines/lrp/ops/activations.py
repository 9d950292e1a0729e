"""Activation functions: relevance passes them unchanged.

An activation is whatever is computed element by element from one tensor, in one operation or in many: a swish is a
product of x and sigmoid(x), a GELU is nine operations around Erf, and none of them moves relevance from one element to
another. So any region of element-by-element operations that reads one tensor alone is one activation.
"""

from __future__ import annotations

from typing import Any

from sidelight_engines.lrp.ops.registry import Pattern, entry, part_of_pattern, pattern
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.lrp.walk.node import Contributions, Node

SINGLE = ("Abs", "Elu", "Erf", "Exp", "LeakyRelu", "Relu", "Relu6", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh")
"""Activations that are one operation."""

_ELEMENTWISE = frozenset(
    {*SINGLE, "Add", "AddV2", "BiasAdd", "Cast", "ClipByValue", "Cosh", "Div", "Equal", "Greater", "GreaterEqual"}
    | {"Identity", "IdentityN", "Less", "LessEqual", "Log", "Log1p", "Maximum", "Minimum", "Mul", "Neg", "NotEqual"}
    | {"Pow", "RealDiv", "Reciprocal", "Rsqrt", "Select", "SelectV2", "Sign", "Sin", "Sinh", "Sqrt", "Square"}
    | {"Cos", "Erfc", "Expm1", "LogicalAnd", "LogicalNot", "LogicalOr", "StopGradient", "Sub", "Xdivy", "Floor"}
)

# More than any activation that is in use takes.
_LONGEST = 40


@entry(*SINGLE)
def activation(node: Node) -> Contributions:
    """Passes."""
    node.apply("pass")
    return [(node.op.inputs[0], node.relevance)]


@pattern(
    *("Add", "AddV2", "ClipByValue", "Div", "IdentityN", "Maximum", "Minimum", "Mul", "Neg", "Pow", "RealDiv"),
    *("Reciprocal", "Select", "SelectV2", "Sqrt", "Square", "Sub"),
)
def elementwise_region(op: Any, view: GraphView) -> Pattern | None:
    """An element-by-element function of one tensor that is more than a product with, or a sum of, constants."""
    if any(view.readers(tensor) for tensor in op.outputs[1:]):
        return None
    source = _source(op, view)
    if source is None or not _same_places(op, source):
        return None

    def hand_down(node: Node) -> Contributions:
        node.apply("pass")
        return [(source, node.relevance)]

    return Pattern((source,), hand_down)


part_of_pattern(*_ELEMENTWISE)


def _source(op: Any, view: GraphView) -> Any:
    """The one tensor that a region ending in `op` reads; None if there is none, or the region is affine."""
    frontier = _carried(op, view)
    taken, affine = 0, _affine(op, view)
    while len(frontier) > 1 or (affine and frontier):
        # The latest can not be behind any of the others.
        last = max(frontier.values(), key=lambda tensor: view.place[tensor.op.name])
        if last.op.type not in _ELEMENTWISE or len(last.op.inputs) == 0 or taken >= _LONGEST:
            return None
        if len(frontier) == 1:
            # A chain of sums and products with constants alone is no activation.
            return None
        affine = False
        del frontier[last.name]
        frontier.update(_carried(last.op, view))
        taken += 1
    return next(iter(frontier.values()), None)


def _carried(op: Any, view: GraphView) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in op.inputs if view.depends(tensor)}


def _affine(op: Any, view: GraphView) -> bool:
    """Whether an operation alone only adds, or multiplies by, constants."""
    one = sum(view.depends(tensor) for tensor in op.inputs) == 1
    divided = op.type in ("Div", "RealDiv") and not view.depends(op.inputs[0])
    return one and not divided and op.type in ("Add", "AddV2", "BiasAdd", "Div", "Mul", "Neg", "RealDiv", "Sub")


def _same_places(op: Any, source: Any) -> bool:
    """Whether what is made has the source's shape, so that no element was copied to others."""
    made, read = op.outputs[0].shape, source.shape
    return made.rank is not None and made.rank == read.rank and made.as_list()[1:] == read.as_list()[1:]
