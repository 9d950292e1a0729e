"""Times alibi's linearity measure. Runs in the reference environment; see `harness.Reference`.

Each line of input is a case: `data` (an .npz with `x`, `references`, `range`), `model`, `signatures` (measured one
after another), `method`, `model_types`, `samples`, and `call`, how the model is called:

- `predict`, Keras' method, as alibi's own example has it for the output.
- `function`, Keras' too, as that example has it for layers: `model` is a file of Keras and the signatures are layers.
- `signature`, that of the SavedModel, with nothing between, at most `batch` rows at a time (0: all at once, as alibi
  calls it).
"""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from alibi.confidence import linearity_measure


@cache
def loaded(path: str) -> Any:
    return tf.saved_model.load(path)


@cache
def keras_model(path: str, signature: str, shape: tuple[int, ...]) -> Any:
    import keras

    given = keras.Input(shape)
    made = keras.layers.TFSMLayer(path, call_endpoint=signature)(given)
    return keras.Model(given, next(iter(made.values())) if isinstance(made, dict) else made)


def by_predict(path: str, signature: str) -> Any:
    return lambda x: keras_model(path, signature, x.shape[1:]).predict(x, verbose=0)


@cache
def keras_network(path: str) -> Any:
    import tf_keras

    return tf_keras.models.load_model(path, compile=False)


def by_function(path: str, layer: str) -> Any:
    import tf_keras

    network = keras_network(path)
    function = tf_keras.backend.function([network.input], [network.get_layer(layer).output])
    return lambda x: function([x])[0]


def by_signature(path: str, signature: str, batch: int) -> Any:
    function = loaded(path).signatures[signature]
    (name,) = function.structured_input_signature[1]

    def call(x: np.ndarray) -> np.ndarray:
        return next(iter(function(**{name: tf.constant(x, tf.float32)}).values())).numpy()

    def by_batches(x: np.ndarray) -> np.ndarray:
        return np.concatenate([call(x[first : first + batch]) for first in range(0, len(x), batch)])

    return by_batches if batch else call


def run(case: dict[str, Any]) -> dict[str, Any]:
    data = np.load(case["data"])
    x, references, limits = data["x"], data["references"], data["range"]
    found = {}
    start = time.perf_counter()
    for signature, model_type in zip(case["signatures"], case["model_types"], strict=True):
        if case["call"] == "predict":
            predictor = by_predict(case["model"], signature)
        elif case["call"] == "function":
            predictor = by_function(case["model"], signature)
        else:
            predictor = by_signature(case["model"], signature, case["batch"])
        scores = linearity_measure(
            predictor,
            x,
            feature_range=limits,
            method=case["method"],
            X_train=references if case["method"] == "knn" else None,
            nb_samples=case["samples"],
            agg="global",
            model_type=model_type,
        )
        found[signature] = float(np.mean(scores))
    return {"seconds": time.perf_counter() - start, "means": found}


def main() -> None:
    # Only answers go to the standard output.
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
