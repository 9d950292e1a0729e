"""What is said of every explanation: what was explained, and how well the relevance adds up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sidelight_engines.lrp.measures import entropy, gini
from sidelight_engines.lrp.result import Explained, LedgerEntry, Relevance
from sidelight_engines.runtime.runtime import Array

_NUMBERS_AT_ONCE = 2**16


def explain(inputs: Sequence[Relevance], total: LedgerEntry, logits: Array, classes: Array) -> tuple[Explained, ...]:
    """Sums up.

    Args:
        inputs: the relevance of each input, (n, targets, ...).
        total: the ledger's total.
        logits: (n, targets).
        classes: (n, targets).

    Returns:
        One per instance and target, instance outermost.
    """
    n, targets = logits.shape
    sparse, spread, size = (np.zeros((n, targets)) for _ in range(3))
    per_instance = sum(part.values[:1].size for part in inputs)
    # A few instances at a time: float64 copies of all at once would double what the result takes.
    step = max(1, _NUMBERS_AT_ONCE // max(1, per_instance))
    for first in range(0, n, step):
        rows = slice(first, first + step)
        flat = [np.abs(part.values[rows].reshape(-1, targets, part.values[:1].size // targets)) for part in inputs]
        magnitudes = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=2)
        sparse[rows], spread[rows] = gini(magnitudes), entropy(magnitudes)
        size[rows] = magnitudes.sum(axis=2, dtype=np.float64)
    scale = np.maximum(np.abs(total.relevance_out), size)
    gap = np.divide(
        np.abs(total.relevance_out - total.relevance_in), scale, out=np.zeros((n, targets)), where=scale > 0
    )
    left = np.divide(np.abs(total.residual), scale, out=np.zeros((n, targets)), where=scale > 0)
    return tuple(
        Explained(
            instance=row,
            class_index=int(classes[row, target]),
            logit=float(logits[row, target]),
            relevance_out=float(total.relevance_out[row, target]),
            relevance_in=float(total.relevance_in[row, target]),
            conservation_gap=float(gap[row, target]),
            ledger_residual=float(left[row, target]),
            sparseness=float(sparse[row, target]),
            entropy=float(spread[row, target]),
        )
        for row in range(n)
        for target in range(targets)
    )
