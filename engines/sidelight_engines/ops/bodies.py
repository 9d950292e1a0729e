"""The nodes of a graph that a node holds: the body of a loop."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from sidelight_engines.graph.onnx_model import constant_value
from sidelight_engines.graph.onnx_types import declared_types
from sidelight_engines.ops.registry import NodeForm, form_of


def forms_of_body(form: NodeForm, body: onnx.GraphProto) -> list[NodeForm]:
    """Reads the nodes of a graph that a node holds.

    Args:
        form: the node.
        body: the graph.
    """
    constants = constants_of_body(form, body)
    types = {**form.types, **declared_types((*body.input, *body.value_info, *body.output))}
    return [
        form_of(node, f"{form.name}/{node.name or f'{node.op_type}_{index}'}", form.opsets, types, constants)
        for index, node in enumerate(body.node)
    ]


def constants_of_body(form: NodeForm, body: onnx.GraphProto) -> Mapping[str, onnx.TensorProto]:
    """The constants that the nodes of a body can read: its own, and those around it."""
    constants = dict(form.constants)
    for given in body.input:
        # It hides what has the same name around it.
        constants.pop(given.name, None)
    constants |= {initializer.name: initializer for initializer in body.initializer}
    for node in body.node:
        value = constant_value(node) if node.op_type == "Constant" and node.domain in ("", "ai.onnx") else None
        if value is not None:
            constants[node.output[0]] = value
    return constants
