"""``sidelight models``: what a server has."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.terminal import (
    DEFAULT_SERVER,
    JsonOption,
    ServerOption,
    TimeoutOption,
    console,
    failures_reported,
    note,
    size_in_words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table
    from sidelight import Layer, Model, ModelDetail, ModelVersion, TensorSpec

group = typer.Typer(help="List the models of a server, and look into one.", invoke_without_command=True)

_LONGEST_REASON = 200

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME:VERSION or NAME@LABEL.")]


@group.callback()
def list_models(
    context: typer.Context,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 30.0,
) -> None:
    """List the models of a server; with a command, do that instead."""
    if context.invoked_subcommand is not None:
        return
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        models = client.models(timeout=timeout)
    if as_json:
        _print_json([dataclasses.asdict(model) for model in models])
    elif models:
        _print_models(models)
    else:
        note("The server's repository holds no models.")


@group.command("show")
def show(
    model: ModelArgument,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 30.0,
) -> None:
    """Show one loaded model: inputs, outputs, layers, and what can be asked of it."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        detail = client.model(model, timeout=timeout)
    if as_json:
        _print_json(dataclasses.asdict(detail))
    else:
        _print_detail(detail)


@group.command("load")
def load(
    model: ModelArgument,
    check_gradients: Annotated[
        bool, typer.Option("--check-gradients", help="Also compare the TensorFlow form with ONNX Runtime now.")
    ] = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Load a version, or load it anew if its files changed."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        detail = client.load(model, check_gradients=check_gradients, timeout=timeout)
    note(f"{detail.name}:{detail.version} is {detail.status.state}, {detail.status.digest}")


@group.command("unload")
def unload(model: ModelArgument, server: ServerOption = DEFAULT_SERVER, timeout: TimeoutOption = None) -> None:
    """Take a version, or all versions of a model, out of service."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        unloaded = client.unload(model, timeout=timeout)
    for version in unloaded.versions:
        note(f"{unloaded.name}:{version.version} is {version.state}")


def _print_json(value: Any) -> None:
    # Times are the only values that JSON does not know.
    typer.echo(json.dumps(value, indent=2, default=str))


def _print_models(models: Sequence[Model]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "version", "state", "format", "labels", "size", "digest", box=None, pad_edge=False)
    for model in models:
        for version in model.versions:
            cells = [model.name, *_version_cells(version)]
            table.add_row(*(Text(cell) for cell in cells))
    console().print(table)
    for model in models:
        for version in model.versions:
            if version.error is not None:
                note(f"{model.name}:{version.version}: {version.error.message}")


def _version_cells(version: ModelVersion) -> list[str]:
    labels = ", ".join(version.labels)
    return [
        str(version.version),
        version.state,
        version.format,
        labels,
        size_in_words(version.size_bytes),
        version.digest[:19],
    ]


def _print_detail(detail: ModelDetail) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    version = detail.status
    facts = {
        "model": f"{detail.name}:{version.version}",
        "state": version.state,
        "labels": ", ".join(version.labels),
        "format": version.format,
        "producer": detail.producer,
        "digest": version.digest,
        "size": size_in_words(version.size_bytes),
        "parameters": f"{detail.parameter_count:,}",
        "kind": "classifier" if detail.classifier else "regressor",
        **show_tensors(detail),
        "gradient check": " ".join(filter(None, [detail.gradient_check.state, detail.gradient_check.message])),
    }
    grid = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        if fact:
            grid.add_row(Text(name, style="dim"), Text(fact))
    out.print(grid)
    out.print()
    out.print(layer_table(detail))
    out.print()
    show_methods(detail)


def show_tensors(detail: ModelDetail) -> dict[str, str]:
    """Inputs and outputs in words."""
    return {
        "inputs": "; ".join(_spec(spec) for spec in detail.inputs),
        "outputs": "; ".join(_spec(spec) for spec in detail.outputs),
    }


def layer_table(detail: ModelDetail) -> Table:
    """One line per layer."""
    from rich.table import Table
    from rich.text import Text

    table = Table("layer", "op", "shape", "parameters", "affine", "LRP", box=None, pad_edge=False)
    for layer in detail.layers:
        table.add_row(*(Text(cell) for cell in _layer_cells(layer)))
    return table


def show_methods(detail: ModelDetail) -> None:
    """Prints what can be asked of a model, and why the rest can not."""
    from rich.text import Text

    out = console()
    for method in detail.methods:
        reason = method.reason
        if len(reason) > _LONGEST_REASON and method.unsupported_ops:
            # It names every node; which operations they are tells a reader more.
            ops = ", ".join(dict.fromkeys(problem.op for problem in method.unsupported_ops))
            reason = f"{len(method.unsupported_ops)} nodes are not covered: {ops}"
        can = f"yes, with {method.runtime}" if method.supported else f"no: {reason}"
        out.print(Text(f"{method.method}: {can}"))


def _layer_cells(layer: Layer) -> list[str]:
    name = f"{layer.name} (output)" if layer.is_output else layer.name
    lrp = "" if layer.lrp_supported is None else "yes" if layer.lrp_supported else "no"
    affine = "yes" if layer.affine else ""
    return [name, layer.op, _shape(layer.shape), f"{layer.parameter_count:,}", affine, lrp]


def _spec(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.data_type} {_shape(spec.shape)}"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "unknown" if shape is None else "[" + ", ".join("?" if n < 0 else str(n) for n in shape) + "]"
