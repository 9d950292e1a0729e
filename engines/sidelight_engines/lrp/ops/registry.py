"""The table: operation -> how relevance passes it.

There are three kinds of entry. A *linear map* says how an operation is linear in one of its inputs, so that every rule
can be applied to it. A *pattern* recognises several operations that are one function together, such as a swish written
as a product with a sigmoid. A plain *entry* hands the relevance of one operation down. Patterns are asked first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sidelight_engines.lrp.maps.linear_map import LinearMap
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.lrp.walk.node import Contributions, Node

Entry = Callable[[Node], Contributions]
FindMap = Callable[[Any, GraphView], LinearMap | None]


@dataclass(frozen=True)
class Pattern:
    """Several operations that are one function.

    Attributes:
        sources: the tensors that it reads.
        hand_down: hands the relevance of the last operation's outputs down to the sources.
    """

    sources: tuple[Any, ...]
    hand_down: Entry


FindPattern = Callable[[Any, GraphView], Pattern | None]

_ENTRIES: dict[str, Entry] = {}
_MAPS: dict[str, FindMap] = {}
_PATTERNS: dict[str, list[FindPattern]] = {}

COVERED: set[str] = set()
"""Names of all operations that have an entry of any kind, or are part of a pattern."""


def entry(*ops: str) -> Callable[[Entry], Entry]:
    """Registers the decorated function as the entry of operations."""

    def add(hand_down: Entry) -> Entry:
        for op in ops:
            if op in _ENTRIES:
                raise ValueError(f"{op} is registered twice")
            _ENTRIES[op] = hand_down
            COVERED.add(op)
        return hand_down

    return add


def linear_map(*ops: str) -> Callable[[FindMap], FindMap]:
    """Registers the decorated function as what finds the linear map of operations; None where there is none."""

    def add(find: FindMap) -> FindMap:
        for op in ops:
            if op in _MAPS:
                raise ValueError(f"{op} is registered twice")
            _MAPS[op] = find
            COVERED.add(op)
        return find

    return add


def pattern(*ops: str) -> Callable[[FindPattern], FindPattern]:
    """Registers the decorated function as what recognises a pattern whose last operation is one of these."""

    def add(find: FindPattern) -> FindPattern:
        for op in ops:
            _PATTERNS.setdefault(op, []).append(find)
            COVERED.add(op)
        return find

    return add


def part_of_pattern(*ops: str) -> None:
    """Says that operations are covered as parts of patterns."""
    COVERED.update(ops)


def entry_for(op: Any) -> Entry | None:
    """The entry of an operation; None if it has none."""
    return _ENTRIES.get(op.type)


def linear_map_of(op: Any, view: GraphView) -> LinearMap | None:
    """How an operation is linear in one of its inputs; None if it is not."""
    find = _MAPS.get(op.type)
    return None if find is None else find(op, view)


def pattern_at(op: Any, view: GraphView) -> Pattern | None:
    """The pattern that ends in an operation; None if none does."""
    return next((found for find in _PATTERNS.get(op.type, ()) if (found := find(op, view)) is not None), None)
