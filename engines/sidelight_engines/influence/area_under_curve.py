"""AUC under weights.

The area under the ROC curve is the chance that an example of a class scores above one of another, drawn by weight,
ties counting half (Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982): sum over pairs
w_i w_j ([s_i > s_j] + [s_i = s_j] / 2), divided by the weights of both sides. The distinct scores u_1 < ... < u_m of
the class cut the others into bins: below u_1, between u_1 and u_2, ..., and at u_1, at u_2, ... The weights in bins are
a product with a sparse matrix that is made once, and the rest are running sums over bins. With several classes it is
the mean over classes of each against all others.

How the area changes with an example's weight follows from its placement (DeLong, DeLong and Clarke-Pearson, Comparing
the areas under two or more correlated ROC curves, 1988), the weight of those on the other side that it is on the right
side of: phi_i = (placement_i - area) / (weight of i's side). Examples of one bin have the same.
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
        others: sparse (2 m + 1, examples): who else lies in each bin, those between scores first.
        row: (examples,), the row of each in the two matrices, one below the other.
    """

    of_class: Any
    others: Any
    row: Array


@dataclass(frozen=True, eq=False)
class _Subset:
    """All examples, or those of a group.

    Attributes:
        members: (examples,), the positions of those of the group; None for all.
        classes: those that have a pair.
    """

    members: Array | None
    classes: list[_Bins]

    def of(self, numbers: Array) -> Array:
        return numbers if self.members is None else numbers[self.members]


@dataclass(frozen=True, eq=False)
class Areas:
    """AUC, and what its standard error needs, each (sets, subsets).

    Attributes:
        areas: NaN where no class has a pair.
        second: sum of w^2 phi^2.
        pulled: sum of w d phi.
        square_pulled: sum of w^2 d phi.
    """

    areas: Array
    second: Array
    pulled: Array
    square_pulled: Array


class AreaUnderCurve:
    """AUC of all examples and of each group, for any weights."""

    def __init__(self, answers: Answers, members: tuple[Array, ...]) -> None:
        """Sorts.

        Args:
            answers: predictions and labels.
            members: for each group, (examples,) bool.
        """
        self._subsets = [_sorted_subset(answers, member) for member in (None, *members)]

    def evaluate(self, weights: Array) -> Array:
        """AUC under several sets of weights.

        Args:
            weights: (examples, sets), at least 0.

        Returns:
            (sets, subsets): of all examples, then of each group; NaN where no class has a pair.
        """
        return np.stack([_mean_area(subset.classes, subset.of(weights))[0] for subset in self._subsets], axis=1)

    def measure(self, weights: Array, away: Array) -> Areas:
        """AUC, and what its standard error needs.

        Args:
            weights: (examples, sets), w.
            away: like it, d: how far the tilted feature is from its mean.
        """
        found: list[list[Array]] = []
        for subset in self._subsets:
            own = subset.of(weights)
            phi = np.zeros_like(own)
            area, classes = _mean_area(subset.classes, own, phi)
            phi *= own
            phi /= np.maximum(classes, 1)
            second = np.einsum("ns,ns->s", phi, phi)
            phi *= subset.of(away)
            found.append([area, second, np.einsum("ns->s", phi), np.einsum("ns,ns->s", phi, own)])
        return Areas(*(np.stack(parts, axis=1) for parts in zip(*found, strict=True)))


def _sorted_subset(answers: Answers, member: Array | None) -> _Subset:
    members = None if member is None else np.flatnonzero(member)
    actual = answers.classes if member is None else answers.classes[member]
    found = []
    for label in answers.scored_classes:
        positive = actual == label
        if positive.all() or not positive.any():
            continue  # no pairs, whatever the weights
        scores = answers.scores(label) if member is None else answers.scores(label)[member]
        distinct, place = np.unique(scores[positive], return_inverse=True)
        others = scores[~positive]
        # Bin k is between u_(k-1) and u_k, bin m + 1 + k at u_k.
        bins, after = np.searchsorted(distinct, others, "left"), np.searchsorted(distinct, others, "right")
        bins += np.where(after > bins, len(distinct) + 1, 0)
        row = np.empty(len(scores), np.int64)
        row[positive], row[~positive] = place, len(distinct) + bins
        found.append(
            _Bins(
                _indicator(place, np.flatnonzero(positive), len(distinct), len(scores)),
                _indicator(bins, np.flatnonzero(~positive), 2 * len(distinct) + 1, len(scores)),
                row,
            )
        )
    return _Subset(members, found)


def _indicator(rows: Array, columns: Array, height: int, width: int) -> Any:
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(height, width))


def _mean_area(subset: list[_Bins], weights: Array, phi: Array | None = None) -> tuple[Array, Array]:
    """The area, and of how many classes it is the mean, each (sets,).

    Args:
        subset: its classes.
        weights: (examples of the subset, sets).
        phi: (examples of the subset, sets), to which that of each class is added.
    """
    sets = weights.shape[1]
    total, classes = np.zeros(sets), np.zeros(sets)
    # One for all classes: pages from the system take longer than what they are filled with.
    fresh = None if phi is None else np.empty_like(phi)
    for bins in subset:
        positive, negative = bins.of_class @ weights, bins.others @ weights
        count = len(positive)
        between, at = negative[: count + 1], negative[count + 1 :]
        below = np.cumsum(between[:-1] + at, axis=0)
        mine, others = positive.sum(axis=0), below[-1] + between[-1]
        below -= at / 2
        pairs = mine * others
        inverse = np.divide(1.0, pairs, out=np.zeros(sets), where=pairs > 0)
        area = np.einsum("ms,ms->s", positive, below) * inverse
        total += area
        classes += pairs > 0
        if phi is not None:
            rows = _changes(positive, below, area, mine, others, inverse)
            phi += np.take(rows, bins.row, axis=0, out=fresh, mode="clip")
    return np.asarray(np.divide(total, classes, out=np.full(sets, np.nan), where=classes > 0)), classes


def _changes(positive: Array, below: Array, area: Array, mine: Array, others: Array, inverse: Array) -> Array:
    """The phi of one class, (3 m + 1, sets), by `_Bins.row`; 0 where there are no pairs.

    Args:
        positive: (m, sets), the weight at each score of the class.
        below: (m, sets), the weight of others below each, half of that at it.
        area: (sets,), of the class.
        mine: (sets,), the weight of the class.
        others: (sets,), the weight of all others.
        inverse: (sets,), 1 / (mine others); 0 where there are no pairs.
    """
    count, sets = positive.shape
    rows = np.empty((3 * count + 1, sets))
    own, between, at = rows[:count], rows[count : 2 * count + 1], rows[2 * count + 1 :]
    np.subtract(below, area * others, out=own)
    # How much of the class is above each bin, half of that at it, as a running sum of what is passed.
    between[0] = mine * (1 - area)
    np.negative(positive, out=between[1:])
    np.cumsum(between, axis=0, out=between)
    np.add(between[:-1], between[1:], out=at)
    at /= 2
    rows *= inverse
    return rows
