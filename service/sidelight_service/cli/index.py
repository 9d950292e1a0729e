"""``sidelight index``: gradient indexes, which similarity searches many references by."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sidelight_service.cli.explaining import print_id, result_of
from sidelight_service.cli.options import ModelOption
from sidelight_service.cli.similarity import LossOption, OutputOption
from sidelight_service.cli.terminal import (
    DEFAULT_SERVER,
    JsonOption,
    ServerOption,
    TimeoutOption,
    console,
    failures_reported,
    size_in_words,
)

if TYPE_CHECKING:
    from sidelight import GradientIndex

group = typer.Typer(help="Build gradient indexes of reference sets, for similarity.", no_args_is_help=True)


class Precision(StrEnum):
    """How gradients are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


@group.callback()
def _root() -> None:
    """Makes `build` a command of the group, which a single one would not be."""


@group.command("build")
def build(
    model: ModelOption,
    reference: Annotated[str, typer.Option(help="The reference set of the server.")],
    loss: LossOption = None,
    output: OutputOption = None,
    by_prediction: Annotated[
        bool, typer.Option("--by-prediction", help="The set has no labels: take the model's predictions for them.")
    ] = False,
    precision: Annotated[
        Precision | None, typer.Option(help="How gradients are stored; float16 halves the size. Default: float32.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Print the id of the job and return at once.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Have the server build the gradients of a whole reference set for a model, as a job.

    The index is used by every `sidelight explain similarity` with the same model version, set, loss and output.
    It is deleted with the reference set.
    """
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        job = client.submit_gradient_index(
            model,
            reference,
            loss=loss and loss.value,
            label_source="prediction" if by_prediction else None,
            output=output,
            precision=precision and precision.value,
            timeout=timeout,
        )
        if detach:
            print_id(job, as_json=as_json)
            return
        index = result_of(job, f"gradient index of {reference}", timeout)
    write(index, as_json=as_json)


def write(index: GradientIndex, *, as_json: bool) -> None:
    """Shows an index that was built."""
    from rich.table import Table
    from rich.text import Text

    if as_json:
        typer.echo(json.dumps(index.as_dict()))
        return
    facts = {
        "size": size_in_words(index.size_bytes),
        "numbers per reference": f"{index.values_per_reference:,}",
        "kept whole": ", ".join(index.materialised_layers),
        "model": index.model_digest,
        "references": index.reference_digest,
    }
    grid = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        if fact:
            grid.add_row(Text(name, style="dim"), Text(fact))
    console().print(grid)
