"""Models whose layers are written in NumPy, with the graph that describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sidelight_engines.graph.graph import Graph, Layer, ModelFormat, TensorSpec
from sidelight_engines.runtime.runtime import ForwardPass, Lanes, RuntimeKind

Array = npt.NDArray[Any]


class NumpyLayers:
    """A model with one input `x`, layers that are functions of it, and an output `y`.

    Args:
        shape: of one example.
        layers: name -> function of the input.
        output: the output; by default the input, flattened.
        ops: name -> operation of a layer.
        axes: name -> axis of channels.
        head: operation that the output comes from, if it is a probability.
        dtype: of the input.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        layers: Mapping[str, Callable[[Array], Array]],
        output: Callable[[Array], Array] = lambda x: x.reshape(len(x), -1),
        ops: Mapping[str, str] | None = None,
        axes: Mapping[str, int] | None = None,
        head: str = "",
        dtype: str = "float32",
    ) -> None:
        self._functions = {**layers, "y": output}
        self.batches: list[int] = []
        ops, axes = ops or {}, axes or {}
        described = tuple(
            Layer(name, ops.get(name, "Relu"), name, "float32", None, 0, False, (), axes.get(name)) for name in layers
        )
        self.graph = Graph(
            format=ModelFormat.ONNX,
            producer="",
            inputs=(TensorSpec("x", "x", dtype, (None, *shape)),),
            outputs=(TensorSpec("y", "y", "float32", (None,)),),
            layers=described,
            output_layers={},
            logits={},
            head_ops={"y": head} if head else {},
            parameter_count=0,
        )

    @property
    def kind(self) -> RuntimeKind:
        return RuntimeKind.ONNX_RUNTIME

    def forward(self, tensors: Sequence[str]) -> ForwardPass:
        def run(inputs: Mapping[str, Array]) -> list[Array]:
            self.batches.append(len(inputs["x"]))
            return [self._functions[tensor](inputs["x"]) for tensor in tensors]

        return run

    @property
    def pooled_axis(self) -> int:
        return 1

    def lanes(self, tensors: Sequence[str], greatest: Sequence[str] = ()) -> Lanes:
        assert not greatest, "layers without a shape can not be known to be poolable"
        return Lanes(self.forward(tensors), 2)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)
