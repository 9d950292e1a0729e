"""Times ethik's explanations of images. Runs in an environment with ethik; see `harness.Reference`.

Each line of input is a case: `data`, an .npz with `x`, class indices `y` and probabilities `p`; `what`, either
``influence`` or ``performance``; and `result`, where the influences go as .npz.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import ethik
import numpy as np
import pandas as pd
from sklearn import metrics


def run(case: dict[str, Any]) -> dict[str, Any]:
    data = np.load(case["data"])
    x, y, p = data["x"], data["y"], data["p"]
    # A new one for each case, so that nothing is remembered from the one before.
    explainer = ethik.ImageClassificationExplainer(n_jobs=1, memoize=False, verbose=False)
    if case["what"] == "influence":
        start = time.perf_counter()
        found = explainer.explain_influence(x, pd.DataFrame(p))
        seconds = time.perf_counter() - start
        np.savez(
            case["result"],
            feature=np.array([x.shape[2] * row + column for row, column in found["feature"]]),
            tau=found["tau"].to_numpy(float),
            label=found["label"].to_numpy(int),
            influence=found["influence"].to_numpy(float),
        )
        return {"seconds": seconds}
    start = time.perf_counter()
    explainer.explain_performance(x, y, pd.Series(p.argmax(axis=1), name=0), metrics.accuracy_score)
    explainer.explain_performance(x, np.eye(p.shape[1])[y], pd.DataFrame(p), metrics.log_loss)
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    # Only answers go to the standard output.
    answers = sys.stdout
    sys.stdout = sys.stderr
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
