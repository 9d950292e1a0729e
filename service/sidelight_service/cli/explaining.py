"""How an explanation comes from a server: by a call, or as a job that is waited for or left to itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from sidelight_service.cli.terminal import USAGE, fail, failures_reported, note, progress_bar

if TYPE_CHECKING:
    from sidelight import Client, Job

    Progress = Callable[[int, int], None]

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How the caller of a command wants to be answered, whatever the method is.

    Attributes:
        server: the server to ask.
        timeout: in seconds; None for no limit.
        job: whether the server does it as a job.
        wait: whether a job is followed to its end.
        as_json: whether the id of a job that is not waited for is printed as JSON.
    """

    server: str
    timeout: float | None
    job: bool
    wait: bool
    as_json: bool

    def check(self, *files: Path | None) -> None:
        """Refuses waiting without a job, and files of a job that is not waited for.

        Args:
            files: where the result is to be written; None for a file that is not asked for.
        """
        if self.wait and not self.job:
            fail("--wait: goes with --job; without it the command waits anyway", status=USAGE)
        if self.job and not self.wait and any(path is not None for path in files):
            fail("--out and --plot: a job has no result yet; add --wait, or use `sidelight jobs result`", status=USAGE)

    def explain(
        self,
        kind: type[Result],
        what: str,
        call: Callable[[Client, Progress | None], Result],
        submit: Callable[[Client], Job[Result]],
        *,
        counted: bool = True,
    ) -> Result | None:
        """Calls the server, or has it make a job, and reports what goes wrong.

        Args:
            kind: of the result.
            what: is done, for the progress bar.
            call: asks for the result, and tells its progress where it is given something to tell.
            submit: has the server make a job of it.
            counted: whether `call` tells its progress; a bar that never moves is not shown.

        Returns:
            The result; None for a job that is not waited for, whose id is printed.
        """
        import sidelight

        with failures_reported(), sidelight.connect(self.server) as client:
            if not self.job:
                with progress_bar(what) if counted else nullcontext() as progress:
                    return call(client, progress)
            job = submit(client)
            if not self.wait:
                print_id(job, as_json=self.as_json)
                return None
            result = result_of(job, what, self.timeout)
        if not isinstance(result, kind):
            fail(f"job {job.id} came to something else than {what}; look at it with `sidelight jobs show`")
        return result


def print_id(job: Job[Any], *, as_json: bool) -> None:
    """Tells the id of a job that was made, for a script to follow it by."""
    typer.echo(json.dumps({"id": job.id, "state": job.state}) if as_json else job.id)


def result_of(job: Job[Result], what: str, timeout: float | None) -> Result:
    """Waits for a job that was made, with a progress bar, and fetches its result."""
    note(f"job {job.id}; it goes on if you stop waiting for it")
    with progress_bar(what) as progress:
        job.wait(progress=progress, timeout=timeout)
    return job.result()
