"""Networks that several test modules read, each built and exported once per session."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Array = npt.NDArray[Any]


class Network:
    """An untrained Keras model and its exports, each made on first use.

    Biases and moving statistics are random too, so that leaving one out shows.
    """

    def __init__(self, name: str, build: Callable[[Any], Any], folder: Path, keras: Any) -> None:
        self.name = name
        self._build = build
        self._folder = folder
        self._keras = keras

    @cached_property
    def keras_model(self) -> Any:
        # Keras numbers the layers that have no name from where the session stands.
        self._keras.backend.clear_session()
        self._keras.utils.set_random_seed(17)
        model = self._build(self._keras)
        random = np.random.default_rng(17)
        for layer in model._flatten_layers():
            if not hasattr(layer, "layers"):
                layer.set_weights([w if w.ndim > 1 else random.uniform(0.1, 0.5, w.shape) for w in layer.get_weights()])
        return model

    @cached_property
    def saved_model(self) -> Path:
        """The folder of the SavedModel."""
        path = self._folder / self.name
        self.keras_model.export(str(path), **({"verbose": False} if self._keras.__name__ == "keras" else {}))
        return path

    @cached_property
    def onnx(self) -> Path:
        """The ONNX file."""
        path = self._folder / f"{self.name}.onnx"
        self.keras_model.export(str(path), format="onnx", verbose=False)
        return path

    def instances(self, count: int) -> dict[str, Array]:
        """Seeded random inputs by input name."""
        random = np.random.default_rng(3)
        return {
            tensor.name: random.random((count, *tensor.shape[1:])).astype(getattr(tensor.dtype, "name", tensor.dtype))
            for tensor in self.keras_model.inputs
        }

    def layer_values(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Keras' own output of every layer but inputs and dropout, by layer name, in order."""
        layers = [layer for layer in self.keras_model.layers if type(layer).__name__ not in ("InputLayer", "Dropout")]
        inner = self._keras.Model(self.keras_model.inputs, [layer.output for layer in layers])
        values = inner([inputs[tensor.name] for tensor in self.keras_model.inputs], training=False)
        return {layer.name: np.asarray(value) for layer, value in zip(layers, values, strict=True)}


def classic(keras: Any) -> Any:
    """Every layer named by the author, dropout between."""
    layers = keras.layers
    x = given = layers.Input(shape=(28, 28, 1), name="input")
    for i in (1, 2):
        x = layers.Conv2D(8, 2, padding="same", name=f"conv_{i}")(x)
        x = layers.Activation("relu", name=f"relu_{i}")(x)
        x = layers.MaxPooling2D(2, name=f"maxp_{i}")(x)
        x = layers.Dropout(0.3, name=f"drop_{i}")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(16, name="dense_1")(x)
    x = layers.Activation("relu", name="relu_3")(x)
    x = layers.Dropout(0.5, name="drop_3")(x)
    x = layers.Dense(10, name="dense_2")(x)
    return keras.Model(given, layers.Activation("softmax", name="softmax")(x))


def double_input(keras: Any) -> Any:
    """float64 input, some layers named, some numbered by Keras."""
    layers = keras.layers
    x = given = layers.Input(shape=(28, 28, 1), dtype="float64")
    for _ in range(2):
        x = layers.Conv2D(8, 2, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.Dropout(0.3)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu")(x)
    x = layers.Dense(10, name="logits")(x)
    return keras.Model(given, layers.Activation("softmax", name="softmax")(x))


def sequential(keras: Any) -> Any:
    """All layers numbered by Keras; activations inside them."""
    layers = keras.layers
    pairs = [[layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(4, 3, activation="relu")] for _ in range(2)]
    body = [*pairs[0], layers.MaxPooling2D(2), *pairs[1], layers.GlobalAveragePooling2D()]
    head = [layers.Dense(8, activation="relu"), layers.Dense(10, activation="softmax")]
    return keras.Sequential([layers.Input((28, 28, 1)), *body, *head])


def reshaping(keras: Any) -> Any:
    """Flat input, reshaped to an image."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((784,)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(4, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(4, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(10),
            layers.Activation("softmax"),
        ]
    )


def branching(keras: Any) -> Any:
    """Two inputs, two outputs, a nested model, normalisation, convolutions in groups."""
    layers = keras.layers
    inner = [layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="bn"), layers.ReLU(name="act")]
    block = keras.Sequential([layers.Input((14, 14, 4)), *inner], name="block1")
    image = layers.Input((28, 28, 1), name="image")
    meta = layers.Input((3,), name="meta")
    x = block(layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(image))
    x = layers.Conv2D(4, 3, groups=2, name="grouped")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Concatenate(name="joined")([layers.GlobalAveragePooling2D(name="pooled")(x), meta])
    kind = layers.Dense(3, activation="softmax", name="kind")(x)
    flag = layers.Dense(1, activation="sigmoid", name="flag")(x)
    return keras.Model([image, meta], {"kind": kind, "flag": flag})


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Network]:
    """The networks by name; ``keras_2`` is `classic` as Keras 2 writes it."""
    import keras
    import tf_keras

    folder = tmp_path_factory.mktemp("networks")
    builders = (classic, double_input, sequential, reshaping, branching)
    made = {build.__name__: Network(build.__name__, build, folder, keras) for build in builders}
    return made | {"keras_2": Network("keras_2", classic, folder, tf_keras)}
