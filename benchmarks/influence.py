"""Influence of every pixel of 10,000 images on ten labels and on metrics, against ethik 0.0.4."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sidelight_engines.influence import InfluenceParameters, InfluenceResult, Metric, Rows, explain_influence

from benchmarks.classic import images
from benchmarks.harness import Line, Reference, Report, at_least, at_most

Array = npt.NDArray[Any]

IMAGES = 10_000
_CURVE_TAUS = 41
_MOST_SHIFT = 2
_SHARPNESS = 8.0
_MOST_TURNS_OF_ETHIK = 3
_COLUMNS = 100


@dataclass(frozen=True)
class Setting:
    """What a run measures, and on what.

    Attributes:
        images: an .npz file of 28 x 28 images; None for scikit-learn's digits.
        ethik_python: the interpreter of an environment with ethik; None to leave it out.
        repetitions: turns of each contender; ethik takes 3 at most.
    """

    images: Path | None = None
    ethik_python: Path | None = None
    repetitions: int = 5


def shifted(x: Array, y: Array, count: int) -> tuple[Array, Array]:
    """As many images as wanted: those given, then the same moved by up to two pixels, at random."""
    random = np.random.default_rng(0)
    chosen = np.resize(np.arange(len(x)), count)
    made = x[chosen]
    for row in range(len(x), count):
        made[row] = np.roll(made[row], random.integers(-_MOST_SHIFT, _MOST_SHIFT + 1, 2), axis=(0, 1))
    return made, y[chosen]


def probabilities(x: Array, y: Array) -> Array:
    """What a least-squares classifier says, as float32: the speed hangs on the shape of predictions alone."""
    flat = x.reshape(len(x), -1) / 255
    weights, *_ = np.linalg.lstsq(flat, np.eye(10)[y], rcond=1e-3)
    scores = np.exp(_SHARPNESS * (flat @ weights))
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


class Benchmark:
    """One run."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.folder = folder
        x, y, told = images(setting.images)
        pixels = np.rint(x.reshape(len(x), 28, 28) * 255).astype(np.uint8)
        self.x, self.y = shifted(pixels, y.astype(np.int64), IMAGES)
        self.p = probabilities(self.x, self.y)
        context = {
            "images": f"{told}; {IMAGES} in all, those beyond the first {len(x)} moved by up to {_MOST_SHIFT} pixels",
            "pixels that are not 0": f"{np.count_nonzero(self.x) / self.x.size:.1%}",
            "repetitions": str(setting.repetitions),
        }
        self.report = Report("influence", context=context)

    def explain(self, **parameters: Any) -> InfluenceResult:
        labels = Rows(self.y, "labels") if "metrics" in parameters else None
        return explain_influence(Rows(self.x, "x"), Rows(self.p, "p"), InfluenceParameters(**parameters), labels=labels)

    def run(self) -> tuple[Report, ...]:
        """Measures every line."""
        metrics = (Metric.ACCURACY, Metric.LOG_LOSS)
        jobs: dict[str, tuple[str, Callable[[], Any]]] = {
            "influence": ("784 pixels, 10 labels, 2 taus", self.explain),
            "performance": (
                "accuracy and log-loss, 2 taus, and influence beside",
                lambda: self.explain(metrics=metrics),
            ),
        }
        for what, (claim, ours) in jobs.items():
            if self.setting.ethik_python is not None:
                self._against_ethik(self.setting.ethik_python, what, claim, ours)
        taus = tuple(np.linspace(-1, 1, _CURVE_TAUS))
        self._alone(f"784 pixels, 10 labels, {_CURVE_TAUS} taus", lambda: self.explain(taus=taus), 2.0)
        every = tuple(metric for metric in Metric if metric.of_classes)
        self._alone("784 pixels, 10 labels, 2 taus, all seven metrics of classes", lambda: self.explain(metrics=every))
        real = np.random.default_rng(0).normal(size=(IMAGES, _COLUMNS))
        self._alone(
            f"{_COLUMNS} real-valued features, 10 labels, 2 taus",
            lambda: explain_influence(Rows(real, "x"), Rows(self.p, "p"), InfluenceParameters()),
        )
        return (self.report,)

    def _against_ethik(self, python: Path, what: str, claim: str, ours: Callable[[], Any]) -> None:
        data, result = self.folder / "data.npz", self.folder / "result.npz"
        np.savez(data, x=self.x, y=self.y, p=self.p)
        case = {"data": str(data), "what": what, "result": str(result)}
        ours()
        seconds: dict[str, list[float]] = {"ours": [], "ethik": []}
        script = Path(__file__).with_name("reference_influence.py")
        with Reference(python, script, self.folder / "reference.log") as reference:
            for _ in range(min(_MOST_TURNS_OF_ETHIK, self.setting.repetitions)):
                seconds["ethik"].append(float(reference.run(case)["seconds"]))
                start = time.perf_counter()
                ours()
                seconds["ours"].append(time.perf_counter() - start)
        found = statistics.median(b / a for a, b in zip(seconds["ours"], seconds["ethik"], strict=True))
        note = self._differences(result) if what == "influence" else "ethik's two calls, one for each metric"
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        target, met = at_least(found, 100)
        self.report.add(Line(claim, medians["ours"], "ethik 0.0.4", medians["ethik"], found, target, met, note))

    def _differences(self, result: Path) -> str:
        """How far ethik's influences are from ours, exact and compatible."""
        theirs = np.load(result)
        said = []
        for name, compatible in (("exact", False), ("compatible", True)):
            made = self.explain(taus=(-1.0, 0.0, 1.0), ethik_compatible=compatible).influences
            ours = made[theirs["feature"], np.rint(theirs["tau"]).astype(int) + 1, theirs["label"]]
            away = np.abs(ours - theirs["influence"])
            said.append(f"{name} {away.max():.2g} at most, {away.mean():.2g} in the mean")
        return "differences from ethik: " + "; ".join(said)

    def _alone(self, claim: str, ours: Callable[[], Any], limit: float | None = None) -> None:
        ours()
        seconds = []
        for _ in range(self.setting.repetitions):
            start = time.perf_counter()
            ours()
            seconds.append(time.perf_counter() - start)
        median = statistics.median(seconds)
        target, met = ("", None) if limit is None else at_most(median, limit)
        self.report.add(Line(claim, median, "", 0.0, median, f"{target} s" if target else "", met))


def run(setting: Setting) -> tuple[Report, ...]:
    """Measures every line."""
    with tempfile.TemporaryDirectory() as folder:
        return Benchmark(setting, Path(folder)).run()
