"""Functions in the library of a graph: the bodies of loops.

TensorFlow finds the functions that a running graph calls by name, in a register of the whole process, and takes a
function off it when the Python object that traced it is freed. Importing a graph puts nothing there. A graph that is
to outlive what it was copied from therefore has functions with names of its own, and registers them.
"""

from __future__ import annotations

from typing import Any

_SUFFIX = "_lowered"


def detach_functions(graph_def: Any) -> None:
    """Gives the functions of a graph names of their own, in place.

    Args:
        graph_def: a graph that was just built.
    """
    names = {function.signature.name for function in graph_def.library.function}
    for function in graph_def.library.function:
        function.signature.name += _SUFFIX
        for node in function.node_def:
            _rename(node, names)
    for gradient in graph_def.library.gradient:
        gradient.function_name += _SUFFIX
        gradient.gradient_func += _SUFFIX if gradient.gradient_func in names else ""
    for node in graph_def.node:
        _rename(node, names)


def register_functions(graph_def: Any) -> None:
    """Lets TensorFlow find the functions of a graph that is about to run; they stay until the process ends.

    Args:
        graph_def: the graph.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context

    with tf.init_scope():
        for function in graph_def.library.function:
            if not context.context().has_function(function.signature.name):
                context.context().add_function_def(function)


def _rename(node: Any, names: set[str]) -> None:
    if node.op in names:
        node.op += _SUFFIX
    for value in node.attr.values():
        called = [value.func] if value.WhichOneof("value") == "func" else value.list.func
        for function in called:
            if function.name in names:
                function.name += _SUFFIX
