"""AUC under weights.

The area under the ROC curve is the chance that an example of a class scores above one of another, drawn by weight,
ties counting half (Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982): sum over pairs
w_i w_j ([s_i > s_j] + [s_i = s_j] / 2), divided by the weights of both sides. The distinct scores u_1 < ... < u_m of
the class cut the others into bins: below u_1, at u_1, between u_1 and u_2, ... The weights in bins are a product with a
sparse matrix that is made once, and the rest are running sums over bins. With several classes it is the mean over
classes of each against all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sidelight_engines.influence.answers import Answers
from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True, eq=False)
class _Bins:
    """The examples of a subset by their score for one class.

    Attributes:
        of_class: sparse (m, examples): who of the class has each distinct score.
        others: sparse (2 m + 1, examples): who else lies in each bin.
    """

    of_class: Any
    others: Any


class AreaUnderCurve:
    """AUC of all examples and of each group, for any weights."""

    def __init__(self, answers: Answers, members: tuple[Array, ...]) -> None:
        """Sorts.

        Args:
            answers: predictions and labels.
            members: for each group, (examples,) bool.
        """
        self._subsets = [_subset_bins(answers, member) for member in (None, *members)]

    def evaluate(self, weights: Array) -> Array:
        """AUC under several sets of weights.

        Args:
            weights: (examples, sets), at least 0.

        Returns:
            (sets, subsets): of all examples, then of each group; NaN where no class has a pair.
        """
        return np.stack([_mean_area(subset, weights) for subset in self._subsets], axis=1)


def _subset_bins(answers: Answers, member: Array | None) -> list[_Bins]:
    everyone = np.ones(len(answers.predicted), bool) if member is None else member
    found = []
    for label in answers.scored_classes:
        positive, negative = everyone & (answers.classes == label), everyone & (answers.classes != label)
        if not (positive.any() and negative.any()):
            continue  # no pairs, whatever the weights
        scores = answers.scores(label)
        distinct, place = np.unique(scores[positive], return_inverse=True)
        others = scores[negative]
        # Bin 2 k is between u_(k-1) and u_k, bin 2 k + 1 at u_k.
        bins = np.searchsorted(distinct, others, "left") + np.searchsorted(distinct, others, "right")
        found.append(
            _Bins(
                _indicator(place, np.flatnonzero(positive), len(distinct), len(scores)),
                _indicator(bins, np.flatnonzero(negative), 2 * len(distinct) + 1, len(scores)),
            )
        )
    return found


def _indicator(rows: Array, columns: Array, height: int, width: int) -> Any:
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(height, width))


def _mean_area(subset: list[_Bins], weights: Array) -> Array:
    sets = weights.shape[1]
    total, classes = np.zeros(sets), np.zeros(sets)
    for bins in subset:
        positive, negative = bins.of_class @ weights, bins.others @ weights
        upto = np.cumsum(negative, axis=0)
        pairs = positive.sum(axis=0) * upto[-1]
        above = (positive * (upto[0:-1:2] + negative[1::2] / 2)).sum(axis=0)
        total += np.divide(above, pairs, out=np.zeros(sets), where=pairs > 0)
        classes += pairs > 0
    return np.asarray(np.divide(total, classes, out=np.full(sets, np.nan), where=classes > 0))
