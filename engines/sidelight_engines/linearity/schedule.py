"""Keeps the runtime busy: rows are written and results summed up while it evaluates other rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

from sidelight_engines.linearity.evaluation import Evaluator
from sidelight_engines.linearity.measurement import Aggregator, Passes, Scores
from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True)
class Lane:
    """An aggregation and the buffer that it writes to."""

    aggregation: Aggregator
    buffer: Array


@dataclass
class _Task:
    """A group of instances on its way.

    Attributes:
        lane: what it runs on.
        first: its first instance.
        passes: the coroutine.
        rows: how many rows wait in the lane's buffer.
    """

    lane: Lane
    first: int
    passes: Passes
    rows: int


def measure_groups(
    lanes: Sequence[Lane], groups: Sequence[tuple[int, int]], evaluator: Evaluator
) -> Iterator[tuple[int, list[Scores]]]:
    """Measures groups of instances, in order.

    With two lanes, one thread evaluates the rows of one while the caller's thread works on the other. Draws
    are made in order as long as each group takes one pass; otherwise one lane must do.

    Args:
        lanes: one or two.
        groups: (first, count) each, ascending.
        evaluator: evaluates rows.

    Yields:
        The first instance of each group and its scores, one per target.
    """
    todo = iter(groups)
    idle = list(lanes)
    ready: deque[_Task] = deque()
    running: tuple[_Task, Future[list[Array]]] | None = None
    with ThreadPoolExecutor(1) if len(lanes) > 1 else nullcontext() as executor:
        while True:
            if not ready and idle and (group := next(todo, None)) is not None:
                ready.append(_start(idle.pop(), *group))
            done = running
            fetched = done[1].result() if done else []
            running = None
            if ready:
                task = ready.popleft()
                running = task, _submit(executor, evaluator, task)
            if done is None:
                if running is None:
                    return
                continue
            task = done[0]
            try:
                task.rows = task.passes.send(evaluator.interpret(fetched, task.rows))
            except StopIteration as stop:
                idle.append(task.lane)
                yield task.first, stop.value
            else:
                ready.append(task)


def _start(lane: Lane, first: int, count: int) -> _Task:
    passes = lane.aggregation.measure(first, count)
    return _Task(lane, first, passes, next(passes))


def _submit(executor: ThreadPoolExecutor | None, evaluator: Evaluator, task: _Task) -> Future[list[Array]]:
    rows = task.lane.buffer[: task.rows]
    if executor is not None:
        return executor.submit(evaluator.fetch, rows)
    future: Future[list[Array]] = Future()
    future.set_result(evaluator.fetch(rows))
    return future
