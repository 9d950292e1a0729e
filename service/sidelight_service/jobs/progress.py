"""How far a job is, how fast it goes, and how large its next slice should be."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from google.protobuf import duration_pb2
from sidelight.v1 import job_pb2

_WINDOW_SECONDS = 10.0
_SPACING_SECONDS = 0.5


class Meter:
    """The progress of a running job.

    Attributes:
        done: units done.
        total: units in all; 0 until known.
    """

    def __init__(self, done: int, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts where an earlier run ended.

        Args:
            done: units that are done already; they do not count for the rate.
            total: units in all.
            clock: in seconds.
        """
        self.done = done
        self.total = total
        self._clock = clock
        self._points = deque([(clock(), done)])

    def advance(self, done: int, total: int) -> None:
        """Notes how far the work is; going back is taken for a slice that is tried again."""
        now = self._clock()
        self.done, self.total = done, total
        if done < self._points[-1][1]:
            self._points = deque([(now, done)])
        elif now - self._points[-1][0] >= _SPACING_SECONDS:
            self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[1][0] > _WINDOW_SECONDS:
            self._points.popleft()

    @property
    def rate(self) -> float:
        """Units per second over the last slices, with the time that calls took in between; 0 until known."""
        (began, first), now = self._points[0], self._clock()
        return (self.done - first) / (now - began) if self.done > first and now > began else 0.0

    def to_proto(self) -> job_pb2.JobProgress:
        """As a job shows it."""
        progress = job_pb2.JobProgress(done=self.done, total=self.total, rate=self.rate)
        if progress.rate > 0 and self.total >= self.done:
            remaining = duration_pb2.Duration()
            remaining.FromMilliseconds(round((self.total - self.done) / progress.rate * 1000))
            progress.remaining.CopyFrom(remaining)
        return progress


class SlicePace:
    """The size of slices that take about a second.

    Attributes:
        size: of the next slice, in units.
    """

    # The first slice tells how fast the model is; it should be short even on a slow one.
    _FIRST = 4
    _MOST_GROWTH = 8

    def __init__(self, target_seconds: float, smallest: int) -> None:
        """Starts small.

        Args:
            target_seconds: how long a slice should take.
            smallest: the least units per slice, where each slice has a price of its own.
        """
        self._target_seconds = target_seconds
        self._smallest = smallest
        self.size = max(smallest, self._FIRST)

    def took(self, units: int, seconds: float) -> None:
        """Learns from a slice."""
        fitting = int(units * self._target_seconds / max(seconds, 1e-6))
        self.size = max(1, self._smallest, min(fitting, self.size * self._MOST_GROWTH))
