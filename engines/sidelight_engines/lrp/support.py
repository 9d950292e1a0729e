"""Which layers relevance passes, as far as the names of operations tell; without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidelight_engines.errors import OpProblem
from sidelight_engines.graph.graph import Graph, ModelFormat
from sidelight_engines.lrp.coverage import ONNX_OPS, TENSORFLOW_OPS


@dataclass(frozen=True)
class LrpSupport:
    """How much of a model the table of operations covers.

    Attributes:
        layers: layer name -> whether every operation in it has an entry, in the order of evaluation.
        problems: the operations without an entry, in the order of evaluation.
    """

    layers: Mapping[str, bool]
    problems: tuple[OpProblem, ...]

    @property
    def reason(self) -> str:
        """Why the model can not be explained without a fallback; empty if it can."""
        if not self.problems:
            return ""
        return f"operations without an entry: {'; '.join(str(problem) for problem in self.problems)}"


def lrp_support(graph: Graph) -> LrpSupport:
    """Looks up every operation of a model in the table.

    An operation may have an entry and still be refused in a form that only shows when the model is run; the error
    then names it.

    Args:
        graph: the model.
    """
    covered = ONNX_OPS if graph.format is ModelFormat.ONNX else TENSORFLOW_OPS
    missing = {node: op for node, op in graph.operations.items() if op not in covered}
    layers = {layer.name: not any(node in missing for node in layer.nodes) for layer in graph.layers}
    reason = "layer-wise relevance propagation has no entry for it"
    return LrpSupport(layers, tuple(OpProblem(node, op, "", 0, reason) for node, op in missing.items()))
