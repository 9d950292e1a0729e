"""Gradient methods against derivatives worked out by hand, and figures of quality against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from sidelight_engines.errors import InvalidField
from sidelight_engines.lrp import (
    Chunking,
    Classes,
    Epsilon,
    GradientKind,
    GradientMethod,
    LayerSelection,
    LrpParameters,
    LrpTarget,
    QualityOptions,
    RuleMap,
    TargetValue,
    propagate_relevance,
)
from sidelight_engines.lrp.quality.concentration import entropy, gini
from tiny_models import saved_model

W1 = np.array([[1.0, -2.0, 0.5], [0.5, 1.0, -1.0]])
B1 = np.array([0.1, 0.2, 0.3])
W2 = np.array([[1.0, -1.0], [2.0, 0.5], [-1.0, 1.0]])
X = np.array([[1.0, 0.5], [-1.0, 2.0], [0.3, -0.4]])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("models") / "mlp"
    return saved_model(lambda a: tf.nn.softmax(tf.matmul(tf.nn.relu(tf.matmul(a, W1) + B1), W2)), [(2,)], folder)


def gradient_at(x, index):
    return ((x @ W1 + B1 > 0) * W2[:, index]) @ W1.T


def logit_at(x, index):
    return np.maximum(x @ W1 + B1, 0) @ W2[:, index]


def run(model, kind, classes=(0, 1), **more):
    target = LrpTarget(Classes(classes), value=more.pop("value", TargetValue.LOGIT))
    chunking = more.pop("chunking", Chunking())
    quality = more.pop("quality", QualityOptions())
    parameters = LrpParameters(GradientMethod(kind, **more), target=target, quality=quality)
    return propagate_relevance(model, {"a": X}, parameters, chunking=chunking)


def test_the_gradient_and_input_times_gradient_are_the_products_of_the_weights(model):
    plain = run(model, GradientKind.GRADIENT).inputs[0].values
    times = run(model, GradientKind.INPUT_TIMES_GRADIENT).inputs[0].values
    for index in (0, 1):
        np.testing.assert_allclose(plain[:, index], gradient_at(X, index), rtol=1e-12)
        np.testing.assert_allclose(times[:, index], X * gradient_at(X, index), rtol=1e-12)


def test_the_gradient_of_the_margin_is_the_difference_of_gradients(model):
    found = run(model, GradientKind.GRADIENT, (0,), value=TargetValue.MARGIN).inputs[0].values[:, 0]
    np.testing.assert_allclose(found, gradient_at(X, 0) - gradient_at(X, 1), rtol=1e-12)


def test_guided_backprop_and_deconvnet_pass_positive_gradients_alone(model):
    for kind, active in ((GradientKind.GUIDED_BACKPROP, X @ W1 + B1 > 0), (GradientKind.DECONVNET, True)):
        found = run(model, kind, (0,)).inputs[0].values[:, 0]
        np.testing.assert_allclose(found, (np.maximum(W2[:, 0], 0) * active) @ W1.T + 0 * X, rtol=1e-12)


@pytest.mark.parametrize("rows", [64, 5])
def test_integrated_gradients_are_the_mean_on_the_path_and_sum_to_the_difference(model, rows):
    baseline = np.array([0.5, -0.5])
    found = run(model, GradientKind.INTEGRATED_GRADIENTS, samples=300, baseline=baseline, chunking=Chunking(rows=rows))
    for index in (0, 1):
        shares = (np.arange(300) + 0.5) / 300
        path = baseline + shares[:, None, None] * (X - baseline)
        mean = np.mean([gradient_at(points, index) for points in path], axis=0)
        np.testing.assert_allclose(found.inputs[0].values[:, index], (X - baseline) * mean, rtol=1e-10)
        difference = logit_at(X, index) - logit_at(baseline, index)
        np.testing.assert_allclose(
            [each.relevance_out for each in found.explained[index::2]], difference, rtol=1e-10, atol=1e-12
        )
    assert max(each.conservation_gap for each in found.explained) < 0.02


def test_smooth_grad_is_seeded_and_does_not_hang_on_chunks_or_on_position_in_a_longer_list(model):
    whole = run(model, GradientKind.SMOOTH_GRAD, samples=7, noise=0.5, seed=3).inputs[0].values
    cut = run(model, GradientKind.SMOOTH_GRAD, samples=7, noise=0.5, seed=3, chunking=Chunking(rows=4)).inputs[0].values
    np.testing.assert_allclose(cut, whole, rtol=1e-12)
    other = run(model, GradientKind.SMOOTH_GRAD, samples=7, noise=0.5, seed=4).inputs[0].values
    assert not np.allclose(other, whole)
    method = GradientMethod(GradientKind.SMOOTH_GRAD, 7, 0.5, 3, first_instance=1)
    later = propagate_relevance(model, {"a": X[1:]}, LrpParameters(method, target=LrpTarget(Classes((0, 1)))))
    np.testing.assert_allclose(later.inputs[0].values, whole[1:], rtol=1e-12)


def test_smooth_grad_with_next_to_no_noise_is_the_gradient(model):
    found = run(model, GradientKind.SMOOTH_GRAD, samples=3, noise=1e-9).inputs[0].values
    np.testing.assert_allclose(found[:, 1], gradient_at(X, 1), rtol=1e-9)


def test_the_class_on_the_path_is_that_of_the_instance(model):
    method = GradientMethod(GradientKind.INTEGRATED_GRADIENTS, 4)
    found = propagate_relevance(model, {"a": X}, LrpParameters(method))
    largest = np.argmax([logit_at(X, 0), logit_at(X, 1)], axis=0)
    assert [each.class_index for each in found.explained] == largest.tolist()
    named = run(model, GradientKind.INTEGRATED_GRADIENTS, samples=4).inputs[0].values
    np.testing.assert_allclose(found.inputs[0].values[:, 0], named[np.arange(3), largest], rtol=1e-12)


def test_integrated_gradients_at_layers_are_refused(model):
    method = GradientMethod(GradientKind.INTEGRATED_GRADIENTS)
    layer = LayerSelection((model.graph.layers[0].name,))
    with pytest.raises(InvalidField, match=r"parameters\.layers"):
        propagate_relevance(model, {"a": X}, LrpParameters(method, layers=layer))


def test_gini_and_entropy_are_what_they_are_defined_to_be():
    shares = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 5.0], [0.0, 0.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0]])
    # Of k values the index of one that holds all is 1 - 1/k; of (1, 3, 0, 0), by pairwise differences: 20 / (2 4^2 1).
    np.testing.assert_allclose(gini(shares), [0.0, 0.75, 0.0, 0.625])
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(entropy(shares), [np.log(4), 0.0, 0.0, quarter], atol=1e-12)


def test_the_pixel_flipping_area_is_that_under_the_probability_as_inputs_go_to_zero(model):
    quality = QualityOptions(pixel_flipping_steps=2)
    found = run(model, GradientKind.INPUT_TIMES_GRADIENT, (0,), quality=quality)
    for row, each in enumerate(found.explained):
        relevance = found.inputs[0].values[row, 0]
        first, values = int(np.argmax(relevance)), []
        for gone in ([], [first], [0, 1]):
            x = X[row].copy()
            x[gone] = 0
            logits = np.array([logit_at(x, 0), logit_at(x, 1)])
            values.append(np.exp(logits[0]) / np.exp(logits).sum())
        np.testing.assert_allclose(each.pixel_flipping_auc, (values[0] / 2 + values[1] + values[2] / 2) / 2, rtol=1e-9)


def test_the_random_other_class_of_two_is_the_other_one(model):
    parameters = LrpParameters(
        RuleMap(otherwise=Epsilon(0.0)), target=LrpTarget(Classes((0,))), quality=QualityOptions(random_logit=True)
    )
    found = propagate_relevance(model, {"a": X}, parameters)
    own, other = X * gradient_at(X, 0), X * gradient_at(X, 1)
    cosine = (own * other).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(other, axis=1)
    np.testing.assert_allclose([each.random_logit_similarity for each in found.explained], cosine, rtol=1e-6)
