"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from sidelight_service.cli import (
    activation_pattern,
    check,
    demo,
    index,
    influence,
    jobs,
    linearity,
    lrp,
    models,
    references,
    report,
    serve,
    similarity,
)

app = typer.Typer(
    name="sidelight",
    help="Explains the predictions of served ONNX and SavedModel models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
explain = typer.Typer(help="Explain predictions of a model on a running server.", no_args_is_help=True)
explain.command("linearity")(linearity.linearity)
explain.command("similarity")(similarity.similarity)
explain.command("lrp")(lrp.lrp)
explain.command("activation-pattern")(activation_pattern.activation_pattern)
explain.command("influence")(influence.influence)

app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
models.group.command("check")(check.check)
app.command("report")(report.report)
app.add_typer(models.group, name="models")
app.add_typer(jobs.group, name="jobs")
app.add_typer(references.group, name="references")
app.add_typer(index.group, name="index")
app.add_typer(explain, name="explain")


def _show_version(wanted: bool) -> None:
    if wanted:
        from sidelight_service import __version__

        typer.echo(f"sidelight {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Takes the options that stand before a command."""


def main() -> None:
    """Runs the command line. Exit status: 0 done, 1 failed, 2 called wrongly."""
    app()
