"""The network of the published example: two convolutions and two dense layers over 28 x 28 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

LAYERS = (
    "conv_1",
    "relu_1",
    "maxp_1",
    "drop_1",
    "conv_2",
    "relu_2",
    "maxp_2",
    "drop_2",
    "flat",
    "dense_1",
    "relu_3",
    "drop_3",
    "dense_2",
    "softmax",
)


@dataclass(frozen=True)
class Classic:
    """The trained network in every form that a benchmark needs.

    Attributes:
        saved_model: the folder of the SavedModel.
        layers: the folder of a SavedModel with one signature per layer, for libraries that take a function
            per layer.
        keras: the file of the Keras model.
        onnx: the ONNX file.
    """

    saved_model: Path
    layers: Path
    keras: Path
    onnx: Path


def images(path: Path | None) -> tuple[Array, Array, str]:
    """28 x 28 images as (n, 28, 28, 1) float32 from 0 to 1, their labels, and what they are.

    Args:
        path: an .npz file with `x` (n, 28, 28) uint8 and `y` (n,); None for scikit-learn's digits made larger.
    """
    if path is not None:
        data = np.load(path)
        return (data["x"][..., None] / 255).astype(np.float32), data["y"], path.name
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    # Every pixel three times, and a rim of two.
    large = np.pad(np.repeat(np.repeat(small.reshape(-1, 8, 8), 3, axis=1), 3, axis=2), ((0, 0), (2, 2), (2, 2)))
    return (large[..., None] / 16).astype(np.float32), labels, "scikit-learn's digits, each pixel three times"


def build(folder: Path, x: Array, y: Array) -> Classic:
    """Trains the network for one pass over the data and writes it, unless the folder holds it already."""
    made = Classic(folder / "1", folder / "layers", folder / "model.keras", folder / "model.onnx")
    if made.onnx.exists():
        return made
    import onnx
    import tensorflow as tf
    import tf2onnx

    # Keras 2 keeps dropout layers in what it writes, so all 14 layers can be measured.
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    values = given = layers.Input((28, 28, 1), name="input")
    for block in (1, 2):
        values = layers.Conv2D(64, 2, padding="same", name=f"conv_{block}")(values)
        values = layers.Activation("relu", name=f"relu_{block}")(values)
        values = layers.MaxPooling2D(2, name=f"maxp_{block}")(values)
        values = layers.Dropout(0.3, name=f"drop_{block}")(values)
    values = layers.Flatten(name="flat")(values)
    values = layers.Dense(256, name="dense_1")(values)
    values = layers.Activation("relu", name="relu_3")(values)
    values = layers.Dropout(0.5, name="drop_3")(values)
    values = layers.Dense(10, name="dense_2")(values)
    network = tf_keras.Model(given, layers.Activation("softmax", name="softmax")(values))
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(x, y, batch_size=64, epochs=2, verbose=0)
    network.export(str(made.saved_model))
    network.save(made.keras)
    module = tf.Module()
    module.network = network
    signatures = {}
    for name in LAYERS:
        part = tf_keras.Model(network.input, network.get_layer(name).output)
        function = tf.function(lambda values, part=part: part(values, training=False))
        spec = tf.TensorSpec((None, 28, 28, 1), tf.float32, name="input")
        signatures[name] = function.get_concrete_function(spec)
    tf.saved_model.save(module, str(made.layers), signatures=signatures)
    converted, _ = tf2onnx.convert.from_keras(network)
    onnx.save(converted, made.onnx)
    return made
