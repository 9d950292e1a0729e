"""iNNvestigate on the networks of the LRP benchmarks, in an environment of its own.

Answers each line of JSON with a line of JSON. ``{"folder", "network", "images", "analyzer", "arguments", "batch",
"repeat"}``: the sums of relevance of the class with the largest logit and the seconds of each run, or ``failure`` if
the library can not do it. The network is VGG16 or ResNet50, of the Keras of this environment, without softmax, with
weights of its own drawing (the time does not depend on them) for images of ``pixels``; or what the folder holds under
the name. ``count`` takes no more than so many images. A ``rule`` among the arguments is one of its rules by name.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import innvestigate
import numpy as np
import tensorflow as tf
from innvestigate.analyzer.relevance_based import relevance_rule
from innvestigate.analyzer.relevance_based.relevance_analyzer import LRP_RULES


def network(case: dict[str, Any]) -> Any:
    folder, name = Path(case["folder"]), case["network"]
    if name in ("VGG16", "ResNet50"):
        shape = (case["pixels"], case["pixels"], 3)
        made = getattr(tf.keras.applications, name)
        model = made(weights=None, input_shape=shape, classes=10, classifier_activation=None)
        # Without eager execution variables have no values before they are first set.
        model.set_weights(model.get_weights())
        return model
    held = np.load(folder / f"{name}.npz")
    layers = tf.keras.layers
    x = given = layers.Input((28, 28, 1))
    for number in (1, 2):
        x = layers.Conv2D(32, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(512, activation="relu", name="dense_1")(x)
    model = tf.keras.Model(given, layers.Dense(10, name="dense_2")(x))
    for layer in ("conv_1", "conv_2", "dense_1", "dense_2"):
        model.get_layer(layer).set_weights([held[f"{layer}_w"], held[f"{layer}_b"]])
    return model


def run(analyzer: Any, case: dict[str, Any]) -> dict[str, Any]:
    images = np.load(case["images"])[: case.get("count")]
    seconds, sums = [], []
    for _ in range(case["repeat"]):
        started = time.perf_counter()
        parts = [
            analyzer.analyze(images[first : first + case["batch"]]) for first in range(0, len(images), case["batch"])
        ]
        seconds.append(time.perf_counter() - started)
        sums = np.concatenate(parts).sum(axis=(1, 2, 3)).astype(float).tolist()
    return {"sums": sums, "seconds": seconds}


def _arguments(said: dict[str, Any]) -> dict[str, Any]:
    found = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
    if "rule" in found and found["rule"] not in LRP_RULES:
        found["rule"] = getattr(relevance_rule, found["rule"])
    return found


def main() -> None:
    tf.compat.v1.disable_eager_execution()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    models: dict[str, Any] = {}
    analyzers: dict[str, Any] = {}
    for line in sys.stdin:
        case = json.loads(line)
        key = json.dumps([case["network"], case["analyzer"], case["arguments"]])
        try:
            if case["network"] not in models:
                models[case["network"]] = network(case)
            if key not in analyzers:
                analyzers[key] = innvestigate.create_analyzer(
                    case["analyzer"],
                    models[case["network"]],
                    neuron_selection_mode="max_activation",
                    **_arguments(case["arguments"]),
                )
            answer = run(analyzers[key], case)
        except Exception as error:
            answer = {"failure": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
