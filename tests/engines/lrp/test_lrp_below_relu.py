"""Below a ReLU, where rules look at positive sums alone, against the formulas, contribution by contribution."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from sidelight_engines.lrp import (
    AlphaBeta,
    Classes,
    Epsilon,
    Flat,
    Gamma,
    GivenRelevance,
    LrpParameters,
    LrpTarget,
    RuleMap,
    Sign,
    WSquare,
    propagate_relevance,
)
from slow_lrp import Layer, propagate
from tiny_models import saved_model

RULES = [
    ("epsilon", Epsilon(0.0)),
    ("epsilon", Epsilon(0.25)),
    ("epsilon", Epsilon(0.01, ignore_bias=True)),
    ("gamma", Gamma(0.25, 1e-6)),
    ("gamma", Gamma(1.5, 0.1, ignore_bias=True)),
    ("alpha_beta", AlphaBeta(1.0, 0.0)),
    ("alpha_beta", AlphaBeta(2.0, 1.0, 0.0)),
    ("alpha_beta", AlphaBeta(3.0, 2.0, 0.1)),
    ("alpha_beta", AlphaBeta(2.0, 1.0, ignore_bias=True)),
    ("w_square", WSquare()),
    ("flat", Flat(0.0)),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(RULES)]
HIDDEN = 5


FORMS = [(inputs, rectified) for inputs in (6, 200) for rectified in (True, False)]


@pytest.fixture(scope="module", params=FORMS, ids=[f"{n}-inputs{'-rectified' if r else ''}" for n, r in FORMS])
def network(request, tmp_path_factory):
    """Two dense layers with a ReLU between them, and one on the input or not."""
    import tensorflow as tf

    random = np.random.default_rng(11)
    inputs, rectified = request.param
    first = Layer(random.normal(size=(inputs, HIDDEN)), random.normal(size=HIDDEN))
    # Hidden neurons of positive weights alone, and of negative ones that only the bias makes active.
    first.weights[:, 1], first.weights[:, 2] = abs(first.weights[:, 1]), -abs(first.weights[:, 2]) / 100
    first.bias[2] = 3.0
    second = Layer(random.normal(size=(HIDDEN, 3)), random.normal(size=3))

    def compute(a):
        hidden = tf.nn.relu(tf.nn.bias_add((tf.nn.relu(a) if rectified else a) @ first.weights, first.bias))
        return tf.nn.bias_add(hidden @ second.weights, second.bias)

    model = saved_model(compute, [(inputs,)], tmp_path_factory.mktemp("models") / "m")
    return model, first, second, rectified


def slow(name, rule, first, second, given, start):
    """The relevance of what the first layer reads, and the books of both layers added up."""
    hidden = np.maximum(given @ first.weights + first.bias, 0)
    of_hidden, above = propagate(name, asdict(rule), second, hidden, start, False)
    found, below = propagate(name, asdict(rule), first, given, of_hidden, False)
    return found, {key: getattr(above, key) + getattr(below, key) for key in ("bias", "stabiliser", "empty", "sink")}


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize(("name", "rule"), RULES, ids=IDS)
def test_two_layers_hand_relevance_down_by_the_formula(network, name, rule, targets):
    model, first, second, rectified = network
    random = np.random.default_rng(12)
    x = random.normal(size=(4, len(first.weights)))
    start = random.normal(size=(4, targets, 3))
    parameters = LrpParameters(RuleMap(otherwise=rule), target=LrpTarget(GivenRelevance(start)))
    result = propagate_relevance(model, {"a": x}, parameters)
    total = result.ledger[-1]
    for row in range(4):
        for target in range(targets):
            given = np.maximum(x[row], 0) if rectified else x[row]
            found, books = slow(name, rule, first, second, given, start[row, target])
            np.testing.assert_allclose(result.inputs[0].values[row, target], found, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(total.bias[row, target], books["bias"], rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(total.stabiliser[row, target], books["stabiliser"], rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(total.empty_branch[row, target], books["empty"], rtol=1e-8, atol=1e-10)
    assert np.abs(total.residual).max() < 1e-11 * max(1.0, np.abs(result.inputs[0].values).sum())


def test_sign_hands_relevance_to_inputs_that_are_zero_and_so_it_is_not_taken_for_zero_there(tmp_path):
    """What SIGN hands to a dead neuron does not vanish with it, and the rule below must not think so."""
    import tensorflow as tf

    first, second = np.array([[1.0, -1.0], [0.5, 0.25]]), np.array([[1.0], [2.0]])
    model = saved_model(lambda a: tf.nn.relu(a @ first) @ second, [(2,)], tmp_path / "m")
    rules = RuleMap(otherwise=Sign(0.0))
    x = np.array([[3.0, 1.0]])
    # y = (3.5, -2.75), a = (3.5, 0), out = 3.5: R of a = sgn(a) w R / out = (1, 2) with R = 3.5.
    # s = R / y = (1 / 3.5, -2 / 2.75), and R of x = sgn(x) W s.
    s = np.array([1 / 3.5, -2 / 2.75])
    parameters = LrpParameters(rules, target=LrpTarget(GivenRelevance(np.array([[3.5]]))))
    found = propagate_relevance(model, {"a": x}, parameters).inputs[0].values[0, 0]
    np.testing.assert_allclose(found, first @ s, rtol=1e-12)


@pytest.mark.parametrize("rule", [Epsilon(0.25), Gamma(0.25), AlphaBeta(2.0, 1.0)], ids=str)
def test_tokens_that_are_folded_into_rows_are_booked_to_their_instance(tmp_path, rule):
    import tensorflow as tf

    random = np.random.default_rng(14)
    weights, bias, last = random.normal(size=(3, 4)), random.normal(size=4), random.normal(size=(4, 2))

    def compute(a):
        rows = tf.nn.relu(tf.nn.bias_add(tf.reshape(a, [-1, 3]) @ weights, bias))
        return tf.reduce_mean(tf.reshape(rows @ last, [-1, 5, 2]), axis=1)

    model = saved_model(compute, [(5, 3)], tmp_path / "m")
    x = random.normal(size=(3, 5, 3))
    parameters = LrpParameters(RuleMap(otherwise=rule), target=LrpTarget(Classes((1, 0))))
    together = propagate_relevance(model, {"a": x}, parameters)
    assert np.abs(together.ledger[-1].residual).max() < 1e-11
    for row in range(3):
        alone = propagate_relevance(model, {"a": x[row : row + 1]}, parameters).ledger[-1]
        np.testing.assert_allclose(together.ledger[-1].bias[row], alone.bias[0], rtol=1e-9)
        np.testing.assert_allclose(together.ledger[-1].stabiliser[row], alone.stabiliser[0], rtol=1e-9)


@pytest.mark.parametrize("rectified", [False, True], ids=["any-sign", "positive"])
def test_alpha_beta_accounts_for_all_where_one_branch_is_far_smaller_than_the_other(tmp_path, rectified):
    """The difference of two float32 sums near 1 would know the branch of 1e-5 to half a percent."""
    import tensorflow as tf

    weights = np.array([[1.0, -1.0], [-1.00001e-5, 0.99999e-5], [0.0, 0.0]], np.float32)

    def compute(a):
        return tf.nn.tanh((tf.nn.relu(a) if rectified else a) @ tf.constant(weights))

    model = saved_model(compute, [(3,)], tmp_path / "m", dtype="float32")
    x = np.array([[0.7, 0.9, -1.0], [0.3, 0.4, -1.0]], np.float32)
    start = np.ones((2, 2), np.float32)
    rule = AlphaBeta(2.0, 1.0, 0.0)
    parameters = LrpParameters(RuleMap(otherwise=rule), target=LrpTarget(GivenRelevance(start)))
    result = propagate_relevance(model, {"a": x}, parameters)
    assert max(each.ledger_residual for each in result.explained) < 1e-6
    layer = Layer(weights.astype(np.float64), np.zeros(2))
    x[:, 2] = 0
    expected = [propagate("alpha_beta", asdict(rule), layer, row.astype(np.float64), np.ones(2), False)[0] for row in x]
    np.testing.assert_allclose(result.inputs[0].values[:, 0], expected, rtol=1e-5)


def test_alpha_beta_knows_a_small_negative_branch_below_a_relu_of_many_inputs(tmp_path):
    """Of 300 contributions near 1, one negative one of 1e-4 would be lost in the rounding of a difference of sums."""
    import tensorflow as tf

    random = np.random.default_rng(15)
    weights = random.uniform(0.5, 1.5, (300, 4)).astype(np.float32)
    weights[7] = [-1e-4, -2e-4, 0, -3e-4]

    def compute(a):
        return tf.nn.relu(tf.nn.relu(a) @ tf.constant(weights)) @ tf.constant(np.eye(4, dtype=np.float32))

    model = saved_model(compute, [(300,)], tmp_path / "m", dtype="float32")
    x, start = random.uniform(0.5, 1, (2, 300)).astype(np.float32), random.normal(size=(2, 4)).astype(np.float32)
    rule = AlphaBeta(2.0, 1.0, 0.0)
    parameters = LrpParameters(RuleMap(otherwise=rule), target=LrpTarget(GivenRelevance(start)))
    found = propagate_relevance(model, {"a": x}, parameters)
    top, layer = Layer(np.eye(4), np.zeros(4)), Layer(weights.astype(np.float64), np.zeros(4))
    for row in range(2):
        hidden = np.maximum(x[row] @ weights, 0).astype(np.float64)
        above, _ = propagate("alpha_beta", asdict(rule), top, hidden, start[row], False)
        expected, _ = propagate("alpha_beta", asdict(rule), layer, x[row].astype(np.float64), above, False)
        np.testing.assert_allclose(found.inputs[0].values[row, 0], expected, rtol=1e-5)
