"""Layer normalisation in every spelling, against its rule written out contribution by contribution.

y_j = g_j (x_j - mean x) / s + b_j,  s = sqrt(var x + e) held constant
R_i = x_i sum_j a_ij R_j / st(y_j),  a_ij = g_j / s (delta_ij - 1 / n)      (Ali et al. 2022, LN-rule)
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from sidelight_engines.errors import UnsupportedOp
from sidelight_engines.lrp import GivenRelevance, LrpParameters, LrpTarget, propagate_relevance
from tiny_models import onnx_model, saved_model

RANDOM = np.random.default_rng(8)
STEPS, WIDTH, EPSILON, STABILISER = 2, 4, 1e-3, 1e-6
GAMMA, BETA = RANDOM.uniform(0.5, 1.5, WIDTH), RANDOM.normal(size=WIDTH)
X = RANDOM.normal(1, 2, size=(3, STEPS, WIDTH))
RELEVANCE = RANDOM.normal(size=(3, 2, STEPS, WIDTH))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("normalisation")


def by_formula(x, relevance, centred=True, beta=BETA):
    """The relevance of x, and the bias's share; one instance, one target, one step."""
    s = np.sqrt((x.var() if centred else (x**2).mean()) + EPSILON)
    found, bias = np.zeros(WIDTH), 0.0
    for j in range(WIDTH):
        y = GAMMA[j] * (x[j] - (x.mean() if centred else 0)) / s + beta[j]
        share = relevance[j] / (y + np.copysign(STABILISER, y))
        bias += beta[j] * share
        for i in range(WIDTH):
            found[i] += x[i] * GAMMA[j] / s * ((i == j) - centred / WIDTH) * share
    return found, bias


def expected(centred=True, beta=BETA):
    found, bias = np.zeros((3, 2, STEPS, WIDTH)), np.zeros((3, 2))
    for place in np.ndindex(3, 2, STEPS):
        instance, target, step = place
        found[place], own = by_formula(X[instance, step], RELEVANCE[place], centred, beta)
        bias[instance, target] += own
    return found, bias


def as_keras(x):
    import tensorflow as tf

    mean, variance = tf.nn.moments(x, -1, keepdims=True)
    factor = tf.math.rsqrt(variance + EPSILON) * GAMMA
    return x * factor + (BETA - mean * factor)


def centred_once(x):
    import tensorflow as tf

    y = x - tf.reduce_mean(x, -1, keepdims=True)
    return y * tf.math.rsqrt(tf.reduce_mean(tf.square(y), -1, keepdims=True) + EPSILON) * GAMMA + BETA


def divided(x):
    import tensorflow as tf

    y = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.pow(y, tf.constant(2.0, x.dtype)), -1, keepdims=True)
    return y / tf.sqrt(variance + EPSILON) * GAMMA + BETA


def by_squares(x):
    import tensorflow as tf

    mean = tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(x * x, -1, keepdims=True) - mean * mean
    return (x - mean) / tf.sqrt(variance + EPSILON) * GAMMA + BETA


def moved_statistics(x):
    """As exporters leave it: the mean goes through the other layout on its way to the squares."""
    import tensorflow as tf

    mean = tf.reduce_mean(x, -1, keepdims=True)
    moved = tf.reshape(tf.transpose(mean, [0, 2, 1]), [-1, STEPS, 1])
    factor = GAMMA / tf.sqrt(tf.reduce_mean((x - moved) ** 2, -1, keepdims=True) + EPSILON)
    return x * factor + (BETA - mean * factor)


def root_mean_square(x):
    import tensorflow as tf

    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + EPSILON) * GAMMA


def as_batch_normalisation(x):
    """Instances and steps are channels, and the operation trains on them."""
    import tensorflow as tf

    rows = tf.reshape(x, [1, -1, WIDTH, 1])
    count = tf.shape(rows)[1]
    normalised = tf.raw_ops.FusedBatchNormV3(
        x=rows,
        scale=tf.ones([count]),
        offset=tf.zeros([count]),
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=EPSILON,
        data_format="NCHW",
        is_training=True,
    )[0]
    return tf.reshape(normalised, tf.shape(x)) * GAMMA.astype(np.float32) + BETA.astype(np.float32)


def relevance_of(model, dtype):
    name = model.graph.inputs[0].name
    return propagate_relevance(
        model, {name: X.astype(dtype)}, LrpParameters(target=LrpTarget(GivenRelevance(RELEVANCE)))
    )


def check(result, found, bias, rtol):
    np.testing.assert_allclose(result.inputs[0].values, found, rtol=rtol, atol=rtol)
    total = result.ledger[-1]
    np.testing.assert_allclose(total.bias + total.sink, bias, rtol=rtol, atol=rtol)
    assert max(explained.ledger_residual for explained in result.explained) < 1e-5


@pytest.mark.parametrize("spelling", [as_keras, centred_once, divided, by_squares, moved_statistics])
def test_layer_normalisation_is_one_affine_map_however_it_is_spelled(spelling, folder):
    model = saved_model(spelling, [(STEPS, WIDTH)], folder / spelling.__name__)
    check(relevance_of(model, np.float64), *expected(), rtol=1e-9)


def test_root_mean_square_normalisation_passes_relevance(folder):
    model = saved_model(root_mean_square, [(STEPS, WIDTH)], folder / "rms")
    result = relevance_of(model, np.float64)
    check(result, *expected(centred=False, beta=np.zeros(WIDTH)), rtol=1e-9)
    np.testing.assert_allclose(result.inputs[0].values, RELEVANCE, rtol=1e-3)


def test_layer_normalisation_disguised_as_batch_normalisation_is_recognised(folder):
    model = saved_model(as_batch_normalisation, [(STEPS, WIDTH)], folder / "fused", "float32")
    check(relevance_of(model, np.float32), *expected(), rtol=2e-3)


def test_batch_normalisation_that_trains_on_instances_is_refused(folder):
    import tensorflow as tf

    def training(x):
        zeros, ones = tf.zeros([WIDTH]), tf.ones([WIDTH])
        rows = tf.expand_dims(x, 1)
        return tf.raw_ops.FusedBatchNormV3(
            x=rows, scale=ones, offset=zeros, mean=tf.zeros([0]), variance=tf.zeros([0]), is_training=True
        )[0]

    model = saved_model(training, [(STEPS, WIDTH)], folder / "training", "float32")
    relevance = LrpTarget(GivenRelevance(RELEVANCE[:, :, None]))
    with pytest.raises(UnsupportedOp, match="statistics of the batch"):
        propagate_relevance(model, {model.graph.inputs[0].name: X.astype(np.float32)}, LrpParameters(target=relevance))


def test_layer_normalization_of_onnx_files_is_the_same(folder):
    node = helper.make_node("LayerNormalization", ["x", "g", "b"], ["y"], "ln", epsilon=EPSILON)
    constants = {"g": GAMMA.astype(np.float32), "b": BETA.astype(np.float32)}
    model = onnx_model([node], constants, {"x": (STEPS, WIDTH)}, "y", folder / "onnx")
    check(relevance_of(model, np.float32), *expected(), rtol=2e-3)
