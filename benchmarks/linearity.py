"""The linearity measure against the runtimes' own speed and against alibi."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sidelight_engines.graph.graph import Graph
from sidelight_engines.linearity import (
    GridSampling,
    KnnSampling,
    LayerSelection,
    LinearityParameters,
    Rows,
    UniformRange,
    measure_linearity,
)
from sidelight_engines.runtime.runtime import Runtime

from benchmarks.classic import LAYERS, Classic, build, images
from benchmarks.harness import TURN_SECONDS, Line, Reference, Report, at_least, at_most, fastest, ratio, take_turns
from benchmarks.server import measure_server
from benchmarks.serving import make_repository, serving

Array = npt.NDArray[Any]

SAMPLES = 20
PARAMETERS = LinearityParameters(GridSampling(UniformRange(0, 1)), samples=SAMPLES)
_BATCHES = (32, 64, 128, 256, 512, 1024)
_KINDS = {"saved_model": "TensorFlow", "onnx": "ONNX Runtime"}


@dataclass(frozen=True)
class Setting:
    """What a run measures, and on what.

    Attributes:
        images: an .npz file of 28 x 28 images; None for scikit-learn's digits.
        reference_python: the interpreter of the reference environment; None to leave alibi out.
        repetitions: turns of each contender.
        instances: images of the first comparison.
        folder: where the trained network is kept; None for a temporary folder.
    """

    images: Path | None = None
    reference_python: Path | None = None
    repetitions: int = 5
    instances: int = 1000
    folder: Path | None = None


def all_layers(parameters: LinearityParameters) -> LinearityParameters:
    """The same for every layer."""
    return replace(parameters, layers=LayerSelection(everything=True))


def open_runtime(kind: str, model: Path) -> tuple[Graph, Runtime]:
    """Opens a SavedModel (`saved_model`) or an ONNX file (`onnx`)."""
    if kind == "onnx":
        from sidelight_engines.graph.onnx_model import read_onnx_model
        from sidelight_engines.runtime.onnx_runtime import OnnxRuntime

        read = read_onnx_model(model)
        return read.graph, OnnxRuntime(read)
    from sidelight_engines.graph.saved_model import read_saved_model
    from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

    saved = read_saved_model(model)
    return saved.graph, TensorFlowRuntime(saved.frozen)


def over_grpc(address: str, model: str, x: Array, layers: bool = False) -> Callable[[], None]:
    """A contender that asks a server, which serves the network as `model`.

    Args:
        address: ``host:port``.
        model: the name of the network there.
        x: the images.
        layers: whether to measure every layer.
    """
    import sidelight

    client = sidelight.connect(address)

    def run() -> None:
        client.linearity(model, x, feature_range=(0.0, 1.0), samples=SAMPLES, layers="all" if layers else None)

    return run


class Benchmark:
    """One run.

    Args:
        setting: what to measure.
        folder: where the network and the data are kept.
    """

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        x, y, told = images(setting.images)
        self.network: Classic = build(folder, x, y)
        # Images repeat where there are fewer than wanted.
        self.x = np.resize(x, (setting.instances, *x.shape[1:]))
        self.references = x[-1000:]
        self.files = {"saved_model": self.network.saved_model, "onnx": self.network.onnx}
        self.opened = {kind: open_runtime(kind, path) for kind, path in self.files.items()}
        self.report = Report("linearity", context={"images": told, "repetitions": str(setting.repetitions)})
        self.folder = folder
        self.reference: Reference | None = None

    def run(self) -> tuple[Report, ...]:
        """Measures every line; the reports of the measure and of the server."""
        if self.setting.reference_python is None:
            self._run()
        else:
            script = Path(__file__).with_name("reference_linearity.py")
            log = self.folder / "reference.log"
            with Reference(self.setting.reference_python, script, log) as self.reference:
                self._run()
        return (self.report, self.server)

    def _run(self) -> None:
        self._overhead()
        self._over_grpc()
        self._against_alibi()
        self._layers()
        self._neighbours()
        self._memory()
        self.server = measure_server(self.network.onnx, self.x[:100], self.folder, self.setting.repetitions)

    def _ours(self, kind: str, x: Array, parameters: LinearityParameters = PARAMETERS) -> Callable[[], None]:
        graph, runtime = self.opened[kind]

        def run() -> None:
            measure_linearity(graph, runtime, x, parameters)

        return run

    def _forward(self, kind: str, batch: int) -> Callable[[], None]:
        """As many rows as the measure needs, and nothing else."""
        graph, runtime = self.opened[kind]
        rows = len(self.x) * (SAMPLES + 1)
        forward = runtime.forward([graph.outputs[0].tensor])
        data = np.resize(self.x, (batch, *self.x.shape[1:]))
        name = graph.inputs[0].name

        def run() -> None:
            for first in range(0, rows, batch):
                forward({name: data[: min(batch, rows - first)]})

        return run

    def _overhead(self) -> None:
        rows = len(self.x) * (SAMPLES + 1)
        for kind, runtime in _KINDS.items():
            contenders: dict[str, Callable[[], float | None]] = {"ours": self._ours(kind, self.x)}
            contenders |= {str(batch): self._forward(kind, batch) for batch in _BATCHES}
            seconds = take_turns(contenders, self.setting.repetitions)
            best = fastest(seconds, [str(batch) for batch in _BATCHES])
            found = ratio(seconds, "ours", best)
            target, met = at_most(found, 1.15)
            self.report.add(
                Line(
                    f"{len(self.x)} images x {SAMPLES} samples, {runtime}",
                    statistics.median(seconds["ours"]),
                    f"{rows} forward rows by {best}",
                    statistics.median(seconds[best]),
                    found,
                    target,
                    met,
                )
            )

    def _over_grpc(self) -> None:
        repository = make_repository(self.folder, self.files)
        with serving(repository) as server:
            for kind, runtime in _KINDS.items():
                contenders: dict[str, Callable[[], float | None]] = {
                    "gRPC": over_grpc(server.address, kind, self.x),
                    "ours": self._ours(kind, self.x),
                }
                seconds = take_turns(contenders, self.setting.repetitions)
                found = ratio(seconds, "gRPC", "ours")
                target, met = at_most(found, 1.05)
                self.report.add(
                    Line(
                        f"{len(self.x)} images x {SAMPLES} samples over gRPC, {runtime}",
                        statistics.median(seconds["gRPC"]),
                        "the same in process",
                        statistics.median(seconds["ours"]),
                        found,
                        target,
                        met,
                    )
                )

    def _alibi(self, case: dict[str, Any], x: Array, name: str) -> Callable[[], float]:
        file = self.folder / f"{name}.npz"
        np.savez(file, x=x, references=self.references, range=np.array([[0.0, 1.0]] * int(np.prod(x.shape[1:]))))
        complete = {"method": "grid", "call": "signature", "samples": SAMPLES, "data": str(file)} | case

        def run() -> float:
            if self.reference is None:
                raise RuntimeError("there is no reference environment")
            return float(self.reference.run(complete)["seconds"])

        return run

    def _against_alibi(self) -> None:
        if self.reference is None:
            return
        case = {
            "model": str(self.network.saved_model),
            "signatures": ["serving_default"],
            "model_types": ["classifier"],
        }
        example = "alibi as its example calls a model, by Keras' predict"
        contenders: dict[str, Callable[[], float | None]] = {
            "ours": self._ours("saved_model", self.x),
            example: self._alibi(case | {"call": "predict"}, self.x, "output"),
            "alibi by 1,024 rows": self._alibi(case | {"batch": 1024}, self.x, "output"),
        }
        if _available_bytes() > 16 * 2**30:
            contenders["alibi in one batch"] = self._alibi(case | {"batch": 0}, self.x, "output")
        seconds = take_turns(contenders, self.setting.repetitions)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        bare = [name for name in contenders if name not in ("ours", example)]
        note = ", ".join(f"{name} {medians[name]:.2f} s" for name in bare)
        # Given the function of the SavedModel itself alibi does little but run it, as do we.
        for name, told in ((example, ""), (fastest(seconds, bare), f"given the bare function, the fastest of: {note}")):
            found = ratio(seconds, name, "ours")
            target, met = at_least(found, 2)
            self.report.add(
                Line(
                    f"{len(self.x)} images x {SAMPLES} samples, TensorFlow",
                    medians["ours"],
                    f"{name}, the same SavedModel",
                    medians[name],
                    found,
                    target,
                    met,
                    told,
                )
            )

    def _layers(self) -> None:
        if self.reference is None:
            return
        x = self.x[:100]
        case = {
            "model": str(self.network.layers),
            "signatures": list(LAYERS),
            "model_types": ["classifier" if layer == "softmax" else "regressor" for layer in LAYERS],
        }
        contenders: dict[str, Callable[[], float | None]] = {
            kind: self._ours(kind, x, all_layers(PARAMETERS)) for kind in _KINDS
        }
        example = "alibi as its example calls layers, by Keras' functions"
        bare = ["alibi in one batch", "alibi by 1,024 rows"]
        by_function = {"call": "function", "model": str(self.network.keras)}
        contenders[example] = self._alibi(case | by_function, x, "layers")
        for name, batch in zip(bare, (0, 1024), strict=True):
            contenders[name] = self._alibi(case | {"batch": batch}, x, "layers")
        seconds = take_turns(contenders, max(1, self.setting.repetitions // 2), at_least=TURN_SECONDS)
        best = fastest(seconds, bare)
        told = "alibi is given one function of a SavedModel per layer."
        for kind, runtime in _KINDS.items():
            graph, _ = self.opened[kind]
            for name, note in ((example, ""), (best, told)):
                found = ratio(seconds, name, kind)
                target, met = at_least(found, 15)
                self.report.add(
                    Line(
                        f"{len(x)} images x {SAMPLES} samples, all {len(graph.layers)} layers, {runtime}",
                        statistics.median(seconds[kind]),
                        f"{name}, {len(LAYERS)} layers one by one",
                        statistics.median(seconds[name]),
                        found,
                        target,
                        met,
                        f"{note} Of dropout layers the ONNX file has none.".strip(),
                    )
                )

    def _neighbours(self) -> None:
        if self.reference is None:
            return
        x, few = self.x[:200], 3
        parameters = replace(PARAMETERS, sampling=KnnSampling(Rows(self.references, "references")))
        case = {
            "model": str(self.network.saved_model),
            "signatures": ["serving_default"],
            "model_types": ["classifier"],
            "method": "knn",
            "batch": 0,
        }
        contenders: dict[str, Callable[[], float | None]] = {
            "ours": self._ours("saved_model", x, parameters),
            "alibi": self._alibi(case, x[:few], "neighbours"),
        }
        seconds = take_turns(contenders, max(1, self.setting.repetitions // 2))
        seconds["alibi"] = [value * len(x) / few for value in seconds["alibi"]]
        found = ratio(seconds, "alibi", "ours")
        target, met = at_least(found, 50)
        self.report.add(
            Line(
                f"{len(x)} images x {SAMPLES} nearest of {len(self.references)} references, TensorFlow",
                statistics.median(seconds["ours"]),
                "alibi",
                statistics.median(seconds["alibi"]),
                found,
                target,
                met,
                f"alibi ran {few} images, and its time is scaled to {len(x)}: it searches for each alone.",
            )
        )

    def _memory(self) -> None:
        file = self.folder / "memory.npz"
        np.savez(file, x=self.x)
        for kind, runtime in _KINDS.items():
            peaks = [_peak_bytes(kind, self.files[kind], file, instances) for instances in (200, 2000)]
            found = peaks[1] / peaks[0]
            target, met = at_most(found, 1.1)
            note = f"{peaks[0] / 2**20:.0f} MiB for 200 images, {peaks[1] / 2**20:.0f} MiB for 2,000"
            self.report.context[f"peak memory, all layers, {runtime}"] = (
                f"{note}; ratio {found:.2f}, target {target}" + ("" if met else " NOT MET")
            )
            print(f"peak memory, all layers, {runtime}: {note}", flush=True)


def _peak_bytes(kind: str, model: Path, data: Path, instances: int) -> int:
    command = [sys.executable, "-m", "benchmarks.linearity_memory", kind, str(model), str(data), str(instances)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return int(done.stdout.split()[-1])


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def run(setting: Setting) -> tuple[Report, ...]:
    """Measures every line."""
    if setting.folder is not None:
        setting.folder.mkdir(parents=True, exist_ok=True)
        return Benchmark(setting, setting.folder).run()
    with tempfile.TemporaryDirectory() as folder:
        return Benchmark(setting, Path(folder)).run()
