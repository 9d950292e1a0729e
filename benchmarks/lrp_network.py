"""The networks of the LRP benchmarks: that of the published complaint about alpha-beta, trained on digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
SEED = 116
_TRAINING = 4000
_EPOCHS = 4
LAYERS = ("conv_1", "conv_2", "dense_1", "dense_2")


def load_digits(path: Path | None) -> tuple[Array, Array]:
    """Images (n, 28, 28, 1) float32 from 0 to 1 and labels, in an order drawn once.

    Args:
        path: an .npz file with x (n, 28, 28) uint8 and y (n,); None for scikit-learn's digits, drawn larger.
    """
    if path is not None:
        with np.load(path) as held:
            images, labels = held["x"] / 255.0, held["y"]
    else:
        from sklearn.datasets import load_digits as load

        data = load()
        images = np.pad(np.repeat(np.repeat(data.images / 16.0, 3, axis=1), 3, axis=2), ((0, 0), (2, 2), (2, 2)))
        labels = data.target
    order = np.random.default_rng(SEED).permutation(len(labels))
    return images[order].astype(np.float32)[..., np.newaxis], labels[order]


def train(folder: Path, images: Array, labels: Array) -> None:
    """Trains the network with biases, and once more without any, and exports both as SavedModel and as NumPy weights.

    Args:
        folder: for ``seed/saved_model.pb`` and ``seed.npz``, and the same of ``seed_unbiased``.
        images: as `load_digits` gives them.
        labels: of the images.
    """
    import keras

    for name, biased in (("seed", True), ("seed_unbiased", False)):
        if (folder / name / "saved_model.pb").exists():
            continue
        keras.utils.set_random_seed(SEED)
        layers = keras.layers
        x = given = keras.Input((28, 28, 1), name="input")
        for number in (1, 2):
            x = layers.Conv2D(32, 3, padding="same", activation="relu", use_bias=biased, name=f"conv_{number}")(x)
            x = layers.MaxPooling2D(2, name=f"max_{number}")(x)
        x = layers.Flatten(name="flat")(x)
        x = layers.Dense(512, activation="relu", use_bias=biased, name="dense_1")(x)
        x = layers.Dense(10, use_bias=biased, name="dense_2")(x)
        model = keras.Model(given, layers.Activation("softmax", name="softmax")(x))
        model.compile(keras.optimizers.Adam(), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images[:_TRAINING], labels[:_TRAINING], batch_size=100, epochs=_EPOCHS, verbose=0)
        model.export(str(folder / name), verbose=False)
        held = {}
        for layer in LAYERS:
            weights = model.get_layer(layer).get_weights()
            held[f"{layer}_w"] = weights[0]
            held[f"{layer}_b"] = weights[1] if biased else np.zeros(weights[0].shape[-1], np.float32)
        np.savez(folder / f"{name}.npz", **held)
