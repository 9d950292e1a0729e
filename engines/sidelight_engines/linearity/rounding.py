"""What rounding alone may give.

Every forward pass rounds, so for a perfectly linear model the measured L is not 0 but about

    c * eps * scale,    scale = max(sum_s |a_s| * |M(v_S)|, |sum_s a_s M(v_s)|, |M(sum_s a_s v_s)|)

with the last of S samples, the farthest of neighbours, standing for all, and eps the spacing of the floating-point type
at 1 (2^-23 for float32), the wider of the input's and the layer's. On a grid, with coefficients of a mean, the
superposition lies amid the samples, and |M(sum_s a_s v_s)| stands for theirs, too. The c of a model can not be known,
because what was rounded within a layer may have cancelled before its output; so it was measured, as
max L / (eps * scale) over instances, both aggregations and 2 to 150 samples:

| What | c |
|---|---|
| random affine layers of 10 to 256 units, 1 to 4,096 inputs, float32 and float64 | 2 to 14 |
| the same, 1 unit, whose output may come near 0 | to 130 |
| the same, weights that sum to 0 or a bias that cancels the rest | to 5,000 |
| chains of 5, 20 and 60 random affine layers of 128 units | 6, 12, 46 |
| chains of 10 and 50 random ReLU layers, samples a rounding apart | 5, 19 |
| a trained network of 2 convolutions and 2 dense layers, samples 10^-6 apart, each of its layers | to 1.3 |
| log-probabilities of random logits, 2 to 1,000 classes, largest logit 0.02 to 300 | to 10 |

`NOISE_FACTOR` covers all but the cancelling ones, and those of 60 layers. An L below it says nothing, and is
given as 0; in the default neighbourhood, the mean L of the least non-linear layer of that trained network
was 170 times larger. Cancelling layers, where rounding may exceed it, matter where the right answer is
known to be 0: for a layer that is affine by the structure of the graph L is given as 0 below
`AFFINE_FACTOR`, which covers them too. Above that, rounding is no explanation and the measured L is given.

A scale other than the numbers themselves adds its own share; see `LogProbability` and
`ExactLogProbability`.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.runtime.runtime import Array

NOISE_FACTOR = 16.0
AFFINE_FACTOR = 8192.0

_SHORT = 512

_SPACING = {
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
    "float32": 2.0**-23,
    "float64": 2.0**-52,
}


def spacing(dtype: str) -> float:
    """The spacing of a floating-point type at 1 (eps); 0 for types that do not round."""
    return _SPACING.get(dtype, 0.0)


def norms(values: Array) -> Array:
    """Euclidean norms along the last axis, float64; NaN or infinity where a value is."""
    # One sum over many float32 numbers would lose the last digits, so it is made of short ones.
    cut = values.shape[-1] // _SHORT * _SHORT
    pieces, rest = values[..., :cut].reshape(*values.shape[:-1], cut // _SHORT, _SHORT), values[..., cut:]
    with np.errstate(over="ignore"):
        squares = _squares(pieces).sum(axis=-1, dtype=np.float64)
        squares += _squares(rest)
    if values.dtype == np.float32 and not np.all((squares > 1e-30) & (squares < 1e30)):
        # Squares of very large or small numbers leave the range of float32.
        squares = np.einsum("...f,...f->...", values, values, dtype=np.float64)
    return np.asarray(np.sqrt(squares, dtype=np.float64))


def _squares(values: Array) -> Array:
    """The squares of the last axis summed up, by products of short vectors, which take less time than einsum."""
    return np.asarray((values[..., None, :] @ values[..., :, None])[..., 0, 0])
