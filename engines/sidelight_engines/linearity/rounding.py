"""What rounding alone may give.

Every forward pass rounds. So for a perfectly linear model the measured L is not 0 but of the size of

    c * eps * scale,    scale = max(sum_s |a_s| |M(v_s)|, |M(sum_s a_s v_s)|)

with eps the spacing of the floating-point type at 1.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.runtime.runtime import Array

_SPACING = {
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
    "float32": 2.0**-23,
    "float64": 2.0**-52,
}

NOISE_FACTOR = 16.0
AFFINE_FACTOR = 1024.0


def spacing(dtype: str) -> float:
    """The spacing of a floating-point type at 1 (eps); 0 for types that do not round."""
    return _SPACING.get(dtype, 0.0)


def norms(values: Array) -> Array:
    """Euclidean norms along the last axis, float64."""
    with np.errstate(over="ignore"):
        squares = np.einsum("...f,...f->...", values, values)
    if values.dtype == np.float32 and not np.all((squares > 1e-30) & (squares < 1e30)):
        # Squares of very large or small numbers leave the range of float32.
        squares = np.einsum("...f,...f->...", values, values, dtype=np.float64)
    return np.asarray(np.sqrt(squares, dtype=np.float64))
