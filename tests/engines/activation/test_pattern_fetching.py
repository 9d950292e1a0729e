"""Pooling within the runtime gives what pooling its results in NumPy gives, or is not done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy_layers import Array, NumpyLayers
from onnx import TensorProto, helper, numpy_helper
from sidelight_engines.activation import (
    Chunking,
    LabelClasses,
    LayerSelection,
    PatternParameters,
    PatternResult,
    QuantileThreshold,
    UnitPooling,
    ValueThreshold,
    measure_activation_patterns,
)
from sidelight_engines.activation.fetching import Fetching
from sidelight_engines.activation.plan import ObservedLayer
from sidelight_engines.errors import MemoryLimitExceeded, NonFiniteOutput
from sidelight_engines.graph.graph import Layer, ModelFormat
from sidelight_engines.graph.onnx_model import describe_onnx_model
from sidelight_engines.model import open_model
from sidelight_engines.runtime.onnx_runtime import OnnxRuntime
from sidelight_engines.runtime.runtime import Lanes, Runtime

FOLDER = Path(__file__).parents[2] / "golden" / "activation_pattern"
ALL = LayerSelection(everything=True)
RANDOM = np.random.default_rng(3)


class Recording:
    """A runtime that tells what it was asked to pool; and, if wanted, can not."""

    def __init__(self, runtime: Runtime, pooled_axis: int | None = None) -> None:
        self._runtime = runtime
        self.kind = runtime.kind
        self.forward = runtime.forward
        self.pooled_axis = runtime.pooled_axis if pooled_axis is None else pooled_axis
        self.asked: list[list[str]] = []

    def lanes(self, tensors: Sequence[str], greatest: Sequence[str] = ()) -> Lanes:
        self.asked.append(list(greatest))
        return self._runtime.lanes(tensors, greatest)


def both_ways(graph: Any, runtime: Runtime, x: Array, labels: Array, **given: Any) -> tuple[PatternResult, ...]:
    """The patterns with pooling on the way and without."""
    parameters = PatternParameters(given.pop("layers", ALL), **given)
    results = []
    for pooled_axis in (None, -1):
        recording = Recording(runtime, pooled_axis)
        inputs = {graph.inputs[0].name: x}
        chunking = Chunking(rows=37)
        results.append(
            measure_activation_patterns(
                graph, recording, inputs, LabelClasses(labels, "labels"), parameters, chunking=chunking
            )
        )
        assert any(recording.asked) == (pooled_axis is None)
    return tuple(results)


def assert_same(one: PatternResult, other: PatternResult) -> None:
    assert [layer.name for layer in one.layers] == [layer.name for layer in other.layers]
    for ours, theirs in zip(one.layers, other.layers, strict=True):
        assert ours.unit_shape == theirs.unit_shape
        np.testing.assert_array_equal(ours.firing_counts, theirs.firing_counts)
        np.testing.assert_array_equal(ours.thresholds, theirs.thresholds)
        np.testing.assert_array_equal(ours.saturated_units, theirs.saturated_units)


@pytest.mark.parametrize("kind", ["onnx", "saved_model"])
@pytest.mark.parametrize("threshold", [ValueThreshold(0.0), ValueThreshold(7.5), QuantileThreshold(0.6)])
def test_patterns_are_those_of_pooling_afterwards(kind: str, threshold: Any, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes((FOLDER / "network.onnx").read_bytes())
    folder = tmp_path if kind == "onnx" else FOLDER / "network"
    model = open_model(folder, ModelFormat.ONNX if kind == "onnx" else ModelFormat.SAVED_MODEL)
    with np.load(FOLDER / "inputs.npz") as inputs:
        x, labels = inputs["x"][:150].astype(np.float32), inputs["y"][:150]

    assert_same(*both_ways(model.graph, model.runtime(), x, labels, threshold=threshold))


def hidden(scale: float) -> tuple[Any, OnnxRuntime]:
    """`scaled`, the images of 5 x 5 pixels times scale, and `pooled`, their maximum over windows of 2 x 2.

    The windows leave the last row and column out.
    """
    weight = numpy_helper.from_array(np.full((1, 1, 1, 1), scale, np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["scaled"], name="scaled"),
        helper.make_node("MaxPool", ["scaled"], ["pooled"], name="pooled", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["y"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "hidden",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weight],
    )
    model = describe_onnx_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    return model.graph, OnnxRuntime(model)


def test_a_position_that_a_later_pool_leaves_out_counts() -> None:
    graph, runtime = hidden(1.0)
    x = np.full((6, 1, 5, 5), -1, np.float32)
    x[:3, 0, 4, 4] = 1.0  # The last row and column, which no window of the pool takes in.

    result, afterwards = both_ways(graph, runtime, x, np.repeat([0, 1], 3))

    assert_same(result, afterwards)
    counts = {layer.name: layer.firing_counts.tolist() for layer in result.layers}
    assert counts["scaled"] == [[3], [0]]
    assert counts["pooled"] == [[0], [0]]


def test_infinity_that_no_later_layer_shows_is_refused_with_its_layer_and_example() -> None:
    graph, runtime = hidden(1e20)
    x = np.ones((6, 1, 5, 5), np.float32)
    x[4, 0, 4, 4] = 1e30

    for pooled_axis in (None, -1):
        with pytest.raises(NonFiniteOutput) as caught:
            measure_activation_patterns(
                graph,
                Recording(runtime, pooled_axis),
                {"x": x},
                LabelClasses(np.zeros(6, int), "labels"),
                PatternParameters(ALL),
            )
        assert (caught.value.layer, caught.value.row) == ("scaled", 4)


def test_minus_infinity_below_a_finite_greatest_value_is_let_pass() -> None:
    graph, runtime = hidden(1e20)
    x = RANDOM.random((90, 1, 5, 5)).astype(np.float32)
    x[50, 0, 4, 4] = -1e30

    assert_same(*both_ways(graph, runtime, x, np.arange(90) % 2, threshold=ValueThreshold(9.5e19)))


def test_finite_values_that_add_up_to_infinity_are_counted() -> None:
    graph, runtime = hidden(1e20)
    x = RANDOM.random((90, 1, 5, 5)).astype(np.float32)
    x[50] = 3e18

    assert_same(*both_ways(graph, runtime, x, np.arange(90) % 2, threshold=ValueThreshold(9.5e19)))


def layer(**changes: Any) -> ObservedLayer:
    given = {"name": "conv", "op": "Relu", "tensor": "t", "dtype": "float32", "shape": (None, 3, 4, 5)} | changes
    return ObservedLayer(
        Layer(parameter_count=0, affine=False, **{"channel_axis": 1} | given), "layers", required=False
    )


@pytest.mark.parametrize(
    ("changes", "pooling", "output", "pooled"),
    [
        ({}, UnitPooling.ANY, None, True),
        ({"shape": (2, 3, 4, 5)}, UnitPooling.ANY, None, True),
        ({}, UnitPooling.MEAN, None, False),
        ({}, UnitPooling.POSITION, None, False),
        ({}, UnitPooling.ANY, "t", False),
        ({"channel_axis": None}, UnitPooling.ANY, None, False),
        ({"channel_axis": 3}, UnitPooling.ANY, None, False),
        ({"dtype": "float16"}, UnitPooling.ANY, None, False),
        ({"shape": None}, UnitPooling.ANY, None, False),
        ({"shape": (None, 3, None, 5)}, UnitPooling.ANY, None, False),
        ({"shape": (None, 3, 0, 5)}, UnitPooling.ANY, None, False),
        ({"shape": (None, 3, 20)}, UnitPooling.ANY, None, False),
        ({"shape": (None, 3)}, UnitPooling.ANY, None, False),
    ],
)
def test_only_what_gives_the_same_is_pooled_on_the_way(
    changes: dict[str, Any], pooling: UnitPooling, output: str | None, pooled: bool
) -> None:
    def run(x: Array) -> Array:
        return x

    model = Poolable((3, 4, 5), {"t": run})

    fetching = Fetching([layer(**changes)], output, pooling, model)

    assert model.asked == (["t"] if pooled else [])
    assert fetching.pooled_bytes == (4 * 3 * 4 * 5 if pooled else 0)


class Poolable(NumpyLayers):
    """A model in NumPy that can be asked to pool, by a pool that passes over NaN."""

    def __init__(self, shape: tuple[int, ...], layers: dict[str, Callable[[Array], Array]]) -> None:
        super().__init__(shape, layers, axes=dict.fromkeys(layers, 1))
        self.asked: list[str] = []

    def lanes(self, tensors: Sequence[str], greatest: Sequence[str] = ()) -> Lanes:
        self.asked = list(greatest)
        return super().lanes(tensors)


def test_memory_is_that_of_what_is_pooled_on_the_way_too() -> None:
    graph, runtime = hidden(1.0)
    x = np.ones((6, 1, 5, 5), np.float32)
    # Input, `scaled`, `pooled` and `flat` of each of the rows under way, of which there is one more than lanes.
    row_bytes = 4 * (25 + 25 + 4 + 4)
    needed = (runtime.lanes(["y"]).count + 1) * row_bytes

    def measure(memory_bytes: int) -> PatternResult:
        return measure_activation_patterns(
            graph,
            runtime,
            {"x": x},
            LabelClasses(np.zeros(6, int), "labels"),
            PatternParameters(ALL),
            chunking=Chunking(memory_bytes=memory_bytes),
        )

    with pytest.raises(MemoryLimitExceeded):
        measure(needed - 1)
    # What was pooled takes 4 bytes each beside that.
    assert measure(needed + 100).forward_rows >= 6
