"""Small Keras networks that hold every kind of layer whose gradients come in factors, and some that do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def planar(keras: Any) -> Any:
    """Convolutions over two axes: strided, padded, dilated, depthwise, separable, transposed; normalised."""
    layers = keras.layers
    given = layers.Input((9, 8, 2), name="image")
    x = layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", name="strided")(given)
    x = layers.BatchNormalization(name="normalised")(x)
    x = layers.Activation("tanh")(x)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, padding="same", name="depthwise")(x)
    x = layers.SeparableConv2D(4, 3, padding="same", activation="tanh", name="separable")(x)
    x = layers.Conv2D(3, 1, name="pointwise")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="leaky")(x)
    x = layers.Conv2DTranspose(2, 3, strides=2, padding="same", activation="tanh", name="transposed")(x)
    x = layers.Conv2DTranspose(2, (2, 3), padding="valid", activation="tanh", name="transposed_valid")(x)
    x = layers.Conv2D(8, 3, padding="valid", activation="tanh", name="valid")(x)
    x = layers.Flatten()(x)
    return keras.Model(given, layers.Dense(5, activation="softmax", name="kind")(x))


def dilated(keras: Any) -> Any:
    """A dilated convolution, whose positions TensorFlow moves into the batch, and one in groups."""
    layers = keras.layers
    given = layers.Input((8, 8, 4), name="image")
    x = layers.Conv2D(6, 3, dilation_rate=2, padding="same", activation="tanh", name="dilated")(given)
    x = layers.Conv2D(4, 3, groups=2, activation="tanh", name="grouped")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(given, layers.Dense(3, activation="softmax", name="kind")(x))


def sequence(keras: Any) -> Any:
    """Tokens: embedding, dense layers on every step, convolution over time, layer normalisation."""
    layers = keras.layers
    given = layers.Input((12,), dtype="int32", name="tokens")
    x = layers.Embedding(50, 6, name="table")(given)
    x = layers.Dense(40, activation="tanh", name="each")(x)
    x = layers.LayerNormalization(name="normalised")(x)
    x = layers.Conv1D(8, 3, strides=2, padding="same", activation="tanh", name="over_time")(x)
    x = layers.Conv1DTranspose(4, 3, strides=2, activation="tanh", name="back")(x)
    x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 24), bias_axes="d", name="einsum")(x)
    x = layers.Dense(48, activation="tanh", name="wide")(x)
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(given, layers.Dense(1, activation="sigmoid", name="flag")(x))


def attention(keras: Any) -> Any:
    """Self-attention: projections by einsum, of which one is read by three."""
    layers = keras.layers
    given = layers.Input((6, 8), name="steps")
    x = layers.MultiHeadAttention(2, 4, name="attention")(given, given)
    x = layers.Flatten()(layers.Add()([x, given]))
    return keras.Model(given, layers.Dense(2, name="number")(x))


def volume(keras: Any) -> Any:
    """Convolutions over three axes."""
    layers = keras.layers
    given = layers.Input((5, 6, 4, 2), name="volume")
    x = layers.Conv3D(3, (2, 3, 2), strides=(1, 2, 1), padding="same", activation="tanh", name="solid")(given)
    x = layers.Conv3DTranspose(2, 2, strides=2, activation="tanh", name="transposed")(x)
    x = layers.GlobalAveragePooling3D()(x)
    return keras.Model(given, layers.Dense(3, name="number")(x))


def shared(keras: Any) -> Any:
    """A dense layer and a convolution that are each used twice."""
    layers = keras.layers
    given = layers.Input((6, 6, 3), name="image")
    conv = layers.Conv2D(3, 3, padding="same", activation="tanh", name="conv_twice")
    x = layers.Flatten()(conv(conv(given)))
    x = layers.Dense(10, activation="tanh", name="first")(x)
    dense = layers.Dense(10, activation="tanh", name="dense_twice")
    return keras.Model(given, layers.Dense(4, activation="softmax", name="kind")(dense(dense(x))))


def recurrent(keras: Any) -> Any:
    """A loop, in front of a dense layer."""
    layers = keras.layers
    given = layers.Input((5, 3), name="steps")
    x = layers.LSTM(4, name="loop")(given)
    return keras.Model(given, layers.Dense(2, activation="softmax", name="kind")(x))


ZOO: dict[str, Callable[[Any], Any]] = {
    build.__name__: build for build in (planar, dilated, sequence, attention, volume, shared, recurrent)
}


def draw_inputs(model: Any, count: int) -> dict[str, Array]:
    """Seeded random inputs by input name."""
    random = np.random.default_rng(5)
    drawn = {}
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        whole = "int" in str(tensor.dtype)
        drawn[tensor.name] = random.integers(0, 50, shape).astype("int32") if whole else random.normal(size=shape)
    return {name: array if array.dtype == np.int32 else array.astype(np.float32) for name, array in drawn.items()}
