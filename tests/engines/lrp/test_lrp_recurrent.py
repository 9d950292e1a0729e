"""Relevance through recurrent layers against a walk by hand, and in both file formats.

At a product of a gate and a signal all relevance goes to the signal (Arras et al. 2017); sums share by epsilon.
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from sidelight_engines.errors import UnsupportedOp
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.graph.unrolling import LONGEST_LOOP
from sidelight_engines.lrp import Classes, Epsilon, LrpParameters, LrpTarget, RuleMap, TargetValue, propagate_relevance
from sidelight_engines.model import open_model
from tiny_models import onnx_model

RANDOM = np.random.default_rng(6)
STEPS, INPUTS, WIDTH = 3, 3, 2
KERNEL, RECURRENT = RANDOM.normal(size=(INPUTS, 4 * WIDTH)), RANDOM.normal(size=(WIDTH, 4 * WIDTH))
OFFSET = RANDOM.normal(0, 0.3, 4 * WIDTH)
X = RANDOM.normal(size=(2, STEPS, INPUTS))
EPSILON = 1e-6
PARAMETERS = LrpParameters(
    method=RuleMap(otherwise=Epsilon(EPSILON)), target=LrpTarget(Classes((0, 1)), value=TargetValue.ONE)
)


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def stabilised(v):
    return v + np.where(v < 0, -EPSILON, EPSILON)


def lstm_by_hand(x, unit):
    """The relevance of one sequence for one unit of the last state; gates in ONNX's order i, o, f, g."""
    h, c = np.zeros((STEPS + 1, WIDTH)), np.zeros((STEPS + 1, WIDTH))
    gates = np.zeros((STEPS, 4, WIDTH))
    parts = np.zeros((STEPS, 2, WIDTH))
    for t in range(STEPS):
        from_x, from_h = x[t] @ KERNEL, h[t] @ RECURRENT
        i, o, f, g = np.split(from_x + from_h + OFFSET, 4)
        gates[t] = sigmoid(i), sigmoid(o), sigmoid(f), np.tanh(g)
        parts[t] = from_x[-WIDTH:], from_h[-WIDTH:]
        c[t + 1] = gates[t, 2] * c[t] + gates[t, 0] * gates[t, 3]
        h[t + 1] = gates[t, 1] * np.tanh(c[t + 1])
    found = np.zeros((STEPS, INPUTS))
    of_h, of_c = np.eye(WIDTH)[unit], np.zeros(WIDTH)
    for t in reversed(range(STEPS)):
        of_c = of_c + of_h
        share = of_c / stabilised(c[t + 1])
        of_g, of_c = share * gates[t, 0] * gates[t, 3], share * gates[t, 2] * c[t]
        x_part, h_part = parts[t]
        of_sum = (x_part + h_part) * of_g / stabilised(x_part + h_part + OFFSET[-WIDTH:])
        share = of_sum / stabilised(x_part + h_part)
        found[t] = x[t] * (KERNEL[:, -WIDTH:] @ (x_part * share / stabilised(x_part)))
        of_h = h[t] * (RECURRENT[:, -WIDTH:] @ (h_part * share / stabilised(h_part)))
    return found


def lstm_model(folder, steps=STEPS):
    """An LSTM, batch first; its last state is the output."""
    constants = {
        "w": KERNEL.T[None].astype(np.float32),
        "r": RECURRENT.T[None].astype(np.float32),
        "b": np.concatenate([OFFSET, np.zeros(4 * WIDTH)])[None].astype(np.float32),
        "axes": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["sequence"], "turned", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["sequence", "w", "r", "b"], ["", "states"], "memory", hidden_size=WIDTH),
        helper.make_node("Squeeze", ["states", "axes"], ["last"], "last"),
    ]
    return onnx_model(nodes, constants, {"x": (steps, INPUTS)}, "last", folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recurrent")


def test_relevance_goes_back_through_time_by_the_signal(folder):
    result = propagate_relevance(lstm_model(folder / "lstm"), {"x": X.astype(np.float32)}, PARAMETERS)
    for instance, unit in np.ndindex(2, WIDTH):
        expected = lstm_by_hand(X[instance], unit)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(result.inputs[0].values[instance, unit], expected, rtol=1e-4, atol=1e-4 * scale)
    assert max(explained.ledger_residual for explained in result.explained) < 1e-5
    # All steps are one layer.
    assert "memory" in {entry.layer for entry in result.ledger}


def test_sequence_that_is_too_long_is_refused_with_the_limit(folder):
    model = lstm_model(folder / "long", steps=LONGEST_LOOP + 1)
    with pytest.raises(UnsupportedOp, match=f"more than {LONGEST_LOOP} times"):
        propagate_relevance(model, {"x": np.ones((1, LONGEST_LOOP + 1, INPUTS), np.float32)}, PARAMETERS)


def test_keras_layers_give_the_same_in_both_formats(folder):
    import keras

    keras.utils.set_random_seed(2)
    layers = keras.layers
    given = layers.Input((2, 3), name="series")
    x = layers.GRU(2, return_sequences=True, name="gru")(given)
    model = keras.Model(given, layers.SimpleRNN(2, name="rnn")(x))
    for weight in model.weights:
        weight.assign_add(RANDOM.uniform(-0.2, 0.2, weight.shape))
    model.export(str(folder / "keras"), verbose=False)
    (folder / "keras_onnx").mkdir()
    model.export(str(folder / "keras_onnx" / "model.onnx"), format="onnx", verbose=False)
    found = []
    for path, file_format in (("keras", ModelFormat.SAVED_MODEL), ("keras_onnx", ModelFormat.ONNX)):
        opened = open_model(folder / path, file_format)
        series = RANDOM.normal(size=(2, 2, 3)).astype(np.float32) if not found else found[0][0]
        result = propagate_relevance(opened, {opened.graph.inputs[0].name: series}, PARAMETERS)
        assert max(explained.ledger_residual for explained in result.explained) < 1e-5
        found.append((series, result.inputs[0].values))
    scale = np.abs(found[0][1]).max()
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4 * scale)
