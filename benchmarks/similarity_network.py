"""The network of the published example of gradient similarity, and references made of few images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trained:
    """The trained network.

    Attributes:
        version: the folder of the SavedModel.
        onnx: the folder of the ONNX file.
        weights: an .npz of its weights, in Keras' order.
    """

    version: Path
    onnx: Path
    weights: Path


def build(folder: Path, x: Array, y: Array) -> Trained:
    """Trains the network for two passes over the data and writes it, unless the folder holds it already."""
    made = Trained(folder / "similarity" / "1", folder / "similarity_onnx" / "1", folder / "similarity_weights.npz")
    if made.weights.exists():
        return made
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    values = given = layers.Input((28, 28, 1), name="input")
    for block, filters in ((1, 64), (2, 32)):
        values = layers.Conv2D(filters, 2, padding="same", activation="relu", name=f"conv_{block}")(values)
        values = layers.MaxPooling2D(2, name=f"maxp_{block}")(values)
        values = layers.Dropout(0.3, name=f"drop_{block}")(values)
    values = layers.Flatten(name="flat")(values)
    values = layers.Dense(256, activation="relu", name="dense")(values)
    values = layers.Dropout(0.5, name="drop_3")(values)
    values = layers.Dense(10, name="logits")(values)
    network = keras.Model(given, layers.Activation("softmax", name="softmax")(values))
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(x, y, batch_size=64, epochs=2, verbose=0)
    network.export(str(made.version), verbose=False)
    made.onnx.mkdir(parents=True, exist_ok=True)
    network.export(str(made.onnx / "model.onnx"), format="onnx", verbose=False)
    np.savez(made.weights, *network.get_weights())
    return made


def augment(x: Array, y: npt.NDArray[np.int64], count: int, file: Path) -> npt.NDArray[np.int64]:
    """Writes `count` images, shifted by up to two pixels and noised, to a .npy file; their labels."""
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(x), count)
    if not file.exists():
        written = np.lib.format.open_memmap(file, "w+", np.float32, (count, 28, 28, 1))
        for first in range(0, count, 1000):
            part = x[chosen[first : first + 1000]]
            shifts = random.integers(-2, 3, (len(part), 2))
            moved = np.stack([np.roll(image, tuple(shift), (0, 1)) for image, shift in zip(part, shifts, strict=True)])
            noise = random.normal(0, 0.02, moved.shape)
            written[first : first + len(part)] = np.clip(moved + noise, 0, 1)
        written.flush()
    labels: npt.NDArray[np.int64] = y[chosen].astype(np.int64)
    return labels
