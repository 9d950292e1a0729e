"""Times alibi's linearity measure. Runs in the reference environment; see `harness.Reference`.

It is given the direct call: a signature of the SavedModel, with neither Keras' predict nor conversions
between. Each line of input is a case: `data` (an .npz with `x`, `references`, `range`), `model`, `signatures`
(measured one after another), `method`, `model_types`, `samples`, and `batch`, the most rows per call of the
model (0: all at once, as alibi calls it).
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


def predictor(path: str, signature: str, batch: int) -> Any:
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
        scores = linearity_measure(
            predictor(case["model"], signature, case["batch"]),
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
