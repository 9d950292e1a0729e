"""Where the nodes of a frozen graph come from: the layer, and the operation of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sidelight_engines.graph.graph import Graph, ModelFormat
from sidelight_engines.graph.lowering import node_name
from sidelight_engines.graph.unrolling import loop_of


class Origins:
    """Finds the layer and the file's operation of a node of the frozen graph.

    Args:
        graph: the model.
    """

    def __init__(self, graph: Graph) -> None:
        owners = {name: layer.name for layer in graph.layers for name in layer.nodes}
        self._lowered = graph.format is ModelFormat.ONNX
        # Lowering puts what it makes of a node under a scope called after it.
        name_of = node_name if self._lowered else str
        self._layers: Mapping[str, str] = {name_of(name): layer for name, layer in owners.items()}
        self._ops: Mapping[str, str] = {name_of(name): op for name, op in graph.operations.items()}

    def layer(self, name: str) -> str:
        """The layer of a node; empty if it belongs to none."""
        return next((self._layers[scope] for scope in self._scopes(name) if scope in self._layers), "")

    def op(self, name: str) -> str:
        """The file's operation that a node belongs to; empty if it is not known."""
        return next((self._ops[scope] for scope in self._scopes(name) if scope in self._ops), "")

    def _scopes(self, name: str) -> Iterator[str]:
        name = loop_of(name)
        yield name
        parts = name.split("/")
        if self._lowered:
            yield from ("/".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
