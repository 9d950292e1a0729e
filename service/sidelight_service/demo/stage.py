"""What the steps of the demonstration share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sidelight import Client

SAVED_MODEL = "digits_savedmodel"
ONNX = "digits_onnx"
REFERENCE = "digits-train"


class DemoFailed(Exception):
    """A step could not be done, or showed something other than it should."""


@dataclass(frozen=True)
class Stage:
    """What a step has to work with.

    Attributes:
        directory: where results go.
        client: of the server, which has the models `SAVED_MODEL` and `ONNX`.
        images: (instances, 8, 8, 1), held-out digits, float32 in [0, 1].
        labels: (instances,), which digit each is.
        reference: the name of the reference set of the digits that the network learned from, with labels.
    """

    directory: Path
    client: Client
    images: NDArray[Any]
    labels: NDArray[Any]
    reference: str = REFERENCE


def heading(text: str) -> None:
    """Announces a step."""
    typer.echo("")
    typer.secho(text, bold=True)


def say(text: str) -> None:
    """Says what a step did."""
    typer.echo(f"  {text}")
