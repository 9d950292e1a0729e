"""What is said of every explanation: what was explained, and how well the relevance adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sidelight_engines.lrp.quality.concentration import entropy, gini
from sidelight_engines.lrp.result import Explained, LedgerEntry
from sidelight_engines.runtime.runtime import Array

_NUMBERS_AT_ONCE = 2**16


@dataclass(frozen=True)
class Spread:
    """How relevance is spread over all inputs together. Arrays of one shape, such as (instances, targets).

    Attributes:
        sparseness: the Gini index of its magnitudes.
        entropy: of the shares of its magnitudes, in nats.
        size: the sum of its magnitudes.
    """

    sparseness: Array
    entropy: Array
    size: Array

    def turned(self) -> Spread:
        """The same with the two axes exchanged."""
        return Spread(self.sparseness.T, self.entropy.T, self.size.T)


def spread_of(inputs: Sequence[Array]) -> Spread:
    """Measures relevance.

    Args:
        inputs: the relevance of each input, (targets, n, ...).

    Returns:
        Arrays of shape (targets, n).
    """
    lengths = inputs[0].shape[:2]
    sizes = [int(np.prod(part.shape[2:])) for part in inputs]
    found = Spread(*(np.zeros(lengths) for _ in range(3)))
    # A few at a time: float64 copies of all at once would double what the result takes.
    step = max(1, _NUMBERS_AT_ONCE // max(1, lengths[0] * sum(sizes)))
    for first in range(0, lengths[1], step):
        some = (slice(None), slice(first, first + step))
        flat = [np.abs(part[some]).reshape(lengths[0], -1, size) for part, size in zip(inputs, sizes, strict=True)]
        magnitudes = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=2)
        found.sparseness[some], found.entropy[some] = gini(magnitudes), entropy(magnitudes)
        found.size[some] = magnitudes.sum(axis=2, dtype=np.float64)
    return found


def explain(
    spread: Spread, total: LedgerEntry, logits: Array, classes: Array, with_ledger: bool = True
) -> tuple[Explained, ...]:
    """Sums up.

    Args:
        spread: of the relevance at the inputs, (n, targets).
        total: the ledger's total.
        logits: (n, targets).
        classes: (n, targets).
        with_ledger: whether a ledger was kept; without it, it has no residual.

    Returns:
        One per instance and target, instance outermost.
    """
    n, targets = logits.shape
    size = spread.size
    scale = np.maximum(np.abs(total.relevance_out), size)
    gap = np.divide(
        np.abs(total.relevance_out - total.relevance_in), scale, out=np.zeros((n, targets)), where=scale > 0
    )
    left = np.zeros((n, targets))
    if with_ledger:
        np.divide(np.abs(total.residual), scale, out=left, where=scale > 0)
    # As lists: a number taken out of an array by itself takes as long as what is made of it.
    columns = (classes, logits, total.relevance_out, total.relevance_in, gap, left, spread.sparseness, spread.entropy)
    lists = [column.ravel().tolist() for column in columns]
    return tuple(
        Explained(
            instance=position // targets,
            class_index=index,
            logit=logit,
            relevance_out=out,
            relevance_in=arrived,
            conservation_gap=lost,
            ledger_residual=residual,
            sparseness=sparseness,
            entropy=spread_out,
        )
        for position, (index, logit, out, arrived, lost, residual, sparseness, spread_out) in enumerate(
            zip(*lists, strict=True)
        )
    )
