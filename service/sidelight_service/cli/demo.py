"""``sidelight demo``: see it work, from training to explanation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidelight_service.cli.terminal import fail


def demo(
    directory: Annotated[Path, typer.Option(help="Where models, inputs and results go; they stay afterwards.")] = Path(
        ".demo"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running at the end, until Ctrl-C.")] = False,
) -> None:
    """Train a small digit classifier, serve it as SavedModel and as ONNX, and explain both.

    Needs what `pip install 'sidelight[demo]'` adds, and no network.
    """
    from sidelight_service.demo import DemoFailed, run_demo

    try:
        run_demo(directory, keep=keep)
    except DemoFailed as error:
        fail(str(error))
