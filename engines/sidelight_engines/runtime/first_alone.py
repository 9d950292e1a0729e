"""A computation that is made ready by its first call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class FirstAlone(Generic[P, T]):
    """A function of which no other call begins before a first one has come to its end.

    TensorFlow optimises a traced graph when it is run for the first time, and does so once for each caller that comes
    meanwhile: two passes side by side would take seconds longer than one after the other.

    Args:
        function: what is called. A call that raises leaves the next one the first.
    """

    def __init__(self, function: Callable[P, T]) -> None:
        self._function = function
        self._beginning = threading.Lock()
        self._begun = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls the function."""
        if not self._begun:
            with self._beginning:
                if not self._begun:
                    made = self._function(*args, **kwargs)
                    self._begun = True
                    return made
        return self._function(*args, **kwargs)
