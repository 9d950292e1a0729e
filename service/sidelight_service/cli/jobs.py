"""``sidelight jobs``: what a server does and did by itself."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidelight_service.cli import activation_pattern, index, influence, linearity, lrp, similarity
from sidelight_service.cli.options import OutOption
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
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sidelight import Job, JobInfo

group = typer.Typer(help="List the jobs of a server; follow, read, stop or delete one.", invoke_without_command=True)

JobArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


class State(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@group.callback()
def list_jobs(
    context: typer.Context,
    state: Annotated[list[State] | None, typer.Option(help="Only jobs in this state. May be repeated.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    as_json: JsonOption = False,
    timeout: TimeoutOption = 30.0,
) -> None:
    """List the jobs of a server, newest first; with a command, do that instead."""
    if context.invoked_subcommand is not None:
        return
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        jobs = client.jobs(states=[chosen.value for chosen in state or ()], timeout=timeout)
    if as_json:
        typer.echo(json.dumps([_plain(job.info) for job in jobs], indent=2))
    elif jobs:
        _print_jobs([job.info for job in jobs])
    else:
        note("The server keeps no such job." if state else "The server keeps no jobs.")


@group.command("show")
def show(
    job: JobArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False, timeout: TimeoutOption = 30.0
) -> None:
    """Show one job: where it is in its life, how far, and why it failed if it did."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        info = client.job(job, timeout=timeout).info
    if as_json:
        typer.echo(json.dumps(_plain(info), indent=2))
    else:
        _print_job(info)


@group.command("watch")
def watch(
    job: JobArgument, server: ServerOption = DEFAULT_SERVER, as_json: JsonOption = False, timeout: TimeoutOption = None
) -> None:
    """Follow a job until it has ended. The exit status is 0 if it succeeded."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        found = client.job(job, timeout=timeout)
        if as_json:
            for info in found.watch(timeout=timeout):
                typer.echo(json.dumps(_plain(info)))
        else:
            follow(found, timeout)
            note(f"job {found.id} {found.state}")
    require_success(found)


@group.command("cancel")
def cancel(job: JobArgument, server: ServerOption = DEFAULT_SERVER, timeout: TimeoutOption = 30.0) -> None:
    """Stop a job. One that has ended stays as it is."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        cancelled = client.job(job, timeout=timeout).cancel(timeout=timeout)
    note(f"job {cancelled.id} {cancelled.state}")


@group.command("delete")
def delete(job: JobArgument, server: ServerOption = DEFAULT_SERVER, timeout: TimeoutOption = 30.0) -> None:
    """Delete a job that has ended, and its result."""
    import sidelight

    with failures_reported(), sidelight.connect(server) as client:
        client.job(job, timeout=timeout).delete(timeout=timeout)
    note(f"job {job} deleted")


@group.command("result")
def result(
    job: JobArgument,
    as_json: JsonOption = False,
    out: OutOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="R.png",
            help="Draw to this .png or .svg file; of similarity and relevance, if asked for with the job.",
        ),
    ] = None,
    plot_means: Annotated[
        Path | None, typer.Option(metavar="R.png", help="Of similarity, if asked for with the job: mean scores.")
    ] = None,
    server: ServerOption = DEFAULT_SERVER,
    timeout: TimeoutOption = None,
) -> None:
    """Show what a job came to, as the command that it stands for would."""
    import sidelight

    similarity.check_pictures(out, plot, plot_means)
    with failures_reported(), sidelight.connect(server) as client:
        found = client.job(job, timeout=timeout).result(timeout=timeout)
    if plot_means is not None and not isinstance(found, sidelight.SimilarityExplanation):
        fail("--plot-means: the job is not one of similarity")
    match found:
        case sidelight.LinearityExplanation():
            linearity.write(found, as_json=as_json, out=out, plot=plot)
        case sidelight.SimilarityExplanation():
            similarity.write(found, as_json=as_json, out=out, plot=plot, plot_means=plot_means)
        case sidelight.LrpExplanation():
            lrp.write(found, as_json=as_json, out=out, plot=plot)
        case sidelight.ActivationPatternExplanation():
            activation_pattern.write(found, as_json=as_json, out=out, plot=plot)
        case sidelight.InfluenceExplanation():
            influence.write(found, as_json=as_json, out=out, plot=plot)
        case sidelight.GradientIndex():
            if out is not None or plot is not None:
                fail("--out and --plot: the job has built an index; similarity is what gives numbers and pictures")
            index.write(found, as_json=as_json)


def follow(job: Job[Any], timeout: float | None) -> None:
    """Waits for a job, with a progress bar."""
    with progress_bar(f"{job.info.kind} of {job.info.model}") as progress:
        job.wait(progress=progress, timeout=timeout)


def require_success(job: Job[Any]) -> None:
    """Ends the command if a job that has ended did not succeed."""
    if job.failure is not None:
        fail(f"job {job.id} failed: {job.failure.message}")
    if job.state != State.SUCCEEDED:
        fail(f"job {job.id} was {job.state}")


def _plain(info: JobInfo) -> dict[str, Any]:
    """A job as JSON has it."""
    plain = dataclasses.asdict(info)
    for name in ("create_time", "start_time", "end_time", "expire_time"):
        moment: datetime | None = getattr(info, name)
        plain[name] = None if moment is None else moment.isoformat()
    if info.failure is not None:
        plain["failure"]["code"] = info.failure.code.name
    return plain


def _print_jobs(jobs: Sequence[JobInfo]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "state", "does", "model", "progress", "created", box=None, pad_edge=False)
    for job in jobs:
        cells = [job.id, job.state, job.kind, job.model, _progress(job), _time(job.create_time)]
        table.add_row(*(Text(cell) for cell in cells))
    console().print(table)


def _print_job(job: JobInfo) -> None:
    from rich.table import Table
    from rich.text import Text

    remaining = job.progress.remaining_seconds
    facts = {
        "job": job.id,
        "state": job.state,
        "does": f"{job.kind} of {job.model}",
        "progress": _progress(job),
        "rate": f"{job.progress.rate:.3g} per second" if job.progress.rate else "",
        "left": "" if remaining is None else f"{remaining:.0f} s",
        "created": _time(job.create_time),
        "started": _time(job.start_time),
        "ended": _time(job.end_time),
        "kept until": _time(job.expire_time),
        "reason": "" if job.failure is None else f"{job.failure.reason}: {job.failure.message}",
    }
    grid = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        if fact:
            grid.add_row(Text(name, style="dim"), Text(fact))
    console().print(grid)


def _progress(job: JobInfo) -> str:
    done, total = job.progress.done, job.progress.total
    return f"{done:,} of {total:,}" if total else ""


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
