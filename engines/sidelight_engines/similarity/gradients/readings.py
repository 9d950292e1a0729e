"""Finds where the learned constants of a frozen graph meet the values that depend on its inputs.

A parameter reaches the operation that applies it to data either directly or through operations on constants
alone: the plumbing. With J the (constant) Jacobian of the plumbing and g_r the gradient by the tensor that
operation r reads, the gradient by the parameter is

    G = sum_r J_r' g_r

Where the plumbing only rearranges (Identity, Reshape, Transpose) and one operation reads the result, J is a
permutation, which leaves inner products as they are: it need not be undone. Where it splits the parameter, the
parts are gradients of their own, whose inner products add up. Anything else is pulled back by J.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sidelight_engines.graph.graph import Graph
from sidelight_engines.graph.lowering import node_name

# What keeps inner products: values are moved, not changed (Cast: but for rounding; Neg: both signs turn).
_REARRANGING = frozenset({"Cast", "ExpandDims", "Identity", "Neg", "Reshape", "Squeeze", "Transpose"})
_SPLITTING = frozenset({"Split", "SplitV", "Unpack"})


@dataclass(frozen=True)
class Reading:
    """An operation on data that reads what is made of a parameter.

    Attributes:
        op: the name of the operation.
        tensor: the name of the tensor that it reads.
        position: which of its inputs that is.
    """

    op: str
    tensor: str
    position: int


@dataclass(frozen=True)
class ParameterReadings:
    """Where one parameter is read.

    Attributes:
        parameter: the name of its Const node.
        layer: the layer that it belongs to.
        readings: the operations that read it.
        disjoint: whether each reading reads a part of its own, merely rearranged; else gradients are pulled back.
        shape: the parameter's shape.
    """

    parameter: str
    layer: str
    readings: tuple[Reading, ...]
    disjoint: bool
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ImportedGraph:
    """A frozen graph as TensorFlow sees it.

    Attributes:
        graph: the `tf.Graph`.
        dependent: names of the operations that depend on the model's inputs.
        needed: names of the operations that an output depends on.
    """

    graph: Any
    dependent: frozenset[str]
    needed: frozenset[str]


def import_for_analysis(graph_def: Any, inputs: Iterable[str], output: str) -> ImportedGraph:
    """Imports a graph to look at its operations.

    Args:
        graph_def: the graph.
        inputs: names of the tensors that values come in by.
        output: the name of the tensor that the loss reads.
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    dependent = {name.partition(":")[0] for name in inputs}
    for op in graph.get_operations():  # In the order of evaluation.
        if any(tensor.op.name in dependent for tensor in op.inputs):
            dependent.add(op.name)
    needed: set[str] = set()
    waiting = [graph.get_tensor_by_name(output).op]
    while waiting:
        op = waiting.pop()
        if op.name not in needed:
            needed.add(op.name)
            waiting.extend(tensor.op for tensor in op.inputs)
    return ImportedGraph(graph, frozenset(dependent), frozenset(needed))


def find_readings(imported: ImportedGraph, parameters: Iterable[str], model: Graph) -> tuple[ParameterReadings, ...]:
    """Finds where each parameter is read.

    Args:
        imported: the graph.
        parameters: names of the Const nodes, in the order wanted.
        model: the description of the model, for the names of layers.

    Returns:
        One entry per parameter that the output depends on.
    """
    layers = {node_name(node): layer.name for layer in model.layers for node in layer.nodes}
    found = []
    for parameter in parameters:
        if parameter not in imported.needed:
            continue
        const = imported.graph.get_operation_by_name(parameter).outputs[0]
        readings, disjoint = _follow(imported, const)
        layer = next((name for reading in readings if (name := _layer_of(reading.op, layers))), parameter)
        found.append(ParameterReadings(parameter, layer, tuple(readings), disjoint, tuple(const.shape.as_list())))
    return tuple(found)


def _follow(imported: ImportedGraph, const: Any) -> tuple[list[Reading], bool]:
    """The readings of what is made of a constant, and whether each reads a part of its own."""
    readings: dict[Reading, None] = {}
    disjoint = True
    seen: set[str] = set()
    waiting = [const]
    while waiting:
        tensor = waiting.pop(0)
        if tensor.name in seen:
            continue
        seen.add(tensor.name)
        readers = {op.name: op for op in tensor.consumers() if op.name in imported.needed}
        uses = 0
        for op in readers.values():
            positions = [i for i, source in enumerate(op.inputs) if source.name == tensor.name]
            uses += len(positions)
            if op.name in imported.dependent:
                readings.update(dict.fromkeys(Reading(op.name, tensor.name, i) for i in positions))
                continue
            disjoint = disjoint and op.type in (_REARRANGING | _SPLITTING)
            waiting.extend(op.outputs)
        disjoint = disjoint and uses <= 1
    return list(readings), disjoint


def _layer_of(op: str, layers: Mapping[str, str]) -> str:
    """The layer whose node made an operation: the node itself, or the innermost scope that is called after one."""
    name = op
    while name:
        if name in layers:
            return layers[name]
        name = name.rpartition("/")[0]
    return ""


def moved_into_batch(tensor: Any, names: Collection[str] = ("SpaceToBatchND",)) -> bool:
    """Whether axis 0 of a tensor counts positions first and examples second, as SpaceToBatchND leaves it."""
    op = tensor.op
    while op.type in ("Cast", "Identity", "Pad", "PadV2"):
        op = op.inputs[0].op
    return op.type in names
