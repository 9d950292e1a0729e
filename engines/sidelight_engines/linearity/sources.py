"""Makes the sampler that a request asks for, checking ranges and data."""

from __future__ import annotations

import math

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField
from sidelight_engines.linearity.draws import CounterDraws, MersenneDraws, StepDraws
from sidelight_engines.linearity.neighbours import nearest_rows
from sidelight_engines.linearity.parameters import (
    DataRange,
    DrawGenerator,
    FeatureRange,
    GridSampling,
    PerFeatureRange,
    Rows,
    UniformRange,
)
from sidelight_engines.linearity.plan import Plan, check_finite
from sidelight_engines.linearity.result import Notice
from sidelight_engines.linearity.sampling import GridSampler, NeighbourSampler, Sampler
from sidelight_engines.runtime.runtime import Array

_GRID = "parameters.grid"
_RANGE = f"{_GRID}.feature_range"
_MOST_RESOLUTION = 1_000_000
_BLOCK_ROWS = 1024


def make_sampler(plan: Plan, control: Control, memory_bytes: int) -> tuple[Sampler, tuple[Notice, ...]]:
    """Makes the sampler of a request.

    Args:
        plan: the request.
        control: asked for a stop during long preparations.
        memory_bytes: about what preparations may take.

    Raises:
        InvalidField: a range or the data can not be used.
        Stopped: `control` asked for it.
    """
    sampling = plan.parameters.sampling
    single: np.dtype[np.floating] = np.dtype(np.float32)
    if plan.spec.dtype == "float64":
        single = np.dtype(np.float64)
    if isinstance(sampling, GridSampling):
        return _grid(plan, sampling, single, control)
    data = _flat_data(sampling.data, plan)
    samples = plan.parameters.samples
    if len(data) < samples:
        raise InvalidField(
            sampling.data.field, f"holds {len(data)} rows where {samples} neighbours are asked for", "give more rows"
        )
    _check_finite_blocks(data, sampling.data.field, control)
    rows = nearest_rows(plan.instances, data, samples, control, memory_bytes)
    notices: tuple[Notice, ...] = ()
    if plan.parameters.confidence_level is not None:
        notices = (
            Notice(
                "CONFIDENCE_OF_NEIGHBOURS",
                "nearest neighbours are not drawn at random: read the confidence interval as spread over neighbours",
            ),
        )
    mersenne = plan.parameters.draws.generator is DrawGenerator.MERSENNE_TWISTER
    return NeighbourSampler(data, rows, single, plan.parameters.draws.word_offset if mersenne else 0), notices


def _grid(
    plan: Plan, sampling: GridSampling, single: np.dtype[np.floating], control: Control
) -> tuple[Sampler, tuple[Notice, ...]]:
    if not 0 < sampling.epsilon <= 1:
        raise InvalidField(f"{_GRID}.epsilon", f"is {sampling.epsilon}", "give a share above 0, at most 1")
    if not 2 <= sampling.resolution <= _MOST_RESOLUTION:
        raise InvalidField(f"{_GRID}.resolution", f"is {sampling.resolution}", f"give 2 to {_MOST_RESOLUTION}")
    minimum, maximum = _bounds(sampling.feature_range, plan, control)
    features = plan.instances.shape[1]
    notices: tuple[Notice, ...] = ()
    empty = int(np.count_nonzero(np.broadcast_to(minimum == maximum, (features,))))
    if empty:
        notices = (
            Notice(
                "FEATURE_RANGE_EMPTY",
                f"{empty} of {features} features have a range of width 0 and were not moved",
            ),
        )
    # In the type that the range came in, as in the reference method.
    widths = np.abs(maximum - minimum) / float(sampling.resolution)
    draws = plan.parameters.draws
    made: StepDraws
    if draws.generator is DrawGenerator.MERSENNE_TWISTER:
        made = MersenneDraws(
            draws.seed,
            draws.word_offset,
            draws.first_instance,
            draws.total_instances,
            plan.parameters.samples,
            features,
            sampling.steps,
            control,
        )
        dtype: np.dtype[np.floating] = np.dtype(np.float64)
    else:
        made = CounterDraws(draws.seed, draws.first_instance, features, sampling.steps)
        dtype = single
    bounds = (minimum, maximum) if sampling.clip else None
    return GridSampler(plan.instances, made, np.asarray(widths), bounds, dtype), notices


def _bounds(feature_range: FeatureRange, plan: Plan, control: Control) -> tuple[Array, Array]:
    """The least and greatest value, of all features () or of each (features,); float32 or float64."""
    if isinstance(feature_range, UniformRange):
        minimum, maximum = feature_range.minimum, feature_range.maximum
        path = f"{_RANGE}.uniform"
        for name, value in (("minimum", minimum), ("maximum", maximum)):
            if not math.isfinite(value):
                raise InvalidField(f"{path}.{name}", f"is {value}", "give a finite number")
        if maximum <= minimum:
            raise InvalidField(f"{path}.maximum", f"is {maximum}, not above the minimum {minimum}", "give more")
        return np.asarray(minimum, np.float64), np.asarray(maximum, np.float64)
    if isinstance(feature_range, PerFeatureRange):
        path = f"{_RANGE}.per_feature"
        least = _one_instance(feature_range.minimum, f"{path}.minimum", plan)
        greatest = _one_instance(feature_range.maximum, f"{path}.maximum", plan)
        below = np.flatnonzero(greatest < least)
        if below.size:
            raise InvalidField(
                f"{path}.maximum",
                f"is below the minimum for {below.size} features, first for feature {below[0]} (counted flat)",
                "give at least the minimum",
            )
        return least, greatest
    return _data_bounds(feature_range, plan, control)


def _one_instance(values: Array, field: str, plan: Plan) -> Array:
    if values.dtype.kind not in "fiu":
        raise InvalidField(field, f"is {values.dtype}", "give numbers")
    if values.shape != plan.instance_shape:
        raise InvalidField(
            field, f"has shape {values.shape}, but one instance is shaped {plan.instance_shape}", "give that shape"
        )
    check_finite(values, field, "the values")
    return _as_float(values.reshape(-1))


def _data_bounds(feature_range: DataRange, plan: Plan, control: Control) -> tuple[Array, Array]:
    data = _flat_data(feature_range.data, plan)
    minimum = np.array(data[0])
    maximum = np.array(data[0])
    for first in range(0, len(data), _BLOCK_ROWS):
        control.checkpoint()
        block = data[first : first + _BLOCK_ROWS]
        np.minimum(minimum, block.min(axis=0), out=minimum)
        np.maximum(maximum, block.max(axis=0), out=maximum)
    # Minimum and maximum pass NaN on.
    for bound in (minimum, maximum):
        check_finite(bound, feature_range.data.field, "the rows")
    return _as_float(minimum), _as_float(maximum)


def _as_float(values: Array) -> Array:
    return values if values.dtype in (np.dtype(np.float32), np.dtype(np.float64)) else values.astype(np.float64)


def _flat_data(rows: Rows, plan: Plan) -> Array:
    values = rows.values
    if values.dtype.kind not in "fiu":
        raise InvalidField(rows.field, f"is {values.dtype}", "give numbers")
    if values.shape[1:] != plan.instance_shape or values.ndim == 0:
        raise InvalidField(
            rows.field,
            f"has rows of shape {values.shape[1:]}, but one instance is shaped {plan.instance_shape}",
            "give rows of that shape",
        )
    if len(values) == 0:
        raise InvalidField(rows.field, "holds no row", "give at least one")
    return values.reshape(len(values), -1)


def _check_finite_blocks(data: Array, field: str, control: Control) -> None:
    for first in range(0, len(data), _BLOCK_ROWS):
        control.checkpoint()
        if not np.isfinite(data[first : first + _BLOCK_ROWS]).all():
            raise InvalidField(
                field, f"holds NaN or infinity in rows {first} to {first + _BLOCK_ROWS - 1}", "give finite numbers"
            )
