"""Which constants of an ONNX model are learned numbers.

An ONNX file does not say which of its constants were trained, so the slot that a constant feeds decides:
the second input of Gemm is a weight, the second input of Reshape is a shape. A constant may reach its
slot through operations that only rearrange it (a Transpose in front of a MatMul).

Addition and multiplication have no weight slot of their own. A constant there counts as learned where the
other operand comes after some layer with weights, and

- for Add, a linear operation made that operand (the bias of a dense layer that was exported as MatMul and
  Add), or the constant has more than one element;
- for Mul, the constant has more than one element (a batch normalisation that the exporter folded).

Before the first layer with weights, scaling and shifting is preprocessing of the inputs, not learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx

# Op -> the inputs that are learned when they are floating-point constants.
WEIGHT_SLOTS: Mapping[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Einsum": (0, 1),
    "GRU": (1, 2, 3),
    "Gather": (0,),
    "Gemm": (0, 1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
}

_REARRANGING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_LINEAR = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
_FLOATING = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    }
)
# The linear models of scikit-learn keep their weights in attributes; the names that stand for them as tensors.
ATTRIBUTE_WEIGHTS: Mapping[str, tuple[str, ...]] = {
    "LinearClassifier": ("coefficients", "intercepts"),
    "LinearRegressor": ("coefficients", "intercepts"),
}


def attribute_weights(node: onnx.NodeProto, name: str) -> dict[str, int]:
    """The weights that a node keeps in its attributes.

    Args:
        node: the node.
        name: the unique name that it goes by.

    Returns:
        ``name/attribute`` -> number of elements, for the attributes that hold learned numbers.
    """
    wanted = ATTRIBUTE_WEIGHTS.get(node.op_type, ()) if node.domain == "ai.onnx.ml" else ()
    lengths = {attribute.name: len(attribute.floats) for attribute in node.attribute}
    return {f"{name}/{attribute}": lengths[attribute] for attribute in wanted if lengths.get(attribute)}


def learned_constants(
    nodes: Sequence[onnx.NodeProto], names: Sequence[str], constants: Mapping[str, onnx.TensorProto]
) -> dict[str, int]:
    """Finds the constants that feed a weight slot.

    Args:
        nodes: the model's nodes, in the order of evaluation.
        names: the unique name of each node.
        constants: tensor name -> value: initializers, and what Constant nodes make.

    Returns:
        Constant's tensor name (``node/attribute`` for weights kept in attributes) -> number of elements,
        in the order in which evaluation meets them.
    """
    makers = {output: node for node in nodes for output in node.output if output}
    found: dict[str, int] = {}
    after_weights: set[str] = set()
    for node, name in zip(nodes, names, strict=True):
        own = attribute_weights(node, name)
        for slot in _slots(node, after_weights, makers, constants):
            constant = _constant_behind(node.input[slot], makers, constants)
            if constant is not None and constants[constant].data_type in _FLOATING:
                own[constant] = math.prod(constants[constant].dims)
        for constant, count in own.items():
            found.setdefault(constant, count)
        if own or not after_weights.isdisjoint(node.input):
            after_weights.update(node.output)
    return found


def _slots(
    node: onnx.NodeProto,
    after_weights: set[str],
    makers: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, onnx.TensorProto],
) -> tuple[int, ...]:
    if node.domain not in ("", "ai.onnx"):
        return ()
    if node.op_type in ("Add", "Mul"):
        slots = [slot for slot in (0, 1) if node.input[1 - slot] in after_weights]
        return tuple(slot for slot in slots if _is_shift_or_scale(node, slot, makers, constants))
    return tuple(slot for slot in WEIGHT_SLOTS.get(node.op_type, ()) if slot < len(node.input) and node.input[slot])


def _is_shift_or_scale(
    node: onnx.NodeProto, slot: int, makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> bool:
    constant = _constant_behind(node.input[slot], makers, constants)
    if constant is None:
        return False
    if node.op_type == "Add" and _behind_rearrangements(node.input[1 - slot], makers) in _LINEAR:
        return True
    return math.prod(constants[constant].dims) > 1


def _behind_rearrangements(tensor: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    """The operation that made the numbers in a tensor; empty for an input of the model."""
    maker = makers.get(tensor)
    while maker is not None and maker.op_type in _REARRANGING:
        maker = makers.get(maker.input[0])
    return "" if maker is None else maker.op_type


def _constant_behind(
    tensor: str, makers: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> str | None:
    while tensor not in constants:
        maker = makers.get(tensor)
        if maker is None or maker.op_type not in _REARRANGING:
            return None
        tensor = maker.input[0]
    return tensor
