"""Step one: a small convolutional network learns scikit-learn's 8 x 8 digits, and is exported twice."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidelight_service.demo.stage import ONNX, SAVED_MODEL, DemoFailed, heading, say

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEED = 0
_TRAINING_IMAGES = 1397
_EPOCHS = 20


@dataclass(frozen=True)
class Digits:
    """Images of digits.

    Attributes:
        train_images: (n, 8, 8, 1) float32 in [0, 1].
        train_labels: (n,).
        test_images: held out.
        test_labels: held out.
    """

    train_images: NDArray[Any]
    train_labels: NDArray[Any]
    test_images: NDArray[Any]
    test_labels: NDArray[Any]


def prepare_models(repository: Path, log: Path) -> Digits:
    """Trains the network and writes it to a model repository, as SavedModel and as ONNX.

    Args:
        repository: a directory; the two models in it are replaced.
        log: where what TensorFlow says meanwhile goes.

    Returns:
        The data it was trained and tested on.

    Raises:
        DemoFailed: a package is missing.
    """
    missing = [name for name in ("keras", "sklearn", "tf2onnx") if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoFailed(f"the demo needs {', '.join(missing)}; install them with: pip install 'sidelight[demo]'")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    heading("Training a digit classifier (scikit-learn's digits, 8 x 8 pixels)")
    started = time.monotonic()
    digits = _load_digits()
    with _standard_error_to(log):
        model = _train(digits)
        _, accuracy = model.evaluate(digits.test_images, digits.test_labels, verbose=0)
        _export(model, repository)
    say(
        f"{model.count_params():,} parameters, {len(digits.train_images):,} images, "
        f"{time.monotonic() - started:.0f} s; accuracy on {len(digits.test_images)} held-out images: {accuracy:.1%}"
    )
    say(f"exported as SavedModel and as ONNX to {repository}")
    return digits


def _load_digits() -> Digits:
    import numpy as np
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(_SEED).permutation(len(data.target))
    images = (data.images[order] / 16).astype(np.float32)[..., np.newaxis]
    labels = data.target[order]
    cut = _TRAINING_IMAGES
    return Digits(images[:cut], labels[:cut], images[cut:], labels[cut:])


def _train(digits: Digits) -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(_SEED)
    image = keras.Input((8, 8, 1), name="input")
    x = layers.Conv2D(16, 2, padding="same", name="conv_1")(image)
    x = layers.Activation("relu", name="relu_1")(x)
    x = layers.MaxPooling2D(2, name="maxp_1")(x)
    x = layers.Dropout(0.3, name="drop_1")(x)
    x = layers.Conv2D(32, 2, padding="same", name="conv_2")(x)
    x = layers.Activation("relu", name="relu_2")(x)
    x = layers.MaxPooling2D(2, name="maxp_2")(x)
    x = layers.Dropout(0.3, name="drop_2")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(64, name="dense_1")(x)
    x = layers.Activation("relu", name="relu_3")(x)
    x = layers.Dropout(0.3, name="drop_3")(x)
    x = layers.Dense(10, name="dense_2")(x)
    model = keras.Model(image, layers.Activation("softmax", name="softmax")(x))
    model.compile(keras.optimizers.Adam(5e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(digits.train_images, digits.train_labels, batch_size=64, epochs=_EPOCHS, verbose=0)
    return model


def _export(model: Any, repository: Path) -> None:
    targets = {SAVED_MODEL: None, ONNX: "model.onnx"}
    for name, file in targets.items():
        shutil.rmtree(repository / name, ignore_errors=True)
        version = repository / name / "1"
        version.parent.mkdir(parents=True)
        if file is None:
            model.export(str(version), verbose=False)
        else:
            version.mkdir()
            model.export(str(version / file), format="onnx", verbose=False)


@contextmanager
def _standard_error_to(log: Path) -> Iterator[None]:
    """Sends standard error to a file. TensorFlow greets from C++, past everything that Python could mute."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
