"""Relevance propagation through VGG16 and ResNet50 beside iNNvestigate, zennit and captum, a batch of 16 images.

    python -m benchmarks.lrp_architectures --innvestigate-python P --zennit-python Q [--only ResNet50]

The rules are those of `lrp`, each at every layer with weights. Sidelight and TensorFlow's plain gradient explain the
same SavedModel. The libraries have the same architecture with weights that they draw themselves, since the time does
not depend on them: iNNvestigate that of `keras.applications` in its environment, zennit and captum one written for
torch. Each library goes through the images at the faster of two batch lengths, torch also with one thread, in a process
of its own that ends with the rule, because some keep a copy of all weights for each rule. Sidelight cuts the images
into passes by the memory that it grants by default. Without the interpreters of a library it is left out.

ResNet50 is also explained once on a freshly opened model for each rule, and then with another batch length and another
class, while traces are counted.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.lrp import (
    Classes,
    ClassPerInstance,
    LrpTarget,
    propagate_relevance,
)
from sidelight_engines.lrp.running import passes
from sidelight_engines.lrp.running.program import LrpProgram
from sidelight_engines.model import Model, open_model

from benchmarks.architectures import Architecture, application, build
from benchmarks.harness import Line, Reference, Report, at_most
from benchmarks.lrp import Library, beside_gradient, beside_libraries, case, plain_gradient, sidelight
from benchmarks.lrp_rules import RULES, environment

_HERE = Path(__file__).parent
_RESULTS = _HERE / "results"
_SCRIPTS = {
    "iNNvestigate": _HERE / "reference_lrp_innvestigate.py",
    "torch": _HERE / "reference_lrp_zennit.py",
}
_COUNT = 16
_WAYS = {
    "iNNvestigate": ({"batch": 4}, {"batch": 16}),
    "torch": ({"batch": 4}, {"batch": 16}, {"batch": 16, "threads": 1}),
}
_FEWER = 4

NETWORKS = ("VGG16", "ResNet50")
CHOSEN = ("epsilon", "alpha-beta", "gamma", "z+", "w-square", "flat")
"""What is measured unless others are asked for. A box fits the first layer alone."""

_FIRST_CALLS = "ResNet50"
_MOST_SECONDS = 15

_WITHOUT = {
    "iNNvestigate": "iNNvestigate has no such rule",
    "zennit": "zennit has no such rule",
    "captum": "captum is asked for epsilon alone",
}


def exported(name: str, pixels: int, folder: Path) -> Path:
    """The SavedModel of an architecture, which is written if the folder does not hold it."""
    path = folder / f"{name}_{pixels}" / "1"
    done = path.parent / "done"
    if not done.exists():
        build(Architecture(name, application(name, pixels))).export(str(path), verbose=False)
        done.touch()
        gc.collect()
    return path


class Network:
    """One architecture of one size, with what explains it.

    Args:
        name: of NETWORKS.
        pixels: width and height of an image.
        folder: where it is kept, and ``bench.npy``.
        pythons: the interpreters of ``iNNvestigate``, and of ``torch`` for zennit and captum; None without.
        repetitions: turns of each contender.
    """

    def __init__(
        self, name: str, pixels: int, folder: Path, pythons: Mapping[str, Path | None], repetitions: int
    ) -> None:
        self._name = name
        self._pixels = pixels
        self._folder = folder
        self._pythons = pythons
        self._repetitions = repetitions
        self._path = exported(name, pixels, folder)
        shape = (_COUNT, pixels, pixels, 3)
        self._images = np.random.default_rng(18).uniform(-1, 1, shape).astype(np.float32)
        np.save(folder / "bench.npy", self._images)
        self._model = self._opened()
        self._gradient = plain_gradient(self._path, self._images)

    def _opened(self) -> Model:
        """The model, as if for the first time."""
        return open_model(self._path, ModelFormat.SAVED_MODEL)

    def speed(self, report: Report, rule: str) -> None:
        """A rule beside the gradient and the libraries."""
        compared, claim = RULES[rule], f"{self._name}, {rule}, {_COUNT} images"
        ours = sidelight(self._model, self._images, compared.ours)
        beside_gradient(report, claim, compared, ours, self._gradient)
        asked = compared.libraries
        notes = [why for library, why in _WITHOUT.items() if not any(name.startswith(library) for name in asked)]
        notes += [f"{name} was left out" for name in asked if self._pythons[environment(name)] is None]
        with ExitStack() as stack:
            beside_libraries(report, claim, compared, ours, self._libraries(rule, stack), notes)

    def _libraries(self, rule: str, stack: ExitStack) -> dict[str, Library]:
        found, running = {}, {}
        for library, said in RULES[rule].libraries.items():
            where = environment(library)
            python = self._pythons[where]
            if python is None:
                continue
            if where not in running:
                log = self._folder / f"{self._name}_{rule}_{where}.log"
                running[where] = stack.enter_context(Reference(python, _SCRIPTS[where], log))
            asked = case(self._folder, self._name, said) | {"pixels": self._pixels}
            found[library] = Library(running[where], asked, _WAYS[where], warmed_with=1)
        return found

    def first_calls(self, report: Report, rule: str) -> None:
        """How long the first call of a rule takes on a fresh model, and what makes another trace."""
        model = self._opened()
        largest = LrpTarget()
        named, other, each = (
            LrpTarget(what) for what in (Classes((3,)), Classes((7,)), ClassPerInstance(tuple(range(_FEWER))))
        )
        first, _ = self._call(model, rule, largest, _COUNT)
        again, _ = self._call(model, rule, largest, _COUNT)
        limit, met = at_most(first, _MOST_SECONDS)
        claim = f"{self._name}, {rule}"
        note = "the ratio is the seconds of the first call"
        report.add(Line(f"{claim}, first call", first, "the next call", again, first, f"{limit} s", met, note))
        fewer, traces = self._call(model, rule, largest, _FEWER)
        about = f"{claim}, new traces for {_FEWER} images"
        report.add(Line(about, fewer, "", 0.0, traces, *at_most(traces, 0)))
        begun, once = self._call(model, rule, named, _FEWER)
        others = [self._call(model, rule, target, _FEWER) for target in (other, each)]
        traces = sum(traces for _, traces in others)
        note = f"a named class is another start than the largest logit, with a trace of its own: {once}, {begun:.1f} s"
        about = f"{claim}, new traces for another class, then one for each image"
        report.add(Line(about, max(took for took, _ in others), "", 0.0, traces, *at_most(traces, 0), note))

    def _call(self, model: Model, rule: str, target: LrpTarget, count: int) -> tuple[float, int]:
        """The seconds and the traces of a call."""
        inputs = {model.graph.inputs[0].name: self._images[:count]}
        parameters = replace(RULES[rule].ours, target=target)
        with mock.patch.object(passes, "LrpProgram", wraps=LrpProgram) as traced:
            start = time.perf_counter()
            propagate_relevance(model, inputs, parameters)
            return time.perf_counter() - start, traced.call_count


def main() -> None:
    """Measures, and writes a report per network."""
    parser = argparse.ArgumentParser(description="Time relevance propagation through whole architectures.")
    parser.add_argument("--innvestigate-python", type=Path, help="the interpreter that has iNNvestigate")
    parser.add_argument("--zennit-python", type=Path, help="the interpreter that has zennit and captum")
    parser.add_argument("--pixels", type=int, default=224, help="width and height of an image")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each contender")
    parser.add_argument("--only", choices=NETWORKS, help="one network of them")
    parser.add_argument("--rule", choices=list(RULES), action="append", help="one of the rules; repeatable")
    parser.add_argument("--folder", type=Path, help="where to keep the networks")
    parser.add_argument("--results", type=Path, default=_RESULTS)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    pythons = {"iNNvestigate": given.innvestigate_python, "torch": given.zennit_python}
    for name in [given.only] if given.only else NETWORKS:
        network = Network(name, given.pixels, folder, pythons, given.repetitions)
        context = {
            "pixels": str(given.pixels),
            "repetitions": str(given.repetitions),
            "ledger": "kept by Sidelight alone",
        }
        report = Report(f"lrp_{name.lower()}", context=context)
        for rule in given.rule or CHOSEN:
            if name == _FIRST_CALLS:
                network.first_calls(report, rule)
            network.speed(report, rule)
            # After each, since a whole run takes long.
            report.write(given.results)


if __name__ == "__main__":
    main()
