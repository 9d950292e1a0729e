"""Where relevance starts, where it is returned, and which parts of a network it passes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from sidelight_engines.errors import UnsupportedOp
from sidelight_engines.lrp import (
    AlphaBeta,
    Classes,
    ClassPerInstance,
    Epsilon,
    Gamma,
    GivenRelevance,
    LayerPosition,
    LayerSelection,
    LrpFallback,
    LrpParameters,
    LrpTarget,
    MatchGlob,
    MatchLayer,
    MatchOp,
    MatchPosition,
    Norm,
    Pass,
    PlainGradient,
    RuleEntry,
    RuleMap,
    TargetValue,
    propagate_relevance,
)
from tiny_models import onnx_model, saved_model

EXACT = RuleMap(otherwise=Epsilon(0.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def mlp(folder):
    """x (3) -> first: 4 units, ReLU -> second: 3 logits -> softmax, all by hand-sized numbers."""
    w1 = np.array([[1, -1, 2, 0], [0.5, 1, -1, 1], [-1, 2, 0, 1]], np.float32)
    w2 = np.array([[1, 0, -1], [2, -1, 0], [0, 1, 1], [-1, 1, 2]], np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["first"], "first"),
        helper.make_node("Relu", ["first"], ["hidden"], "hidden"),
        helper.make_node("Gemm", ["hidden", "w2"], ["second"], "second"),
        helper.make_node("Softmax", ["second"], ["probabilities"], "probabilities"),
    ]
    constants = {"w1": w1, "b1": np.array([0.5, 0, 0, -1], np.float32), "w2": w2}
    model = onnx_model(nodes, constants, {"x": (3,)}, "probabilities", folder / "mlp")
    return model, w1, constants["b1"], w2


X = np.array([[1.0, 2.0, -0.5], [-1.0, 0.5, 2.0]], np.float32)


def logits_of(mlp, x):
    _, w1, b1, w2 = mlp
    return np.maximum(x @ w1 + b1, 0) @ w2


def test_the_largest_logit_starts_by_default_and_the_softmax_is_cut_off_and_named(mlp):
    result = propagate_relevance(mlp[0], {"x": X}, LrpParameters(EXACT))
    logits = logits_of(mlp, X)
    assert result.head_cut_at == "probabilities"
    assert [each.class_index for each in result.explained] == logits.argmax(1).tolist()
    np.testing.assert_allclose([each.logit for each in result.explained], logits.max(1), rtol=1e-5)
    np.testing.assert_allclose([each.relevance_out for each in result.explained], logits.max(1), rtol=1e-5)


def test_an_exact_rule_hands_down_the_contributions_worked_out_by_hand(mlp):
    result = propagate_relevance(mlp[0], {"x": X}, LrpParameters(EXACT, target=LrpTarget(Classes((1,)))))
    _, w1, b1, w2 = mlp
    z = X @ w1 + b1
    # For a ReLU network LRP-0 is input times gradient.
    gradient = ((z > 0) * w2[:, 1]) @ w1.T
    np.testing.assert_allclose(result.inputs[0].values[:, 0], X * gradient, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.ledger[-1].bias[:, 0], ((z > 0) * w2[:, 1]) @ b1, rtol=1e-4, atol=1e-5)


def test_one_and_the_margin_start_as_they_say(mlp):
    logits = logits_of(mlp, X)
    one = propagate_relevance(mlp[0], {"x": X}, LrpParameters(EXACT, target=LrpTarget(value=TargetValue.ONE)))
    assert [each.relevance_out for each in one.explained] == [1.0, 1.0]
    target = LrpTarget(ClassPerInstance((0, 2)), value=TargetValue.MARGIN)
    layers = LayerSelection(("second",))
    margin = propagate_relevance(mlp[0], {"x": X}, LrpParameters(EXACT, target=target, layers=layers))
    for row, index in enumerate((0, 2)):
        rival = np.delete(np.arange(3), index)[np.delete(logits[row], index).argmax()]
        expected = np.zeros(3)
        expected[index], expected[rival] = logits[row, index], -logits[row, rival]
        np.testing.assert_allclose(margin.layers[0].values[row, 0], expected, rtol=1e-5)


def test_relevance_that_is_given_starts_and_may_be_of_several_targets(mlp):
    given = np.random.default_rng(0).normal(size=(2, 4, 3))
    layers = LayerSelection(("second", "hidden"))
    parameters = LrpParameters(EXACT, target=LrpTarget(GivenRelevance(given)), layers=layers)
    result = propagate_relevance(mlp[0], {"x": X}, parameters)
    assert result.inputs[0].values.shape == (2, 4, 3)
    np.testing.assert_allclose(result.layers[0].values, given, rtol=1e-6)
    _, w1, b1, w2 = mlp
    hidden = np.maximum(X @ w1 + b1, 0)
    shares = given / logits_of(mlp, X)[:, None]
    np.testing.assert_allclose(result.layers[1].values, hidden[:, None] * (shares @ w2.T), rtol=1e-4, atol=1e-5)
    assert {each.class_index for each in result.explained} == {-1}


def test_all_layers_that_relevance_passes_are_returned_and_ledger_entries_agree_with_them(mlp):
    parameters = LrpParameters(RuleMap(), layers=LayerSelection(everything=True))
    result = propagate_relevance(mlp[0], {"x": X}, parameters)
    assert [layer.name for layer in result.layers] == ["first", "hidden", "second"]
    held = {entry.layer: entry.relevance_out for entry in result.ledger}
    for layer in result.layers:
        np.testing.assert_allclose(held[layer.name][:, 0], layer.values[:, 0].sum(-1), rtol=1e-4, atol=1e-5)
    assert [entry.layer for entry in result.ledger] == ["second", "hidden", "first", ""]


@pytest.mark.parametrize(
    ("match", "changed"),
    [
        (MatchLayer("first"), {"first"}),
        (MatchGlob("s?cond*"), {"second"}),
        (MatchOp("Gemm"), {"first", "second"}),
        (MatchOp("MatMul"), {"first", "second"}),
        (MatchPosition(LayerPosition.FIRST), {"first"}),
        (MatchPosition(LayerPosition.LAST), {"second"}),
    ],
)
def test_the_first_entry_that_matches_decides(mlp, match, changed):
    rules = RuleMap((RuleEntry(match, Gamma(0.5)), RuleEntry(MatchGlob("*"), Epsilon(0.5))), AlphaBeta())
    result = propagate_relevance(mlp[0], {"x": X}, LrpParameters(rules))
    applied = {rule.layer: rule.rule for rule in result.applied_rules}
    for layer in ("first", "second"):
        assert applied[layer] == (str(Gamma(0.5)) if layer in changed else str(Epsilon(0.5)))
    assert applied["hidden"] == "pass"


@pytest.fixture(scope="module")
def joined(folder):
    """Two inputs, a sum of both, a third that the output does not need."""
    import tensorflow as tf

    weights = np.array([[1.0, -2.0], [0.5, 1.0]])
    model = saved_model(
        lambda a, b, c: tf.stack([a @ weights + b, b], 1)[:, 0] * 2.0, [(2,), (2,), (1,)], folder / "joined"
    )
    return model, weights


def test_each_input_of_several_gets_its_share_and_one_that_is_not_needed_is_named(joined):
    model, weights = joined
    a, b = np.array([[1.0, 3.0]]), np.array([[0.5, 4.0]])
    inputs = {"a": a, "b": b, "c": np.zeros((1, 1))}
    result = propagate_relevance(model, inputs, LrpParameters(EXACT, target=LrpTarget(Classes((1,)))))
    # Logit 1 is 2 (a w + b): of the sum a w + b, a and b take what they give to it.
    found = {part.name: part.values[0, 0] for part in result.inputs}
    np.testing.assert_allclose(found["a"], 2 * a[0] * weights[:, 1], rtol=1e-5)
    np.testing.assert_allclose(found["b"], [0, 8.0], rtol=1e-5)
    np.testing.assert_array_equal(found["c"], [0.0])
    assert [notice.code for notice in result.warnings] == ["INPUT_UNUSED"]


def test_a_residual_sum_splits_relevance_and_a_constant_in_it_is_bias_or_sink(folder):
    import tensorflow as tf

    positions = np.array([[1.0, 2.0], [3.0, 4.0]])
    model = saved_model(lambda a: (a + positions) + tf.constant([0.5, -0.5], tf.float64), [(2, 2)], folder / "sum")
    x = np.array([[[1.0, 1.0], [1.0, 1.0]]])
    rules = RuleMap((RuleEntry(MatchGlob("*"), Norm(0.0)),))
    start = GivenRelevance(np.array([[[1.0, 0.0], [0.0, 0.0]]]))
    result = propagate_relevance(model, {"a": x}, LrpParameters(rules, target=LrpTarget(start)))
    total = result.ledger[-1]
    # 1 + 1 + 0.5 = 2.5: a constant per channel is bias, one per position and channel is sink.
    np.testing.assert_allclose(total.bias[0, 0], 0.5 / 2.5)
    np.testing.assert_allclose(total.sink[0, 0], 1 / 2.5)
    np.testing.assert_allclose(result.inputs[0].values[0, 0], [[1 / 2.5, 0], [0, 0]])


def test_max_pooling_gives_all_to_the_first_of_equal_winners(folder):
    import tensorflow as tf

    model = saved_model(
        lambda a: tf.reshape(tf.nn.max_pool2d(a, 2, 2, "VALID"), [-1, 2]), [(2, 4, 1)], folder / "pool", "float32"
    )
    x = np.array([[[3, 3, 0, 1], [3, 0, 0, 1]]], np.float32)[..., None]
    target = LrpTarget(Classes((0, 1)), value=TargetValue.ONE)
    result = propagate_relevance(model, {"a": x}, LrpParameters(target=target))
    expected = np.zeros((2, 2, 4, 1))
    expected[0, 0, 0], expected[1, 0, 3] = 1, 1
    np.testing.assert_array_equal(result.inputs[0].values[0], expected)


def test_batch_normalisation_behind_a_convolution_is_part_of_it(folder):
    import tensorflow as tf

    random = np.random.default_rng(5)
    kernel, scale, offset = random.normal(size=(2, 2, 2, 3)), random.normal(size=3), random.normal(size=3)
    mean, variance, bias = random.normal(size=3), random.uniform(0.5, 2, 3), random.normal(size=3)
    factor = scale / np.sqrt(variance + 1e-3)

    def normalised(a):
        y = tf.nn.bias_add(tf.nn.conv2d(a, kernel, 1, "SAME"), bias)
        return tf.nn.relu((y - mean) * factor + offset)

    def merged(a):
        return tf.nn.relu(tf.nn.conv2d(a, kernel * factor, 1, "SAME") + ((bias - mean) * factor + offset))

    x = random.normal(size=(2, 3, 3, 2))
    models = [saved_model(made, [(3, 3, 2)], folder / made.__name__) for made in (normalised, merged)]
    start = LrpTarget(GivenRelevance(random.normal(size=(2, 3, 3, 3))))
    for rule in (Epsilon(), AlphaBeta(), Gamma()):
        first, second = (
            propagate_relevance(model, {"a": x}, LrpParameters(RuleMap(otherwise=rule), target=start))
            for model in models
        )
        np.testing.assert_allclose(first.inputs[0].values, second.inputs[0].values, rtol=1e-9)
        np.testing.assert_allclose(first.ledger[-1].bias, second.ledger[-1].bias, rtol=1e-9)


ACTIVATIONS = {
    "swish": lambda tf, x: x * tf.sigmoid(x),
    "gelu": lambda tf, x: 0.5 * x * (1 + tf.math.erf(x / np.sqrt(2.0))),
    "gelu_tanh": lambda tf, x: 0.5 * x * (1 + tf.tanh(0.8 * (x + 0.0447 * x * x * x))),
    "hard_swish": lambda tf, x: x * tf.nn.relu6(x + 3) / 6,
    "mish": lambda tf, x: x * tf.tanh(tf.nn.softplus(x)),
    "prelu": lambda tf, x: tf.nn.relu(x) - np.array([0.1, 0.3]) * tf.nn.relu(-x),
    "leaky": lambda tf, x: tf.maximum(x, 0.2 * x),
    "celu": lambda tf, x: tf.where(x > 0, x, tf.exp(x) - 1),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_of_many_operations_passes_relevance_as_it_is(folder, name):
    import tensorflow as tf

    model = saved_model(lambda a: tf.identity(ACTIVATIONS[name](tf, a)), [(2,)], folder / name)
    start = np.array([[1.5, -2.0]])
    parameters = LrpParameters(target=LrpTarget(GivenRelevance(start)))
    result = propagate_relevance(model, {"a": np.array([[0.7, -1.2]])}, parameters)
    np.testing.assert_allclose(result.inputs[0].values[:, 0], start)


def test_an_operation_without_an_entry_is_named_and_takes_the_gradient_on_request_alone(folder):
    import tensorflow as tf

    model = saved_model(lambda a: tf.cumsum(a, axis=1) * 2.0, [(3,)], folder / "cumsum")
    x = np.array([[1.0, 2.0, 3.0]])
    with pytest.raises(UnsupportedOp) as caught:
        propagate_relevance(model, {"a": x}, LrpParameters())
    assert caught.value.problems[0].op == "Cumsum"
    start = LrpTarget(GivenRelevance(np.array([[0.0, 1.0, 0.0]])))
    parameters = LrpParameters(target=start, fallback=LrpFallback.GRADIENT)
    result = propagate_relevance(model, {"a": x}, parameters)
    np.testing.assert_allclose(result.inputs[0].values[0, 0], [1, 1, 0])
    assert [rule.op for rule in result.applied_rules if rule.fallback] == ["Cumsum"]
    assert [notice.code for notice in result.warnings] == ["LRP_FALLBACK"]
    np.testing.assert_allclose(result.ledger[-1].sink[0, 0], 1 - 2)


def test_pass_and_plain_gradient_may_be_asked_for(mlp):
    _, w1, _, w2 = mlp
    rules = RuleMap(otherwise=PlainGradient())
    target = LrpTarget(Classes((0,)), value=TargetValue.ONE)
    result = propagate_relevance(mlp[0], {"x": X}, LrpParameters(rules, target=target))
    # Activations pass, so this is the product of the weights.
    np.testing.assert_allclose(result.inputs[0].values[:, 0], np.tile(w1 @ w2[:, 0], (2, 1)), rtol=1e-5)
    with pytest.raises(UnsupportedOp, match="can not pass unchanged"):
        propagate_relevance(mlp[0], {"x": X}, LrpParameters(RuleMap((RuleEntry(MatchLayer("first"), Pass()),))))


def test_a_float64_graph_gives_float64_relevance(folder):
    import tensorflow as tf

    weights = np.random.default_rng(3).normal(size=(4, 3))
    model = saved_model(lambda a: tf.matmul(a, weights), [(4,)], folder / "double")
    assert propagate_relevance(model, {"a": np.ones((1, 4))}, LrpParameters()).inputs[0].values.dtype == np.float64


def test_an_embedding_gives_each_index_what_its_row_gave(folder):
    table = np.array([[1, 0], [2, 1], [0, 3]], np.float32)
    weights = np.array([[1.0], [2.0]], np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["ids"], "ids", to=6),
        helper.make_node("Gather", ["table", "ids"], ["rows"], "rows"),
        helper.make_node("ReduceSum", ["rows", "axes"], ["sum"], "sum", keepdims=0),
        helper.make_node("MatMul", ["sum", "weights"], ["out"], "out"),
    ]
    constants = {"table": table, "weights": weights, "axes": np.array([1])}
    model = onnx_model(nodes, constants, {"x": (3,)}, "out", folder / "embedding")
    result = propagate_relevance(model, {"x": np.array([[1, 1, 2]], np.float32)}, LrpParameters(EXACT))
    np.testing.assert_allclose(result.inputs[0].values[0, 0], [4.0, 4.0, 6.0], rtol=1e-5)
