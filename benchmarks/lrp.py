"""Relevance propagation beside iNNvestigate, zennit and captum: the same network, images, rules and targets.

    python -m benchmarks.lrp --innvestigate-python P --zennit-python Q [--images digits.npz]

Every contender explains the largest logit of each image by one rule at every layer with weights, one preset or one
gradient method of `lrp_rules`. The network is that of `lrp_network`, with biases. References run in processes of their
own and time themselves, at the faster of two batch lengths. Sidelight keeps its ledger, which none of them has.
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
from sidelight_engines.lrp import LrpParameters, propagate_relevance
from sidelight_engines.model import Model, open_model

from benchmarks.harness import (
    TURN_SECONDS,
    Contender,
    Line,
    Reference,
    ReferenceFailed,
    Report,
    at_least,
    at_most,
    fastest,
    ratio,
    take_turns,
)
from benchmarks.lrp_network import load_digits, train
from benchmarks.lrp_rules import RULES, Compared, Said, environment

_HERE = Path(__file__).parent
_RESULTS = _HERE / "results"
_WAYS = ({"batch": 128}, {"batch": 1024})
_GRADIENT_ROWS = 128


def sidelight(model: Model, images: np.ndarray[Any, Any], parameters: LrpParameters) -> Contender:
    name = model.graph.inputs[0].name

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


def case(folder: Path, network: str, said: Said) -> dict[str, Any]:
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


def beside_gradient(report: Report, claim: str, compared: Compared, ours: Contender, gradient: Contender) -> None:
    """Adds the line of a rule beside TensorFlow's plain gradient, if it is held against that.

    No library has a turn between them: one that still tidies up would slow down whoever comes next.
    """
    if compared.most_gradients is None:
        return
    seconds = take_turns({"ours": ours, "gradient": gradient}, report_repetitions(report), at_least=TURN_SECONDS)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    value = ratio(seconds, "ours", "gradient")
    limit = at_most(value, compared.most_gradients)
    report.add(Line(claim, median["ours"], "plain gradient", median["gradient"], value, *limit))


def beside_libraries(
    report: Report,
    claim: str,
    compared: Compared,
    ours: Contender,
    libraries: Mapping[str, Library],
    notes: Sequence[str] = (),
) -> None:
    """Adds the line of a rule beside the fastest library that can do what it is asked; the others are notes.

    Args:
        report: it is added to.
        claim: what was done.
        compared: the rule.
        ours: Sidelight.
        libraries: by name.
        notes: what else a reader must know.
    """
    able, failed = _able(libraries)
    ours()
    seconds = take_turns({"ours": ours} | able, report_repetitions(report), warm_up=False, at_least=TURN_SECONDS)
    median = {key: statistics.median(values) for key, values in seconds.items()}
    failed += [f"{name} gave NaN or infinity" for name, library in able.items() if not library.finite]
    if not able:
        note = "; ".join([*failed, *notes])
        report.add(Line(claim, median["ours"], "no library", 0.0, 0.0, "", None, note))
        return
    best = fastest(seconds, list(able))
    value = ratio(seconds, best, "ours")
    limit = at_least(value, compared.least_speed_up)
    others = [f"{library} {median[library]:.3f} s" for library in able if library != best]
    note = "; ".join([*others, *failed, *notes])
    report.add(Line(claim, median["ours"], best, median[best], value, *limit, note))


def _able(libraries: Mapping[str, Library]) -> tuple[dict[str, Library], list[str]]:
    """Those that can do what they are asked, warm, and what the others said."""
    able, notes = {}, []
    for name, library in libraries.items():
        try:
            library()
        except ReferenceFailed as failure:
            notes.append(f"{name} can not: {failure}")
        else:
            able[name] = library
    return able, notes


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
    parser.add_argument(
        "--only", choices=list(RULES), action="append", help="one of the rules, presets and methods; repeatable"
    )
    parser.add_argument("--results", type=Path, default=_RESULTS)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    x, labels = load_digits(given.images)
    train(folder, x, labels)
    images = np.ascontiguousarray(np.resize(x[-given.count :], (given.count, *x.shape[1:])))
    np.save(folder / "bench.npy", images)
    model = open_model(folder / "seed", ModelFormat.SAVED_MODEL)
    gradient = plain_gradient(folder / "seed", images)
    report = Report("lrp", context={"repetitions": str(given.repetitions), "ledger": "kept by Sidelight alone"})
    with (
        Reference(given.innvestigate_python, _HERE / "reference_lrp_innvestigate.py", folder / "inn.log") as inn,
        Reference(given.zennit_python, _HERE / "reference_lrp_zennit.py", folder / "zennit.log") as torch,
    ):
        pythons = {"iNNvestigate": inn, "torch": torch}
        for name in given.only or RULES:
            compared, claim = RULES[name], f"{name}, {len(images):,} images"
            ours = sidelight(model, images, compared.ours)
            beside_gradient(report, claim, compared, ours, gradient)
            libraries = {
                library: Library(pythons[environment(library)], case(folder, "seed", said))
                for library, said in compared.libraries.items()
            }
            beside_libraries(report, claim, compared, ours, libraries)
    report.write(given.results)


if __name__ == "__main__":
    main()
