"""Convolutions whose transpose is computed in another way than by TensorFlow's own, against the formulas."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from sidelight_engines.lrp import (
    AlphaBeta,
    Epsilon,
    Gamma,
    GivenRelevance,
    GradientMethod,
    LrpParameters,
    LrpTarget,
    RuleMap,
    propagate_relevance,
)
from slow_lrp import Layer, convolution_matrix, propagate
from tiny_models import saved_model

# (window, step, padding, (rows, columns, channels), channels made)
FORMS = {
    "phases-same": ((5, 4), 2, "SAME", (7, 9, 3), 4),
    "phases-valid": ((7, 7), 2, "VALID", (11, 9, 1), 4),
    "phases-that-leave-the-last-positions-out": ((4, 4), 3, "VALID", (9, 8, 2), 4),
    "phases-padded-by-hand": ((5, 4), 2, [(0, 0), (2, 1), (1, 0), (0, 0)], (6, 7, 2), 4),
    "phases-side-by-side": ((4, 4), 4, "SAME", (8, 8, 3), 4),
    "taps": ((3, 2), 1, "SAME", (4, 5, 1), 12),
    "taps-of-two-channels": ((2, 2), 1, "SAME", (4, 5, 2), 17),
    "taps-in-steps": ((2, 3), 2, "VALID", (7, 6, 1), 12),
    "taps-padded-by-hand": ((2, 2), 2, [(0, 0), (1, 0), (2, 1), (0, 0)], (5, 6, 1), 9),
    "gaps": ((1, 1), 2, "SAME", (6, 8, 3), 4),
    "gaps-at-odd-lengths": ((1, 1), 2, "VALID", (5, 7, 3), 4),
    "gaps-padded-by-hand": ((1, 1), 3, [(0, 0), (1, 0), (0, 2), (0, 0)], (5, 6, 2), 4),
}


RULES = (("epsilon", Epsilon(0.1)), ("gamma", Gamma(1.5, 0.1)), ("alpha_beta", AlphaBeta(2.0, 1.0, 0.1)))


def drawn(random, window, step, padding, shape, made):
    """A kernel, a bias, the layer that they make and the shape of what it makes."""
    kernel, bias = random.normal(size=(*window, shape[-1], made)), random.normal(size=made)
    inside = np.ones(shape, bool)
    if isinstance(padding, str):
        weights, connected, output = convolution_matrix(kernel, shape, step, padding, 1)
    else:
        inside = np.pad(inside, padding[1:])
        weights, connected, output = convolution_matrix(kernel, inside.shape, step, "VALID", 1)
        weights, connected = weights[inside.ravel()], connected[inside.ravel()]
    return kernel, bias, Layer(weights, np.tile(bias, weights.shape[1] // made), connected), output


@pytest.mark.parametrize(("window", "step", "padding", "shape", "made"), FORMS.values(), ids=FORMS)
def test_each_position_gets_its_relevance_by_the_formula(tmp_path, window, step, padding, shape, made):
    import tensorflow as tf

    random = np.random.default_rng(17)
    kernel, bias, layer, output = drawn(random, window, step, padding, shape, made)
    model = saved_model(lambda a: tf.nn.bias_add(tf.nn.conv2d(a, kernel, step, padding), bias), [shape], tmp_path / "m")
    x, start = random.normal(size=(2, *shape)), random.normal(size=(2, *output))
    for name, rule in RULES:
        parameters = LrpParameters(RuleMap(otherwise=rule), target=LrpTarget(GivenRelevance(start)))
        found = propagate_relevance(model, {"a": x}, parameters).inputs[0].values[:, 0]
        for row in range(2):
            expected, _ = propagate(name, asdict(rule), layer, x[row].ravel(), start[row].ravel(), False)
            np.testing.assert_allclose(found[row].ravel(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("window", "step", "padding", "shape", "made"), FORMS.values(), ids=FORMS)
def test_below_a_relu_each_position_gets_its_relevance_by_the_formula(tmp_path, window, step, padding, shape, made):
    """Inputs of both signs are taken as twice as many there, so that there are other channels to go back to."""
    import tensorflow as tf

    random = np.random.default_rng(18)
    kernel, bias, layer, output = drawn(random, window, step, padding, shape, made)

    def compute(a):
        return tf.reduce_sum(tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(a, kernel, step, padding), bias)), axis=[1, 2])

    model = saved_model(compute, [shape], tmp_path / "m")
    x, start = random.normal(size=(2, *shape)), random.normal(size=(2, made))
    for name, rule in RULES:
        parameters = LrpParameters(RuleMap(otherwise=rule), target=LrpTarget(GivenRelevance(start)))
        result = propagate_relevance(model, {"a": x}, parameters)
        for row in range(2):
            hidden = np.maximum(x[row].ravel() @ layer.weights + layer.bias, 0).reshape(output)
            # Sums hand relevance down in proportion, stabilised by 1e-6.
            of_hidden = hidden * start[row] / (hidden.sum((0, 1)) + 1e-6)
            expected, _ = propagate(name, asdict(rule), layer, x[row].ravel(), of_hidden.ravel(), False)
            np.testing.assert_allclose(result.inputs[0].values[row, 0].ravel(), expected, rtol=1e-9, atol=1e-11)
        assert np.abs(result.ledger[-1].residual).max() < 1e-11


@pytest.mark.parametrize(("window", "step", "padding", "shape", "made"), FORMS.values(), ids=FORMS)
def test_gradients_go_back_the_same_way_and_are_the_transposes(tmp_path, window, step, padding, shape, made):
    import tensorflow as tf

    random = np.random.default_rng(19)
    kernel, _, layer, output = drawn(random, window, step, padding, shape, made)
    model = saved_model(lambda a: tf.nn.conv2d(a, kernel, step, padding), [shape], tmp_path / "m")
    x, start = random.normal(size=(2, *shape)), random.normal(size=(2, *output))
    parameters = LrpParameters(GradientMethod(), target=LrpTarget(GivenRelevance(start)))
    found = propagate_relevance(model, {"a": x}, parameters).inputs[0].values[:, 0]
    for row in range(2):
        np.testing.assert_allclose(found[row].ravel(), layer.weights @ start[row].ravel(), rtol=1e-9, atol=1e-11)
