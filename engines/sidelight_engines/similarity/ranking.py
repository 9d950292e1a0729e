"""The best and worst of very many scores, in a stable order, without sorting them all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sidelight_engines.runtime.runtime import Array

# Scores that are this close, relative to the largest, may owe their order to the rounding of the scan (float32
# sums of thousands of terms): what is within it of the last place is scored again, exactly.
_SCAN_ROUNDING = 1e-5
# Many references that score alike are not all scored again: the first ones of them, by index, are.
_MOST_CLOSE = 64
# How many beyond those wanted are scored exactly to begin with, and how many at most, before it is quicker to score
# all of them in single precision.
_FIRST = 4
_MOST_EXACT = 2_000


def select(
    scores: Array, positions: Array, count: int, exact: Callable[[Array], Array], *, least: bool = False
) -> tuple[Array, Array]:
    """Selects the greatest or least scores.

    Args:
        scores: (n,) as scanned.
        positions: (n,) the index of each reference in its set; breaks ties.
        count: how many are wanted.
        exact: gives the exact scores of some, by where they are in `scores`.
        least: whether the least are wanted.

    Returns:
        Where the selected are in `scores`, at most `count`, and their exact scores; the best first, of equal
        ones that of the lower index.
    """
    count = min(count, len(scores))
    if count == 0:
        return np.empty(0, np.int64), np.empty(0)
    ordered = scores if least else -scores
    threshold = np.partition(ordered, count - 1)[count - 1]
    margin = _SCAN_ROUNDING * max(float(np.abs(scores).max()), np.finfo(np.float64).tiny)
    certain = np.flatnonzero(ordered < threshold - margin)
    close = np.flatnonzero(np.abs(ordered - threshold) <= margin)
    room = count - len(certain) + _MOST_CLOSE
    if len(close) > room:
        close = close[np.argsort(positions[close], kind="stable")[:room]]
    chosen = np.concatenate([certain, close])
    values = exact(chosen)
    order = np.lexsort((positions[chosen], values if least else -values))[:count]
    return chosen[order], values[order]


def select_bounded(
    middle: Array, slack: Array, positions: Array, count: int, exact: Callable[[Array], Array], *, least: bool = False
) -> tuple[Array, Array] | None:
    """Selects the greatest or least scores where only bounds of most are known.

    Args:
        middle: (n,) what each score is near to.
        slack: (n,) how far from that it may be, rounding included.
        positions: (n,) the index of each reference in its set; breaks ties.
        count: how many are wanted.
        exact: gives the exact scores of some, by where they are in `middle`.
        least: whether the least are wanted.

    Returns:
        As `select`: what it would give for the exact scores of all. None if too many could be among the selected.
    """
    count = min(count, len(middle))
    if count == 0:
        return np.empty(0, np.int64), np.empty(0)
    if count > _MOST_EXACT // 2:
        return None
    sign = -1.0 if least else 1.0
    likely = sign * middle
    first = np.argpartition(-likely, min(count + _FIRST, len(likely)) - 1)[: count + _FIRST]
    values = exact(first)
    threshold = np.partition(sign * values, len(values) - count)[len(values) - count]
    possible = np.flatnonzero(likely + slack >= threshold)
    if len(possible) > _MOST_EXACT:
        return None
    others = np.setdiff1d(possible, first)
    chosen = np.concatenate([first, others])
    if len(others):
        values = np.concatenate([values, exact(others)])
    order = np.lexsort((positions[chosen], -sign * values))[:count]
    return chosen[order], values[order]
