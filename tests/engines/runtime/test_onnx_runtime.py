"""ONNX Runtime gives outputs and taps, from several threads, whatever the number of rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sidelight_engines.errors import InvalidField, ModelInvalid, UnknownLayer
from sidelight_engines.graph.onnx_model import OnnxModel, describe_onnx_model
from sidelight_engines.runtime import onnx_runtime
from sidelight_engines.runtime.onnx_runtime import OnnxRuntime
from sidelight_engines.runtime.runtime import RuntimeKind

RANDOM = np.random.default_rng(9)
W = RANDOM.standard_normal((4, 3)).astype(np.float32)
B = RANDOM.standard_normal(3).astype(np.float32)


def _model(batch: int | str = "N", extra: tuple[onnx.NodeProto, ...] = ()) -> OnnxModel:
    """relu(x W) + B, then a softmax; the result has 3 columns, of which 2 n rows are stacked in `stacked`."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Add", ["r", "b"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"]),
        helper.make_node("Concat", ["m", "z"], ["stacked"], axis=0),
        helper.make_node("Shape", ["w"], ["constant"]),
        *extra,
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(W, "w"), numpy_helper.from_array(B, "b")],
    )
    return describe_onnx_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def _expected(x: Any) -> dict[str, Any]:
    m = x @ W
    z = np.maximum(m, 0) + B
    e = np.exp(z - z.max(1, keepdims=True))
    return {"m": m, "r": np.maximum(m, 0), "z": z, "p": e / e.sum(1, keepdims=True)}


def test_taps_give_inner_tensors_in_the_order_asked_for() -> None:
    x = RANDOM.standard_normal((5, 4)).astype(np.float32)
    runtime = OnnxRuntime(_model())
    assert runtime.kind is RuntimeKind.ONNX_RUNTIME
    for tensors in (["p"], ["z", "m"], ["m", "z"], ["p", "r", "p"]):
        for tensor, value in zip(tensors, runtime.forward(tensors)({"x": x}), strict=True):
            np.testing.assert_allclose(value, _expected(x)[tensor], rtol=1e-5, atol=1e-6)


def test_an_input_can_be_tapped() -> None:
    x = RANDOM.standard_normal((2, 4)).astype(np.float32)
    first, second = OnnxRuntime(_model()).forward(["x", "m"])({"x": x})
    np.testing.assert_array_equal(first, x)
    np.testing.assert_allclose(second, x @ W, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 4, 7])
def test_a_fixed_batch_length_serves_any_number_of_rows(rows: int) -> None:
    x = RANDOM.standard_normal((rows, 4)).astype(np.float32)
    p, m = OnnxRuntime(_model(batch=3)).forward(["p", "m"])({"x": x})
    np.testing.assert_allclose(p, _expected(x)["p"], rtol=1e-5)
    np.testing.assert_allclose(m, _expected(x)["m"], rtol=1e-5)


def test_a_tensor_without_batch_axis_comes_back_once_from_a_fixed_batch() -> None:
    (shape,) = OnnxRuntime(_model(batch=3)).forward(["constant"])({"x": np.zeros((7, 4), np.float32)})
    np.testing.assert_array_equal(shape, [4, 3])


def test_inputs_are_converted_to_the_dtype_of_the_model() -> None:
    (p,) = OnnxRuntime(_model()).forward(["p"])({"x": np.asfortranarray(np.ones((2, 4), np.float64))})
    np.testing.assert_allclose(p, _expected(np.ones((2, 4)))["p"], rtol=1e-5)


def test_sets_of_tensors_share_sessions_whatever_their_order() -> None:
    runtime = OnnxRuntime(_model())
    assert runtime.forward(["p"])._session is runtime.forward(["p", "x"])._session
    assert runtime.forward(["m", "z"])._session is runtime.forward(["z", "m", "z"])._session


def test_no_more_tapped_sessions_are_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "_TAPPED_SESSIONS", 2)
    runtime = OnnxRuntime(_model())
    outputs = runtime.forward(["p"])
    first = runtime.forward(["m"])
    for tensor in ("r", "z"):
        runtime.forward([tensor])
    assert len(runtime._tapped) == 2
    # What was evicted still runs for whoever holds it, and is made anew for others; outputs are not evicted.
    assert first({"x": np.ones((1, 4), np.float32)})[0].shape == (1, 3)
    assert runtime.forward(["m"])._session is not first._session
    assert runtime.forward(["p"])._session is outputs._session


def test_many_threads_get_their_own_answers() -> None:
    runtime = OnnxRuntime(_model(), threads=1)
    batches = [RANDOM.standard_normal((n % 5 + 1, 4)).astype(np.float32) for n in range(40)]

    def ask(n: int) -> Any:
        return runtime.forward(["p"] if n % 2 else ["p", "m"])({"x": batches[n]})[0]

    with ThreadPoolExecutor(8) as pool:
        for x, p in zip(batches, pool.map(ask, range(40)), strict=True):
            np.testing.assert_allclose(p, _expected(x)["p"], rtol=1e-5)
    assert len(runtime._tapped) == 1


def test_an_unknown_tensor_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownLayer, match=r"'stacke'.*'stacked'"):
        OnnxRuntime(_model()).forward(["stacke"])


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({}, "missing"),
        ({"x": np.zeros((2, 5), np.float32)}, r"\(2, 5\)"),
        ({"x": np.zeros(4, np.float32)}, r"\(4,\)"),
        ({"x": np.zeros((0, 4), np.float32)}, "no instance"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: Any, problem: str) -> None:
    forward = OnnxRuntime(_model()).forward(["p"])
    with pytest.raises(InvalidField, match=problem):
        forward(inputs)


def test_what_onnx_runtime_refuses_to_load_is_invalid() -> None:
    unknown = helper.make_node("Nothing", ["z"], ["y"], domain="nowhere")
    model = _model(extra=(unknown,))
    model.proto.opset_import.append(helper.make_opsetid("nowhere", 1))
    runtime = OnnxRuntime(model)
    with pytest.raises(ModelInvalid, match="Nothing"):
        runtime.forward(["y"])
    # What does not need that node is served all the same.
    runtime.forward(["p"])


def test_failures_while_running_name_the_inputs() -> None:
    indices = helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64)
    table = helper.make_node("Gather", ["w", "i"], ["rows"])
    forward = OnnxRuntime(_model(extra=(indices, table))).forward(["rows"])
    with pytest.raises(InvalidField, match="inputs"):
        forward({"x": np.full((1, 4), 99, np.float32)})


@pytest.mark.parametrize(("threads", "lanes"), [(1, 1), (3, 3), (64, 8)])
def test_lanes_give_from_many_threads_what_one_pass_gives(threads: int, lanes: int) -> None:
    x = RANDOM.standard_normal((40, 4)).astype(np.float32)
    runtime = OnnxRuntime(_model(), threads)
    found = runtime.lanes(["z", "p"])
    assert found.count == lanes
    with ThreadPoolExecutor(found.count) as executor:
        parts = list(executor.map(lambda row: found.forward({"x": x[row : row + 1]}), range(len(x))))
    for position, tensor in enumerate(["z", "p"]):
        values = np.concatenate([part[position] for part in parts])
        np.testing.assert_allclose(values, _expected(x)[tensor], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", [np.full(5, 0.2), np.linspace(-1, 2, 5)])
@pytest.mark.parametrize("side_by_side", [False, True])
def test_sums_over_rows_are_made_within_the_session(weights: np.ndarray, side_by_side: bool) -> None:
    x = RANDOM.standard_normal((15, 4)).astype(np.float32)
    expected = _expected(x)
    summing = OnnxRuntime(_model()).summing(["z"], ["p"], side_by_side=side_by_side)
    (sums,), (rows,) = summing({"x": x}, weights)
    np.testing.assert_allclose(
        sums, np.einsum("s,isf->if", weights, expected["z"].reshape(3, 5, -1)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(rows, expected["p"], rtol=1e-5, atol=1e-6)


def test_a_segment_runs_from_the_tensors_given() -> None:
    z = RANDOM.standard_normal((3, *_expected(np.zeros((1, 4), np.float32))["z"].shape[1:])).astype(np.float32)
    (found,) = OnnxRuntime(_model()).segment(["z"], ["p"], side_by_side=False)({"z": z})
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)


def test_an_unknown_tensor_of_a_segment_or_a_sum_is_named() -> None:
    runtime = OnnxRuntime(_model())
    with pytest.raises(UnknownLayer):
        runtime.segment(["nothing"], ["p"], side_by_side=False)
    with pytest.raises(UnknownLayer):
        runtime.summing(["nothing"], [], side_by_side=False)
