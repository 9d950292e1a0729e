"""``sidelight models check``: what a server could do with a model file, without one."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidelight_service.cli.models import layer_table, show_methods, show_tensors
from sidelight_service.cli.terminal import FAILED, USAGE, JsonOption, console, fail

if TYPE_CHECKING:
    from sidelight import ModelDetail, UnsupportedOp
    from sidelight_engines.model import Model

_METHODS = ("linearity", "similarity", "lrp", "activation-pattern", "influence")


def check(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", exists=True, help="An .onnx file, or the folder of a model or SavedModel."),
    ],
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Also compare an ONNX model's TensorFlow form with ONNX Runtime.")
    ] = False,
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help="Exit with status 1 unless this method can be used; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what can be asked of a model file: its layers, and which operations stand in the way of which method."""
    wanted = [name.replace("_", "-") for name in require or ()]
    for name in wanted:
        if name not in _METHODS:
            fail(f"--require: {name!r} is no method; give one of {', '.join(_METHODS)}", status=USAGE)
    # TensorFlow greets on standard error.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    detail = _describe(path, gradients=gradients)
    missing = [method for method in detail.methods if method.method in wanted and not method.supported]
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(detail), indent=2, default=str))
    else:
        _print(path, detail)
    if missing:
        fail(f"{missing[0].method}: {missing[0].reason}", status=FAILED)


def _describe(path: Path, *, gradients: bool) -> ModelDetail:
    from sidelight.decode import decode_model_detail
    from sidelight_engines.errors import SidelightError

    from sidelight_service.convert.details import model_to_detail

    try:
        model = _open(path)
        if gradients:
            model.check_gradients()
    except SidelightError as error:
        fail(str(error))
    message = model_to_detail(model)
    message.name = path.stem if path.is_file() else path.resolve().name
    return decode_model_detail(message)


def _open(path: Path) -> Model:
    from sidelight_engines.graph.graph import ModelFormat
    from sidelight_engines.graph.onnx_model import read_onnx_model
    from sidelight_engines.model import FILES, Model, open_model
    from sidelight_engines.runtime.onnx_runtime import OnnxRuntime

    if path.is_dir():
        found = [model_format for model_format, file in FILES.items() if (path / file).is_file()]
        if len(found) != 1:
            files = " and ".join(FILES.values()) if found else f"neither {' nor '.join(FILES.values())}"
            fail(f"{path} holds {files}; name a folder with one of them, or an .onnx file")
        return open_model(path, found[0])
    if path.name == FILES[ModelFormat.SAVED_MODEL]:
        return open_model(path.parent, ModelFormat.SAVED_MODEL)
    onnx = read_onnx_model(path)
    runtime = OnnxRuntime(onnx)
    runtime.forward([spec.tensor for spec in onnx.graph.outputs])
    return Model(onnx.graph, runtime, onnx, None)


def _print(path: Path, detail: ModelDetail) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    grid = Table.grid(padding=(0, 2))
    facts = {
        "file": str(path),
        "producer": detail.producer,
        "parameters": f"{detail.parameter_count:,}",
        "kind": "classifier" if detail.classifier else "regressor",
        **show_tensors(detail),
        "gradient check": " ".join(filter(None, [detail.gradient_check.state, detail.gradient_check.message])),
    }
    for name, fact in facts.items():
        if fact:
            grid.add_row(Text(name, style="dim"), Text(fact))
    out.print(grid)
    out.print()
    out.print(layer_table(detail))
    out.print()
    show_methods(detail)
    missing = _missing(detail)
    if missing:
        table = Table("operation", "nodes", "first node", "stands in the way of", "why", box=None, pad_edge=False)
        for (name, methods, reason), nodes in missing.items():
            table.add_row(*(Text(cell) for cell in (name, str(len(nodes)), nodes[0], methods, reason)))
        out.print()
        out.print(table)


def _missing(detail: ModelDetail) -> dict[tuple[str, str, str], list[str]]:
    """Nodes that are not covered by operation, the methods that need them, and reason."""
    methods: dict[UnsupportedOp, list[str]] = {}
    for method in detail.methods:
        for problem in method.unsupported_ops:
            methods.setdefault(problem, []).append(method.method)
    nodes: dict[tuple[str, str, str], list[str]] = {}
    for problem, names in methods.items():
        op = f"{problem.domain}::{problem.op}" if problem.domain else problem.op
        version = f" (opset {problem.opset})" if problem.opset else ""
        nodes.setdefault((f"{op}{version}", ", ".join(names), problem.reason), []).append(problem.node)
    return nodes
