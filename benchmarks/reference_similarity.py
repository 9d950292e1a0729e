"""Times alibi's gradient similarity. Runs in the reference environment; see `harness.Reference`.

Each line of input is a case: `weights` and `data` (an .npz with `x` and one-hot `y`), of which every example is a
reference. What is timed is the fit, which precomputes the gradients.
"""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from typing import Any

import keras
import numpy as np
from alibi.explainers import GradientSimilarity


@cache
def network(weights: str) -> Any:
    layers = keras.layers
    values = given = layers.Input((28, 28, 1))
    for filters in (64, 32):
        values = layers.Conv2D(filters, 2, padding="same", activation="relu")(values)
        values = layers.MaxPooling2D(2)(values)
        values = layers.Dropout(0.3)(values)
    values = layers.Dense(256, activation="relu")(layers.Flatten()(values))
    values = layers.Dense(10)(layers.Dropout(0.5)(values))
    model = keras.Model(given, layers.Activation("softmax")(values))
    model.set_weights(list(np.load(weights).values()))
    return model


def run(case: dict[str, Any]) -> dict[str, Any]:
    data = np.load(case["data"])
    explainer = GradientSimilarity(
        network(case["weights"]), keras.losses.categorical_crossentropy, precompute_grads=True, sim_fn="grad_cos"
    )
    start = time.perf_counter()
    explainer.fit(data["x"], data["y"])
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    # Only answers go to the standard output.
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
