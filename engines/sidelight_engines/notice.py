"""What a result says beside its numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Notice:
    """Something a reader of a result should know.

    Attributes:
        code: a stable name in capitals, such as ``FEATURE_RANGE_EMPTY``.
        message: for a person.
    """

    code: str
    message: str
