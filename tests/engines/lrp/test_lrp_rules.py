"""Every rule against its formula, worked out contribution by contribution."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from sidelight_engines.lrp import (
    AlphaBeta,
    AlphaBetaX,
    Classes,
    EmptyBranchPolicy,
    Epsilon,
    Flat,
    Gamma,
    GivenRelevance,
    LrpParameters,
    LrpTarget,
    RuleMap,
    Sign,
    WSquare,
    ZBox,
    propagate_relevance,
)
from slow_lrp import Layer, convolution_matrix, propagate
from tiny_models import saved_model

RULES = [
    ("epsilon", Epsilon(0.0)),
    ("epsilon", Epsilon(0.25)),
    ("epsilon", Epsilon(0.01, ignore_bias=True)),
    ("gamma", Gamma(0.25, 1e-6)),
    ("gamma", Gamma(1.5, 0.1, ignore_bias=True)),
    ("alpha_beta", AlphaBeta(1.0, 0.0)),
    ("alpha_beta", AlphaBeta(2.0, 1.0, 0.0)),
    ("alpha_beta", AlphaBeta(3.0, 2.0, 0.1, ignore_bias=True)),
    ("alpha_beta_x", AlphaBetaX(1.0, 0.0, 0.0, 0.0)),
    ("alpha_beta_x", AlphaBetaX(2.0, 0.5, 1.0, 0.25, 1e-3)),
    ("w_square", WSquare()),
    ("w_square", WSquare(0.0, ignore_bias=True)),
    ("flat", Flat(0.0)),
    ("z_box", ZBox(-1.0, 2.0, 0.05)),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(RULES)]


def relevance_of(model, x, rule, start, **more):
    parameters = LrpParameters(RuleMap(otherwise=rule), target=LrpTarget(GivenRelevance(start)), **more)
    return propagate_relevance(model, {"a": x}, parameters)


def check(result, rule_name, rule, layer, x, start, renormalise=False):
    total = result.ledger[-1]
    found = result.inputs[0].values[:, 0]
    for row, (own, relevance) in enumerate(zip(x, start, strict=True)):
        flat, books = propagate(rule_name, asdict(rule), layer, own.ravel(), relevance.ravel(), renormalise)
        np.testing.assert_allclose(found[row].ravel(), flat, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(total.bias[row, 0], books.bias, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(total.stabiliser[row, 0], books.stabiliser, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(total.empty_branch[row, 0], books.empty, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(total.sink[row, 0], books.sink, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(total.residual, 0, atol=1e-12 * max(1, np.abs(start).sum()))


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    import tensorflow as tf

    random = np.random.default_rng(1)
    weights, bias = random.normal(size=(6, 4)), random.normal(size=4)
    # A neuron of positive weights alone, one of negative ones, and one without any.
    weights[:, 1], weights[:, 2], weights[:, 3] = abs(weights[:, 1]), -abs(weights[:, 2]), 0
    bias[3] = 0
    model = saved_model(lambda a: tf.matmul(a, weights) + bias, [(6,)], tmp_path_factory.mktemp("models") / "dense")
    return model, Layer(weights, bias)


@pytest.fixture(scope="module")
def rectified(tmp_path_factory):
    """The same behind a ReLU, so that the engine may know its input to be positive."""
    import tensorflow as tf

    random = np.random.default_rng(2)
    weights, bias = random.normal(size=(6, 4)), random.normal(size=4)
    weights[:, 1], weights[:, 2] = abs(weights[:, 1]), -abs(weights[:, 2])
    model = saved_model(
        lambda a: tf.nn.relu(a) @ weights + bias, [(6,)], tmp_path_factory.mktemp("models") / "rectified"
    )
    return model, Layer(weights, bias)


@pytest.mark.parametrize(("name", "rule"), RULES, ids=IDS)
@pytest.mark.parametrize("sign", ["mixed", "positive"])
def test_a_dense_layer_hands_relevance_down_by_the_formula(dense, name, rule, sign):
    model, layer = dense
    random = np.random.default_rng(3)
    x = random.normal(size=(3, 6)) if sign == "mixed" else random.uniform(0, 1, (3, 6))
    start = random.normal(size=(3, 4))
    check(relevance_of(model, x, rule, start), name, rule, layer, x, start)


@pytest.mark.parametrize(("name", "rule"), RULES, ids=IDS)
def test_inputs_that_are_known_to_be_positive_change_no_rule(rectified, name, rule):
    model, layer = rectified
    random = np.random.default_rng(4)
    x, start = random.normal(size=(3, 6)), random.normal(size=(3, 4))
    check(relevance_of(model, x, rule, start), name, rule, layer, np.maximum(x, 0), start)


@pytest.mark.parametrize("ignore_bias", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 2.0])
@pytest.mark.parametrize("sign", ["mixed", "positive"])
def test_renormalising_hands_all_relevance_to_the_branch_that_is_not_empty(dense, alpha, ignore_bias, sign):
    model, layer = dense
    random = np.random.default_rng(5)
    x = random.normal(size=(3, 6)) if sign == "mixed" else random.uniform(0, 1, (3, 6))
    start = random.normal(size=(3, 4))
    rule = AlphaBeta(alpha, alpha - 1, 0.0, ignore_bias)
    result = relevance_of(model, x, rule, start, empty_branch=EmptyBranchPolicy.RENORMALISE)
    check(result, "alpha_beta", rule, layer, x, start, renormalise=True)


CONVOLUTIONS = [(1, "SAME", 1), (2, "VALID", 1), (2, "SAME", 1), (1, "SAME", 2), (1, "SAME", 4), (2, "VALID", 4)]


@pytest.fixture(scope="module", params=CONVOLUTIONS, ids=lambda c: f"stride{c[0]}-{c[1]}-groups{c[2]}")
def convolution(request, tmp_path_factory):
    import tensorflow as tf

    stride, padding, groups = request.param
    random = np.random.default_rng(6)
    kernel, bias = random.normal(size=(3, 2, 4 // groups, 4)), random.normal(size=4)
    kernel[..., 1] = abs(kernel[..., 1])
    weights, connected, shape = convolution_matrix(kernel, (4, 5, 4), stride, padding, groups)

    def compute(a):
        parts = zip(tf.split(a, groups, -1), np.split(kernel, groups, -1), strict=True)
        made = [tf.nn.conv2d(part, own, stride, padding) for part, own in parts]
        return tf.nn.bias_add(made[0] if groups == 1 else tf.concat(made, -1), bias)

    model = saved_model(compute, [(4, 5, 4)], tmp_path_factory.mktemp("models") / "convolution")
    return model, Layer(weights, np.tile(bias, shape[0] * shape[1]), connected), shape


@pytest.mark.parametrize(("name", "rule"), RULES[1::2], ids=IDS[1::2])
def test_a_convolution_hands_relevance_down_by_the_formula(convolution, name, rule):
    model, layer, shape = convolution
    random = np.random.default_rng(7)
    x, start = random.normal(size=(2, 4, 5, 4)), random.normal(size=(2, *shape))
    check(relevance_of(model, x, rule, start), name, rule, layer, x, start)


def test_sign_puts_the_sign_of_the_input_in_its_place_and_books_what_that_changes(dense):
    model, layer = dense
    x, start = np.array([[0.5, -2.0, 0.0, 1.0, -1.0, 3.0]]), np.array([[1.0, -0.5, 2.0, 0.0]])
    result = relevance_of(model, x, Sign(0.1), start)
    y = x[0] @ layer.weights + layer.bias
    share = layer.weights @ (start[0] / (y + 0.1 * np.where(y < 0, -1, 1)))
    signs = np.array([1, -1, 1, 1, -1, 1])
    np.testing.assert_allclose(result.inputs[0].values[0, 0], signs * share, rtol=1e-12)
    np.testing.assert_allclose(result.ledger[-1].sink[0, 0], ((x[0] - signs) * share).sum(), rtol=1e-9)
    np.testing.assert_allclose(result.ledger[-1].residual, 0, atol=1e-12)


def test_innvestigate_issue_273_gives_what_the_formula_gives(tmp_path):
    # x1 = 1, x2 = 2; y = x1 w1 + x2 w2 + b per neuron: P + b+ and |N + b-| worked out by hand.
    # Neuron 1: w = (1, -0.5), b = -1: z = (1, -1): alpha 1 gives x1 everything of R = -1.
    # Neuron 2: w = (2, 0.25), b = 0: z = (2, 0.5), both of one sign.
    import tensorflow as tf

    weights, bias = np.array([[1.0, 2.0], [-0.5, 0.25]]), np.array([-1.0, 0.0])
    model = saved_model(lambda a: tf.matmul(a, weights) + bias, [(2,)], tmp_path / "neuron")
    x = np.array([[1.0, 2.0]])
    start = np.array([[-1.0, 2.5]])
    parameters = LrpParameters(
        RuleMap(otherwise=AlphaBeta(1.0, 0.0, 0.0)), target=LrpTarget(GivenRelevance(np.eye(2)[None] * start[0]))
    )
    found = propagate_relevance(model, {"a": x}, parameters).inputs[0].values[0]
    np.testing.assert_allclose(found, [[-1.0, 0.0], [2.0, 0.5]], rtol=1e-12)


def test_several_classes_at_once_are_the_classes_one_by_one(dense):
    model, _ = dense
    x = np.random.default_rng(8).normal(size=(4, 6))
    rule = RuleMap(otherwise=AlphaBeta())
    together = propagate_relevance(model, {"a": x}, LrpParameters(rule, target=LrpTarget(Classes((2, 0, 1)))))
    for position, index in enumerate((2, 0, 1)):
        alone = propagate_relevance(model, {"a": x}, LrpParameters(rule, target=LrpTarget(Classes((index,)))))
        np.testing.assert_allclose(together.inputs[0].values[:, position], alone.inputs[0].values[:, 0], rtol=1e-12)
        np.testing.assert_allclose(together.ledger[-1].bias[:, position], alone.ledger[-1].bias[:, 0], rtol=1e-12)
