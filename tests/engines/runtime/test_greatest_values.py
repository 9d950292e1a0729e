"""Both runtimes take the greatest value over positions themselves, and hide nothing that is not finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from sidelight_engines.graph.onnx_model import describe_onnx_model
from sidelight_engines.graph.saved_model import read_saved_model
from sidelight_engines.runtime.greatest import with_doubts
from sidelight_engines.runtime.onnx_runtime import OnnxRuntime
from sidelight_engines.runtime.runtime import Runtime
from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

RANDOM = np.random.default_rng(5)
# Channels as many as ONNX Runtime puts into a block of its own layout.
CHANNELS, ROWS, COLUMNS = 16, 5, 7
LARGEST = float(np.finfo(np.float32).max)


def by_onnx(batch: int | str = "n") -> tuple[Runtime, str, int]:
    """Two convolutions of one pixel, the first of which hands its input on; a runtime, its tensor and channel axis."""
    identity = np.eye(CHANNELS, dtype=np.float32)[..., np.newaxis, np.newaxis]
    nodes = [helper.make_node("Conv", ["x", "w"], ["first"]), helper.make_node("Conv", ["first", "w"], ["second"])]
    specs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, CHANNELS, None, None]) for name in "xy"]
    specs[1].name = "second"
    graph = helper.make_graph(nodes, "g", specs[:1], specs[1:], [numpy_helper.from_array(identity, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return OnnxRuntime(describe_onnx_model(model), 2), "first", 1


def by_tensorflow(folder: Path, sides: tuple[int | None, int | None] = (ROWS, COLUMNS)) -> tuple[Runtime, str, int]:
    """The same for TensorFlow: its input, which convolutions would only spread NaN in."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, *sides, CHANNELS), tf.float32, name="x")])
    def serve(x: Any) -> Any:
        return {"y": tf.reduce_sum(x, [1, 2])}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    model = read_saved_model(folder)
    return TensorFlowRuntime(model.frozen, 2), model.graph.inputs[0].tensor, 3


@pytest.fixture(params=["onnx", "tensorflow", "tensorflow with free sides"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Runtime, str, int]:
    if request.param == "onnx":
        return by_onnx()
    return by_tensorflow(tmp_path, (None, None) if "free" in request.param else (ROWS, COLUMNS))


def examples(count: int, axis: int) -> Any:
    shape = (count, CHANNELS, ROWS, COLUMNS) if axis == 1 else (count, ROWS, COLUMNS, CHANNELS)
    return RANDOM.standard_normal(shape).astype(np.float32)


def over_positions(x: Any, axis: int) -> Any:
    return x.max(axis=(2, 3) if axis == 1 else (1, 2))


def test_the_greatest_values_come_after_the_tensors(runtime: tuple[Runtime, str, int]) -> None:
    evaluates, tensor, axis = runtime
    x = examples(6, axis)

    assert evaluates.pooled_axis == axis
    whole, greatest = evaluates.lanes([tensor], [tensor]).forward({"x": x})

    np.testing.assert_allclose(whole, x, rtol=1e-6)
    np.testing.assert_array_equal(greatest, over_positions(whole, axis))
    (alone,) = evaluates.lanes([], [tensor]).forward({"x": x})
    np.testing.assert_array_equal(alone, greatest)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_position_hides_a_value_that_is_not_finite(runtime: tuple[Runtime, str, int], value: float) -> None:
    evaluates, tensor, axis = runtime
    sides = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]
    x = examples(len(sides) + 1, axis)
    for example, (row, column) in enumerate(sides):
        place = (3, row, column) if axis == 1 else (row, column, 3)
        x[(example, *place)] = value

    (greatest,) = evaluates.lanes([], [tensor]).forward({"x": x})

    assert np.isnan(greatest[:-1]).any(axis=1).all()
    # Doubts may be of a whole pass.
    assert np.isnan(greatest[-1]).all() or np.allclose(greatest[-1], over_positions(x, axis)[-1])
    (alone,) = evaluates.lanes([], [tensor]).forward({"x": x[-1:]})
    np.testing.assert_allclose(alone, over_positions(x[-1:], axis), rtol=1e-6)


def test_values_that_add_up_to_infinity_are_in_doubt(runtime: tuple[Runtime, str, int]) -> None:
    evaluates, tensor, axis = runtime
    x = np.zeros_like(examples(2, axis))
    x[0] = LARGEST / 2

    (greatest,) = evaluates.lanes([], [tensor]).forward({"x": x})

    assert np.isnan(greatest[0]).all()
    assert np.isnan(greatest[1]).all() or (greatest[1] == 0).all()


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_fixed_batch_length_takes_any_number_of_rows(rows: int) -> None:
    evaluates, tensor, axis = by_onnx(batch=3)
    x = examples(rows, axis)

    (greatest,) = evaluates.lanes([], [tensor]).forward({"x": x})

    np.testing.assert_allclose(greatest, over_positions(x, axis), rtol=1e-6)


def test_doubts_are_of_a_row_or_of_a_channel() -> None:
    greatest = np.array([[1, 2], [3, 4]], np.float32)

    by_row = with_doubts(greatest, np.array([np.inf, 0]))
    by_channel = with_doubts(greatest, np.array([[0, 1], [np.nan, 2]]))

    assert with_doubts(greatest, np.zeros(2)) is greatest
    assert by_row.dtype == np.float32
    np.testing.assert_array_equal(by_row, [[np.nan, np.nan], [3, 4]])
    np.testing.assert_array_equal(by_channel, [[1, 2], [np.nan, 4]])
