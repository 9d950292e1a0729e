"""Activation patterns against the runtimes' own speed and against the published way of counting them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sidelight_engines.activation import (
    LabelClasses,
    LayerSelection,
    PatternDistance,
    PatternParameters,
    QuantileThreshold,
    ValueThreshold,
    measure_activation_patterns,
)
from sidelight_engines.graph.graph import Graph
from sidelight_engines.runtime.runtime import Runtime

from benchmarks.classic import images
from benchmarks.goldens.make_pattern_goldens import ONNX, SAVED_MODEL, WEIGHTS, network
from benchmarks.harness import Contender, Line, Report, at_least, at_most, fastest, ratio, take_turns
from benchmarks.linearity import open_runtime

Array = npt.NDArray[Any]

EXAMPLES = 10_000
LAYER = "dense"
_BATCHES = (64, 256, 512)
_KINDS = {"saved_model": "TensorFlow", "onnx": "ONNX Runtime"}


@dataclass(frozen=True)
class Setting:
    """What a run measures, and on what.

    Attributes:
        images: an .npz file of 28 x 28 images; None for scikit-learn's digits.
        repetitions: turns of each contender.
        examples: images whose patterns are counted.
    """

    images: Path | None = None
    repetitions: int = 5
    examples: int = EXAMPLES


class Benchmark:
    """One run."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        x, y, told = images(setting.images)
        # From 0 to 255, as the network has learned them. Images repeat where there are fewer than wanted.
        self.x = (np.resize(x, (setting.examples, *x.shape[1:])) * 255).astype(np.float32)
        self.y = np.resize(y, setting.examples)
        paths = {"saved_model": SAVED_MODEL, "onnx": ONNX}
        self.opened: dict[str, tuple[Graph, Runtime]] = {kind: open_runtime(kind, paths[kind]) for kind in _KINDS}
        context = {"images": told, "examples": str(setting.examples), "repetitions": str(setting.repetitions)}
        self.report = Report("patterns", context=context)

    def run(self) -> tuple[Report, ...]:
        """Measures every line."""
        everything = LayerSelection(everything=True)
        for kind in _KINDS:
            self._overhead(kind, LayerSelection((LAYER,)), f"layer {LAYER}")
            self._overhead(kind, everything, "every layer")
        self._against_published()
        self._extras()
        return (self.report,)

    def _ours(self, kind: str, parameters: PatternParameters) -> Callable[[], None]:
        graph, runtime = self.opened[kind]
        name = graph.inputs[0].name

        def run() -> None:
            measure_activation_patterns(graph, runtime, {name: self.x}, LabelClasses(self.y, "labels"), parameters)

        return run

    def _forward(self, kind: str, selection: LayerSelection, batch: int) -> Callable[[], None]:
        """The same rows through the model up to the same layers, and nothing else."""
        graph, runtime = self.opened[kind]
        chosen = graph.layers if selection.everything else [graph.layer(name) for name in selection.names]
        forward = runtime.forward([layer.tensor for layer in chosen])
        name = graph.inputs[0].name

        def run() -> None:
            for first in range(0, len(self.x), batch):
                forward({name: self.x[first : first + batch]})

        return run

    def _overhead(self, kind: str, selection: LayerSelection, told: str) -> None:
        contenders: dict[str, Contender] = {"ours": self._ours(kind, PatternParameters(selection))}
        contenders |= {str(batch): self._forward(kind, selection, batch) for batch in _BATCHES}
        seconds = take_turns(contenders, self.setting.repetitions)
        best = fastest(seconds, [str(batch) for batch in _BATCHES])
        found = ratio(seconds, "ours", best)
        self._add(
            f"{len(self.x)} images, {told}, {_KINDS[kind]}",
            statistics.median(seconds["ours"]),
            f"forward rows to the same layers by {best}",
            statistics.median(seconds[best]),
            found,
            at_most(found, 1.1),
        )

    def _against_published(self) -> None:
        for kind in _KINDS:
            contenders: dict[str, Contender] = {
                "ours": self._ours(kind, PatternParameters(LayerSelection((LAYER,)), divisor=1000.0)),
                "published": published(self.x, self.y),
            }
            seconds = take_turns(contenders, self.setting.repetitions)
            found = ratio(seconds, "published", "ours")
            self._add(
                f"{len(self.x)} images, layer {LAYER}, {_KINDS[kind]}",
                statistics.median(seconds["ours"]),
                "the published lines on Keras",
                statistics.median(seconds["published"]),
                found,
                at_least(found, 2),
            )

    def _extras(self) -> None:
        """What is asked for beside the plain counts, against those."""
        everything = LayerSelection(everything=True)
        plain = PatternParameters(everything)
        asked = {
            "all four distances": PatternParameters(everything, distances=tuple(PatternDistance)),
            "quantile 0.9 for a threshold": PatternParameters(everything, threshold=QuantileThreshold(0.9)),
            "threshold 0.5": PatternParameters(everything, threshold=ValueThreshold(0.5)),
        }
        for told, parameters in asked.items():
            contenders: dict[str, Contender] = {
                "more": self._ours("onnx", parameters),
                "plain": self._ours("onnx", plain),
            }
            seconds = take_turns(contenders, self.setting.repetitions)
            self._add(
                f"{len(self.x)} images, every layer, {told}, ONNX Runtime",
                statistics.median(seconds["more"]),
                "the mean absolute distance alone",
                statistics.median(seconds["plain"]),
                ratio(seconds, "more", "plain"),
                ("", None),
            )

    def _add(
        self, claim: str, ours: float, theirs: str, other: float, found: float, target: tuple[str, bool | None]
    ) -> None:
        self.report.add(Line(claim, ours, theirs, other, found, *target))


def published(x: Array, y: Array) -> Callable[[], None]:
    """The published experiment's own lines, with its layer cut out beforehand."""
    import keras

    model = network()
    model.load_weights(WEIGHTS)
    intermediate = keras.Model(inputs=model.inputs, outputs=model.get_layer(LAYER).output)

    def run() -> None:
        rates = np.zeros((10, 32))
        for idx in range(10):
            output = intermediate.predict(x[y == idx], verbose=0)
            output[output > 0] = 1.0
            rates[idx, :] = np.sum(output, axis=0) / 1000
        distances = np.zeros((10, 10))
        for i in range(10):
            for j in range(10):
                distances[i, j] = np.sum(np.absolute(rates[i] - rates[j])) / 32

    return run


def run(setting: Setting) -> tuple[Report, ...]:
    """Runs the benchmark."""
    return Benchmark(setting).run()
