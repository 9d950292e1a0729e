"""Writes the golden values of influence: what ethik 0.0.4 gives for images of digits and for a table.

Run in the pinned environment of `requirements-influence.txt` beside this file:

    python benchmarks/goldens/make_influence_goldens.py

ethik is run as it is; its results are data, and none of its code is carried over.
"""

from __future__ import annotations

import json
import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[2] / "tests" / "golden" / "influence"
IMAGES = 500
SEED = 0
TABLE_TAUS = 5
PACKAGES = ("ethik", "numpy", "pandas", "scikit-learn", "scipy")


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's digits with pixels 0 to 16, their labels, and probabilities of a classifier of them."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(SEED).permutation(len(images))
    images, labels = images[order], labels[order]
    # Strongly regularised, so that it errs and its probabilities are not all 0 or 1.
    model = LogisticRegression(C=1e-4, max_iter=1000).fit(images[IMAGES:], labels[IMAGES:])
    kept = images[:IMAGES].reshape(-1, 8, 8).astype(np.uint8)
    return kept, labels[:IMAGES], model.predict_proba(images[:IMAGES]).astype(np.float32)


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's wines with 13 real-valued features, their classes, and probabilities of a classifier."""
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, y = load_wine(return_X_y=True)
    scaled = StandardScaler().fit_transform(x)
    return x, y, LogisticRegression(C=0.05).fit(scaled, y).predict_proba(scaled)


def gathered(frame: Any, features: list[Any], labels: int, names: list[str]) -> dict[str, np.ndarray]:
    """The numbers of ethik's frame, which has a row per feature, tau and label, as arrays."""
    taus = sorted(frame["tau"].astype(float).unique())
    places = {feature: place for place, feature in enumerate(features)}
    found = {name: np.full((len(features), len(taus), labels), np.nan) for name in names}
    for row in frame.to_dict("records"):
        cell = places[row["feature"]], taus.index(float(row["tau"])), int(row["label"])
        for name in names:
            found[name][cell] = row[name]
    return {"taus": np.asarray(taus), **found}


def explained(explainer: Any, x: Any, y: np.ndarray, p: np.ndarray, features: list[Any]) -> dict[str, np.ndarray]:
    """Influence, accuracy and log-loss of one data set."""
    import pandas as pd
    from sklearn import metrics

    predictions = pd.DataFrame(p)
    found = gathered(
        explainer.explain_influence(x, predictions), features, p.shape[1], ["target", "ksi", "converged", "influence"]
    )
    result = {
        "taus": found["taus"],
        "target": found["target"][:, :, 0],
        "ksi": found["ksi"][:, :, 0],
        "converged": found["converged"][:, :, 0].astype(bool),
        "influence": found["influence"],
    }
    classes = pd.Series(p.argmax(axis=1), name=0)
    accuracy = explainer.explain_performance(x, y, classes, metrics.accuracy_score)
    result["accuracy"] = gathered(accuracy[accuracy["label"] == 0], features, 1, ["accuracy_score"])["accuracy_score"][
        ..., 0
    ]
    hot = np.eye(p.shape[1])[y]
    loss = explainer.explain_performance(x, hot, predictions, metrics.log_loss)
    result["log_loss"] = gathered(loss, features, p.shape[1], ["log_loss"])["log_loss"][..., 0]
    return result


def main() -> None:
    import ethik
    import pandas as pd

    warnings.simplefilter("ignore")
    FOLDER.mkdir(parents=True, exist_ok=True)
    images, digit, probabilities = digits()
    pixels = [(row, column) for row in range(8) for column in range(8)]
    explainer = ethik.ImageClassificationExplainer(verbose=False, n_jobs=1, memoize=False)
    np.savez_compressed(
        FOLDER / "digits.npz",
        x=images,
        y=digit,
        p=probabilities,
        **explained(explainer, images, digit, probabilities, pixels),
    )
    x, wine, shares = table()
    columns = [f"feature {place}" for place in range(x.shape[1])]
    explainer = ethik.ClassificationExplainer(n_taus=TABLE_TAUS, n_samples=1, verbose=False, n_jobs=1, memoize=False)
    np.savez_compressed(
        FOLDER / "wines.npz",
        x=x,
        y=wine,
        p=shares,
        **explained(explainer, pd.DataFrame(x, columns=columns), wine, shares, columns),
    )
    provenance = {
        "made_by": "benchmarks/goldens/make_influence_goldens.py",
        "reference": "ethik 0.0.4: ImageClassificationExplainer and ClassificationExplainer with default tolerances",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "seed": SEED,
        "data": {"digits.npz": "scikit-learn's digits, 500 of them shuffled", "wines.npz": "scikit-learn's wines"},
        "tolerances": {
            "influence, ethik_compatible": "1e-6: the same search by the same BFGS; sums in another order",
            "influence, exact": "0.03 at most and 0.003 in the mean: ethik stops a hundredth of a standard deviation "
            "off, and takes the data as they are where its search ends otherwise",
            "with ethik's own ksi": "1e-6: predictions of the digits are float32",
        },
    }
    (FOLDER / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    main()
