"""Imports a frozen graph into a function that is being traced. TensorFlow is imported on use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.graph.functions import register_functions


def import_frozen(
    frozen: FrozenGraph,
    inputs: Mapping[str, Any],
    tensors: Sequence[str],
    graph_def: Any = None,
    constants: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Imports a frozen graph into the function that is being traced.

    Everything that one call returns belongs to one copy of the graph, so `tf.gradients` can be taken
    between any two of the tensors.

    Args:
        frozen: the graph.
        inputs: input name -> symbolic tensor to read in its place, for all inputs.
        tensors: names as `FrozenGraph.tensor` takes them, and ``<node>:0`` for constants.
        graph_def: a changed copy of ``frozen.graph_def`` to import in its place: the same nodes, some with
            another backward rule (``_gradient_op_type``).
        constants: tensor name -> symbolic tensor to read in its place, for constants that the graph lacks.

    Returns:
        One symbolic tensor per name, in order.
    """
    import tensorflow as tf

    graph_def = frozen.graph_def if graph_def is None else graph_def
    register_functions(graph_def)
    read = {_tensor(name) for node in graph_def.node for name in node.input}
    given = {frozen.inputs[name]: tensor for name, tensor in inputs.items()} | dict(constants or {})
    wanted = [frozen.tensor(name) for name in tensors]
    imported = tf.graph_util.import_graph_def(
        graph_def,
        # TensorFlow refuses to map what nothing reads.
        input_map={name: tensor for name, tensor in given.items() if name in read},
        return_elements=[name for name in wanted if name not in given],
        name="",
    )
    found = dict(zip([name for name in wanted if name not in given], imported or (), strict=True))
    return [given[name] if name in given else found[name] for name in wanted]


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"
