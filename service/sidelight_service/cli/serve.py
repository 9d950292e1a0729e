"""``sidelight serve``: run the server."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli.terminal import USAGE, fail

if TYPE_CHECKING:
    from pydantic import ValidationError


class Mode(StrEnum):
    """When models are loaded."""

    ALL = "all"
    EXPLICIT = "explicit"
    POLL = "poll"


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    CONSOLE = "console"


def serve(
    models: Annotated[
        Path | None,
        typer.Option(help="The model repository: NAME/VERSION/model.onnx or saved_model.pb. Only read. Required."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where reference sets, indexes and jobs are kept. Default: nowhere.")
    ] = None,
    import_directory: Annotated[
        Path | None, typer.Option(help="Where reference sets may be imported from. Only read. Default: nowhere.")
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(help="Where to listen: host:port or unix:/path. May be repeated. Default: 0.0.0.0:8461."),
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="When models are loaded. Default: all, at start-up.")] = None,
    load: Annotated[
        list[str] | None, typer.Option(help="With --mode explicit: a model to load at start-up. May be repeated.")
    ] = None,
    version_policy: Annotated[
        str | None, typer.Option(help="Versions to serve: latest, latest:N, all or specific:1,3. Default: latest.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Compute processes. Each holds every model. Default: 1.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of a worker for one request. Default: one per processor.")
    ] = None,
    queue_limit: Annotated[int | None, typer.Option(help="Requests of one method that may wait. Default: 64.")] = None,
    max_message_mebibytes: Annotated[int | None, typer.Option(help="The largest message, in MiB. Default: 64.")] = None,
    drain_seconds: Annotated[
        float | None, typer.Option(help="How long calls may take to end when the server is stopped. Default: 20.")
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="How log lines are written. Default: json.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. Default: info.")] = None,
) -> None:
    """Run the server until SIGTERM or SIGINT.

    Every option can come from the environment instead, in capitals after SIDELIGHT_ (SIDELIGHT_MODELS,
    SIDELIGHT_ADDRESSES, ...); so can the settings that have no option.
    """
    given = {
        "models": models,
        "data": data,
        "import_directory": import_directory,
        "addresses": tuple(address) if address else None,
        "mode": mode and mode.value,
        "load": tuple(load) if load else None,
        "version_policy": version_policy,
        "workers": workers,
        "threads": threads,
        "queue_limit": queue_limit,
        "max_message_mebibytes": max_message_mebibytes,
        "drain_seconds": drain_seconds,
        "log_format": log_format and log_format.value,
        "log_level": log_level,
    }
    _run({name: value for name, value in given.items() if value is not None})


def _run(given: dict[str, Any]) -> None:
    import asyncio

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from sidelight_service.server import serve as run_server
    from sidelight_service.settings import Settings

    try:
        settings = Settings(**given)
    except ValidationError as error:
        fail(_in_words(error), status=USAGE)
    except SettingsError as error:
        fail(f"the environment can not be read: {error}", status=USAGE)
    try:
        code = asyncio.run(run_server(settings))
    except OSError as error:
        fail(str(error))
    raise typer.Exit(code)


def _in_words(error: ValidationError) -> str:
    """What is wrong with the settings, by the names a user knows them by."""
    lines = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ")
        name = ".".join(str(part) for part in problem["loc"])
        if not name:
            lines.append(message)
            continue
        option = "address" if name == "addresses" else name.replace("_", "-")
        lines.append(f"--{option} (or SIDELIGHT_{name.upper()}): {message}")
    return "; ".join(lines)
