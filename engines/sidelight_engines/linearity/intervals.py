"""Confidence intervals of L over the draw of samples.

PAIRWISE: L is a mean of S independent numbers, so L +- t * sd / sqrt(S), t Student's with S - 1 degrees of
freedom. GLOBAL: L is a function of a mean, and the jackknife estimates its variance from the values L_(j)
without each sample: (S - 1)/S * sum_j (L_(j) - mean)^2 (Efron and Stein, The jackknife estimate of
variance, 1981, eq. 1.4); again with t of S - 1 degrees. Both tell how far L may be from its mean over draws
of as many samples, and not from its value for infinitely many.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.linearity.parameters import Aggregation
from sidelight_engines.runtime.runtime import Array


def confidence_interval(
    linearity: Array, repeats: Array, aggregation: Aggregation, level: float
) -> tuple[Array, Array]:
    """The bounds of the interval, not below 0.

    Args:
        linearity: L, (instances,).
        repeats: PAIRWISE: L of each sample; GLOBAL: without each sample. (instances, samples).
        aggregation: which of them.
        level: such as 0.95.

    Returns:
        Lower and upper bounds, (instances,).
    """
    # SciPy takes a while to import, and few requests ask for intervals.
    from scipy.special import stdtrit

    samples = repeats.shape[1]
    squares = ((repeats - repeats.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    if aggregation is Aggregation.PAIRWISE:
        error = np.sqrt(squares / (samples - 1) / samples)
    else:
        error = np.sqrt(squares * (samples - 1) / samples)
    half = float(stdtrit(samples - 1, (1 + level) / 2)) * error
    return np.maximum(linearity - half, 0.0), linearity + half
