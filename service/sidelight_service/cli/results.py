"""Results, shown and written to files: what the commands that explain share with ``sidelight jobs result``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

from sidelight_service.cli.terminal import USAGE, fail, note

if TYPE_CHECKING:
    from sidelight import Provenance
    from sidelight_engines.pictures import Picture, PictureFormat


class Explanation(Protocol):
    """What explanations of every family have."""

    @property
    def provenance(self) -> Provenance:
        """What explained, and what it warns of."""

    def as_dict(self) -> dict[str, Any]:
        """The same as plain numbers, lists and text, fit for JSON."""


AnyExplanation = TypeVar("AnyExplanation", bound=Explanation)


def check_files(files: Mapping[str, Path | None], pictures: Mapping[str, Path | None]) -> None:
    """Refuses what could not be written before the work is done rather than after.

    Args:
        files: the files of numbers to write, by option; None for one that is not asked for.
        pictures: likewise the files of pictures.
    """
    for option, path in {**files, **pictures}.items():
        if path is not None and not path.parent.is_dir():
            fail(f"{option}: there is no directory {path.parent}; make it first", status=USAGE)
    for option, path in pictures.items():
        if path is not None and path.suffix not in {".png", ".svg"}:
            fail(f"{option}: {path} ends neither in .png nor in .svg; name the file so", status=USAGE)


def picture_format(*paths: Path | None) -> str | None:
    """The format of the first picture that is asked for, as the client takes it; None if there is none."""
    return next((path.suffix.removeprefix(".") for path in paths if path is not None), None)


def show(
    explanation: AnyExplanation,
    print_report: Callable[[AnyExplanation], None],
    *,
    as_json: bool,
    files: Iterable[tuple[Path | None, Callable[[Path], object]]],
) -> None:
    """Prints a result, and writes the files that are asked for.

    Args:
        explanation: the result.
        print_report: prints it for people.
        as_json: whether to print JSON instead.
        files: each file, None for one that is not asked for, and what writes it.
    """
    for warning in explanation.provenance.warnings:
        note(f"Warning {warning.code}: {warning.message}")
    if as_json:
        typer.echo(json.dumps(explanation.as_dict()))
    else:
        print_report(explanation)
    try:
        for path, write in files:
            if path is not None:
                write(path)
    except OSError as error:
        fail(f"the result could not be written: {error}")


def drawing(
    draw: Callable[[AnyExplanation, PictureFormat], Picture], explanation: AnyExplanation
) -> Callable[[Path], object]:
    """What writes a picture that is drawn here, in the format that the file's name ends in."""
    return lambda path: path.write_bytes(draw(explanation, "svg" if path.suffix == ".svg" else "png").data)
