"""Times contenders against each other on a machine that is never quite idle, and writes down what came out.

Contenders take turns, so that a busy minute meets all of them; the ratio of two is the median of their
ratios turn by turn.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Contender = Callable[[], float | None]
"""Does its work once. May return the seconds that it took; otherwise it is timed."""


@dataclass(frozen=True)
class Line:
    """One measured claim.

    Attributes:
        claim: what was done.
        ours: seconds, median.
        theirs: what it is compared with.
        theirs_seconds: seconds, median.
        ratio: the number that the target is about.
        target: such as ``at least 15``.
        met: whether it is; None if there is no target.
        note: what a reader must know to judge the number.
    """

    claim: str
    ours: float
    theirs: str
    theirs_seconds: float
    ratio: float
    target: str
    met: bool | None
    note: str = ""


TURN_SECONDS = 2.0
"""What a turn takes at least where contenders differ much."""


def take_turns(
    contenders: Mapping[str, Contender], repetitions: int, warm_up: bool = True, at_least: float = 0.0
) -> dict[str, list[float]]:
    """Runs each contender once to warm up, unless that is done, then all of them in turn; the seconds of each turn.

    Args:
        contenders: name -> contender.
        repetitions: how many turns each has.
        warm_up: whether they must be warmed up.
        at_least: the seconds that a turn takes: work that is shorter is done several times, and its turn counts with
            their median. What takes a fraction of another would always run while that one's process still tidies up,
            and on the caches that it left behind.
    """
    for contender in contenders.values() if warm_up else ():
        contender()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, contender in contenders.items():
            times = [_timed(contender)]
            while sum(times) < at_least:
                times.append(_timed(contender))
            seconds[name].append(statistics.median(times))
    return seconds


def _timed(contender: Contender) -> float:
    start = time.perf_counter()
    told = contender()
    return time.perf_counter() - start if told is None else told


def fastest(seconds: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """The name of the contender with the least median."""
    return min(names, key=lambda name: statistics.median(seconds[name]))


def ratio(seconds: Mapping[str, Sequence[float]], over: str, under: str) -> float:
    """The median of the ratios of two contenders, turn by turn."""
    return statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))


def at_most(value: float, limit: float) -> tuple[str, bool]:
    """The words for a target from above, and whether it is met."""
    return f"at most {limit:g}", value <= limit


def at_least(value: float, limit: float) -> tuple[str, bool]:
    """The words for a target from below, and whether it is met."""
    return f"at least {limit:g}", value >= limit


class ReferenceFailed(Exception):
    """A library could not do what it was asked; the message is its own."""


class Reference:
    """A script in the reference environment that times itself, one case per line of its input.

    Args:
        python: the interpreter of that environment.
        script: the script; it answers each line of JSON with a line of JSON.
        log: the file that its other output goes to.
    """

    def __init__(self, python: Path, script: Path, log: Path) -> None:
        self._log = log.open("w")
        # Threads that spin while they wait make torch several times slower on a machine that does other work too.
        environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def run(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a case; what the script answers.

        Raises:
            ReferenceFailed: the script answered that the library can not do it, or ended.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the reference has no pipes")
        try:
            self._process.stdin.write(json.dumps(case) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ReferenceFailed(f"it ended with {self._process.wait()}, -9 for lack of memory; see {self._log.name}")
        found: dict[str, Any] = json.loads(answer)
        if "failure" in found:
            raise ReferenceFailed(found["failure"])
        return found


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        name: of the benchmark; the files are named after it.
        lines: the claims.
        context: what the numbers depend on.
    """

    name: str
    lines: list[Line] = field(default_factory=list)
    context: dict[str, str] = field(default_factory=dict)

    def add(self, line: Line) -> None:
        """Adds a line and shows it."""
        self.lines.append(line)
        print(_row(line), flush=True)

    def write(self, folder: Path) -> None:
        """Writes ``<name>.json`` and ``<name>.md``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.context = machine() | self.context
        whole = {"context": self.context, "lines": [asdict(line) for line in self.lines]}
        (folder / f"{self.name}.json").write_text(json.dumps(whole, indent=1) + "\n")
        head = ["| What | Sidelight | Compared with | | Ratio | Target | Met |", "|---|---:|---|---:|---:|---|---|"]
        notes = [f"- {line.claim}: {line.note}" for line in self.lines if line.note]
        about = [f"- {name}: {value}" for name, value in self.context.items()]
        text = [f"# {self.name}", "", *head, *map(_row, self.lines), "", *notes, "", "Measured on:", "", *about, ""]
        (folder / f"{self.name}.md").write_text("\n".join(text))


def _row(line: Line) -> str:
    met = {True: "yes", False: "**no**", None: ""}[line.met]
    return (
        f"| {line.claim} | {_amount(line.ours)} | {line.theirs} | {_amount(line.theirs_seconds)} "
        f"| {line.ratio:.2f} | {line.target} | {met} |"
    )


def _amount(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"


def machine() -> dict[str, str]:
    """What the numbers depend on, as far as the machine tells."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    found = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": f"{len(cpus)} x {cpus[0].partition(':')[2].strip()}" if cpus else platform.processor(),
        "load average": "{:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg()),
        "python": platform.python_version(),
    }
    for package in ("numpy", "onnxruntime", "tensorflow-cpu", "tensorflow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
