"""Turns a signature of a loaded SavedModel into one flat graph without variables.

    freeze     variables become constants; loops and branches stay functional, so that gradients pass
    unmark     what the process that wrote the file attached to its functions is taken off
    inline     calls of functions are replaced by what the functions do, so that every layer is in sight
    bypass     what reads a constant through an Identity reads the constant
    fold       what is computed from constants alone becomes a constant, unless learned numbers are in it
    prune      only what the outputs need is kept, without control dependencies: nothing is left that they
               could put in order

TensorFlow is imported on use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

# The first three keep functions from being inlined, such as the convolutions in groups that Keras wraps for
# XLA. The last names a backward rule that was registered in the process that wrote the file (Keras' swish has
# one, to save memory): without it, TensorFlow differentiates what the forward pass does.
_MARKS = ("_XlaMustCompile", "_noinline", "api_implements", "_gradient_op_type")

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})

# Attributes that hold functions: loops, branches, calls.
_FUNCTIONS = ("body", "branches", "f", "then_branch")

# A constant that is made of less than it holds (zeros of a shape) is left to be made where it is used.
_LARGEST_FOLDED_BYTES = 16 * 2**20


def freeze(function: Any) -> Any:
    """Freezes the variables of a function and inlines its calls.

    Args:
        function: a `ConcreteFunction` of a loaded SavedModel, whose object is still alive.

    Returns:
        The frozen `ConcreteFunction`.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(function, lower_control_flow=False)


def flatten(frozen: Any, outputs: Sequence[str], learned: Collection[str]) -> Any:
    """Brings a frozen function's graph into the form that explanations work on.

    Args:
        frozen: what `freeze` gave.
        outputs: names of the tensors to keep (``Identity:0``).
        learned: names of the Const nodes that must stay constants of their own.

    Returns:
        A `GraphDef`.
    """
    inputs = [tensor.name for tensor in frozen.inputs]
    graph_def = frozen.graph.as_graph_def()
    _unmark(graph_def)
    graph_def = _inline(graph_def, [*inputs, *outputs])
    return fold_constants(graph_def, inputs, outputs, learned)


def fold_constants(graph_def: Any, inputs: Sequence[str], outputs: Sequence[str], learned: Collection[str] = ()) -> Any:
    """Computes what depends on constants alone, and drops what the outputs do not need.

    Args:
        graph_def: a flat graph; it is not changed.
        inputs: names of the tensors that values come in by; they are kept, needed or not.
        outputs: names of the tensors to keep.
        learned: names of the Const nodes that must stay constants of their own. With none, inference batch
            normalisation comes down to one Mul and one AddV2.

    Returns:
        A new `GraphDef`. What depends on an input has the name that it had.
    """
    folded = _prune(graph_def, inputs, outputs)
    _bypass(folded, keep={_node(name) for name in outputs})
    _fold(folded, learned, keep={_node(name) for name in outputs})
    return _prune(folded, inputs, outputs)


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]


def _unmark(graph_def: Any) -> None:
    functions = graph_def.library.function
    inner = [node for function in functions for node in function.node_def]
    for holder in (*functions, *graph_def.node, *inner):
        for mark in _MARKS:
            if mark in holder.attr:
                del holder.attr[mark]


def _inline(graph_def: Any, fetches: Iterable[str]) -> Any:
    """Inlines the calls that marks kept from being inlined when the function was frozen."""
    import tensorflow as tf
    from tensorflow.python.grappler import tf_optimizer

    if not any(node.op in _CALLS for node in graph_def.node):
        return graph_def
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def, graph=graph)
    # Grappler takes its fetches from here.
    meta_graph.collection_def["train_op"].node_list.value.extend(fetches)
    config = tf.compat.v1.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    rewrites.min_graph_nodes = -1
    rewrites.optimizers.append("function")
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _prune(graph_def: Any, inputs: Iterable[str], outputs: Iterable[str]) -> Any:
    """The nodes that the outputs need, and the inputs, in the order in which they are evaluated."""
    import tensorflow as tf

    by_name = {node.name: node for node in graph_def.node}
    kept = {_node(name) for name in inputs}
    waiting = [_node(name) for name in outputs]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting.extend(_node(source) for source in by_name[name].input if not source.startswith("^"))
    needed = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name in kept:
            copy = needed.node.add()
            copy.CopyFrom(node)
            data = [source for source in node.input if not source.startswith("^")]
            del copy.input[:]
            copy.input.extend(data)
    return needed


def _bypass(graph_def: Any, keep: Collection[str]) -> None:
    by_name = {node.name: node for node in graph_def.node}
    origin: dict[str, str] = {}
    for node in graph_def.node:
        source = node
        while source.op == "Identity" and source.name not in keep:
            source = by_name[_node(source.input[0])]
        if source.op == "Const":
            origin[node.name] = source.name
    for node in graph_def.node:
        for i, name in enumerate(node.input):
            node.input[i] = origin.get(_node(name), name)


def _fold(graph_def: Any, learned: Collection[str], keep: Collection[str]) -> None:
    """Replaces what is computed from constants alone by its value."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    constant: set[str] = set()
    for op in graph.get_operations():
        opaque = any(tensor.dtype in (tf.resource, tf.variant) for tensor in op.outputs)
        nested = any(name in op.node_def.attr for name in _FUNCTIONS)
        sources = [tensor.op.name for tensor in op.inputs]
        pure = not (opaque or nested or op.op_def.is_stateful or op.type == "Placeholder")
        if pure and op.name not in learned and all(name in constant for name in sources):
            constant.add(op.name)
    edge = [
        tensor
        for op in graph.get_operations()
        if op.name in constant and op.type != "Const"
        for tensor in op.outputs
        if op.name in keep or any(reader.name not in constant for reader in tensor.consumers())
    ]
    values = _evaluate(graph_def, [tensor.name for tensor in edge])
    folded = {name: value for name, value in values.items() if value.nbytes <= _LARGEST_FOLDED_BYTES}
    by_name = {node.name: node for node in graph_def.node}
    renamed: dict[str, str] = {}
    for name, value in folded.items():
        node, _, index = name.partition(":")
        target = by_name[node]
        if len(graph.get_operation_by_name(node).outputs) > 1:
            renamed[name] = f"{node}/folded_{index}"
            target = graph_def.node.add(name=renamed[name])
        target.op = "Const"
        del target.input[:]
        target.attr.clear()
        target.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
        target.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    for node in graph_def.node:
        for i, name in enumerate(node.input):
            full = name if ":" in name else f"{name}:0"
            node.input[i] = renamed.get(full, name)


def _evaluate(graph_def: Any, tensors: Sequence[str]) -> Mapping[str, Any]:
    """Values of tensors that depend on no input."""
    import numpy as np
    import tensorflow as tf

    if not tensors:
        return {}
    part = _prune(graph_def, (), tensors)

    def compute() -> Any:
        return tf.graph_util.import_graph_def(part, return_elements=list(tensors), name="")

    values = tf.compat.v1.wrap_function(compute, [])()
    return {name: np.asarray(value) for name, value in zip(tensors, values, strict=True)}
