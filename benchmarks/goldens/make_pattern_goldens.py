"""Writes the golden values of activation patterns: what the code of the published experiment gives.

The experiment is A. R. Gosthipaty, Similarity of neuron activations between similar classes (2020): its network, its
counts and its distances, line by line as printed there, on Keras. Run where Keras, tf2onnx and scikit-learn are:

    python benchmarks/goldens/make_pattern_goldens.py            # values for the network at hand
    python benchmarks/goldens/make_pattern_goldens.py --train    # trains the network anew first
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

FOLDER = Path(__file__).parents[2] / "tests" / "golden" / "activation_pattern"
SAVED_MODEL = FOLDER / "network"
ONNX = FOLDER / "network.onnx"
WEIGHTS = FOLDER / "network.weights.h5"
INPUTS = FOLDER / "inputs.npz"
TRAINED_ON = 1297
EPOCHS = 6
PACKAGES = ("keras", "tensorflow-cpu", "numpy", "scikit-learn", "tf2onnx")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits as the experiment has its images, uint8 (n, 28, 28, 1) from 0 to 255; and labels."""
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    large = np.repeat(np.repeat(small.reshape(-1, 8, 8), 3, axis=1), 3, axis=2)
    large = np.pad(large * (255 / 16), ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    order = np.random.RandomState(0).permutation(len(large))
    return large[order][..., np.newaxis], labels[order]


def network() -> Any:
    """The network of the experiment."""
    import keras

    # Keras numbers the layers from where the session stands.
    keras.backend.clear_session()
    model = keras.models.Sequential()
    model.add(keras.layers.Input((28, 28, 1)))
    model.add(keras.layers.Conv2D(filters=32, kernel_size=(3, 3), activation="relu"))
    model.add(keras.layers.Conv2D(filters=32, kernel_size=(3, 3), activation="relu"))
    model.add(keras.layers.MaxPool2D(pool_size=(2, 2)))
    model.add(keras.layers.Conv2D(filters=64, kernel_size=(3, 3), activation="relu"))
    model.add(keras.layers.Conv2D(filters=64, kernel_size=(3, 3), activation="relu"))
    model.add(keras.layers.GlobalAveragePooling2D())
    model.add(keras.layers.Dense(units=32, activation="relu"))
    model.add(keras.layers.Dense(units=10, activation="softmax"))
    return model


def train() -> None:
    """Trains the network and writes it in both formats."""
    import keras

    keras.utils.set_random_seed(0)
    model = network()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["acc"])
    x, y = digits()
    model.fit(x[:TRAINED_ON], y[:TRAINED_ON], batch_size=32, epochs=EPOCHS, verbose=0)
    print("accuracy on the rest:", model.evaluate(x[TRAINED_ON:], y[TRAINED_ON:], verbose=0)[1])
    # Anew, so that nothing of the optimizer is written.
    weights = model.get_weights()
    model = network()
    model.set_weights(weights)
    shutil.rmtree(SAVED_MODEL, ignore_errors=True)
    model.export(str(SAVED_MODEL), verbose=False)
    model.export(str(ONNX), format="onnx", verbose=False)
    model.save_weights(WEIGHTS)
    np.savez_compressed(INPUTS, x=x[TRAINED_ON:], y=y[TRAINED_ON:])


def experiment(model: Any, X_test: np.ndarray, y_test: np.ndarray) -> dict[str, np.ndarray]:  # noqa: N803
    """The experiment as published, its names kept. Beside it, what the tolerance needs to know."""
    import keras

    layer_name = "dense"
    # Here alone it says `model.inputs` for `model.input`, which a Sequential of Keras 3 does not have.
    intermediate_layer_model = keras.Model(inputs=model.inputs, outputs=model.get_layer(layer_name).output)

    class_vs_neurons = np.zeros((10, 32))
    for idx in range(10):
        class_choice = X_test[y_test == idx]
        intermediate_output = intermediate_layer_model.predict(class_choice, verbose=0)
        intermediate_output[intermediate_output > 0] = 1.0
        class_vs_neurons[idx, :] = np.sum(intermediate_output, axis=0) / 1000

    corr = np.zeros((10, 10))
    for i in range(10):
        for j in range(10):
            corr[i, j] = np.sum(np.absolute(class_vs_neurons[i] - class_vs_neurons[j])) / 32

    # What a unit reads before its ReLU: within 1e-5 of 0, rounding decides whether it fires.
    dense = model.get_layer(layer_name)
    before = keras.Model(inputs=model.inputs, outputs=dense.input).predict(X_test, verbose=0)
    weights, bias = dense.get_weights()
    linear = before.astype(np.float64) @ weights.astype(np.float64) + bias
    doubtful = np.zeros((10, 32), np.int64)
    for idx in range(10):
        doubtful[idx] = (np.abs(linear[y_test == idx]) < 1e-5 * np.abs(linear).max()).sum(axis=0)
    return {
        "class_vs_neurons": class_vs_neurons,
        "corr": corr,
        "order": np.stack([corr[i].argsort(kind="stable") for i in range(10)]),
        "doubtful": doubtful,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train the network anew")
    FOLDER.mkdir(parents=True, exist_ok=True)
    if parser.parse_args().train:
        train()
    model = network()
    model.load_weights(WEIGHTS)
    with np.load(INPUTS) as data:
        found = experiment(model, data["x"], data["y"])
    np.savez_compressed(FOLDER / "patterns.npz", **found)
    told = {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}
    told |= {"layer": "dense", "divisor": 1000, "doubtful counts": int(found["doubtful"].sum())}
    (FOLDER / "cases.json").write_text(json.dumps(told, indent=1) + "\n")
    print(told)


if __name__ == "__main__":
    main()
