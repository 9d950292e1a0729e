"""What commands share at the terminal: consoles, failures, a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

FAILED = 1
USAGE = 2

# Wide enough that nothing is cut when the output goes to a file or a pipe.
_PIPE_WIDTH = 240

ServerOption = Annotated[
    str,
    typer.Option("--server", envvar="SIDELIGHT_SERVER", help="The server to ask: host:port or unix:/path."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", min=0.001, help="Give up after this many seconds. Default: never.")
]
DEFAULT_SERVER = "localhost:8461"


def console(*, stderr: bool = False) -> Console:
    """A console on standard output, for results, or on standard error, for everything else."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, highlight=False)


def note(message: str) -> None:
    """Says something beside the result."""
    typer.echo(message, err=True)


def fail(message: str, *, status: int = FAILED) -> NoReturn:
    """Says what was wrong and what to do, and ends the command."""
    note(f"sidelight: {message}")
    raise typer.Exit(status)


def size_in_words(size_bytes: int) -> str:
    """A number of bytes for a person: ``46.9 KiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


@contextmanager
def failures_reported() -> Iterator[None]:
    """Turns errors of the client into a message and an exit status."""
    from sidelight import InvalidArgument, SidelightError

    try:
        yield
    except SidelightError as error:
        lines = [error.message]
        lines += [f"  {v.field}: {v.description}" for v in error.field_violations if v.description not in error.message]
        if error.retry_after is not None:
            lines.append(f"  The server asks to try again in {error.retry_after:g} s.")
        if "incident" in error.metadata and error.metadata["incident"] not in error.message:
            lines.append(f"  Its log has more under incident {error.metadata['incident']}.")
        fail("\n".join(lines), status=USAGE if isinstance(error, InvalidArgument) else FAILED)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on standard error, if that is a terminal.

    Yields:
        What to call with how much is done and how much there is; None if there is no terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield advance
