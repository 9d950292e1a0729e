"""Targets that no tilt reaches, constant features, ties and chunks."""

from __future__ import annotations

import numpy as np
import pytest
from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, MemoryLimitExceeded, Stopped
from sidelight_engines.influence import InfluenceParameters, Metric, Rows, UnattainableTarget, explain_influence
from tilted_by_hand import explain

X = np.array([0, 0, 0, 4, 9])[:, None]
Y = np.array([0.1, 0.2, 0.6, 0.9, 0.7])


def test_at_a_bound_the_limit_puts_all_weight_evenly_on_the_examples_there() -> None:
    # The 0.05 quantile is the least value, as for most pixels.
    result = explain(X, Y, taus=(-1.0,))

    assert result.targets[0, 0] == 0
    assert not result.attained[0, 0]
    assert result.attained_means[0, 0] == 0
    assert result.influences[0, 0, 0] == pytest.approx(0.3)
    assert result.effective_sample_sizes[0, 0] == pytest.approx(3)
    assert result.standard_errors[0, 0, 0] == pytest.approx(np.sqrt((0.04 + 0.01 + 0.09) / 9))
    assert result.warnings[0].code == "TARGETS_NOT_ATTAINED"


def test_the_limit_is_what_ever_closer_targets_tend_to() -> None:
    near, limit = explain(X, Y, targets=(1e-9,)), explain(X, Y, targets=(-3.0,))

    assert near.attained[0, 0]
    assert not limit.attained[0, 0]
    assert near.influences[0, 0, 0] == pytest.approx(limit.influences[0, 0, 0], abs=1e-8)


def test_a_single_example_at_a_bound_has_no_standard_error() -> None:
    result = explain(X, Y, targets=(20.0,), confidence_level=0.9)

    assert result.influences[0, 0, 0] == pytest.approx(0.7)
    assert result.effective_sample_sizes[0, 0] == pytest.approx(1)
    assert np.isnan(result.standard_errors[0, 0, 0])
    assert result.confidence_low is not None
    assert np.isnan(result.confidence_low[0, 0, 0])
    assert "FEW_EFFECTIVE_EXAMPLES" in {notice.code for notice in result.warnings}


def test_missing_leaves_what_can_not_be_reached_empty() -> None:
    result = explain(X, Y, taus=(-1.0, 0.5), unattainable=UnattainableTarget.MISSING)

    for numbers in (result.influences, result.standard_errors, result.attained_means, result.effective_sample_sizes):
        assert np.isnan(numbers[0, 0]).all()
        assert np.isfinite(numbers[0, 1]).all()


def test_error_names_the_feature_the_target_and_its_bounds() -> None:
    with pytest.raises(
        InvalidField, match=r"feature 1 \('age'\) can not have mean 20: its values lie from 0 to 9"
    ) as caught:
        explain(
            np.concatenate([X * 10, X], axis=1), Y, targets=(20.0,), feature_names=("pay", "age"),
            unattainable=UnattainableTarget.ERROR,
        )  # fmt: skip

    assert caught.value.field == "parameters.targets[0]"


def test_a_constant_feature_changes_nothing() -> None:
    result = explain(np.full((5, 2), 7), Y, taus=(-1.0, 0.0, 1.0))

    np.testing.assert_allclose(result.influences, Y.mean())
    assert (result.slopes == 0).all()
    assert result.attained.all()
    assert (result.targets == 7).all()


def test_a_constant_feature_can_not_have_another_mean() -> None:
    constant = np.full((5, 1), 7)

    assert explain(constant, Y, targets=(7.0, 8.0)).attained.tolist() == [[True, False]]
    with pytest.raises(InvalidField, match="feature 0"):
        explain(constant, Y, targets=(8.0,), unattainable=UnattainableTarget.ERROR)


def test_a_quantile_on_the_other_side_of_the_mean_moves_nothing() -> None:
    # A pixel lit in one of a hundred images: its 0.95 quantile, 0, lies below its mean.
    rare = np.zeros((100, 1), np.uint8)
    rare[3] = 255
    y = np.linspace(0, 1, 100)

    result = explain(rare, y, taus=(1.0,))

    assert result.targets[0, 0] == result.feature_means[0]
    assert result.influences[0, 0, 0] == pytest.approx(0.5)
    assert "TARGETS_AT_MEAN" in {notice.code for notice in result.warnings}


def test_features_that_are_alike_get_the_same_numbers() -> None:
    random = np.random.default_rng(0)
    column = random.normal(size=(30, 1))

    result = explain(np.concatenate([column, column], axis=1), random.random((30, 2)))

    assert (result.influences[0] == result.influences[1]).all()


def test_a_subset_of_features_is_in_the_order_asked_for() -> None:
    random = np.random.default_rng(1)
    x, y = random.integers(0, 50, (60, 2, 3)).astype(np.uint8), random.random((60, 2))

    whole, some = explain(x, y), explain(x, y, features=(5, 0, 2))

    assert some.features.tolist() == [5, 0, 2]
    assert some.example_shape == (2, 3)
    np.testing.assert_allclose(some.influences, whole.influences[[5, 0, 2]], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_little_memory_gives_the_same_in_smaller_chunks(dtype: type) -> None:
    random = np.random.default_rng(2)
    x = random.integers(0, 30, (500, 20)).astype(dtype)
    if dtype is np.float64:
        x += random.random(x.shape)
    y, labels = random.dirichlet(np.ones(3), 500), random.integers(0, 3, 500)
    parameters = InfluenceParameters(metrics=(Metric.ACCURACY, Metric.AUC))

    results = [
        explain_influence(
            Rows(x, "x"), Rows(y, "predictions"), parameters, labels=Rows(labels, "labels"), memory_bytes=memory
        )
        for memory in (512 * 2**20, 60_000)
    ]

    np.testing.assert_allclose(results[0].influences, results[1].influences, rtol=1e-11)
    np.testing.assert_allclose(results[0].performances, results[1].performances, rtol=1e-11)


def test_a_value_off_the_grid_that_a_sample_showed_is_found_and_counted_exactly() -> None:
    random = np.random.default_rng(4)
    x = random.integers(0, 10, (4000, 2)).astype(np.float64)
    x[1234, 1] = 3.2718  # no row of the sample
    y = x[:, 1:]

    result = explain(x, y, taus=(0.0, 0.5))

    assert result.influences[1, 0, 0] == pytest.approx(x[:, 1].mean(), rel=1e-12)
    assert result.influences[1, 1, 0] == pytest.approx(result.targets[1, 1], rel=1e-10)


def test_work_stops_between_chunks_and_tells_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    x = np.random.default_rng(0).normal(size=(20, 5))
    control = Control(should_stop=lambda: len(told) >= 2, progress=lambda done, total: told.append((done, total)))

    with pytest.raises(Stopped):
        explain_influence(Rows(x, "x"), Rows(x[:, 0], "p"), InfluenceParameters(), control=control)

    assert told == [(1, 5), (2, 5)]


def test_a_result_that_would_be_too_large_is_refused_before_the_work() -> None:
    x = np.zeros((10, 5000), np.uint8)

    with pytest.raises(MemoryLimitExceeded, match="fewer features"):
        explain_influence(Rows(x, "x"), Rows(np.zeros(10), "p"), InfluenceParameters(), memory_bytes=100_000)
