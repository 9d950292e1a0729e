"""Relevance propagation beside iNNvestigate, zennit and captum: the same network, images, rules and targets.

    python -m benchmarks.lrp --innvestigate-python P --zennit-python Q [--images digits.npz]

Every contender explains the largest logit of each image by one rule at every layer with weights. The network is that of
`lrp_network`, with biases. References run in processes of their own and time themselves, at the faster of two batch
lengths. Sidelight keeps its ledger, which none of them has.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.lrp import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    LrpParameters,
    RuleMap,
    WSquare,
    ZBox,
    propagate_relevance,
)
from sidelight_engines.model import Model, open_model

from benchmarks.harness import Contender, Line, Reference, Report, at_least, at_most, fastest, ratio, take_turns
from benchmarks.lrp_network import load_digits, train

_HERE = Path(__file__).parent
_RESULTS = _HERE / "results"
_BATCHES = (128, 1024)
_GRADIENT_ROWS = 128

RULES: dict[str, tuple[Any, dict[str, tuple[str, dict[str, Any]]]]] = {
    "epsilon": (
        Epsilon(1e-6),
        {
            "iNNvestigate": ("lrp.epsilon", {"epsilon": 1e-6}),
            "zennit": ("Epsilon", {"epsilon": 1e-6}),
            "captum": ("captum.Epsilon", {"epsilon": 1e-6}),
        },
    ),
    "alpha-beta": (
        AlphaBeta(2.0, 1.0),
        {"iNNvestigate": ("lrp.alpha_2_beta_1", {}), "zennit": ("AlphaBeta", {"alpha": 2.0, "beta": 1.0})},
    ),
    "gamma": (Gamma(0.25), {"zennit": ("Gamma", {"gamma": 0.25})}),
    "z+": (AlphaBeta(1.0, 0.0), {"iNNvestigate": ("lrp.z_plus", {}), "zennit": ("ZPlus", {})}),
    "w-square": (WSquare(), {"iNNvestigate": ("lrp.w_square", {}), "zennit": ("WSquare", {})}),
    "flat": (Flat(), {"iNNvestigate": ("lrp.flat", {}), "zennit": ("Flat", {})}),
    "z-box": (ZBox(-8.0, 8.0), {"zennit": ("ZBox", {"low": -8.0, "high": 8.0})}),
}
"""Name -> our rule, and by library what says the same."""

# Times of TensorFlow's plain input gradient of the same graph, and of the fastest reference.
_MOST_GRADIENTS = {"epsilon": 1.2, "alpha-beta": 2.2, "gamma": 2.2}
_LEAST_SPEED_UP = {"alpha-beta": 2.0, "gamma": 2.0}


def sidelight(model: Model, images: np.ndarray[Any, Any], rule: Any) -> Contender:
    name, parameters = model.graph.inputs[0].name, LrpParameters(RuleMap(otherwise=rule))

    def explain() -> None:
        propagate_relevance(model, {name: images}, parameters)

    return explain


def plain_gradient(folder: Path, images: np.ndarray[Any, Any]) -> Contender:
    """TensorFlow's gradient of the largest logit by the input, of the same SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]
    name = next(iter(serve.structured_input_signature[1]))

    @tf.function
    def gradient(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = next(iter(serve(**{name: x}).values()))
            largest = tf.reduce_max(y, axis=-1)
        return tape.gradient(largest, x)

    def run(alive: Any = loaded) -> None:
        # A signature does not keep the variables that it reads.
        for first in range(0, len(images), _GRADIENT_ROWS):
            gradient(tf.constant(images[first : first + _GRADIENT_ROWS])).numpy()

    return run


def reference(python: Reference, folder: Path, said: tuple[str, dict[str, Any]]) -> Contender:
    """A library at the faster of two batch lengths, which its first run finds."""
    name, arguments = said
    case = {
        "folder": str(folder),
        "network": "seed",
        "images": str(folder / "bench.npy"),
        "analyzer": name,
        "rule": name,
        "arguments": arguments,
        "repeat": 1,
    }
    best: list[int] = []

    def seconds(batch: int) -> float:
        return float(python.run(case | {"batch": batch})["seconds"][-1])

    def run() -> float:
        if not best:
            for batch in _BATCHES:
                seconds(batch)
            best.append(min(_BATCHES, key=seconds))
        return seconds(best[0])

    return run


def measure(
    report: Report, name: str, model: Model, folder: Path, images: np.ndarray[Any, Any], libraries: dict[str, Reference]
) -> None:
    rule, theirs = RULES[name]
    contenders: dict[str, Contender] = {"ours": sidelight(model, images, rule)}
    if name in _MOST_GRADIENTS:
        contenders["gradient"] = plain_gradient(folder / "seed", images)
    by_library: dict[str, Callable[[], float | None]] = {
        library: reference(libraries["iNNvestigate" if library == "iNNvestigate" else "torch"], folder, said)
        for library, said in theirs.items()
    }
    seconds = take_turns(contenders | by_library, report_repetitions(report))
    median = {key: statistics.median(values) for key, values in seconds.items()}
    if name in _MOST_GRADIENTS:
        value = ratio(seconds, "ours", "gradient")
        target, met = at_most(value, _MOST_GRADIENTS[name])
        report.add(
            Line(
                f"{name}, {len(images):,} images",
                median["ours"],
                "plain gradient",
                median["gradient"],
                value,
                target,
                met,
            )
        )
    best = fastest(seconds, list(by_library))
    value = ratio(seconds, best, "ours")
    target, met = at_least(value, _LEAST_SPEED_UP.get(name, 1.0))
    others = ", ".join(f"{library} {median[library]:.3f} s" for library in by_library if library != best)
    report.add(Line(f"{name}, {len(images):,} images", median["ours"], best, median[best], value, target, met, others))


def report_repetitions(report: Report) -> int:
    return int(report.context["repetitions"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Time relevance propagation.")
    parser.add_argument("--innvestigate-python", type=Path, required=True)
    parser.add_argument("--zennit-python", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="an .npz file with x (n, 28, 28) uint8 and y (n,)")
    parser.add_argument("--count", type=int, default=1024, help="images that are explained")
    parser.add_argument("--repetitions", type=int, default=5, help="turns of each contender")
    parser.add_argument("--folder", type=Path, help="where to keep the trained networks")
    parser.add_argument("--only", choices=list(RULES), action="append", help="one rule of them; repeatable")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    x, labels = load_digits(given.images)
    train(folder, x, labels)
    images = np.ascontiguousarray(np.resize(x[-given.count :], (given.count, *x.shape[1:])))
    np.save(folder / "bench.npy", images)
    model = open_model(folder / "seed", ModelFormat.SAVED_MODEL)
    report = Report("lrp", context={"repetitions": str(given.repetitions), "ledger": "kept by Sidelight alone"})
    with (
        Reference(given.innvestigate_python, _HERE / "reference_lrp_innvestigate.py", folder / "inn.log") as inn,
        Reference(given.zennit_python, _HERE / "reference_lrp_zennit.py", folder / "zennit.log") as torch,
    ):
        for name in given.only or RULES:
            measure(report, name, model, folder, images, {"iNNvestigate": inn, "torch": torch})
    report.write(given.results)


if __name__ == "__main__":
    main()
