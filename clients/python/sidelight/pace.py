"""How much to ask for in one call, and how long to wait for all of them."""

from __future__ import annotations

import time

from sidelight.errors import DeadlineExceeded

# The first call tells how fast the server is; it should be short even on a slow model.
_FIRST = 8
_MOST_GROWTH = 8


class Pace:
    """The number of instances per call.

    Attributes:
        size: for the next call.
    """

    def __init__(self, limit: int, target_seconds: float | None) -> None:
        """Starts small if there is a time to aim at, and at the limit otherwise.

        Args:
            limit: the most instances per call.
            target_seconds: how long a call should take; None for as few calls as the limit allows,
                which split the same way every time.
        """
        self._limit = limit
        self._target_seconds = target_seconds
        self.size = limit if target_seconds is None else min(limit, _FIRST)

    def took(self, count: int, seconds: float) -> None:
        """Learns from a call of `count` instances that took so long."""
        if self._target_seconds is None:
            return
        fitting = int(count * self._target_seconds / max(seconds, 1e-6))
        self.size = max(1, min(self._limit, fitting, self.size * _MOST_GROWTH))


class Deadline:
    """A time by which several calls must be done, together."""

    def __init__(self, timeout: float | None) -> None:
        """Starts the clock; None is no deadline."""
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        """The seconds left; None without a deadline.

        Raises:
            DeadlineExceeded: none are.
        """
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"the timeout of {self._timeout} s passed between calls; give a longer one")
        return left
