"""How the caller of a long computation watches and stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sidelight_engines.errors import Stopped


def _never() -> bool:
    return False


def _ignore(done: int, total: int) -> None:
    return None


@dataclass(frozen=True)
class Control:
    """What a long computation consults between its chunks.

    Attributes:
        should_stop: true once the work should end; asked at least once per chunk.
        progress: told (units done, units in all) after each chunk.
    """

    should_stop: Callable[[], bool] = _never
    progress: Callable[[int, int], None] = _ignore

    def checkpoint(self) -> None:
        """Raises Stopped if the work should end."""
        if self.should_stop():
            raise Stopped("stopped before the work was done")
