"""Enum values as the words that a caller writes and reads: ``"mersenne-twister"``."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import EnumDescriptor

from sidelight.errors import InvalidArgument


def word(enum: EnumDescriptor, number: int) -> str:
    """The word for an enum value; empty for "unspecified".

    A value that is newer than this client comes out as its number.
    """
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    return _words(enum)[value.name] if number else ""


def choose(enum: EnumDescriptor, chosen: str, what: str) -> Any:
    """Finds the enum value that a caller names by a word.

    Args:
        enum: of which enum.
        chosen: the word.
        what: what the caller calls the option.

    Returns:
        The number; Any, because generated code has a type of its own for the numbers of each enum.

    Raises:
        InvalidArgument: there is none of that name; lists those there are.
    """
    numbers = {word: enum.values_by_name[name].number for name, word in _words(enum).items()}
    # Zero is "unspecified" in every enum: what a caller says by leaving the option out.
    if not numbers.get(chosen):
        choices = " or ".join(repr(word) for word, number in numbers.items() if number)
        raise InvalidArgument(f"{what} is {chosen!r}; give {choices}, or leave it out for the server's default")
    return numbers[chosen]


def _words(enum: EnumDescriptor) -> dict[str, str]:
    """The word for each name. All names of an enum begin alike, and the one for 0 ends in UNSPECIFIED."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {name: name.removeprefix(prefix).lower().replace("_", "-") for name in enum.values_by_name}
