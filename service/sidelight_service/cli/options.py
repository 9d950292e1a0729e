"""Options that the commands which explain have in common, and how some of them are read.

Those that select of a reference set are in `selection`; those of every command are in `terminal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from sidelight_service.cli.terminal import USAGE, fail

ModelOption = Annotated[str, typer.Option("--model", help="NAME, NAME:VERSION or NAME@LABEL.")]
RowsOption = Annotated[
    Path | None,
    typer.Option("--input", exists=True, dir_okay=False, help="The rows to explain: .npy, or .npz by input name."),
]
RowsOfReferenceOption = Annotated[
    str | None,
    typer.Option("--reference", help="In place of --input: explain rows of this reference set of the server."),
]
ConfidenceOption = Annotated[
    float | None, typer.Option("--confidence", help="Add confidence intervals of this level, such as 0.95.")
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="R.npz", help="Write every number to this file.")]
JobOption = Annotated[
    bool, typer.Option("--job", help="Have the server do it as a job: print its id and return at once.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="With --job: follow the job to its end and show the result.")]


def parse_layers(text: str | None) -> list[str] | Literal["all"] | None:
    """Reads ``all``, or names with commas; None is none given."""
    if text is None:
        return None
    if text == "all":
        return "all"
    return [name for name in text.split(",") if name]


def check_exclusive(options: Mapping[str, object]) -> None:
    """Refuses more than one of these options, by name; None is one that is not given."""
    given = [option for option, value in options.items() if value is not None]
    if len(given) > 1:
        fail(f"{' and '.join(given)} exclude each other; give one of them", status=USAGE)
