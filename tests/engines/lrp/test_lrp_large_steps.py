"""Convolutions of large windows in steps over few channels, which go back phase by phase, against the formulas."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from sidelight_engines.lrp import (
    AlphaBeta,
    Epsilon,
    GivenRelevance,
    LrpParameters,
    LrpTarget,
    RuleMap,
    propagate_relevance,
)
from slow_lrp import Layer, convolution_matrix, propagate
from tiny_models import saved_model

# (window, step, padding, rows, columns, channels); the third leaves the last positions out, the fourth pads by hand.
FORMS = [
    ((5, 4), 2, "SAME", (7, 9, 3)),
    ((7, 7), 2, "VALID", (11, 9, 1)),
    ((4, 4), 3, "VALID", (9, 8, 2)),
    ((5, 4), 2, [(0, 0), (2, 1), (1, 0), (0, 0)], (6, 7, 2)),
    ((4, 4), 4, "SAME", (8, 8, 3)),
]


@pytest.mark.parametrize(("window", "step", "padding", "shape"), FORMS, ids=lambda part: str(part))
def test_each_position_gets_its_relevance_by_the_formula(tmp_path, window, step, padding, shape):
    import tensorflow as tf

    random = np.random.default_rng(17)
    kernel, bias = random.normal(size=(*window, shape[-1], 4)), random.normal(size=4)
    inside = np.ones(shape, bool)
    if isinstance(padding, str):
        weights, connected, made = convolution_matrix(kernel, shape, step, padding, 1)
    else:
        inside = np.pad(inside, padding[1:])
        weights, connected, made = convolution_matrix(kernel, inside.shape, step, "VALID", 1)
        weights, connected = weights[inside.ravel()], connected[inside.ravel()]
    layer = Layer(weights, np.tile(bias, weights.shape[1] // 4), connected)
    model = saved_model(lambda a: tf.nn.bias_add(tf.nn.conv2d(a, kernel, step, padding), bias), [shape], tmp_path / "m")
    x, start = random.normal(size=(2, *shape)), random.normal(size=(2, *made))
    for name, rule in (("epsilon", Epsilon(0.1)), ("alpha_beta", AlphaBeta(2.0, 1.0, 0.1))):
        parameters = LrpParameters(RuleMap(otherwise=rule), target=LrpTarget(GivenRelevance(start)))
        found = propagate_relevance(model, {"a": x}, parameters).inputs[0].values[:, 0]
        for row in range(2):
            expected, _ = propagate(name, asdict(rule), layer, x[row].ravel(), start[row].ravel(), False)
            np.testing.assert_allclose(found[row].ravel(), expected, rtol=1e-9, atol=1e-11)
