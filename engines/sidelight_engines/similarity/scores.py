"""Scores made of inner products and norms.

With g the gradient of an instance, h that of a reference, e the norm offset (0 by default, 1e-7 in alibi 0.9.4,
`alibi/explainers/similarity/metrics.py`):

    GRAD_DOT       g.h
    GRAD_COS       g.h / (|g| |h| + e)
    GRAD_ASYM_DOT  g.h / (|h|^2 + e)
    RELATIF        g.h / (|h| + e)          Barshan, Brunet, Dziugaite 2020, arXiv:2003.11630, with H = 1

Where a denominator is 0, a gradient is zero and so is the score.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.parameters import SimilarityFunction


def denominators(function: SimilarityFunction, own: Array, others: Array, offset: float) -> Array:
    """What inner products are divided by.

    Args:
        function: the score.
        own: |g|, of any shape.
        others: |h|, of a shape that goes with it.
        offset: e.

    Returns:
        float64, of the shape that both spread to.
    """
    if function is SimilarityFunction.GRAD_DOT:
        return np.ones(np.broadcast_shapes(np.shape(own), np.shape(others)))
    if function is SimilarityFunction.GRAD_COS:
        return np.asarray(own * others + offset)
    by_reference = np.square(others) if function is SimilarityFunction.GRAD_ASYM_DOT else others
    return np.asarray(np.broadcast_to(by_reference + offset, np.broadcast_shapes(np.shape(own), np.shape(others))))


def divide(products: Array, by: Array) -> Array:
    """Products / by, 0 where that is 0 / 0."""
    return np.divide(products, by, out=np.zeros(np.broadcast_shapes(products.shape, by.shape)), where=by > 0)
