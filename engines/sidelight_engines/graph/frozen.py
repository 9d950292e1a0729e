"""A model as one frozen TensorFlow graph: what both file formats become when gradients are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FrozenGraph:
    """A model whose variables have become constants.

    Attributes:
        graph_def: the `tf.compat.v1.GraphDef` (typed loosely: TensorFlow is imported only on use).
        inputs: input name -> name of its placeholder tensor in `graph_def` (``x:0``).
        tensors: tensor name as `Graph` has it (outputs, layers' tensors, logits) -> tensor name in
            `graph_def`. Names that are the same in both may be left out.
        parameters: names of the Const nodes that hold learned numbers, in the order of evaluation.
    """

    graph_def: Any
    inputs: Mapping[str, str]
    tensors: Mapping[str, str]
    parameters: tuple[str, ...]

    def tensor(self, name: str) -> str:
        """The name in `graph_def` of a tensor that `Graph` knows as `name`."""
        return self.tensors.get(name, name)
