"""One use of the facade as the unary calls it takes, a chunk of the instances in each, without doing any of them.

The blocking and the asyncio client drive the same object: ask for the next request, send it, hand the response back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message
from numpy.typing import NDArray

from sidelight.arrays import Inputs, to_arrays, to_instances
from sidelight.errors import InvalidArgument
from sidelight.pace import Pace
from sidelight.selection import ReferenceSelection

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


class InstancesRun(ABC, Generic[_Request, _Response]):
    """The calls that explain some instances by one method. Each method has a subclass, which calls `_plan`.

    Attributes:
        done: how many instances are explained.
        total: how many there are; 0 while only the server knows.
    """

    def __init__(self, request: _Request, x: Inputs | ReferenceSelection) -> None:
        """Takes the instances.

        Args:
            request: the request of the method, all but its instances; it is kept, and changed.
            x: the instances. A selection of a reference set goes in one call.
        """
        self._request = request
        self._responses: list[_Response] = []
        self._arrays: dict[str, NDArray[Any]] = {}
        self._sent = 0
        self.done = 0
        self.total = 0
        if isinstance(x, ReferenceSelection):
            whole: Any = request
            whole.instances.reference.CopyFrom(x.to_proto())
        else:
            self._arrays = to_arrays(x, "x")
            self.total = len(next(iter(self._arrays.values())))

    def next_request(self) -> _Request | None:
        """The next request to send; None when there is none left."""
        if not self._arrays:
            return None if self._responses else self._request
        if self.done == self.total:
            return None
        request: Any = type(self._request)()
        request.CopyFrom(self._request)
        self._sent = min(self._pace.size, self.total - self.done)
        rows = slice(self.done, self.done + self._sent)
        request.instances.CopyFrom(to_instances({name: array[rows] for name, array in self._arrays.items()}, "x"))
        self._cut(request, rows)
        if self._responses:
            # The model that answered first answers to the end, whatever is loaded meanwhile.
            first: Any = self._responses[0]
            request.model.version, request.model.digest = first.provenance.version, first.provenance.digest
        return cast(_Request, request)

    def accept(self, response: _Response, seconds: float) -> None:
        """Takes the response to the last request.

        Args:
            response: what came.
            seconds: how long it took.
        """
        self._responses.append(response)
        if self._arrays:
            self._pace.took(self._sent, seconds)
            self.done += self._sent
        else:
            self.done = self.total = self._count(response)

    def _plan(self, limit: int, instances_per_call: int | None, seconds: float | None) -> int:
        """Decides how many instances go into a call.

        Args:
            limit: as many as a message has room for.
            instances_per_call: the caller's own limit, at which calls are made whatever time they take.
            seconds: how long a call should take; None for as few calls as the limit allows.

        Returns:
            The most instances in a call.

        Raises:
            InvalidArgument: the caller's limit is none.
        """
        if instances_per_call is not None:
            if instances_per_call < 1:
                raise InvalidArgument(f"instances_per_call is {instances_per_call}; give at least 1")
            limit, seconds = min(limit, instances_per_call), None
        self._pace = Pace(limit, seconds)
        return limit

    def _bytes_each(self) -> int:
        """What one instance takes."""
        return sum(array.nbytes // len(array) for array in self._arrays.values())

    @abstractmethod
    def _cut(self, request: _Request, rows: slice) -> None:
        """Fits the rest of a request to its instances, which are these rows of all."""

    @abstractmethod
    def _count(self, response: _Response) -> int:
        """How many instances a response explains."""
