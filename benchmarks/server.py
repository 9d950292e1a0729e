"""How soon a server answers, and what it holds when its models are ONNX and nobody asks for gradients."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

from benchmarks.harness import Line, Report, at_most
from benchmarks.serving import make_repository, serving

_MEBIBYTE = 2.0**20


def measure_server(onnx: Path, x: np.ndarray, folder: Path, repetitions: int) -> Report:
    """Measures start-up and memory.

    Args:
        onnx: a model.
        x: images to explain.
        folder: for the repository.
        repetitions: how often a server is started.
    """
    import sidelight

    report = Report("server", context={"repetitions": str(repetitions)})
    repository = make_repository(folder, {"classic": onnx})
    healthy, memory, tensorflow = [], [], False
    for _ in range(repetitions):
        with serving(repository) as server:
            healthy.append(server.healthy_seconds)
            with sidelight.connect(server.address) as client:
                client.linearity("classic", x, feature_range=(0, 1), layers="all")
            memory.append(server.memory_bytes() / _MEBIBYTE)
            tensorflow = tensorflow or server.has_mapped("tensorflow")
    seconds, mebibytes = statistics.median(healthy), statistics.median(memory)
    target, met = at_most(seconds, 2)
    report.add(Line("from process start to the first health answer", seconds, "2 s", 2.0, seconds, target, met))
    target, met = at_most(mebibytes, 300)
    report.context["memory of all processes, ONNX model, after explaining all layers of 100 images"] = (
        f"{mebibytes:.0f} MiB (PSS, median), target {target}" + ("" if met else " NOT MET")
    )
    report.context["TensorFlow was imported"] = "yes, NOT MET" if tensorflow else "no"
    return report
