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
from collections.abc import Mapping, Sequence
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

from benchmarks.harness import (
    TURN_SECONDS,
    Contender,
    Line,
    Reference,
    Report,
    at_least,
    at_most,
    fastest,
    ratio,
    take_turns,
)
from benchmarks.lrp_network import load_digits, train

_HERE = Path(__file__).parent
_RESULTS = _HERE / "results"
_WAYS = ({"batch": 128}, {"batch": 1024})
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
MOST_GRADIENTS = {"epsilon": 1.2, "alpha-beta": 2.2, "gamma": 2.2}
LEAST_SPEED_UP = {"alpha-beta": 2.0, "gamma": 2.0}


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


class Library:
    """A library, asked in the fastest of some ways, which its first run finds.

    Args:
        python: where it runs.
        case: what it is asked, without the batch length.
        ways: batch lengths to try, and what else may make it faster.
        warmed_with: images of a run in each way that is not timed; None for all.

    Attributes:
        finite: whether its relevance is, in the last run.
    """

    def __init__(
        self,
        python: Reference,
        case: Mapping[str, Any],
        ways: Sequence[Mapping[str, int]] = _WAYS,
        warmed_with: int | None = None,
    ) -> None:
        self.finite = True
        self._python = python
        self._case = dict(case)
        self._ways = ways
        self._warmed_with = warmed_with
        self._way: Mapping[str, int] | None = None

    def __call__(self) -> float:
        """The seconds of a run.

        Raises:
            ReferenceFailed: the library can not do it.
        """
        if self._way is not None:
            return self._seconds(self._way)
        for way in self._ways:
            self._python.run({**self._case, **way, "count": self._warmed_with})
        took = [self._seconds(way) for way in self._ways]
        self._way = self._ways[int(np.argmin(took))]
        return min(took)

    def _seconds(self, way: Mapping[str, int]) -> float:
        answer = self._python.run({**self._case, **way})
        self.finite = bool(np.isfinite(answer["sums"]).all())
        return float(answer["seconds"][-1])


def case(folder: Path, network: str, said: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """What a library is asked: the images of the folder, by what it calls the rule."""
    name, arguments = said
    return {
        "folder": str(folder),
        "network": network,
        "images": str(folder / "bench.npy"),
        "analyzer": name,
        "rule": name,
        "arguments": arguments,
        "repeat": 1,
    }


def compare(report: Report, name: str, claim: str, seconds: Mapping[str, Sequence[float]], note: str = "") -> None:
    """Adds the lines of a rule: beside the gradient where there is one, and beside the fastest library.

    Args:
        report: they are added to.
        name: of the rule.
        claim: what was done.
        seconds: of ``ours``, of ``gradient`` if it ran, and of the libraries.
        note: what a reader of the second line must know.
    """
    median = {key: statistics.median(values) for key, values in seconds.items()}
    if "gradient" in seconds:
        value = ratio(seconds, "ours", "gradient")
        limit = at_most(value, MOST_GRADIENTS[name])
        report.add(Line(claim, median["ours"], "plain gradient", median["gradient"], value, *limit))
    libraries = [key for key in seconds if key not in ("ours", "gradient")]
    if not libraries:
        report.add(Line(claim, median["ours"], "no library", 0.0, 0.0, "", None, note))
        return
    best = fastest(seconds, libraries)
    value = ratio(seconds, best, "ours")
    limit = at_least(value, LEAST_SPEED_UP.get(name, 1.0))
    others = [f"{library} {median[library]:.3f} s" for library in libraries if library != best]
    note = "; ".join([*others, *([note] if note else [])])
    report.add(Line(claim, median["ours"], best, median[best], value, *limit, note))


def measure(
    report: Report, name: str, model: Model, folder: Path, images: np.ndarray[Any, Any], libraries: dict[str, Reference]
) -> None:
    rule, theirs = RULES[name]
    contenders: dict[str, Contender] = {"ours": sidelight(model, images, rule)}
    if name in MOST_GRADIENTS:
        contenders["gradient"] = plain_gradient(folder / "seed", images)
    for library, said in theirs.items():
        python = libraries["iNNvestigate" if library == "iNNvestigate" else "torch"]
        contenders[library] = Library(python, case(folder, "seed", said))
    seconds = take_turns(contenders, report_repetitions(report), at_least=TURN_SECONDS)
    compare(report, name, f"{name}, {len(images):,} images", seconds)


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
