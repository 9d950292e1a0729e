"""The digest of a set: the same for the same examples, in whatever chunks and under whatever name they came.

SHA-256 over one line per array, inputs by name and then the labels, each with role, name, type, shape and the
SHA-256 of the elements as little-endian bytes in row-major order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One array of a set.

    Attributes:
        role: ``input``, or what the labels are.
        name: of the input; empty for labels.
        dtype: a NumPy type name.
        shape: of the whole array.
        content: SHA-256 of its elements, in hexadecimal.
    """

    role: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    content: str


def digest_of(parts: Iterable[Part]) -> str:
    """The digest of a set made of these arrays."""
    total = hashlib.sha256()
    for part in sorted(parts, key=lambda part: (part.role != "input", part.name)):
        shape = ",".join(map(str, part.shape))
        total.update(f"{part.role}\0{part.name}\0{part.dtype}\0{shape}\0{part.content}\n".encode())
    return f"sha256:{total.hexdigest()}"
