"""Standard errors under tilts, from sums over levels.

Whatever is measured under weights w, its estimate changes with the weight of example i by some phi_i, the sum of
w_i phi_i being 0: y_i - mean(y) for a mean. The tilt's k, which keeps the feature's mean at its target, changes too.
So by the delta method the variance, the target being held fixed, is

    sum_i w_i^2 (phi_i - beta d_i)^2,  d_i = u_i - m,  beta = sum_i w_i d_i phi_i / sum_i w_i d_i^2,

multiplied out so that phi is needed by three sums alone: of w d phi, of w^2 phi^2 and of w^2 d phi.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sidelight_engines.influence.levels import Levels
from sidelight_engines.runtime.runtime import Array

_FEWEST_EXAMPLES = 2.0 * (1 - 1e-9)
"""A standard error can not be estimated from fewer."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted sums of the same numbers y over examples, each (features, aims, ...).

    Attributes:
        plain: of w y.
        pulled: of w d y.
        square: of w^2 y.
        square_pulled: of w^2 d y.
    """

    plain: Array
    pulled: Array
    square: Array
    square_pulled: Array

    def at(self, columns: int | slice) -> Sums:
        """Those of some columns, the last axis."""
        return Sums(
            self.plain[..., columns], self.pulled[..., columns], self.square[..., columns],
            self.square_pulled[..., columns],
        )  # fmt: skip

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.plain + other.plain, self.pulled + other.pulled, self.square + other.square,
            self.square_pulled + other.square_pulled,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tilts:
    """Consecutive features under their tilts.

    Attributes:
        levels: of these features and others.
        first: the position in `levels` of the first of them.
        weights: (features, aims, levels), w.
        away: like `weights`, d.
    """

    levels: Levels
    first: int
    weights: Array
    away: Array

    def of_examples(self, numbers: Array) -> Array:
        """`weights` or `away` of each example, (examples, features * aims)."""
        found = [self.levels.example_weights(feature, part) for feature, part in enumerate(numbers, self.first)]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


@dataclass(frozen=True, eq=False)
class Moments:
    """What standard errors need of some tilts.

    Attributes:
        columns: sums of columns, (features, aims, columns); in `columns.square` those of squares follow.
        ones: sums of ones, each (features, aims).
        variance: (features, aims), the sum of w d^2; 0 at a bound, where no k is solved for.
        square_variance: (features, aims), the sum of w^2 d^2.
    """

    columns: Sums
    ones: Sums
    variance: Array
    square_variance: Array

    @classmethod
    def gather(cls, tilts: Tilts, counts: Array, sums: Array, linear: int, at_bound: Array) -> Moments:
        """Adds up over levels.

        Args:
            tilts: of some features.
            counts: (features, levels), of these features.
            sums: (features or 1, levels, columns).
            linear: how many of the columns are wanted in all sums; those come first.
            at_bound: (features, aims) bool, where the weights are a limit.
        """
        weights, away = tilts.weights, tilts.away
        pulled, square = weights * away, weights * weights
        square_pulled = square * away
        columns = sums[:, :, :linear]
        # Where all examples that weigh are at a bound, d is rounding, and so would be its square.
        variance = np.where(at_bound, 0.0, over_levels(pulled * away, counts))
        return cls(
            Sums(weights @ columns, pulled @ columns, square @ sums, square_pulled @ columns),
            # Weights add up to 1.
            Sums(np.ones_like(variance), *(over_levels(part, counts) for part in (pulled, square, square_pulled))),
            variance,
            over_levels(square_pulled * away, counts),
        )

    def after(self, columns: int) -> Moments:
        """The same without the first columns."""
        return replace(self, columns=self.columns.at(slice(columns, None)))

    @property
    def effective(self) -> Array:
        """The effective sample size, (features, aims)."""
        return effective_size(self.ones)

    def mean_errors(self, values: Sums, squares: Array, share: Sums, centre: float = 0.0) -> Array:
        """Standard errors of the mean of y over those examples that g is 1 for: phi = g (y - mean) / sum(w g).

        Args:
            values: of g y, (features, aims, ...).
            squares: sums of w^2 g (y - c)^2, like them.
            share: of g, which broadcasts.
            centre: c, near the mean, so that little is lost to rounding.
        """
        mean = divide(values.plain, share.plain)
        beyond = mean - centre
        second = squares - 2 * beyond * (values.square - centre * share.square) + beyond**2 * share.square
        return self.errors(
            divide(second, share.plain**2),
            divide(values.pulled - mean * share.pulled, share.plain),
            divide(values.square_pulled - mean * share.square_pulled, share.plain),
            effective_size(share),
        )

    def errors(self, second: Array, pulled: Array, square_pulled: Array, effective: Array) -> Array:
        """Standard errors from sums of phi.

        Args:
            second: of w^2 phi^2, (features, aims, ...).
            pulled: of w d phi, like it.
            square_pulled: of w^2 d phi, like it.
            effective: effective sample sizes, which broadcast; NaN comes where they are below 2.
        """
        more = (...,) + (None,) * (second.ndim - self.variance.ndim)
        beta = divide(pulled, self.variance[more], 0.0)
        total = second - 2 * beta * square_pulled + beta**2 * self.square_variance[more]
        return np.where(effective >= _FEWEST_EXAMPLES, np.sqrt(np.maximum(total, 0.0)), np.nan)


def effective_size(share: Sums) -> Array:
    """How many examples of a subset carry its weight: (sum of w)^2 / (sum of w^2); NaN where it has none."""
    return divide(share.plain**2, share.square)


def divide(upper: Array, lower: Array, otherwise: float = np.nan) -> Array:
    """A quotient; `otherwise` where the divisor is not above 0."""
    upper, lower = np.broadcast_arrays(upper, lower)
    return np.asarray(np.divide(upper, lower, out=np.full(upper.shape, otherwise), where=lower > 0))


def over_levels(numbers: Array, counts: Array) -> Array:
    """Sums of (features, aims, levels) times (features, levels) over levels, (features, aims).

    BLAS would start threads for each of these short products, which on a busy machine wait for one another.
    """
    return np.asarray(np.einsum("fal,fl->fa", numbers, counts))
