"""What is said of every explanation: what was explained, and how well the relevance adds up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sidelight_engines.lrp.measures import entropy, gini
from sidelight_engines.lrp.result import Explained, LedgerEntry, Relevance
from sidelight_engines.runtime.runtime import Array


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
    for row in range(n):
        # One instance at a time: float64 copies of all at once would double what the result takes.
        flat = [np.abs(part.values[row].reshape(targets, -1)) for part in inputs]
        magnitudes = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
        sparse[row], spread[row] = gini(magnitudes), entropy(magnitudes)
        size[row] = magnitudes.sum(axis=1, dtype=np.float64)
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
