"""The greatest value over positions, taken where the tensor is rather than from a copy of it.

A runtime reads a convolution's output fastest in its own layout, and what it does not hand out it need not put into
the layout of the file. But its max pooling may pass over NaN, so it has to show that all values are finite: by a sum,
since no sum of numbers of which one is NaN or infinite is finite, or by a bound (`bounds`).
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.runtime.runtime import Array


def with_doubts(greatest: Array, proofs: Array) -> Array:
    """The greatest values, with NaN where there may be a value that is not finite.

    Args:
        greatest: floating (rows, channels).
        proofs: (rows,) or (rows, channels), finite only if all values of the row or channel are.

    Returns:
        (rows, channels). Values that are finite without proof are NaN too.
    """
    finite = np.isfinite(proofs)
    if finite.all():
        return greatest
    marked: Array = np.where(
        finite if finite.ndim == 2 else finite[:, np.newaxis], greatest, greatest.dtype.type("nan")
    )
    return marked
