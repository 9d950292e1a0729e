"""The intervals hold what they promise: the mean of L over draws, about as often as their level."""

from __future__ import annotations

import numpy as np
import pytest
from numpy_models import NumpyModel
from scipy import stats
from sidelight_engines.linearity import (
    Aggregation,
    GridSampling,
    LinearityParameters,
    RandomDraws,
    UniformRange,
    measure_linearity,
)
from sidelight_engines.linearity.intervals import confidence_interval

REPETITIONS = 400


@pytest.mark.parametrize("aggregation", Aggregation)
def test_intervals_cover_the_mean_over_draws(aggregation: Aggregation) -> None:
    weights = np.random.default_rng(0).normal(size=(8, 6))
    model = NumpyModel((8,), lambda x: np.maximum(x @ weights, 0) ** 1.5, dtype="float64")
    x = np.repeat(np.random.default_rng(1).random((1, 8)), REPETITIONS, axis=0)
    parameters = LinearityParameters(
        GridSampling(UniformRange(0, 1), epsilon=0.3),
        samples=25,
        aggregation=aggregation,
        draws=RandomDraws(5),
        confidence_level=0.9,
    )
    # Each row of the batch is the same instance with draws of its own.
    layer = measure_linearity(model.graph, model.runtime, x, parameters).layers[0]
    assert layer.confidence_low is not None
    assert layer.confidence_high is not None
    truth = layer.linearity.mean()
    covered = np.mean((layer.confidence_low <= truth) & (truth <= layer.confidence_high))
    # The jackknife is a little wide, Student's interval a little narrow for skewed L.
    assert 0.83 < covered < 0.97
    assert np.median(layer.confidence_high - layer.confidence_low) < 4 * layer.linearity.std()


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_the_pairwise_interval_is_that_of_scipy(level: float) -> None:
    values = np.random.default_rng(0).gamma(2, size=(3, 12)) + 5
    low, high = confidence_interval(values.mean(axis=1), values, Aggregation.PAIRWISE, level)
    expected = stats.t.interval(level, 11, loc=values.mean(axis=1), scale=stats.sem(values, axis=1))
    np.testing.assert_allclose([low, high], expected)


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(0).gamma(2, size=(3, 12)) + 5
    without = (values.sum(axis=1, keepdims=True) - values) / 11
    found = confidence_interval(values.mean(axis=1), without, Aggregation.GLOBAL, 0.95)
    expected = confidence_interval(values.mean(axis=1), values, Aggregation.PAIRWISE, 0.95)
    np.testing.assert_allclose(found, expected)


def test_an_affine_layer_has_an_interval_of_0() -> None:
    model = NumpyModel((3,), lambda x: 2 * x + 1, affine=("y",))
    parameters = LinearityParameters(GridSampling(UniformRange(0, 1)), confidence_level=0.9)
    layer = measure_linearity(model.graph, model.runtime, np.ones((2, 3), np.float32), parameters).layers[0]
    assert layer.confidence_low is not None
    assert layer.confidence_high is not None
    assert not layer.confidence_low.any()
    assert not layer.confidence_high.any()
