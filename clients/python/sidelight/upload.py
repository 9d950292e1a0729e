"""The upload of a reference set as the messages that it takes, without sending any of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidelight.arrays import Inputs, to_array, to_arrays, to_tensor
from sidelight.errors import InvalidArgument
from sidelight.v1 import reference_service_pb2, tensor_pb2

Request = reference_service_pb2.CreateReferenceRequest
Arrays = dict[str, NDArray[Any]]

_ENVELOPE_BYTES = 16 * 1024
# Large enough to be fast, small enough that progress is seen and a retry costs little.
_CHUNK_BYTES = 4 * 1024 * 1024

Examples = Inputs | Iterator[Any]
"""Arrays, or an iterator of chunks: each an array, a dict of arrays, or a pair of one of these and labels."""


class Upload:
    """One upload. `messages`, or `messages_async`, gives what to send, in order.

    Attributes:
        failure: what a chunk or the caller's iterator raised while it was being sent; None if nothing did.
    """

    def __init__(
        self,
        name: str,
        x: Examples | AsyncIterator[Any],
        labels: ArrayLike | None,
        model: str,
        progress: Callable[[int, int], None] | None,
        max_message_bytes: int,
    ) -> None:
        """Checks what can be checked before anything is sent.

        Raises:
            InvalidArgument: the arrays can not be sent, or labels are given beside an iterator.
        """
        self.failure: BaseException | None = None
        self._progress = progress
        self._sent = 0
        self._total = 0
        self._limit = max_message_bytes
        self._chunks: Iterator[Any] | AsyncIterator[Any]
        if isinstance(x, Iterator | AsyncIterator):
            if labels is not None:
                raise InvalidArgument("labels= can not go with an iterator; let it give pairs: (chunk, labels)")
            self._chunks = x
        else:
            arrays = to_arrays(x, "x")
            self._total = len(next(iter(arrays.values())))
            self._chunks = iter([(arrays, None if labels is None else to_array(labels, "labels"))])
        self._header = reference_service_pb2.ReferenceHeader(name=name, model=model, count=self._total)

    def messages(self) -> Iterator[Request]:
        """What to send. Ends early, with `failure` set, where the caller's iterator or a chunk of it fails."""
        yield Request(header=self._header)
        try:
            if not isinstance(self._chunks, Iterator):
                raise InvalidArgument("x is an asynchronous iterator; give it to an AsyncClient")
            for given in self._chunks:
                yield from self._of_chunk(given)
        except Exception as error:
            self.failure = error
            return
        yield self._trailer()

    async def messages_async(self) -> AsyncIterator[Request]:
        """See `messages`; takes asynchronous iterators too."""
        yield Request(header=self._header)
        try:
            if isinstance(self._chunks, AsyncIterator):
                async for given in self._chunks:
                    for message in self._of_chunk(given):
                        yield message
            else:
                for given in self._chunks:
                    for message in self._of_chunk(given):
                        yield message
        except Exception as error:
            self.failure = error
            return
        yield self._trailer()

    def _trailer(self) -> Request:
        return Request(trailer=reference_service_pb2.ReferenceTrailer(count=self._sent))

    def _of_chunk(self, given: Any) -> Iterator[Request]:
        """Cuts what the caller calls a chunk into messages of a good size."""
        x, labels = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        arrays = to_arrays(x, "x")
        rows = len(next(iter(arrays.values())))
        marks = None if labels is None else to_array(labels, "labels")
        if marks is not None and (marks.ndim == 0 or len(marks) != rows):
            raise InvalidArgument(f"labels of shape {marks.shape} are not for {rows} examples; give one for each")
        size = self._rows_per_message(arrays, marks)
        for first in range(0, rows, size):
            part = slice(first, first + size)
            yield Request(chunk=_chunk({name: a[part] for name, a in arrays.items()}, marks, part))
            self._sent += min(size, rows - first)
            if self._progress is not None:
                self._progress(self._sent, self._total)

    def _rows_per_message(self, arrays: Arrays, labels: NDArray[Any] | None) -> int:
        each = sum(array.nbytes // len(array) for array in arrays.values())
        each += 0 if labels is None else labels.nbytes // len(labels)
        if each + _ENVELOPE_BYTES > self._limit:
            raise InvalidArgument(
                f"one example takes {each} bytes, where a message may have {self._limit}; raise max_message_bytes here "
                "and on the server"
            )
        return max(1, min(_CHUNK_BYTES, self._limit - _ENVELOPE_BYTES) // max(each, 1))


def _chunk(
    arrays: Mapping[str, NDArray[Any]], labels: NDArray[Any] | None, part: slice
) -> reference_service_pb2.ReferenceChunk:
    return reference_service_pb2.ReferenceChunk(
        inputs=[tensor_pb2.NamedTensor(name=name, tensor=to_tensor(array, "x")) for name, array in arrays.items()],
        labels=None if labels is None else to_tensor(np.asarray(labels[part]), "labels"),
    )
