"""Exact nearest neighbours by one matrix product.

Squared distances come from |x - y|^2 = |x|^2 - 2 x.y + |y|^2 in float32, over data that was moved to its
mean first (distances stay, cancellation shrinks). With u = 2^-24, d features and the data moved, each
of the three terms is computed to a relative error of at most (d + 4) u of |x|^2, |x||y| or |y|^2 (Higham,
Accuracy and Stability of Numerical Algorithms, 2nd ed., eq. 3.5, plus the rounding of the moved values and
of the sum), so the error of the whole is below

    e = (d + 8) u (|x| + |y|)^2.

Every row whose float32 distance is within 2e of the k-th smallest may be among the k nearest; those are
measured again in float64 as sum (x_f - y_f)^2. So the answer is that of a search in float64, whatever
the data. Equal distances are ordered by row number.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.runtime.runtime import Array

_UNIT_ROUNDOFF = 2.0**-24


def nearest_rows(queries: Array, data: Array, count: int, control: Control, memory_bytes: int) -> Array:
    """Finds the nearest rows of some data.

    Args:
        queries: (queries, features), finite.
        data: (rows, features), finite, `count` rows at least; may be memory-mapped.
        count: how many neighbours per query.
        control: asked for a stop between blocks.
        memory_bytes: about what blocks may take.

    Returns:
        Row numbers, int64, (queries, count), the nearest first.

    Raises:
        Stopped: `control` asked for it.
    """
    features = data.shape[1]
    block = max(1, min(len(data), memory_bytes // (4 * 12 * features)))
    centre, widest = _centre_and_radius(data, block, control)
    group = max(1, min(len(queries), 256, memory_bytes // (4 * 4 * len(data))))
    found = np.empty((len(queries), count), np.int64)
    for first in range(0, len(queries), group):
        exact = np.asarray(queries[first : first + group], np.float64)
        moved = (exact - centre).astype(np.float32)
        distances = np.empty((len(exact), len(data)), np.float32)
        for row in range(0, len(data), block):
            control.checkpoint()
            _compare(moved, np.asarray(data[row : row + block], np.float64) - centre, distances[:, row : row + block])
        lengths = np.linalg.norm(exact - centre, axis=1)
        error = (features + 8) * _UNIT_ROUNDOFF * (lengths + widest) ** 2
        for position, approximate in enumerate(distances):
            if np.isfinite(approximate).all():
                limit = np.partition(approximate, count - 1)[count - 1] + 2 * error[position]
                candidates = np.flatnonzero(approximate <= limit)
            else:
                candidates = np.arange(len(data))
            found[first + position] = _exact_order(exact[position], data, candidates, block)[:count]
    return found


def _compare(queries: Array, rows: Array, out: Array) -> None:
    """Writes |y|^2 - 2 x.y: the squared distance but for |x|^2, which is the same for all rows of a query."""
    # What overflows float32 is measured again in float64.
    with np.errstate(over="ignore", invalid="ignore"):
        rows = rows.astype(np.float32)
        np.matmul(queries, rows.T, out=out)
        out *= np.float32(-2)
        out += np.einsum("rf,rf->r", rows, rows)


def _centre_and_radius(data: Array, block: int, control: Control) -> tuple[Array, float]:
    """The mean row (float64) and the greatest distance of a row from it, a little rounded up."""
    total = np.zeros(data.shape[1])
    for row in range(0, len(data), block):
        control.checkpoint()
        total += np.sum(data[row : row + block], axis=0, dtype=np.float64)
    centre = total / len(data)
    widest = 0.0
    for row in range(0, len(data), block):
        control.checkpoint()
        moved = np.asarray(data[row : row + block], np.float64) - centre
        widest = max(widest, float(np.einsum("rf,rf->r", moved, moved).max()))
    return centre, float(np.sqrt(widest)) * (1 + 1e-6)


def _exact_order(query: Array, data: Array, candidates: Array, block: int) -> Array:
    """The candidates by distance in float64, equal ones by row number."""
    distances = np.empty(len(candidates))
    for first in range(0, len(candidates), block):
        # Memory-mapped data gives a copy here, of the candidates alone.
        difference = np.asarray(data[candidates[first : first + block]], np.float64) - query
        distances[first : first + block] = np.einsum("cf,cf->c", difference, difference)
    return candidates[np.argsort(distances, kind="stable")]
