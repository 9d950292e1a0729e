"""How work is cut into passes, and how many of them run side by side."""

from __future__ import annotations

from sidelight_engines.errors import MemoryLimitExceeded
from sidelight_engines.lrp.parameters import Chunking

# Of instances so large that a pass of this many does not fit, one pass fills all processors, the longer the better.
_FEW_ROWS = 32


def cut(rows: int, row_bytes: int, fixed: int | None, chunking: Chunking, at_once: int) -> tuple[int, int]:
    """How many rows a pass takes, and how many passes run at a time.

    Args:
        rows: all of them.
        row_bytes: about what one takes in a pass.
        fixed: the batch length that the model demands; None if it takes any.
        chunking: what is granted.
        at_once: the most passes at a time.

    Raises:
        MemoryLimitExceeded: one row, or one batch of fixed length, takes more memory than is granted.
    """
    needed = row_bytes * (fixed or 1)
    if needed > chunking.memory_bytes:
        remedy = "explain fewer classes at a time, or let the server grant more memory"
        raise MemoryLimitExceeded(needed, chunking.memory_bytes, remedy)
    lanes = min(at_once, chunking.memory_bytes // needed)
    if fixed:
        return fixed, lanes
    if chunking.memory_bytes // (lanes * row_bytes) < min(_FEW_ROWS, chunking.rows):
        lanes = 1
    most = min(chunking.rows, chunking.memory_bytes // (lanes * row_bytes))
    if rows <= most:
        return rows, lanes
    # All lanes get passes of the same length, so that none waits for the last of another.
    rounds = -(-rows // (most * lanes))
    return -(-rows // (rounds * lanes)), lanes
