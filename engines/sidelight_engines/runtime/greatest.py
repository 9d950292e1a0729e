"""The greatest value over positions, taken where the tensor is rather than from a copy of it.

A runtime reads a convolution's output fastest in its own layout, and what it does not hand out it need not put into
the layout of the file. But its max pooling may pass over NaN, so a sum is taken beside it, which shows what is not
finite: no sum of numbers of which one is NaN or infinite is finite.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.runtime.runtime import Array


def with_doubts(greatest: Array, sums: Array) -> Array:
    """The greatest values, with NaN where there may be a value that is not finite.

    Args:
        greatest: floating (rows, channels).
        sums: (rows,) or (rows, channels), over the same values, or a multiple of that.

    Returns:
        (rows, channels). Of finite values that add up to infinity it can not be told, so these are NaN too.
    """
    finite = np.isfinite(sums)
    if finite.all():
        return greatest
    marked: Array = np.where(
        finite if finite.ndim == 2 else finite[:, np.newaxis], greatest, greatest.dtype.type("nan")
    )
    return marked
