"""Constants behind products move into the weights and one bias, and nothing that is computed changes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from sidelight_engines.lrp.structure.folding import fold_affine

RANDOM = np.random.default_rng(5)


def constant(*shape):
    return tf.constant(RANDOM.normal(size=shape).astype(np.float32))


def conv(x):
    return tf.nn.conv2d(x, constant(3, 3, 4, 5), 1, "SAME", name="product") * constant(1, 1, 1, 5)


def depthwise(x):
    return constant(8) * tf.raw_ops.DepthwiseConv2dNative(
        input=x, filter=constant(3, 3, 4, 2), strides=[1, 1, 1, 1], padding="SAME", name="product"
    )


def dense(x):
    return tf.matmul(tf.reshape(x, [-1, 4]), constant(4, 3), name="product") * constant(3)


def turned(x):
    return tf.matmul(tf.reshape(x, [-1, 4]), constant(3, 4), transpose_b=True, name="product") * constant(3)


def by_one_number(x):
    return tf.nn.conv2d(x, constant(1, 1, 4, 2), 1, "SAME", name="product") * tf.constant(0.5)


def read_twice(x):
    made = tf.nn.conv2d(x, constant(1, 1, 4, 4), 1, "SAME", name="product")
    return made * constant(4) + made


def along_another_axis(x):
    return tf.nn.conv2d(x, constant(1, 1, 4, 4), 1, "SAME", name="product") * constant(6, 1)


def normalised(x):
    made = tf.nn.bias_add(tf.nn.conv2d(x, constant(3, 3, 4, 5), 1, "SAME", name="product"), constant(5))
    return tf.identity(made * constant(1, 1, 1, 5) + constant(5)) + tf.constant(0.5)


def dense_and_sums(x):
    return constant(3) + (tf.matmul(tf.reshape(x, [-1, 4]), constant(4, 3), name="product") + constant(1, 3)) * 2.0


def sum_of_each_position(x):
    return tf.nn.conv2d(x, constant(1, 1, 4, 4), 1, "SAME", name="product") + constant(6, 6, 4)


def graph_of(function):
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 6, 6, 4], name="x")
        tf.nn.relu(function(x), name="out")
    return graph.as_graph_def()


def run(graph_def, x, name="out:0"):
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        return session.run(name, {"x:0": x})


@pytest.mark.parametrize("function", [conv, depthwise, dense, turned, by_one_number])
def test_a_factor_moves_into_the_weights(function):
    before = graph_of(function)
    after = fold_affine(before, "out:0")
    assert not any(node.op == "Mul" for node in after.node)
    computing = {node.name for node in before.node if node.op != "Const"}
    assert {node.name for node in after.node if node.op != "Const"} == computing
    x = RANDOM.normal(size=(2, 6, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(before, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("function", [normalised, dense_and_sums])
def test_factors_and_addends_become_one_bias_behind_the_weights(function):
    before = graph_of(function)
    after = fold_affine(before, "out:0")
    (bias,) = [node for node in after.node if node.op in ("Add", "AddV2", "BiasAdd", "Mul")]
    (reader,) = [node for node in after.node if node.name == "out"]
    assert bias.op == "BiasAdd"
    assert list(reader.input) == [bias.name]
    computing = {node.name for node in before.node if node.op != "Const"}
    assert {node.name for node in after.node if node.op != "Const"} == computing
    x = RANDOM.normal(size=(2, 6, 6, 4)).astype(np.float32)
    np.testing.assert_allclose(run(after, x), run(before, x), rtol=1e-5, atol=1e-6)


def test_a_sum_that_differs_by_position_stays():
    before = graph_of(sum_of_each_position)
    assert sorted(node.op for node in fold_affine(before, "out:0").node) == sorted(node.op for node in before.node)


@pytest.mark.parametrize("function", [read_twice, along_another_axis])
def test_a_factor_that_is_not_one_of_all_that_reads_the_channels_stays(function):
    before = graph_of(function)
    after = fold_affine(before, "out:0")
    assert sum(node.op == "Mul" for node in after.node) == sum(node.op == "Mul" for node in before.node) == 1


def test_a_tensor_that_relevance_starts_at_keeps_its_value():
    before = graph_of(conv)
    after = fold_affine(before, "product:0")
    x = RANDOM.normal(size=(1, 6, 6, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(after, x, "product:0"), run(before, x, "product:0"))


def test_gradients_at_a_layer_before_a_factor_are_those_of_the_model(tmp_path):
    from sidelight_engines.lrp import (
        Classes,
        GradientKind,
        GradientMethod,
        LayerSelection,
        LrpParameters,
        LrpTarget,
        propagate_relevance,
    )
    from tiny_models import saved_model

    weights, scale, last = (RANDOM.normal(size=shape) for shape in ((3, 2), (2,), (2, 1)))
    model = saved_model(lambda a: (tf.matmul(a, weights, name="product") * scale) @ last, [(3,)], tmp_path / "m")
    layer = next(layer.name for layer in model.graph.layers if layer.op == "MatMul")
    parameters = LrpParameters(
        GradientMethod(GradientKind.GRADIENT), target=LrpTarget(Classes((0,))), layers=LayerSelection((layer,))
    )
    found = propagate_relevance(model, {"a": np.ones((1, 3))}, parameters).layers[0].values[0, 0]
    np.testing.assert_allclose(found, scale * last[:, 0], rtol=1e-12)
