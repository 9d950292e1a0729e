"""What the linearity measure gives back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sidelight_engines.linearity.parameters import LinearityParameters
from sidelight_engines.notice import Notice
from sidelight_engines.runtime.runtime import Array

__all__ = ["LayerLinearity", "LinearityResult", "Notice", "ZeroReason"]


class ZeroReason(Enum):
    """Why a linearity is given as 0."""

    NONE = "none"
    """None is, or the measured value is itself 0."""
    AFFINE = "affine"
    """The layer is affine by the structure of the graph; what was measured is rounding."""
    BELOW_NOISE_FLOOR = "below_noise_floor"
    """What was measured may be rounding alone."""


@dataclass(frozen=True)
class LayerLinearity:
    """The linearity at one layer. Every array is float64 of shape (instances,).

    Attributes:
        name: of the layer; for the output, of the layer that makes it, or else the output's own.
        is_output: whether this is the model's output.
        linearity: L, at least 0; below `noise_floor`, or for an affine layer as far as cancellation may take
            rounding, given as 0.
        normalized: L over the norm of the superposed outputs (PAIRWISE: over its mean); 0 where that is 0.
        noise_floor: what rounding alone may give.
        confidence_low: lower bounds of the confidence interval, at least 0; None unless asked for.
        confidence_high: upper bounds; None unless asked for.
        mean: the mean of `linearity` over instances.
        standard_deviation: of `linearity` over instances (n - 1); 0 for one instance.
        zero_reason: why values are 0, where they are.
        zero_count: how many of the values are 0 for that reason.
    """

    name: str
    is_output: bool
    linearity: Array
    normalized: Array
    noise_floor: Array
    confidence_low: Array | None
    confidence_high: Array | None
    mean: float
    standard_deviation: float
    zero_reason: ZeroReason
    zero_count: int


@dataclass(frozen=True)
class LinearityResult:
    """The linearity of a model around each instance.

    Attributes:
        layers: the output first, then the layers in the order asked for (for all: of evaluation).
        instance_count: how many instances were measured.
        next_word_offset: MERSENNE_TWISTER: `word_offset` for the call that goes on where this one ended, once
            all `total_instances` were drawn; 0 for COUNTER.
        forward_rows: rows that were sent through the model.
        warnings: what a reader should know.
        parameters: as they were used: output and model type resolved, default coefficients written out.
    """

    layers: tuple[LayerLinearity, ...]
    instance_count: int
    next_word_offset: int
    forward_rows: int
    warnings: tuple[Notice, ...]
    parameters: LinearityParameters
