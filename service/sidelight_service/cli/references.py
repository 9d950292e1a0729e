"""``sidelight references``: the reference sets that a server keeps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.terminal import (
    DEFAULT_SERVER,
    JsonOption,
    ServerOption,
    TimeoutOption,
    console,
    fail,
    failures_reported,
    note,
    progress_bar,
    size_in_words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidelight import ReferenceInput, ReferenceSet

group = typer.Typer(
    help="List the reference sets of a server; create, import, show and delete them.", invoke_without_command=True
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the set.")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="The model that examples and labels must fit. Default: any.")
]
_MANY_CLASSES = 20


@group.callback()
def list_references(
    context: typer.Context,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 30.0,
) -> None:
    """List the reference sets of a server; with a command, do that instead."""
    if context.invoked_subcommand is not None:
        return
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        found = client.references(timeout=timeout)
    if as_json:
        typer.echo(json.dumps([_plain(reference) for reference in found], indent=2))
    elif found:
        _print_table(found)
    else:
        note("The server keeps no reference sets.")


@group.command("show")
def show(
    name: NameArgument,
    feature_ranges: Annotated[
        Path | None,
        typer.Option(
            metavar="RANGES.npz", help="Write the least and greatest value of each feature: minimum and maximum."
        ),
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 30.0,
) -> None:
    """Show one set: inputs, ranges, labels and classes."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        reference = client.reference(name, feature_ranges=feature_ranges is not None, timeout=timeout)
    if feature_ranges is not None:
        _write_ranges(reference, feature_ranges)
    _print_one(reference, as_json=as_json)


@group.command("create")
def create(
    name: NameArgument,
    input_: Annotated[
        Path,
        typer.Option("--input", exists=True, dir_okay=False, help="The examples: .npy, or .npz by input name."),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Their labels: classes, one-hot rows or float targets, .npy."),
    ] = None,
    model: ModelOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
) -> None:
    """Upload a set from files on this machine."""
    import sidelight

    from sidelight_service.cli.arrays import read_array, read_inputs

    x = read_inputs(input_, mapped=True)
    y = None if labels is None else read_array(labels)
    with (
        failures_reported(),
        sidelight.connect(server) as client,
        progress_bar(f"uploading {name}") as progress,
    ):
        reference = client.create_reference(name, x, y, model=model, progress=progress, timeout=timeout)
    _print_one(reference, as_json=as_json)


@group.command("import")
def import_(
    name: NameArgument,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A .npz, .npy or .parquet file of the server's.")],
    inputs_key: Annotated[
        str | None, typer.Option(help="The array (.npz) or column (.parquet) of the examples. Default: x.")
    ] = None,
    labels_key: Annotated[
        str | None,
        typer.Option(help="That of the labels; for .npy a second file; '-' for none. Default: y, where there is one."),
    ] = None,
    model: ModelOption = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
    timeout: TimeoutOption = None,
) -> None:
    """Make a set of a file that the server can read, by its path below the server's import directory."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        reference = client.import_reference(
            name, path, inputs_key=inputs_key, labels_key=labels_key, model=model, timeout=timeout
        )
    _print_one(reference, as_json=as_json)


@group.command("delete")
def delete(name: NameArgument, server: ServerOption = DEFAULT_SERVER, timeout: TimeoutOption = 30.0) -> None:
    """Delete a set that nothing uses."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        client.delete_reference(name, timeout=timeout)
    note(f"{name} is deleted")


def _write_ranges(reference: ReferenceSet, path: Path) -> None:
    import numpy as np

    arrays: dict[str, Any] = {}
    for item in reference.inputs:
        behind = f"_{item.name}" if item.name else ""
        arrays |= {f"minimum{behind}": item.feature_minimum, f"maximum{behind}": item.feature_maximum}
    try:
        with path.open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        fail(f"--feature-ranges: {path} can not be written: {error}")


def _plain(reference: ReferenceSet) -> dict[str, Any]:
    plain = dataclasses.asdict(reference) | {"create_time": reference.create_time.isoformat()}
    for item in plain["inputs"]:
        # They are for the file that --feature-ranges names.
        del item["feature_minimum"], item["feature_maximum"]
    return plain


def _print_table(found: Sequence[ReferenceSet]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "examples", "inputs", "labels", "size", "created", "digest", box=None, pad_edge=False)
    for reference in found:
        cells = [
            reference.name,
            f"{reference.count:,}",
            "; ".join(_input(item) for item in reference.inputs),
            _labels(reference),
            size_in_words(reference.size_bytes),
            f"{reference.create_time:%Y-%m-%d %H:%M}",
            reference.digest[:19],
        ]
        table.add_row(*(Text(cell) for cell in cells))
    console().print(table)


def _print_one(reference: ReferenceSet, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_plain(reference), indent=2))
        return
    from rich.table import Table
    from rich.text import Text

    facts = {
        "reference set": reference.name,
        "examples": f"{reference.count:,}",
        "inputs": "; ".join(f"{_input(item)}, {item.minimum:.6g} to {item.maximum:.6g}" for item in reference.inputs),
        "labels": _labels(reference),
        "classes": _classes(reference),
        "size": size_in_words(reference.size_bytes),
        "created": f"{reference.create_time:%Y-%m-%d %H:%M:%S} UTC",
        "digest": reference.digest,
    }
    grid = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        if fact:
            grid.add_row(Text(name, style="dim"), Text(fact))
    console().print(grid)


def _input(item: ReferenceInput) -> str:
    shape = "[" + ", ".join(map(str, item.shape)) + "]"
    return " ".join(filter(None, [item.name, item.data_type, shape]))


def _labels(reference: ReferenceSet) -> str:
    if reference.class_counts:
        count = len(reference.class_counts)
        return f"{count} {'class' if count == 1 else 'classes'}"
    return "targets" if reference.labelled else "none"


def _classes(reference: ReferenceSet) -> str:
    listed = [f"{label}: {count:,}" for label, count in list(reference.class_counts.items())[:_MANY_CLASSES]]
    more = len(reference.class_counts) - len(listed)
    return ", ".join([*listed, f"and {more} more"] if more else listed)
