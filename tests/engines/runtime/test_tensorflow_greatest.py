"""The greatest value is read from a smaller tensor where that has it, and from no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sidelight_engines.runtime import tensorflow_greatest
from sidelight_engines.runtime.tensorflow_greatest import greatest_values

Network = Callable[[Any], list[Any]]


def values_of(
    network: Network, x: Any, monkeypatch: pytest.MonkeyPatch, sides: tuple[int | None, int | None] | None = None
) -> tuple[list[Any], list[Any], list[str]]:
    """The tensors that a network gives, their greatest values, and the operations of the tensors that were read."""
    import tensorflow as tf

    read: list[str] = []
    pool = tensorflow_greatest._pool
    monkeypatch.setattr(tensorflow_greatest, "_pool", lambda tensor: read.append(tensor.op.type) or pool(tensor))

    @tf.function(
        autograph=False, input_signature=[tf.TensorSpec((None, *(sides or x.shape[1:3]), x.shape[3]), tf.float32)]
    )
    def compute(given: Any) -> Any:
        tensors = network(given)
        return tensors, greatest_values(tensors)

    tensors, greatest = compute(tf.constant(x))
    return [tensor.numpy() for tensor in tensors], [value.numpy() for value in greatest], read


def assert_greatest(tensors: list[Any], greatest: list[Any]) -> None:
    for tensor, value in zip(tensors, greatest, strict=True):
        np.testing.assert_array_equal(value, tensor.max(axis=(1, 2)))


def images(rows: int, height: int, width: int) -> Any:
    """Each example has its greatest value at another position, so that none may be left out."""
    x = np.random.default_rng(1).random((rows, height, width, 2)).astype(np.float32) - 0.5
    for example in range(rows):
        x[example, (example // width) % height, example % width] = 1 + example / rows
    return x


@pytest.mark.parametrize(
    ("height", "width", "window", "stride", "padding", "covers"),
    [
        (4, 6, 2, 2, "VALID", True),
        (5, 7, 3, 2, "VALID", True),
        (4, 4, 2, 1, "VALID", True),
        (5, 6, 2, 2, "VALID", False),  # The last row is left over.
        (6, 7, 2, 2, "VALID", False),
        (5, 5, 2, 3, "VALID", False),  # There is a gap between windows, though none is left over.
        (5, 7, 2, 2, "SAME", True),
        (5, 7, 3, 2, "SAME", True),
        (5, 7, 2, 3, "SAME", False),
    ],
)
def test_a_pool_is_read_in_place_of_its_input_if_it_leaves_no_position_out(
    height: int, width: int, window: int, stride: int, padding: str, covers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    def network(x: Any) -> list[Any]:
        activated = tf.nn.relu(x)
        return [activated, tf.nn.max_pool2d(activated, window, stride, padding)]

    tensors, greatest, read = values_of(network, images(height * width, height, width), monkeypatch)

    assert_greatest(tensors, greatest)
    assert read == (["MaxPool"] if covers else ["Relu", "MaxPool"])


def test_a_pool_over_free_sides_is_not_known_to_cover_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    def network(x: Any) -> list[Any]:
        activated = tf.nn.relu(x)
        return [activated, tf.nn.max_pool2d(activated, 2, 2, "VALID")]

    tensors, greatest, read = values_of(network, images(35, 5, 7), monkeypatch, (None, None))

    assert_greatest(tensors, greatest)
    assert read == ["Relu", "MaxPool"]


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_an_activation_follows_from_its_input(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    def network(x: Any) -> list[Any]:
        before = x * 5.0 - 7.0
        return [before, getattr(tf.nn, activation)(before)]

    tensors, greatest, read = values_of(network, images(24, 4, 6), monkeypatch)

    assert_greatest(tensors, greatest)
    assert read == ["Sub"]


def test_pools_of_pools_are_followed_and_average_pools_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    def network(x: Any) -> list[Any]:
        first = tf.nn.relu(x)
        second = tf.nn.max_pool2d(first, 2, 2, "VALID")
        third = tf.nn.max_pool2d(second, 2, 2, "VALID")
        return [first, tf.nn.avg_pool2d(third, 2, 2, "VALID")]

    tensors, greatest, read = values_of(network, images(64, 8, 8), monkeypatch)

    assert_greatest(tensors, greatest)
    assert read == ["MaxPool", "AvgPool"]
