"""Gradient similarity over a whole training set: building the index, its size, and searching it."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.model import Model, open_model
from sidelight_engines.similarity import (
    Examples,
    GradientIndex,
    IndexOptions,
    Labels,
    Precision,
    SimilarityParameters,
    build_index,
    explain_similarity,
    open_index,
)

from benchmarks.classic import images
from benchmarks.harness import Line, Reference, Report, at_least, at_most, ratio, take_turns
from benchmarks.similarity_build import DIGEST
from benchmarks.similarity_network import augment, build

Array = npt.NDArray[Any]

REFERENCES = 60_000
_FEW = 100  # References that alibi is given; its time grows with their number.
_NUMBERS = 10_634
_QUERIES = 100  # Images that no reference is made of.


@dataclass(frozen=True)
class Setting:
    """What a run measures, and on what.

    Attributes:
        images: an .npz file of 28 x 28 images; None for scikit-learn's digits.
        reference_python: the interpreter of the reference environment; None to leave alibi out.
        repetitions: turns of each contender.
        references: how many references are indexed.
        folder: where the network and the references are kept; None for a temporary folder.
    """

    images: Path | None = None
    reference_python: Path | None = None
    repetitions: int = 5
    references: int = REFERENCES
    folder: Path | None = None


class Benchmark:
    """One run.

    Args:
        setting: what to measure.
        folder: where the network and the data are kept.
    """

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.folder = folder
        self.x, self.y, told = images(setting.images)
        self.network = build(folder, self.x, self.y)
        self.report = Report("similarity", context={"images": told, "repetitions": str(setting.repetitions)})
        self.images = folder / f"references_{setting.references}.npy"
        self.labels = folder / "labels.npy"
        np.save(self.labels, augment(self.x[:-_QUERIES], self.y[:-_QUERIES], setting.references, self.images))

    def run(self) -> tuple[Report, ...]:
        """Measures every line."""
        model = open_model(self.network.version, ModelFormat.SAVED_MODEL)
        if self.setting.reference_python is not None:
            self._against_alibi(model, self.setting.reference_python)
        for precision in (Precision.FLOAT16, Precision.FLOAT32):
            place = self.folder / f"index_{precision.value}"
            self._build(place, precision)
            index = open_index(place, DIGEST)
            for queries, target in ((1, 0.150), (_QUERIES, 1.0)):
                self._search(model, index, precision, queries, target)
                self._search(model, index, precision, queries, None)
            shutil.rmtree(place)
        return (self.report,)

    def _against_alibi(self, model: Model, python: Path) -> None:
        x, y = np.asarray(np.load(self.images, mmap_mode="r")[:_FEW]), np.load(self.labels)[:_FEW]
        data = self.folder / "few.npz"
        np.savez(data, x=x, y=np.eye(10, dtype=np.float32)[y])
        many = np.asarray(np.load(self.images, mmap_mode="r")[: 20 * _FEW])
        references = Examples({model.graph.inputs[0].name: many}, Labels(np.load(self.labels)[: 20 * _FEW]))
        place = self.folder / "index_few"

        def ours() -> float:
            shutil.rmtree(place, ignore_errors=True)
            start = time.perf_counter()
            build_index(model, references, IndexOptions(), place, DIGEST, DIGEST)
            return (time.perf_counter() - start) / len(many)

        script = Path(__file__).with_name("reference_similarity.py")
        case = {"weights": str(self.network.weights), "data": str(data)}
        with Reference(python, script, self.folder / "reference.log") as reference:
            contenders: dict[str, Callable[[], float | None]] = {
                "ours": ours,
                "alibi": lambda: float(reference.run(case)["seconds"]) / _FEW,
            }
            seconds = take_turns(contenders, self.setting.repetitions)
        found = ratio(seconds, "alibi", "ours")
        target, met = at_least(found, 20)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        note = f"{medians['ours'] * 1e3:.2f} ms and {medians['alibi'] * 1e3:.1f} ms per reference"
        claim = "building, per reference"
        self.report.add(Line(claim, medians["ours"], "alibi", medians["alibi"], found, target, met, note))

    def _build(self, place: Path, precision: Precision) -> None:
        shutil.rmtree(place, ignore_errors=True)
        command = [sys.executable, "-m", "benchmarks.similarity_build", str(self.network.version), str(self.images)]
        command += [str(self.labels), str(place), precision.value]
        root = Path(__file__).parents[1]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
        found = json.loads(done.stdout.splitlines()[-1])
        count = self.setting.references
        claim = f"building {count} references, {precision.value}"
        minutes = at_most(found["seconds"], 300)
        self.report.add(Line(claim, found["seconds"], "", 0.0, found["seconds"], f"{minutes[0]} s", minutes[1]))
        gigabytes = found["bytes"] / 1e9
        limit = at_most(gigabytes, 1.4 * count / REFERENCES) if precision is Precision.FLOAT16 else ("", None)
        self.report.add(Line(f"its size in GB, {precision.value}", 0.0, "", 0.0, gigabytes, *limit))
        peak = found["beyond_model"] / 1e9
        self.report.add(Line(f"its peak memory in GB, {precision.value}", 0.0, "", 0.0, peak, *at_most(peak, 2)))
        values = found["values"]
        self.report.add(Line("numbers per reference", 0.0, "", 0.0, values, *at_most(values, _NUMBERS)))

    def _search(
        self, model: Model, index: GradientIndex, precision: Precision, queries: int, limit: float | None
    ) -> None:
        """The best five, or without a target every score: then nothing can be left out."""
        name = model.graph.inputs[0].name
        instances = Examples({name: self.x[-queries:]}, Labels(self.y[-queries:]))
        parameters = SimilarityParameters(all_scores=limit is None)

        def ours() -> None:
            explain_similarity(model, instances, parameters, index)

        median = statistics.median(take_turns({"ours": ours}, 2 * self.setting.repetitions)["ours"])
        wanted = "every score" if limit is None else "the best 5"
        claim = f"{wanted}, {queries} among {len(index)}, {precision.value}"
        target, met = ("", None) if limit is None else at_most(median, limit)
        self.report.add(Line(claim, median, "", 0.0, median, target, met))


def run(setting: Setting) -> tuple[Report, ...]:
    """Measures every line."""
    if setting.folder is not None:
        setting.folder.mkdir(parents=True, exist_ok=True)
        return Benchmark(setting, setting.folder).run()
    with tempfile.TemporaryDirectory() as folder:
        return Benchmark(setting, Path(folder)).run()
