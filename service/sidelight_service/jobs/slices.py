"""Which methods can be run in slices, and how. A method without an entry runs whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sidelight_service.jobs.index_slices import GradientIndexSlicer
from sidelight_service.jobs.linearity_slices import LinearitySlicer
from sidelight_service.jobs.lrp_slices import LrpSlicer
from sidelight_service.jobs.similarity_slices import SimilaritySlicer


class Slicer(Protocol):
    """How one method's requests are taken apart, and its responses put together.

    The response put together from any slices must hold the numbers of the response to the request as it is.

    Attributes:
        check_method: what the workers run on the whole request before its slices, so that what is wrong with any
            unit of it is said at once and in the caller's terms.
        finish_method: what they run on the `finishing` order.
    """

    check_method: str
    finish_method: str

    def needs_resolving(self, request: Any) -> bool:
        """Whether only the workers can tell what the units of a request are, and so how many."""
        ...

    def resolved(self, request: Any, answer: bytes) -> Any:
        """The request with its units as the answer of `check_method` tells them; it itself if that is nothing."""
        ...

    def count(self, request: Any) -> int | None:
        """The units of a request; None if it can not be taken apart, which may be because it is malformed."""
        ...

    def smallest(self, request: Any) -> int:
        """The least units per slice that keep the price of slicing low."""
        ...

    def part(self, request: Any, first: int, units: int) -> bytes:
        """The serialized request for consecutive units."""
        ...

    def seconds(self, response: bytes) -> float:
        """How long the workers computed on the response to a part."""
        ...

    def relocate(self, error: Exception, first: int) -> Exception:
        """An error of a part that begins with unit `first`, in terms of the whole."""
        ...

    def merge(self, request: Any, parts: Sequence[bytes]) -> bytes:
        """The serialized response to the whole, from those to its parts in order; pictures are still missing."""
        ...

    def finishing(self, request: Any, merged: bytes) -> bytes | None:
        """The order for `finish_method`, which gives the response to the whole; None if `merged` is it."""
        ...


SLICERS: Mapping[str, Slicer] = {
    "ExplainLinearity": LinearitySlicer(),
    "ExplainSimilarity": SimilaritySlicer(),
    "ExplainLrp": LrpSlicer(),
    "BuildGradientIndex": GradientIndexSlicer(),
}
"""By the name of the RPC."""
