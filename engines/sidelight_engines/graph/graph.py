"""The description of a model that everything else reads: one form for both file formats.

It holds no weights and imports no runtime, so it can be made, printed and checked anywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from sidelight_engines.errors import UnknownLayer
from sidelight_engines.graph.step import Step


class ModelFormat(Enum):
    """The file format of a model."""

    ONNX = "onnx"
    SAVED_MODEL = "saved_model"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: what callers call it.
        tensor: the name of the tensor in the graph (``input:0``, ``Identity:0``, an ONNX value name).
        dtype: a NumPy type name, such as ``float32``; ``bfloat16`` and ``string`` where NumPy has none.
        shape: length of each axis, None where it is free; axis 0 is the batch.
    """

    name: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Layer:
    """A named step of a model whose output can be tapped.

    Attributes:
        name: what the model's author called it (``dense_1``).
        op: the operation that makes its output (``BiasAdd``, ``Gemm``).
        tensor: the name of its output tensor in the graph.
        dtype: a NumPy type name; empty if the file does not tell.
        shape: length of each axis, None where it is free; None if the file does not tell.
        parameter_count: learned numbers in it.
        affine: whether its output is an affine function of the model's inputs, by structure.
        nodes: the names of the graph nodes that belong to it, in the order of evaluation.
        channel_axis: the axis of its output that counts channels, where the file tells (ONNX convolutions and
            what follows them); None where it does not, and the last axis is taken.
    """

    name: str
    op: str
    tensor: str
    dtype: str
    shape: tuple[int | None, ...] | None
    parameter_count: int
    affine: bool
    nodes: tuple[str, ...] = ()
    channel_axis: int | None = None


@dataclass(frozen=True)
class Graph:
    """A model as a graph of named layers.

    Attributes:
        format: the file format it came from.
        producer: what wrote the file, as the file says; may be empty.
        inputs: in the file's order.
        outputs: the ones that can be explained (dense numbers), in the file's order; the first is the
            default.
        layers: in the order of evaluation.
        output_layers: output name -> name of the layer that makes it.
        logits: output name -> tensor that its softmax or sigmoid head reads. An output that has no such
            head is not in it.
        head_ops: output name -> ``Softmax`` or ``Sigmoid``, for the same outputs and for those of a
            classifier whose one operation computes logits and softmax together (ONNX
            `LinearClassifier`), which have no logits to tap.
        parameter_count: learned numbers in the whole model.
        operations: name of each node that carries the inputs' values on -> its operation, in the order of
            evaluation.
        steps: every operation that makes a tensor, each after those that make what it reads.
    """

    format: ModelFormat
    producer: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...]
    output_layers: Mapping[str, str]
    logits: Mapping[str, str]
    head_ops: Mapping[str, str]
    parameter_count: int
    operations: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = field(default=(), repr=False, compare=False)
    _by_name: Mapping[str, Layer] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name: dict[str, Layer] = {}
        for layer in self.layers:
            for node in layer.nodes:
                by_name.setdefault(node, layer)
        # Tensor names outrank node names, and the author's names outrank both.
        by_name.update({layer.tensor: layer for layer in self.layers})
        by_name.update({layer.name: layer for layer in self.layers})
        object.__setattr__(self, "_by_name", by_name)

    def layer(self, name: str, field: str = "layer") -> Layer:
        """Finds a layer by the author's name, or by its tensor's or a node's name in the file.

        Args:
            name: the name.
            field: the path of the request field that the name came from, for the error.

        Raises:
            UnknownLayer: the model has no such layer; the error names the nearest ones.
        """
        found = self._by_name.get(name)
        if found is None:
            names = [layer.name for layer in self.layers]
            raise UnknownLayer(field, name, difflib.get_close_matches(name, names, n=3, cutoff=0.5))
        return found
