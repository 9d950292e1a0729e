"""A layer that follows from another one scores as if each of its rows had been fetched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from sidelight_engines.errors import NonFiniteOutput
from sidelight_engines.graph.graph import Graph
from sidelight_engines.graph.onnx_model import describe_onnx_model
from sidelight_engines.graph.saved_model import read_saved_model
from sidelight_engines.linearity import (
    Chunking,
    ClassifierScale,
    GridSampling,
    KnnSampling,
    LayerSelection,
    LinearityParameters,
    LinearityResult,
    Rows,
    UniformRange,
    measure,
    measure_linearity,
)
from sidelight_engines.runtime.onnx_runtime import OnnxRuntime
from sidelight_engines.runtime.runtime import Runtime
from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

SIDE = 12
PARAMETERS = LinearityParameters(GridSampling(UniformRange(0, 1)), samples=6, layers=LayerSelection(everything=True))
Opened = tuple[Graph, Runtime]


def weights(channels: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    shapes = {
        "w1": (channels, 1, 3, 3),
        "b1": (channels,),
        "w2": (channels, channels, 3, 3),
        "b2": (channels,),
        "w3": (channels * SIDE * SIDE, 3),
        "b3": (3,),
    }
    return {name: (random.normal(size=shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}


def branching_onnx(channels: int) -> Opened:
    """A convolution, and one around which a shortcut leads; then a dense layer and a softmax."""
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["conv_1"], "conv_1", **pads),
        helper.make_node("Relu", ["conv_1"], ["relu_1"], "relu_1"),
        helper.make_node("Conv", ["relu_1", "w2", "b2"], ["conv_2"], "conv_2", **pads),
        helper.make_node("Add", ["conv_2", "relu_1"], ["sum"], "sum"),
        helper.make_node("Relu", ["sum"], ["relu_2"], "relu_2"),
        helper.make_node("Flatten", ["relu_2"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["dense"], "dense"),
        helper.make_node("Softmax", ["dense"], ["p"], "p"),
    ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1, SIDE, SIDE])
    p = helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, ["n", 3])
    held = [numpy_helper.from_array(value, name) for name, value in weights(channels).items()]
    model = helper.make_model(
        helper.make_graph(nodes, "branching", [x], [p], held), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    onnx.checker.check_model(model)
    read = describe_onnx_model(model)
    return read.graph, OnnxRuntime(read)


def branching_saved_model(folder: Path) -> Opened:
    import tensorflow as tf

    held = weights(8)
    w1, w2 = (held[name].transpose(2, 3, 1, 0) for name in ("w1", "w2"))

    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 1), tf.float32, name="x")])
    def run(x: Any) -> Any:
        relu_1 = tf.nn.relu(tf.nn.conv2d(x, w1, 1, "SAME", name="conv_1") + held["b1"], name="relu_1")
        conv_2 = tf.nn.conv2d(relu_1, w2, 1, "SAME", name="conv_2") + held["b2"]
        relu_2 = tf.nn.relu(conv_2 + relu_1, name="relu_2")
        flat = tf.reshape(relu_2, [tf.shape(x)[0], -1], name="flat")
        return tf.nn.softmax(tf.matmul(flat, held["w3"], name="dense") + held["b3"], name="p")

    module = tf.Module()
    tf.saved_model.save(module, str(folder), signatures=run.get_concrete_function())
    read = read_saved_model(folder)
    return read.graph, TensorFlowRuntime(read.frozen)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Opened]:
    return {
        # Blocks of channels, and channels that fill no block.
        "onnx": branching_onnx(16),
        "onnx of 10 channels": branching_onnx(10),
        "saved_model": branching_saved_model(tmp_path_factory.mktemp("branching")),
    }


@pytest.fixture(autouse=True)
def few_rows_do() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "_FEWEST_SPARED_ROWS", 0)
        yield


def every_row(opened: Opened, x: np.ndarray, parameters: LinearityParameters) -> LinearityResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "_FEWEST_SPARED_ROWS", 10**9)
        return measure_linearity(*opened, x, parameters)


def images(opened: Opened, count: int, seed: int = 0) -> np.ndarray:
    shape = (count, *opened[0].inputs[0].shape[1:])
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def assert_same(found: LinearityResult, expected: LinearityResult) -> None:
    assert [layer.name for layer in found.layers] == [layer.name for layer in expected.layers]
    assert found.forward_rows == expected.forward_rows
    assert found.next_word_offset == expected.next_word_offset
    for a, b in zip(found.layers, expected.layers, strict=True):
        # The floor is 16 spacings of float32 of what was rounded.
        np.testing.assert_allclose(a.linearity, b.linearity, rtol=1e-5, atol=float(b.noise_floor.max()))
        np.testing.assert_allclose(a.noise_floor, b.noise_floor, rtol=1e-4)
        # Superposed outputs may nearly cancel, and then what was rounded is large beside them.
        beside = np.divide(b.normalized, b.linearity, out=np.zeros_like(b.linearity), where=b.linearity > 0)
        atol = float((b.noise_floor * beside).max())
        np.testing.assert_allclose(a.normalized, b.normalized, rtol=1e-4, atol=atol)
        assert a.zero_reason is b.zero_reason or not (a.linearity.any() or b.linearity.any())


@pytest.mark.parametrize("name", ["onnx", "onnx of 10 channels", "saved_model"])
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(4, 9),
    instances=st.integers(1, 7),
    total=st.sampled_from([1.0, 0.0, -1.5, 40.0]),
    equal=st.booleans(),
)
def test_every_layer_scores_as_if_each_row_had_been_fetched(
    models: dict[str, Opened], name: str, seed: int, samples: int, instances: int, total: float, equal: bool
) -> None:
    coefficients = np.random.default_rng(seed).normal(size=samples)
    coefficients += (total - coefficients.sum()) / samples
    parameters = replace(PARAMETERS, samples=samples, coefficients=() if equal else tuple(coefficients.tolist()))
    x = images(models[name], instances, seed)
    assert_same(measure_linearity(*models[name], x, parameters), every_row(models[name], x, parameters))


@pytest.mark.parametrize("name", ["onnx", "saved_model"])
def test_it_does_not_matter_how_the_work_is_cut(models: dict[str, Opened], name: str) -> None:
    x = images(models[name], 9)
    expected = every_row(models[name], x, PARAMETERS)
    for chunking in (Chunking(7), Chunking(20), Chunking(memory_bytes=2**22)):
        assert_same(measure_linearity(*models[name], x, PARAMETERS, chunking=chunking), expected)


@pytest.mark.parametrize("name", ["onnx", "saved_model"])
def test_exact_log_probabilities_are_measured_beside(models: dict[str, Opened], name: str) -> None:
    parameters = replace(PARAMETERS, classifier_scale=ClassifierScale.EXACT_LOG_PROBABILITY)
    x = images(models[name], 4)
    assert_same(measure_linearity(*models[name], x, parameters), every_row(models[name], x, parameters))


@pytest.mark.parametrize(
    ("coefficients", "rows"), [((), 1), ((0.5, 0.1, 0.1, 0.1, 0.1, 0.1), 1), ((1.5, -0.1, -0.1, -0.1, -0.1, -0.1), 2)]
)
def test_only_superpositions_are_fetched_at_every_layer_and_a_sample_where_they_are_no_means(
    models: dict[str, Opened], monkeypatch: pytest.MonkeyPatch, coefficients: tuple[float, ...], rows: int
) -> None:
    graph, runtime = models["onnx"]
    lengths: list[int] = []
    lanes = runtime.lanes

    def watched(tensors: Any) -> Any:
        found = lanes(tensors)

        def forward(inputs: Any) -> Any:
            lengths.append(len(inputs["x"]))
            return found.forward(inputs)

        return replace(found, forward=forward)

    monkeypatch.setattr(runtime, "lanes", watched)
    measure_linearity(graph, runtime, images(models["onnx"], 5), replace(PARAMETERS, coefficients=coefficients))
    assert sum(lengths) == 5 * rows


def test_among_neighbours_on_all_sides_rounding_is_as_large_as_their_outputs(models: dict[str, Opened]) -> None:
    # The superposition is in their midst, where outputs are small.
    graph, runtime = models["onnx"]
    there = images(models["onnx"], 2)
    neighbours = np.concatenate([there, -there])
    parameters = replace(PARAMETERS, sampling=KnnSampling(Rows(neighbours, "data")), samples=4)
    found = measure_linearity(graph, runtime, np.zeros_like(neighbours[:1]), parameters)
    tensors = {layer.name: layer.tensor for layer in graph.layers}
    for layer in found.layers[:2]:
        outputs = runtime.forward([tensors[layer.name]])({"x": neighbours})[0].reshape(4, -1)
        size = np.linalg.norm(outputs.astype(np.float64), axis=1).min()
        assert layer.noise_floor[0] >= 15 * 2.0**-23 * size


def test_an_instance_whose_outputs_are_no_numbers_is_named(models: dict[str, Opened]) -> None:
    x = images(models["onnx"], 5)
    x[3] = 1e38
    parameters = replace(PARAMETERS, layers=LayerSelection(names=("conv_1", "relu_1", "conv_2")))
    with pytest.raises(NonFiniteOutput) as raised:
        measure_linearity(*models["onnx"], x, parameters)
    assert raised.value.row == 3


def test_sums_that_leave_the_range_on_the_way_are_made_from_every_row() -> None:
    # The sum of twenty outputs of 3e37 exceeds what float32 holds, and their mean does not.
    held = {
        "w": np.eye(1100, dtype=np.float32),
        "small": np.float32(1e-37),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["relu"], "relu"),
        helper.make_node("MatMul", ["relu", "w"], ["dense"], "dense"),
        helper.make_node("Mul", ["dense", "small"], ["scaled"], "scaled"),
        helper.make_node("Tanh", ["scaled"], ["y"], "y"),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1100]) for name in "xy")
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "large", [x], [y], constants),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    read = describe_onnx_model(model)
    given = np.random.default_rng(0).uniform(2e37, 3e37, (3, 1100)).astype(np.float32)
    parameters = replace(PARAMETERS, samples=20, sampling=GridSampling(UniformRange(-3e37, 3e37), epsilon=0.5))
    opened = read.graph, OnnxRuntime(read)
    found, expected = measure_linearity(*opened, given, parameters), every_row(opened, given, parameters)
    assert found.layers[1].linearity.min() > 1e36
    for a, b in zip(found.layers, expected.layers, strict=True):
        np.testing.assert_allclose(a.linearity, b.linearity, rtol=1e-5, atol=float(b.noise_floor.max()))


def test_a_graph_that_can_not_be_loaded_again_is_run_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: Path) -> None:
        raise OSError("no space left")

    opened = branching_onnx(16)
    x = images(opened, 4)
    expected = every_row(opened, x, PARAMETERS)
    monkeypatch.setattr("sidelight_engines.runtime.onnx_runtime.onnx.load", fail)
    assert_same(measure_linearity(*opened, x, PARAMETERS), expected)
    assert "no space left" in caplog.text
