"""The part of an ONNX model that makes some tensors, as a model of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from sidelight_engines.graph.onnx_model import OnnxModel, captured_tensors
from sidelight_engines.runtime.onnx_passes import GREATEST, MEAN, pooled

Wanted = tuple[frozenset[str], frozenset[str]]
"""Tensors to fetch, and tensors to fetch the greatest values of."""


class OnnxCutter:
    """Cuts parts out of a model.

    Attributes:
        makers: tensor -> the position of the node that makes it.

    Args:
        model: the model.
    """

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._inputs = frozenset(spec.tensor for spec in model.graph.inputs)
        self.makers = {
            output: index for index, node in enumerate(model.proto.graph.node) for output in node.output if output
        }

    def cut(self, wanted: Wanted, given: Sequence[str] = ()) -> onnx.ModelProto:
        """The part of the model that makes the wanted tensors, with those as its outputs.

        Args:
            wanted: the tensors, and those whose greatest values are.
            given: tensors that stand for inputs, in place of the model's own; none for those.
        """
        tensors, greatest = wanted
        source = self._model.proto
        nodes = source.graph.node
        kept: set[int] = set()
        needed: set[str] = set()
        pending = [*tensors, *greatest]
        while pending:
            tensor = pending.pop()
            if tensor in needed:
                continue
            needed.add(tensor)
            index = None if tensor in given else self.makers.get(tensor)
            if index is not None and index not in kept:
                kept.add(index)
                pending.extend(name for name in nodes[index].input if name)
                for attribute in nodes[index].attribute:
                    if attribute.type == onnx.AttributeProto.GRAPH:
                        pending.extend(captured_tensors(attribute.g))
        # An IR version that lists initializers as inputs would let callers override them, which keeps
        # ONNX Runtime from folding them.
        cut = onnx.ModelProto(ir_version=max(source.ir_version, 4), opset_import=source.opset_import)
        cut.graph.name = source.graph.name or "graph"
        cut.graph.node.extend(nodes[index] for index in sorted(kept))
        cut.graph.initializer.extend(value for value in source.graph.initializer if value.name in needed)
        cut.graph.sparse_initializer.extend(
            value for value in source.graph.sparse_initializer if value.values.name in needed
        )
        if given:
            cut.graph.input.extend(self._declared(tensor) for tensor in given)
        else:
            cut.graph.input.extend(value for value in source.graph.input if value.name in self._inputs)
        # Without a declared type ONNX Runtime finds the right one itself.
        cut.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(tensors))
        for tensor in sorted(greatest):
            for op in (GREATEST, MEAN):
                cut.graph.node.append(helper.make_node(op, [tensor], [pooled(tensor, op)]))
                cut.graph.output.append(onnx.ValueInfoProto(name=pooled(tensor, op)))
        return cut

    def _declared(self, tensor: str) -> onnx.ValueInfoProto:
        """A tensor as an input of any number of rows."""
        kind = self._model.types[tensor]
        element = helper.np_dtype_to_tensor_dtype(np.dtype(kind.dtype))
        shape = kind.shape if not kind.shape else (None, *kind.shape[1:])
        return helper.make_tensor_value_info(tensor, element, shape)
