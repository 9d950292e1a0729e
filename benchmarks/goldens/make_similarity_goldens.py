"""Writes the golden values of gradient similarity: what alibi 0.9.4 gives for a small network.

Run in the pinned environment of `requirements.txt` beside this file:

    python benchmarks/goldens/make_similarity_goldens.py

The network is that of the goldens of linearity, whose ONNX file holds the weights; here it is also written as a
SavedModel. The reference differentiates the Keras model.
"""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
FOLDER = GOLDEN / "similarity"
ONNX = GOLDEN / "linearity" / "classic_8x8.onnx"
SAVED_MODEL = FOLDER / "classic_8x8"
SIDE = 8
FILTERS = 8
UNITS = 32
INSTANCES = 8
REFERENCES = 200
PACKAGES = ("alibi", "tensorflow-cpu", "keras", "numpy", "scikit-learn", "onnx")


def network(dtype: str = "float32") -> Any:
    """The network of the published example, smaller, with the weights of the ONNX file."""
    import keras
    import onnx

    keras.config.set_dtype_policy(dtype)

    layers = keras.layers
    made = keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 1), name="input", dtype=dtype),
            layers.Conv2D(FILTERS, 2, padding="same", activation="relu", name="conv_1"),
            layers.MaxPooling2D(2, name="maxp_1"),
            layers.Conv2D(FILTERS, 2, padding="same", activation="relu", name="conv_2"),
            layers.MaxPooling2D(2, name="maxp_2"),
            layers.Flatten(name="flat"),
            layers.Dense(UNITS, activation="relu", name="dense_1"),
            layers.Dense(10, activation="softmax", name="dense_2"),
        ]
    )
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(ONNX).graph.initializer}
    for name in ("conv_1", "conv_2", "dense_1", "dense_2"):
        kernel = held[f"{name}_w"]
        made.get_layer(name).set_weights(
            [kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel, held[f"{name}_b"]]
        )
    return made


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits as (n, 8, 8, 1) float32 from 0 to 1, and their labels, shuffled."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(images))
    return (images[order].reshape(-1, SIDE, SIDE, 1) / 16).astype(np.float32), labels[order]


def cases() -> dict[str, dict[str, Any]]:
    """Each case is one `GradientSimilarity`, fitted and asked once."""
    base = {
        "function": "grad_cos",
        "loss": "categorical_cross_entropy",
        "labels": "one_hot",
        "precomputed": True,
        "dtype": "float32",
    }
    return {
        "cos": base,
        "dot": base | {"function": "grad_dot"},
        "asym_dot": base | {"function": "grad_asym_dot"},
        "cos_ad_hoc": base | {"precomputed": False},
        # Everything in double precision: what the others come close to.
        "cos_double": base | {"precomputed": False, "dtype": "float64"},
        "asym_dot_double": base | {"function": "grad_asym_dot", "precomputed": False, "dtype": "float64"},
        "dot_ad_hoc": base | {"function": "grad_dot", "precomputed": False},
        "cos_predicted": base | {"labels": "predicted"},
        "dot_probabilities": base | {"function": "grad_dot", "loss": "categorical_from_probabilities"},
        "dot_squared": base | {"function": "grad_dot", "loss": "squared_error"},
        "dot_absolute": base | {"function": "grad_dot", "loss": "absolute_error"},
        "dot_huber": base | {"function": "grad_dot", "loss": "huber"},
        "dot_binary": base | {"function": "grad_dot", "loss": "binary_cross_entropy"},
    }


def losses() -> dict[str, Any]:
    import keras
    import tensorflow as tf

    # Keras looks for the logits behind probabilities, by an attribute that a copy of the tensor has not.
    return {
        "categorical_cross_entropy": keras.losses.categorical_crossentropy,
        "categorical_from_probabilities": lambda y, p: keras.losses.categorical_crossentropy(y, tf.identity(p)),
        "squared_error": keras.losses.mean_squared_error,
        "absolute_error": keras.losses.mean_absolute_error,
        "huber": keras.losses.huber,
        "binary_cross_entropy": lambda y, p: keras.losses.binary_crossentropy(y, tf.identity(p)),
    }


def scores(case: dict[str, Any], model: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(instances, references), in the order of the references."""
    from alibi.explainers import GradientSimilarity

    explainer = GradientSimilarity(
        model,
        losses()[case["loss"]],
        precompute_grads=case["precomputed"],
        sim_fn=case["function"],
        task="classification",
    )
    x, y = x.astype(case["dtype"]), y.astype(case["dtype"])
    explainer.fit(x[INSTANCES:], y[INSTANCES:])
    targets = y[:INSTANCES]
    if case["labels"] == "predicted":
        targets = np.eye(10, dtype=case["dtype"])[np.asarray(model(x[:INSTANCES])).argmax(axis=1)]
    found = explainer.explain(x[:INSTANCES], targets).data
    unsorted = np.empty_like(found["scores"])
    np.put_along_axis(unsorted, found["ordered_indices"], found["scores"], axis=1)
    return unsorted


def main() -> None:
    model = network()
    x, labels = digits()
    # Images that the network was not trained on, some of which it gets wrong.
    x, labels = x[1500 : 1500 + INSTANCES + REFERENCES], labels[1500 : 1500 + INSTANCES + REFERENCES]
    y = np.eye(10, dtype=np.float32)[labels]
    FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(SAVED_MODEL, ignore_errors=True)
    model.export(str(SAVED_MODEL), verbose=False)
    shutil.rmtree(SAVED_MODEL / "assets", ignore_errors=True)
    (SAVED_MODEL / "fingerprint.pb").unlink(missing_ok=True)
    found = {name: scores(case, network(case["dtype"]), x, y) for name, case in cases().items()}
    np.savez_compressed(FOLDER / "scores.npz", **found)
    np.savez_compressed(FOLDER / "inputs.npz", x=x, labels=labels)
    provenance = {
        "made_by": "benchmarks/goldens/make_similarity_goldens.py",
        "reference": "alibi.explainers.GradientSimilarity of alibi 0.9.4 (Apache-2.0)",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "instances": INSTANCES,
        "references": REFERENCES,
        "cases": cases(),
    }
    (FOLDER / "cases.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
