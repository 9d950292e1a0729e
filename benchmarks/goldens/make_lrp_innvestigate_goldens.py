"""Writes the golden values of LRP that iNNvestigate gives, for the cases in which it can be trusted.

Run in the pinned environment of `requirements-innvestigate.txt` beside this file, after `make_lrp_goldens.py`:

    python benchmarks/goldens/make_lrp_innvestigate_goldens.py

Left out, because iNNvestigate counts a bias in both branches or scales batch normalisation wrongly: alpha-beta with
bias, and every network with batch normalisation. Its presets, which have bias in them, run on weights without any.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import innvestigate
import numpy as np
import onnx
import tensorflow as tf

FOLDER = Path(__file__).parents[2] / "tests" / "golden" / "lrp"
PACKAGES = ("innvestigate", "tensorflow-cpu", "keras", "numpy")
LOW, HIGH = -1.0, 1.0
CLASS = 1
# Weights of the plain network with their biases, or with zeros in the place of these.
CASES: dict[str, dict[str, Any]] = {
    "z": {"analyzer": "lrp.z"},
    "epsilon_0.1": {"analyzer": "lrp.epsilon", "arguments": {"epsilon": 0.1}},
    "epsilon_0.1_ignore_bias": {"analyzer": "lrp.epsilon", "arguments": {"epsilon": 0.1, "bias": False}},
    "flat": {"analyzer": "lrp.flat"},
    "w_square": {"analyzer": "lrp.w_square"},
    "alpha_2_beta_1_ignore_bias": {"analyzer": "lrp.alpha_2_beta_1_IB"},
    "alpha_1_beta_0_ignore_bias": {"analyzer": "lrp.alpha_1_beta_0_IB"},
    "z_then_bounded": {"analyzer": "lrp.z", "arguments": {"input_layer_rule": (LOW, HIGH)}},
    "SEQUENTIAL_A": {"analyzer": "lrp.sequential_preset_a", "unbiased": True},
    "SEQUENTIAL_B": {"analyzer": "lrp.sequential_preset_b", "unbiased": True},
    "SEQUENTIAL_A_FLAT": {"analyzer": "lrp.sequential_preset_a_flat", "unbiased": True},
    "SEQUENTIAL_B_FLAT": {"analyzer": "lrp.sequential_preset_b_flat", "unbiased": True},
    # Only a positive logit has relevance that deep Taylor decomposes.
    "DEEP_TAYLOR": {"analyzer": "deep_taylor", "largest": True},
    "DEEP_TAYLOR_BOUNDED": {
        "analyzer": "deep_taylor.bounded",
        "arguments": {"low": LOW, "high": HIGH},
        "largest": True,
    },
    "gradient": {"analyzer": "gradient"},
    "input_x_gradient": {"analyzer": "input_t_gradient"},
    # These start from the logit and lose what is negative of it.
    "guided_backprop": {"analyzer": "guided_backprop", "largest": True},
    "deconvnet": {"analyzer": "deconvnet", "largest": True},
}


def network(file: str) -> Any:
    """The plain network as a Keras model, channels last, without a softmax."""
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(FOLDER / file).graph.initializer}
    keras = tf.keras
    layers = keras.layers
    x = given = layers.Input((12, 12, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv_1")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(6, 2, activation="relu", name="conv_2")(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(12, activation="relu", name="dense_1")(x)
    model = keras.Model(given, layers.Dense(5, name="dense_2")(x))
    for name in ("conv_1", "conv_2", "dense_1", "dense_2"):
        kernel = held[f"{name}_w"]
        if kernel.ndim == 4:
            kernel = kernel.transpose(2, 3, 1, 0)
        elif name == "dense_1":
            # Flat from channels first to channels last.
            kernel = kernel.reshape(6, 2, 2, -1).transpose(1, 2, 0, 3).reshape(24, -1)
        model.get_layer(name).set_weights([kernel, held[f"{name}_b"]])
    return model


def main() -> None:
    # iNNvestigate builds graphs of the first TensorFlow.
    tf.compat.v1.disable_eager_execution()
    tf.keras.backend.set_floatx("float64")
    x = np.load(FOLDER / "inputs.npz")["plain/x"].astype(np.float64).transpose(0, 2, 3, 1)
    models = {biased: network("plain.onnx" if biased else "plain_unbiased.onnx") for biased in (True, False)}
    found: dict[str, np.ndarray] = {}
    for name, case in CASES.items():
        model = models[not case.get("unbiased", False)]
        largest = case.get("largest", False)
        analyzer = innvestigate.create_analyzer(
            case["analyzer"],
            model,
            neuron_selection_mode="max_activation" if largest else "index",
            **case.get("arguments", {}),
        )
        found[name] = analyzer.analyze(x, *([] if largest else [CLASS])).transpose(0, 3, 1, 2)
    np.savez_compressed(FOLDER / "innvestigate_plain.npz", **found)
    provenance = {
        "made_by": "benchmarks/goldens/make_lrp_innvestigate_goldens.py",
        "reference": "iNNvestigate 2.1.2 (BSD-2-Clause)",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "precision": str(next(iter(found.values())).dtype),
        "class": CLASS,
        "cases": CASES,
    }
    (FOLDER / "innvestigate.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
