"""Bounds hold, prove nothing that is not so, and give way to sums where an operation has no rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sidelight_engines.runtime import bounds

RANDOM = np.random.default_rng(8)
Network = Callable[[Any], list[Any]]


def proofs_of(network: Network, x: Any, greatest: Callable[[Any], Any] | None = None) -> tuple[list[Any], list[Any]]:
    """The tensors that a network gives for x, and their proofs."""
    import tensorflow as tf

    def over_positions(tensor: Any) -> Any:
        return tf.reduce_max(tf.reshape(tensor, [tf.shape(tensor)[0], -1]), 1, keepdims=True)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((None, *x.shape[1:]), tf.as_dtype(x.dtype))])
    def compute(given: Any) -> Any:
        tensors = network(given)
        return tensors, bounds.finite_proofs([given], tensors, [(greatest or over_positions)(t) for t in tensors])

    tensors, proofs = compute(tf.constant(x))
    return [tensor.numpy() for tensor in tensors], [proof.numpy() for proof in proofs]


def weights(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def of_every_rule(x: Any) -> list[Any]:
    import tensorflow as tf

    conv = tf.nn.bias_add(tf.nn.conv2d(x, tf.identity(weights(3, 3, 2, 4)), 1, "SAME"), weights(4))
    relu = tf.nn.relu(conv)
    pooled = tf.nn.max_pool2d(relu, 3, 2, "SAME")
    deep = tf.nn.depthwise_conv2d(pooled, weights(2, 2, 4, 1), [1, 1, 1, 1], "VALID")
    scaled = deep * weights(4) - weights(4)
    added = tf.nn.relu6(scaled + tf.nn.avg_pool2d(pooled, 2, 1, "VALID"))
    squared = added * added
    mean = tf.reduce_mean(squared, [1, 2], keepdims=True)
    dense = tf.matmul(tf.reshape(tf.transpose(mean, [0, 3, 1, 2]), [-1, 4]), weights(4, 3))
    most = tf.reduce_max(tf.expand_dims(dense, 1), 1)
    return [conv, relu, pooled, deep, scaled, added, squared, mean, dense, most]


def no_sum(tensor: Any) -> Any:
    raise AssertionError(f"{tensor.name} was added up")


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e4])
def test_no_value_is_beyond_its_bound(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    monkeypatch.setattr(bounds, "_sum", no_sum)
    x = (weights(5, 6, 7, 2) * scale).astype(np.float32)

    for tensor, proof in zip(*proofs_of(of_every_rule, x), strict=True):
        assert proof.shape == (5,)
        # But for rounding, for which the limit leaves room.
        assert np.abs(tensor).max() <= proof[0] * (1 + 1e-5) < np.inf


def test_whole_numbers_are_bounded_by_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    monkeypatch.setattr(bounds, "_sum", no_sum)
    x = np.array([[7], [250]], np.uint8)

    _, (proof,) = proofs_of(lambda given: [tf.cast(given, tf.float32)], x)

    assert proof.tolist() == [255, 255]


@pytest.mark.parametrize("factors", [(1e20, 1e20), (1e20, 1e20, 1e-30), (1e30, 1e30, 0.0), (np.inf, 0.0), (np.nan,)])
def test_what_was_infinite_on_the_way_is_not_proven(factors: tuple[float, ...]) -> None:
    import tensorflow as tf

    def network(x: Any) -> list[Any]:
        for factor in factors:
            x = x * tf.constant(factor, tf.float32)
        return [tf.nn.relu(x)]

    _, (proof,) = proofs_of(network, np.array([[1.0], [3.0]], np.float32))

    assert not np.isfinite(proof).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_proves_nothing(value: float) -> None:
    x = weights(3, 6, 7, 2)
    x[1, 5, 6, 1] = value

    _, proofs = proofs_of(of_every_rule, x)

    assert not any(np.isfinite(proof).any() for proof in proofs)


def test_a_greatest_value_that_hides_nan_bounds_nothing_that_follows() -> None:
    import tensorflow as tf

    def network(x: Any) -> list[Any]:
        # Infinity less infinity.
        first = tf.nn.relu(tf.nn.conv2d(x, np.array([[[[1e30], [-1e30]]]], np.float32), 1, "VALID"))
        return [first, tf.nn.relu(tf.nn.max_pool2d(first, 2, 2, "VALID"))]

    x = np.full((2, 4, 4, 2), 1e10, np.float32)

    _, proofs = proofs_of(network, x, greatest=lambda tensor: tf.zeros([tf.shape(tensor)[0], 1]))

    assert not any(np.isfinite(proof).any() for proof in proofs)


def test_an_operation_without_a_rule_is_added_up() -> None:
    import tensorflow as tf

    def network(x: Any) -> list[Any]:
        unknown = tf.nn.relu(tf.math.log(x))
        return [unknown, tf.nn.relu(unknown * 2.0)]

    x = np.ones((3, 2, 2), np.float32) * 3
    x[1, 1, 1] = 0.0  # Minus infinity, which the activation makes 0.
    x[2, 0, 0] = -1.0  # NaN.

    tensors, (first, second) = proofs_of(network, x)

    np.testing.assert_allclose(first[:2], tensors[0].sum(axis=(1, 2))[:2], rtol=1e-6)
    # What is infinite or NaN in one row is no longer known to be bounded in any that follows.
    for tensor, proof in zip(tensors, (first, second), strict=True):
        finite = np.isfinite(tensor).all(axis=(1, 2))
        assert not np.isfinite(proof[~finite]).any()


def test_more_follows_from_what_was_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    added: list[str] = []
    plain = bounds._sum
    monkeypatch.setattr(bounds, "_sum", lambda tensor: added.append(tensor.name) or plain(tensor))

    def network(x: Any) -> list[Any]:
        unknown = tf.nn.relu(tf.math.sin(x))
        return [unknown, tf.nn.relu(unknown * 3.0)]

    x = weights(4, 3, 3)
    tensors, (_, second) = proofs_of(network, x)

    assert len(added) == 1
    assert np.abs(tensors[1]).max() <= second[0] == pytest.approx(3 * tensors[0].max())
