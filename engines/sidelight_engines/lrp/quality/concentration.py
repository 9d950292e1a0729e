"""Figures that every explanation carries: how concentrated it is."""

from __future__ import annotations

import numpy as np

from sidelight_engines.runtime.runtime import Array


def gini(magnitudes: Array) -> Array:
    """The Gini index along the last axis: 0 if all are equal, near 1 if one holds all (Chalasani et al. 2020).

    Args:
        magnitudes: (..., k), at least 0. Where all are 0 the index is 0.
    """
    ordered = np.sort(magnitudes, axis=-1).astype(np.float64)
    k = ordered.shape[-1]
    total = ordered.sum(axis=-1)
    ranks = np.arange(1, k + 1, dtype=np.float64)
    # Not by a matrix product: that would wake threads of its own, which spin and contend with TensorFlow's.
    weighted = np.einsum("...k,k->...", ordered, 2 * ranks - k - 1)
    index: Array = np.divide(weighted, k * total, out=np.zeros_like(total), where=total > 0)
    return index


def entropy(magnitudes: Array) -> Array:
    """The entropy of the shares along the last axis, in nats; 0 where all are 0 (Bhatt et al. 2020).

    Args:
        magnitudes: (..., k), at least 0.
    """
    wide = magnitudes.astype(np.float64)
    total = wide.sum(axis=-1)
    # sum_i -p_i log p_i with p_i = m_i / total; a logarithm of 0 never counts, as it is taken 0 times.
    # They are taken in the magnitudes' own type, in float32 in a tenth of the time.
    logarithms = np.log(np.maximum(magnitudes, np.finfo(magnitudes.dtype).tiny))
    weighted = np.einsum("...k,...k->...", wide, logarithms)
    some = total > 0
    whole = np.where(some, total, 1.0)
    found: Array = np.where(some, np.log(whole) - weighted / whole, 0.0)
    return np.maximum(found, 0.0)
