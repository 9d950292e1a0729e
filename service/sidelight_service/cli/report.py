"""``sidelight report``: one page that explains a model by every family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidelight_service.cli.arrays import read_inputs
from sidelight_service.cli.options import ModelOption
from sidelight_service.cli.terminal import (
    DEFAULT_SERVER,
    USAGE,
    ServerOption,
    TimeoutOption,
    fail,
    failures_reported,
    note,
    size_in_words,
)


def report(
    model: ModelOption,
    reference: Annotated[str, typer.Option(help="A reference set of the server: the data behind the explanations.")],
    out: Annotated[Path, typer.Option(metavar="REPORT.html", help="The file to write.")] = Path("report.html"),
    input_: Annotated[
        Path | None,
        typer.Option(
            "--input", exists=True, dir_okay=False, help="Instances to explain one by one: .npy, or .npz by input name."
        ),
    ] = None,
    instances: Annotated[int, typer.Option(min=1, max=64, help="How many to explain one by one.")] = 6,
    sample: Annotated[int, typer.Option(min=2, help="How many examples to measure linearity around.")] = 100,
    examples: Annotated[
        int, typer.Option(min=2, help="The most examples that patterns and influence are measured over.")
    ] = 10_000,
    layers: Annotated[
        str | None, typer.Option(help="Layers of the activation patterns, with commas. Default: the last activations.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of every random draw.")] = 0,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Write one self-contained HTML page that explains a model by every family that it supports.

    The page loads nothing: it can be mailed, archived, and opened without a network.
    """
    if not out.parent.is_dir():
        fail(f"--out: there is no directory {out.parent}; make it first", status=USAGE)
    import sidelight

    from sidelight_service.report import ReportRequest, build_report

    request = ReportRequest(
        model=model,
        reference=reference,
        x=None if input_ is None else read_inputs(input_),
        instances=instances,
        sample=sample,
        examples=examples,
        layers=tuple(name for name in (layers or "").split(",") if name),
        seed=seed,
        timeout=timeout,
    )
    with failures_reported(), sidelight.connect(server) as client:
        page, missing = build_report(client, request, tell=lambda what: note(f"{what} …"))
    for reason in missing:
        note(f"not in the report: {reason}")
    try:
        size = out.write_text(page, encoding="utf-8")
    except OSError as error:
        fail(f"the report could not be written: {error}")
    typer.echo(f"{out} ({size_in_words(size)})")
