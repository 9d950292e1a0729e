"""Keeps the processors busy: several groups of instances are on their way at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
        rows: the rows that wait to be evaluated.
    """

    lane: Lane
    first: int
    passes: Passes
    rows: Array


def measure_groups(
    lanes: Sequence[Lane], groups: Sequence[tuple[int, int]], evaluator: Evaluator
) -> Iterator[tuple[int, list[Scores]]]:
    """Measures groups of instances, in order.

    With several lanes, all but one are evaluated and summed up at a time, each by a thread, while the caller's thread
    draws the samples of the remaining one. Draws are made in order as long as each group takes one pass; otherwise
    one lane must do.

    Args:
        lanes: at least one.
        groups: (first, count) each, ascending.
        evaluator: evaluates rows.

    Yields:
        The first instance of each group and its scores, one per target.
    """
    todo = iter(groups)
    idle = list(lanes)
    if len(idle) == 1:
        for first, count in todo:
            task = _start(idle[0], first, count)
            yield task.first, _finish(task, evaluator)
        return
    running: deque[tuple[_Task, Future[list[Scores]]]] = deque()
    with ThreadPoolExecutor(len(lanes) - 1) as executor:
        try:
            while True:
                if idle and (group := next(todo, None)) is not None:
                    task = _start(idle.pop(), *group)
                    running.append((task, executor.submit(_finish, task, evaluator)))
                    continue
                if not running:
                    return
                task, future = running.popleft()
                scores = future.result()
                idle.append(task.lane)
                yield task.first, scores
        finally:
            for _, future in running:
                future.cancel()


def _start(lane: Lane, first: int, count: int) -> _Task:
    passes = lane.aggregation.measure(first, count)
    return _Task(lane, first, passes, next(passes))


def _finish(task: _Task, evaluator: Evaluator) -> list[Scores]:
    while True:
        evaluated = evaluator.interpret(evaluator.fetch(task.rows), len(task.rows))
        try:
            task.rows = task.passes.send(evaluated)
        except StopIteration as stop:
            scores: list[Scores] = stop.value
            return scores
