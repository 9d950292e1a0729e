"""What follows from other tensors by an affine function is found, and nothing else is."""

from __future__ import annotations

from sidelight_engines.graph.graph import Graph, ModelFormat, TensorSpec
from sidelight_engines.graph.layers import build_graph
from sidelight_engines.graph.segments import find_segments
from sidelight_engines.graph.step import Step, TensorType

SIZES = {"flat": (None, 48), "pair": (None, 2, 24)}


def step(op: str, inputs: str, output: str, dtype: str = "float32") -> Step:
    shape = SIZES.get(output, (None, 4, 12))
    return Step(output, op, tuple(inputs.split()), (output,), {output: TensorType(dtype, shape)})


def graph(*steps: Step, batch: int | None = None) -> Graph:
    given = TensorSpec("x", "x", "float32", (batch, 4, 12))
    last = steps[-1].outputs[0]
    return build_graph(ModelFormat.ONNX, "", steps, [given], [TensorSpec("y", last, "float32", (batch, 4, 12))], {})


def test_a_layer_follows_from_the_nearest_nonlinear_ones_before_it() -> None:
    model = graph(
        step("Conv", "x w", "conv_1"),
        step("Relu", "conv_1", "relu_1"),
        step("Conv", "relu_1 v", "conv_2"),
        step("BatchNormalization", "conv_2 s t m v", "norm"),
        step("Add", "norm relu_1", "sum"),
        step("Sigmoid", "sum", "gate"),
        step("Add", "gate conv_1", "all"),
    )
    found = find_segments(model, ["conv_1", "relu_1", "conv_2", "norm", "sum", "gate", "all"])
    relu = frozenset({"relu_1"})
    assert found.affine == {
        "conv_1": frozenset({"x"}),
        "conv_2": relu,
        "norm": relu,
        "sum": relu,
        "all": frozenset({"gate", "x"}),
    }
    assert found.moved == {}


def test_a_layer_behind_a_nonlinear_one_that_is_not_asked_for_does_not_follow() -> None:
    model = graph(step("Relu", "x", "relu"), step("Tanh", "relu", "tanh"), step("Conv", "tanh w", "conv"))
    assert find_segments(model, ["relu", "conv"]).affine == {}


def test_a_layer_that_moves_numbers_holds_those_of_the_one_before() -> None:
    model = graph(
        step("MaxPool", "x", "pool"),
        step("Transpose", "pool", "turned"),
        step("Dropout", "turned", "dropped"),
        step("Reshape", "dropped shape", "flat"),
        step("Slice", "flat a b", "pair"),
    )
    found = find_segments(model, ["pool", "dropped", "flat", "pair"])
    assert found.moved == {"dropped": "pool", "flat": "dropped"}
    assert found.affine == {"pair": frozenset({"pool"})}


def test_a_reshape_to_rows_of_another_length_is_no_move() -> None:
    tokens = Step("tokens", "Reshape", ("relu", "shape"), ("tokens",), {"tokens": TensorType("float32", (None, 12))})
    found = find_segments(graph(step("Relu", "x", "relu"), tokens), ["relu", "tokens"])
    assert found.moved == {}


def test_a_dropout_that_may_be_turned_on_is_no_move() -> None:
    model = graph(step("Relu", "x", "relu"), step("Dropout", "relu ratio mode", "dropped"))
    assert find_segments(model, ["relu", "dropped"]).moved == {}


def test_a_shape_of_the_input_is_read_from_the_input() -> None:
    size = Step("size", "Shape", ("x",), ("size",), {"size": TensorType("int64", (3,))})
    model = graph(step("Relu", "x", "relu"), size, step("Expand", "relu size", "wide"))
    assert find_segments(model, ["relu", "wide"]).affine == {"wide": frozenset({"relu", "x"})}


def test_nothing_follows_from_integers() -> None:
    model = graph(step("QuantizeLinear", "x s", "coded", "int8"), step("Cast", "coded", "decoded"))
    assert find_segments(model, ["coded", "decoded"]).affine == {}


def test_nothing_is_said_of_a_batch_of_fixed_length() -> None:
    model = graph(step("Conv", "x w", "conv"), batch=8)
    found = find_segments(model, ["conv"])
    assert (found.moved, found.affine) == ({}, {})
