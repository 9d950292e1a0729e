"""Entropic tilting written down again, slowly: one feature, one target, SciPy's root finder, no levels."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax
from sidelight_engines.influence import InfluenceParameters, InfluenceResult, Rows, explain_influence

Array = np.ndarray[Any, Any]


def tilted_weights(x: Array, target: float) -> Array:
    """The weights softmax(k (x - target)) whose mean is the target, k by Brent's method."""
    away = np.asarray(x, np.float64) - target
    scale = np.abs(away).max()

    def mean(k: float) -> float:
        return float(softmax(k * away / scale) @ away)

    end = 1.0
    while mean(-end) > 0 or mean(end) < 0:
        end *= 2
    k = brentq(mean, -end, end, xtol=1e-15, rtol=8.9e-16, maxiter=1000)
    return np.asarray(softmax(k * away / scale))


def explain(
    x: Array, predictions: Array, labels: Array | None = None, groups: Array | None = None, **parameters: Any
) -> InfluenceResult:
    return explain_influence(
        Rows(np.asarray(x), "x"),
        Rows(np.asarray(predictions), "predictions"),
        InfluenceParameters(**parameters),
        labels=None if labels is None else Rows(np.asarray(labels), "labels"),
        groups=None if groups is None else Rows(np.asarray(groups), "groups"),
    )
