"""Relevance through whole architectures in both file formats: ``python -m benchmarks.lrp_coverage FOLDER``.

Each architecture runs in a process of its own, and its result is kept beside the models, so that a run that was
interrupted goes on where it stood. The table is written to ``docs/lrp-coverage.md`` from all results that there are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.architectures import ARCHITECTURES, Architecture, export

_DOCUMENT = Path(__file__).parents[1] / "docs/lrp-coverage.md"
_INSTANCES = 2

# What must hold: of relevance relative to its largest magnitude; of the ledger relative to max(|R_out|, sum |R|).
_LARGEST_DIFFERENCE = 1e-4
_LARGEST_RESIDUAL = 1e-5

METHODS = ("EpsilonPlus", "alpha 2 beta 1", "gamma 0.25")


def _method(name: str) -> Any:
    from sidelight_engines.lrp import AlphaBeta, Gamma, LrpPreset, RuleMap

    if name == "EpsilonPlus":
        return LrpPreset.EPSILON_PLUS
    return RuleMap(otherwise=AlphaBeta(2.0, 1.0) if name.startswith("alpha") else Gamma(0.25))


def measure(architecture: Architecture, folder: Path, methods: Sequence[str]) -> dict[str, Any]:
    """Explains a few instances of one architecture in both formats.

    Args:
        architecture: which one.
        folder: where its models are, or are written to.
        methods: of METHODS.
    """
    exported = export(architecture, folder)
    from sidelight_engines.graph.graph import ModelFormat
    from sidelight_engines.model import open_model

    with np.load(exported.instances) as arrays:
        instances = [arrays[name][:_INSTANCES] for name in arrays]
    opened = {}
    result: dict[str, Any] = {"name": architecture.name, "methods": {}, "formats": {}}
    for name, path, model_format in (
        ("SavedModel", exported.saved_model, ModelFormat.SAVED_MODEL),
        ("ONNX", exported.onnx, ModelFormat.ONNX),
    ):
        start = time.perf_counter()
        try:
            model = open_model(path, model_format)
            check = model.check_gradients()
        except Exception as error:
            # One format that can not be opened must not hide what holds of the other.
            result["formats"][name] = {"failure": _first_line(error)}
            continue
        result["formats"][name] = {
            "seconds": time.perf_counter() - start,
            "layers": len(model.graph.layers),
            "check": check.message or check.state.value,
            "check_error": check.max_relative_error,
            "ops": sorted({node.op for node in model.frozen().graph_def.node}) if not check.message else [],
        }
        opened[name] = model
    for method in methods:
        result["methods"][method] = _explain(opened, instances, method)
    result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result


def _explain(opened: dict[str, Any], instances: Sequence[Any], method: str) -> dict[str, Any]:
    from sidelight_engines.lrp import LrpParameters, propagate_relevance

    found: dict[str, Any] = {"seconds": {}, "again": {}, "residual": {}, "gap": {}, "failure": {}}
    relevance = []
    for name, model in opened.items():
        inputs = dict(zip([spec.name for spec in model.graph.inputs], instances, strict=True))
        parameters = LrpParameters(method=_method(method))
        try:
            start = time.perf_counter()
            result = propagate_relevance(model, inputs, parameters)
            found["seconds"][name] = time.perf_counter() - start
            start = time.perf_counter()
            propagate_relevance(model, inputs, parameters)
            found["again"][name] = time.perf_counter() - start
        except Exception as error:
            found["failure"][name] = _first_line(error)
            continue
        found["residual"][name] = max(explained.ledger_residual for explained in result.explained)
        found["gap"][name] = max(explained.conservation_gap for explained in result.explained)
        relevance.append([part.values.astype(np.float64) for part in result.inputs])
    if len(relevance) == 2:
        pairs = list(zip(*relevance, strict=True))
        found["difference"] = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def document(results: Sequence[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    lines = [
        "# Architectures that relevance passes",
        "",
        "Made by `python -m benchmarks.lrp_coverage`. Every architecture has random weights, with the statistics of",
        "batch normalisation taken of a batch, and is exported by Keras as SavedModel and, through tf2onnx, as ONNX.",
        f"{_INSTANCES} instances of random numbers, largest logit, float32. *Difference*: between the relevance of the",
        f"two formats, relative to its largest magnitude (at most {_LARGEST_DIFFERENCE:g} is wanted). *Residual*: what",
        "the ledger leaves unexplained, relative to max(|R out|, sum |R|), the worse of both formats (at most",
        f"{_LARGEST_RESIDUAL:g}). *Gap*: |R out - R in| on that scale, which the ledger explains by bias, stabiliser,",
        "empty branches and sinks. *First* and *again*: seconds of the first call, which traces the graph, and of one",
        "more, for SavedModel / ONNX, on a machine that was busy with other work.",
        "",
        "| Architecture | Method | Difference | Residual | Gap | First, s | Again, s |",
        "|---|---|---|---|---|---|---|",
    ]
    failures = []
    for result in results:
        for format_name, opened in result["formats"].items():
            if "failure" in opened:
                failures.append(f"- {result['name']}, {format_name}: {opened['failure']}")
        for method, found in result["methods"].items():
            failures.extend(f"- {result['name']}, {n}, {method}: {why}" for n, why in found["failure"].items())
            if not found["residual"]:
                continue
            difference = f"{found['difference']:.1e}" if "difference" in found else "one format"
            cells = [
                result["name"],
                method,
                _marked(difference, found.get("difference", 0.0), _LARGEST_DIFFERENCE),
                _marked(f"{max(found['residual'].values()):.1e}", max(found["residual"].values()), _LARGEST_RESIDUAL),
                f"{max(found['gap'].values()):.2f}",
                " / ".join(f"{seconds:.1f}" for seconds in found["seconds"].values()),
                " / ".join(f"{seconds:.2f}" for seconds in found["again"].values()),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "## Opening",
        "",
        "| Architecture | Layers | Gradient check of ONNX | Open, s | Peak of the run | Operations |",
    ]
    lines += ["|---|---|---|---|---|---|"]
    for result in results:
        formats = [opened for opened in result["formats"].values() if "failure" not in opened]
        check = result["formats"]["ONNX"].get("check_error")
        cells = [
            result["name"],
            " / ".join(str(opened["layers"]) for opened in formats),
            "not opened" if check is None else f"{check:.1e}",
            " / ".join(f"{opened['seconds']:.1f}" for opened in formats),
            f"{result['peak_bytes'] / 1e9:.1f} GB",
            ", ".join(sorted({op for opened in formats for op in opened["ops"]} - {"Const", "Placeholder"})),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    missing = [
        architecture.name for architecture in ARCHITECTURES if architecture.name not in {r["name"] for r in results}
    ]
    lines += ["", "## What does not work", ""]
    lines += failures or ["Nothing that was tried."]
    if missing:
        lines += ["", f"Not run: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _marked(text: str, value: float, limit: float) -> str:
    return text if value <= limit else f"**{text}**"


def main() -> None:
    """Measures what has no result yet, and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lrp_coverage", description=__doc__)
    parser.add_argument("folder", type=Path, help="where models and results are kept")
    parser.add_argument("names", nargs="*", help="of architectures; all if none is named")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--again", action="store_true", help="measure what has a result too")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    chosen = [a for a in ARCHITECTURES if not given.names or a.name in given.names]
    for architecture in chosen:
        kept = given.folder / f"{architecture.name.replace(' ', '_')}.json"
        if given.inside:
            kept.write_text(json.dumps(measure(architecture, given.folder, given.methods), indent=1))
        elif given.again or not kept.exists():
            own = [sys.executable, "-m", "benchmarks.lrp_coverage", str(given.folder), architecture.name, "--inside"]
            subprocess.run([*own, "--methods", *given.methods], check=False)
    if not given.inside:
        files = [given.folder / f"{a.name.replace(' ', '_')}.json" for a in ARCHITECTURES]
        _DOCUMENT.write_text(document([json.loads(file.read_text()) for file in files if file.exists()]))


if __name__ == "__main__":
    main()
