"""Recurrent layers against ONNX Runtime, in the forms that ONNX's own cases leave out."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import onnxruntime
import pytest
from evaluate import evaluate, one_node_model
from onnx import helper, numpy_helper
from sidelight_engines.errors import UnsupportedOp
from sidelight_engines.graph.lowering import lower
from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

STEPS, BATCH, INPUTS, WIDTH = 5, 3, 2, 4
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
BOTH = {"direction": "bidirectional"}

CASES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("RNN", BOTH, ("offsets", "lengths", "start")),
    ("RNN", {"direction": "reverse", "activations": ["Relu"], "clip": 0.5}, ("offsets",)),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.6], "activation_beta": [0.1]}, ()),
    ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [0.6], "activation_beta": [1.2]}, ()),
    ("RNN", BOTH | {"activations": ["LeakyRelu", "ThresholdedRelu"], "activation_alpha": [0.2, 0.3]}, ()),
    ("GRU", BOTH, ("offsets", "lengths", "start")),
    ("GRU", BOTH | {"linear_before_reset": 1}, ("offsets", "lengths", "start")),
    ("GRU", {"activations": ["HardSigmoid", "Elu"], "activation_alpha": [0.3, 0.7], "activation_beta": [0.4]}, ()),
    ("GRU", {"activations": ["Sigmoid", "Softsign"], "clip": 0.3}, ("offsets",)),
    ("LSTM", BOTH, ("offsets", "lengths", "start", "peepholes")),
    ("LSTM", {"direction": "reverse"}, ("lengths", "peepholes")),
    ("LSTM", {"input_forget": 1}, ("offsets", "start")),
    ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Softplus"]}, ("offsets",)),
    ("LSTM", {"clip": 0.2}, ("offsets", "start")),
]


def _inputs(op: str, attributes: dict[str, Any], given: tuple[str, ...], dtype: type = np.float32) -> dict[str, Any]:
    random = np.random.default_rng(7)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    gates = GATES[op] * WIDTH

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape).astype(dtype)

    inputs = {
        "x": normal(STEPS, BATCH, INPUTS),
        "w": normal(directions, gates, INPUTS),
        "r": normal(directions, gates, WIDTH),
        "b": normal(directions, 2 * gates) if "offsets" in given else None,
        "lengths": np.array([5, 2, 4], np.int32) if "lengths" in given else None,
        "h": normal(directions, BATCH, WIDTH) if "start" in given else None,
    }
    if op == "LSTM":
        inputs["c"] = normal(directions, BATCH, WIDTH) if "start" in given else None
        inputs["p"] = normal(directions, 3 * WIDTH) if "peepholes" in given else None
    return inputs


@pytest.mark.parametrize(("op", "attributes", "given"), CASES)
def test_recurrent_layer_agrees_with_onnx_runtime(op: str, attributes: dict[str, Any], given: tuple[str, ...]) -> None:
    inputs = _inputs(op, attributes, given)
    outputs = ("y", "y_h", "y_c")[: 3 if op == "LSTM" else 2]
    model = one_node_model(op, inputs, fed=["x"], opset=14, outputs=outputs, hidden_size=WIDTH, **attributes)
    node = helper.make_node(
        op,
        ["" if array is None else name for name, array in inputs.items()],
        list(outputs),
        hidden_size=WIDTH,
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        op,
        [helper.make_tensor_value_info("x", 1, inputs["x"].shape)],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(a, name) for name, a in inputs.items() if a is not None and name != "x"],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    want = onnxruntime.InferenceSession(proto.SerializeToString()).run(list(outputs), {"x": inputs["x"]})
    for name, expected, found in zip(outputs, want, evaluate(model, {"x": inputs["x"]}, outputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_loop_stays_one_operation_so_that_long_sequences_make_no_large_graph() -> None:
    model = one_node_model("LSTM", _inputs("LSTM", {}, ("offsets",)), fed=["x"], opset=14, hidden_size=WIDTH)
    types = [node.op for node in lower(model).graph_def.node]
    assert types.count("StatelessWhile") + types.count("While") == 1
    assert "Enter" not in types


def test_loop_outlives_what_it_was_traced_with() -> None:
    # TensorFlow forgets traced functions by name when they are collected.
    inputs = _inputs("RNN", {}, ())
    frozen = lower(one_node_model("RNN", inputs, fed=["x"], opset=14, hidden_size=WIDTH))
    forward = TensorFlowRuntime(frozen).forward([frozen.tensor("y")])
    gc.collect()
    assert forward({"x": inputs["x"]})[0].shape == (STEPS, 1, BATCH, WIDTH)


def test_unknown_activation_is_refused_by_name() -> None:
    inputs = _inputs("RNN", {}, ())
    model = one_node_model("RNN", inputs, fed=["x"], opset=14, hidden_size=WIDTH, activations=["Gelu"])
    with pytest.raises(UnsupportedOp, match="activation 'Gelu' is not covered"):
        lower(model)


def test_wrong_number_of_activations_is_refused_with_both_numbers() -> None:
    inputs = _inputs("LSTM", {}, ())
    model = one_node_model("LSTM", inputs, fed=["x"], opset=14, hidden_size=WIDTH, activations=["Sigmoid", "Tanh"])
    with pytest.raises(UnsupportedOp, match="2 activations are named where 3 are needed"):
        lower(model)
