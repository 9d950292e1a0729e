"""Runs computations a few at a time, and gives their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def side_by_side(computations: Iterable[Callable[[], T]], at_once: int) -> Iterator[T]:
    """Runs computations, each in a thread, and yields what they give in the order of the computations.

    A computation is asked for only when a thread is free, so an iterable that raises stops the work early. Those that
    are running then are waited for.

    Args:
        computations: what is run. They must not depend on each other.
        at_once: how many run at a time; 1 runs them in the caller's thread.

    Raises:
        Exception: whatever a computation or the iterable raises.
    """
    if at_once == 1:
        for computation in computations:
            yield computation()
        return
    running: deque[Future[T]] = deque()
    with ThreadPoolExecutor(at_once) as executor:
        try:
            for computation in computations:
                running.append(executor.submit(computation))
                if len(running) == at_once:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
