"""The networks of the LRP goldens: their structure and weights, and their ONNX files.

Weights and inputs are multiples of powers of two that are few enough bits wide for every sum to be exact in single
precision. So a network in double precision is the same network, and what differs is the propagation alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
OPSET = 17


@dataclass(frozen=True)
class Linear:
    """One layer with weights.

    Attributes:
        name: of the layer, and of its input where it stands alone.
        kind: ``dense``, ``conv`` or ``conv_transpose``.
        x: the shape of an instance, channels first.
        weight: the shape of its weights, as ONNX and torch have them; (in, out) for ``dense``.
        stride: alike along all axes.
        pad: alike on all sides.
        dilation: alike along all axes.
        groups: of channels.
    """

    name: str
    kind: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def outputs(self) -> int:
        """The length of its bias."""
        if self.kind == "dense":
            return self.weight[1]
        return self.weight[1] * self.groups if self.kind == "conv_transpose" else self.weight[0]


LAYERS = (
    Linear("dense", "dense", (7,), (7, 5)),
    Linear("conv", "conv", (2, 4, 4), (3, 2, 3, 3)),
    Linear("stride", "conv", (2, 5, 5), (3, 2, 2, 2), stride=2),
    Linear("pad", "conv", (2, 4, 4), (2, 2, 3, 3), pad=1),
    Linear("groups", "conv", (4, 3, 3), (4, 2, 2, 2), groups=2),
    Linear("stride_pad_groups", "conv", (4, 5, 5), (4, 2, 3, 3), stride=2, pad=1, groups=2),
    Linear("dilation", "conv", (2, 5, 5), (2, 2, 2, 2), dilation=2),
    Linear("depthwise", "conv", (3, 4, 4), (3, 1, 3, 3), groups=3),
    Linear("one_axis", "conv", (2, 7), (3, 2, 3), stride=2),
    Linear("three_axes", "conv", (1, 3, 3, 3), (2, 1, 2, 2, 2)),
    Linear("transpose", "conv_transpose", (2, 3, 3), (2, 2, 3, 3), stride=2, pad=1),
)
"""Each alone, on inputs of its own, with and without a bias."""


def draw(random: np.random.Generator, shape: tuple[int, ...], steps: int = 64) -> Array:
    """Multiples of 1 / steps from -1 to 1, float64."""
    return random.integers(-steps, steps + 1, shape) / steps


def alone(name: str, *, bias: bool) -> str:
    """The name of a layer that stands alone, and of its input."""
    return f"{name}_bias" if bias else name


def write_layers(path: Path, weights: Mapping[str, Array]) -> None:
    """Writes the layers that stand alone side by side in one network; its output is all of theirs, flat.

    Args:
        path: of the ONNX file.
        weights: by ``<name>_w`` and ``<name>_b``.
    """
    network = Network()
    flat = []
    for layer in LAYERS:
        for bias in (False, True):
            name = alone(layer.name, bias=bias)
            network.input(name, ("n", *layer.x))
            made = network.linear(layer, name, name, weights, bias=bias)
            flat.append(network.node("Flatten", [made], f"{name}_flat", axis=1))
    network.node("Concat", flat, "y", axis=1)
    network.write(path, weights, "y", ("n", "outputs"))


def write_empty(path: Path, weights: Mapping[str, Array]) -> None:
    """Writes one dense layer whose neurons lack contributions of one sign, or of any."""
    network = Network()
    inner, outer = weights["empty_w"].shape
    network.input("x", ("n", inner))
    network.linear(Linear("empty", "dense", (inner,), (inner, outer)), "x", "empty", weights, bias=True)
    network.write(path, weights, "empty", ("n", outer))


CNN_INPUT = (2, 8, 8)
BN_EPSILON = 2.0**-10
"""Variances are powers of four less this, so that standard deviations are exact."""
CNN_LINEAR = (
    Linear("conv_1", "conv", CNN_INPUT, (4, 2, 3, 3), pad=1),
    Linear("conv_2", "conv", (4, 8, 8), (4, 4, 3, 3), pad=1),
    Linear("conv_3", "conv", (4, 8, 8), (4, 4, 3, 3), pad=1),
    Linear("conv_4", "conv", (4, 4, 4), (6, 2, 3, 3), groups=2, pad=1),
    Linear("dense_1", "dense", (24,), (24, 12)),
    Linear("dense_2", "dense", (12,), (12, 5)),
)


def write_cnn(path: Path, weights: Mapping[str, Array]) -> None:
    """Writes a network with batch normalisation, a residual block and both kinds of pooling.

    conv_1 bn_1 relu_1 [conv_2 bn_2 relu_2 conv_3 bn_3] add relu_3 max conv_4 relu_4 average flat dense_1 relu_5 dense_2
    """
    by_name = {layer.name: layer for layer in CNN_LINEAR}
    network = Network()
    network.input("x", ("n", *CNN_INPUT))

    def convolve(position: int, x: str) -> str:
        x = network.linear(by_name[f"conv_{position}"], x, f"conv_{position}", weights, bias=True)
        parts = [f"bn_{position}_{part}" for part in ("scale", "shift", "mean", "variance")]
        return network.node("BatchNormalization", [x, *parts], f"bn_{position}", epsilon=BN_EPSILON)

    first = network.node("Relu", [convolve(1, "x")], "relu_1")
    block = convolve(3, network.node("Relu", [convolve(2, first)], "relu_2"))
    x = network.node("Relu", [network.node("Add", [block, first], "add")], "relu_3")
    x = network.node("MaxPool", [x], "max", kernel_shape=[2, 2], strides=[2, 2])
    x = network.linear(by_name["conv_4"], x, "conv_4", weights, bias=True)
    x = network.node("Relu", [x], "relu_4")
    x = network.node("AveragePool", [x], "average", kernel_shape=[2, 2], strides=[2, 2])
    x = network.node("Flatten", [x], "flat", axis=1)
    x = network.node("Relu", [network.linear(by_name["dense_1"], x, "dense_1", weights, bias=True)], "relu_5")
    network.linear(by_name["dense_2"], x, "dense_2", weights, bias=True)
    network.write(path, weights, "dense_2", ("n", 5))


PLAIN_INPUT = (2, 12, 12)
PLAIN_LINEAR = (
    Linear("conv_1", "conv", PLAIN_INPUT, (4, 2, 3, 3)),
    Linear("conv_2", "conv", (4, 5, 5), (6, 4, 2, 2)),
    Linear("dense_1", "dense", (24,), (24, 12)),
    Linear("dense_2", "dense", (12,), (12, 5)),
)


def write_plain(path: Path, weights: Mapping[str, Array]) -> None:
    """Writes a network that is a plain sequence, as every reference library can take it.

    conv_1 relu_1 max conv_2 relu_2 average flat dense_1 relu_3 dense_2
    """
    by_name = {layer.name: layer for layer in PLAIN_LINEAR}
    network = Network()
    network.input("x", ("n", *PLAIN_INPUT))
    x = network.node("Relu", [network.linear(by_name["conv_1"], "x", "conv_1", weights, bias=True)], "relu_1")
    x = network.node("MaxPool", [x], "max", kernel_shape=[2, 2], strides=[2, 2])
    x = network.node("Relu", [network.linear(by_name["conv_2"], x, "conv_2", weights, bias=True)], "relu_2")
    x = network.node("AveragePool", [x], "average", kernel_shape=[2, 2], strides=[2, 2])
    x = network.node("Flatten", [x], "flat", axis=1)
    x = network.node("Relu", [network.linear(by_name["dense_1"], x, "dense_1", weights, bias=True)], "relu_3")
    network.linear(by_name["dense_2"], x, "dense_2", weights, bias=True)
    network.write(path, weights, "dense_2", ("n", 5))


def draw_weights(random: np.random.Generator, layers: tuple[Linear, ...]) -> dict[str, Array]:
    """Weights of a network, wide enough that signals neither die nor explode."""
    weights: dict[str, Array] = {}
    for layer in layers:
        fan_in = layer.weight[0] if layer.kind == "dense" else math.prod(layer.weight[1:])
        # Rounded down to a power of two, so that products stay exact.
        scale = 2.0 ** math.floor(math.log2(3 / math.sqrt(fan_in)))
        weights[f"{layer.name}_w"] = draw(random, layer.weight) * scale
        weights[f"{layer.name}_b"] = draw(random, (layer.outputs,)) / 4
    return weights


class Network:
    """Collects the nodes of an ONNX network whose values are named as the layers that make them."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._used: set[str] = set()

    def input(self, name: str, shape: tuple[str | int, ...]) -> None:
        from onnx import TensorProto, helper

        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self._used.add(name)

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        from onnx import helper

        # A layer that stands alone has the name of its input; the value needs one of its own.
        value = f"{name}_out" if name in self._used else name
        self._nodes.append(helper.make_node(op, inputs, [value], name=name, **attributes))
        return value

    def linear(self, layer: Linear, x: str, name: str, weights: Mapping[str, Array], *, bias: bool) -> str:
        parameters = [f"{layer.name}_w", *([f"{layer.name}_b"] if bias else [])]
        assert all(parameter in weights for parameter in parameters)
        if layer.kind == "dense":
            return self.node("Gemm" if bias else "MatMul", [x, *parameters], name)
        axes = len(layer.x) - 1
        return self.node(
            "ConvTranspose" if layer.kind == "conv_transpose" else "Conv",
            [x, *parameters],
            name,
            kernel_shape=list(layer.weight[2:]),
            strides=[layer.stride] * axes,
            pads=[layer.pad] * (2 * axes),
            dilations=[layer.dilation] * axes,
            group=layer.groups,
        )

    def write(self, path: Path, weights: Mapping[str, Array], output: str, shape: tuple[str | int, ...]) -> None:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        used = {name for node in self._nodes for name in node.input}
        held = [
            # Shapes and the like stay whole numbers.
            numpy_helper.from_array(value.astype(np.float32) if value.dtype.kind == "f" else value, name)
            for name, value in weights.items()
            if name in used
        ]
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            self._inputs,
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            held,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="lrp_networks"
        )
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())
