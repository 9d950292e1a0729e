"""Tilts and what is measured under them are those of the definition, worked out by other means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from tilted_by_hand import explain, tilted_weights

Array = np.ndarray[Any, Any]
TAUS = (-1.0, -0.5, 0.3, 1.0)


def _features(kind: str, random: np.random.Generator) -> Array:
    count = 60
    if kind == "pixels":
        return np.where(random.random((count, 12)) < 0.6, 0, random.integers(0, 256, (count, 12))).astype(np.uint8)
    if kind == "scaled pixels":
        return (_features("pixels", random) / 255).astype(np.float32)
    if kind == "few values":
        return random.choice([-1.5, 0.0, 0.1, 7.0], (count, 4))
    if kind == "integers far apart":
        return random.choice([-40_000, 3, 1_000_000], (count, 3)).astype(np.int64)
    return random.normal(50, 3, (count, 5)) * np.array([1e-6, 1, 1e3, 1, 1])


@pytest.mark.parametrize("kind", ["pixels", "scaled pixels", "few values", "integers far apart", "real"])
def test_influences_agree_with_a_root_finder_to_eight_digits(kind: str) -> None:
    random = np.random.default_rng(3)
    x = _features(kind, random)
    predictions = random.dirichlet(np.ones(3), len(x))

    result = explain(x, predictions, taus=TAUS)

    solved = 0
    for feature in range(x.shape[1]):
        column = x[:, feature].astype(np.float64)
        low, high = np.quantile(column, [0.05, 0.95])
        for place, tau in enumerate(TAUS):
            mean = column.mean()
            target = mean + tau * (max(mean - low, 0) if tau < 0 else max(high - mean, 0))
            assert result.targets[feature, place] == pytest.approx(target, rel=1e-12)
            if column.min() < target < column.max():
                weights = tilted_weights(column, target)
                assert result.attained[feature, place]
                scale = 1.0 if "pixels" in kind else max(1.0, float(np.ptp(column)))
                assert abs(result.attained_means[feature, place] - target) <= 1e-10 * scale
                np.testing.assert_allclose(result.influences[feature, place], weights @ predictions, atol=1e-8)
                assert result.effective_sample_sizes[feature, place] == pytest.approx(1 / (weights**2).sum(), rel=1e-6)
                solved += 1
    assert solved >= 2 * x.shape[1]


def test_no_other_weights_with_the_same_mean_are_closer_to_even() -> None:
    # The primal problem: least sum w ln w with sum w = 1 and sum w x = t, by sequential quadratic programming.
    x = np.array([0.0, 1.0, 2.0, 5.0, 7.0])
    y = np.array([0.3, 0.1, 0.9, 0.2, 0.6])
    target = 4.2
    found = minimize(
        lambda w: float((w * np.log(w)).sum()),
        np.full(5, 0.2),
        jac=lambda w: np.log(w) + 1,
        bounds=[(1e-12, 1)] * 5,
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(5)},
            {"type": "eq", "fun": lambda w: w @ x - target, "jac": lambda w: x},
        ],
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 1000},
    )

    result = explain(x[:, None], y, targets=(target,))

    assert result.influences[0, 0, 0] == pytest.approx(float(found.x @ y), abs=1e-7)


def test_a_yes_no_feature_mixes_the_means_of_its_two_halves() -> None:
    x = np.array([0, 0, 0, 1, 1])[:, None]
    y = np.array([0.1, 0.2, 0.3, 0.6, 1.0])

    result = explain(x, y, targets=(0.25, 0.7))

    np.testing.assert_allclose(result.influences[0, :, 0], [0.75 * 0.2 + 0.25 * 0.8, 0.3 * 0.2 + 0.7 * 0.8])
    # Weights (1 - t)/3 and t/2; residuals y - mean of the half; sum of w^2 r^2
    expected = [np.sqrt(((1 - t) / 3) ** 2 * 0.02 + (t / 2) ** 2 * 0.08) for t in (0.25, 0.7)]
    np.testing.assert_allclose(result.standard_errors[0, :, 0], expected)
    np.testing.assert_allclose(
        result.effective_sample_sizes[0], [1 / (0.75**2 / 3 + 0.25**2 / 2), 1 / (0.09 / 3 + 0.49 / 2)]
    )
    assert result.slopes[0, 0] == pytest.approx(0.8 - 0.2)


def test_tau_zero_is_the_plain_mean_of_the_data() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 3)), random.random((40, 2))

    result = explain(x, y, taus=(0.0,))

    np.testing.assert_allclose(result.influences[:, 0], np.broadcast_to(y.mean(axis=0), (3, 2)), rtol=1e-14)
    np.testing.assert_allclose(result.effective_sample_sizes, 40, rtol=1e-12)
    assert result.attained.all()


@pytest.mark.parametrize("kind", ["pixels", "real"])
def test_slopes_at_the_data_are_those_of_least_squares(kind: str) -> None:
    random = np.random.default_rng(5)
    x = _features(kind, random)
    y = random.random((len(x), 2))

    result = explain(x, y)

    for feature in range(x.shape[1]):
        column = x[:, feature].astype(np.float64)
        for label in range(2):
            assert result.slopes[feature, label] == pytest.approx(np.polyfit(column, y[:, label], 1)[0], rel=1e-7)


def test_a_slope_is_the_derivative_of_the_influence() -> None:
    random = np.random.default_rng(6)
    x, y = random.normal(size=(50, 1)), random.random(50)
    step = 1e-5
    mean = float(x.mean())

    result = explain(x, y, targets=(mean - step, mean + step))

    difference = result.influences[0, 1, 0] - result.influences[0, 0, 0]
    assert result.slopes[0, 0] == pytest.approx(difference / (2 * step), rel=1e-6)


def test_standard_errors_follow_the_delta_method_example_by_example() -> None:
    random = np.random.default_rng(7)
    x = random.integers(0, 9, (80, 2)).astype(np.float64)
    y = random.random((80, 2)) + 5

    result = explain(x, y, taus=(0.6,))

    for feature in range(2):
        column = x[:, feature]
        weights = tilted_weights(column, result.targets[feature, 0])
        away = column - weights @ column
        for label in range(2):
            mean = weights @ y[:, label]
            beta = (weights * away) @ y[:, label] / ((weights * away) @ away)
            residual = y[:, label] - mean - beta * away
            expected = np.sqrt((weights**2 * residual**2).sum())
            assert result.standard_errors[feature, 0, label] == pytest.approx(expected, rel=1e-8)


def test_standard_errors_are_close_to_the_spread_of_solved_bootstraps() -> None:
    random = np.random.default_rng(8)
    x = random.gamma(2.0, size=400)
    y = 1 / (1 + np.exp(-x + random.normal(size=400)))
    target = 3.0

    result = explain(x[:, None], y, targets=(target,))

    samples = [random.integers(0, 400, 400) for _ in range(300)]
    spread = np.std([tilted_weights(x[s], target) @ y[s] for s in samples], ddof=1)
    assert result.standard_errors[0, 0, 0] == pytest.approx(spread, rel=0.2)


def test_confidence_intervals_take_students_t_of_the_effective_examples() -> None:
    from scipy.stats import t as student

    random = np.random.default_rng(9)
    x, y = random.normal(size=(30, 2)), random.random((30, 1))

    result = explain(x, y, confidence_level=0.9)

    half = student.ppf(0.95, result.effective_sample_sizes - 1)[..., None] * result.standard_errors
    assert result.confidence_low is not None
    assert result.confidence_high is not None
    np.testing.assert_allclose(result.confidence_low, result.influences - half)
    np.testing.assert_allclose(result.confidence_high, result.influences + half)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-1000, 1000), min_size=2, max_size=30),
    scale=st.sampled_from([1e-9, 0.37, 1.0, 1e8]),
    tau=st.floats(-1, 1),
)
def test_any_reachable_mean_is_reached_and_weights_sum_to_one(values: list[int], scale: float, tau: float) -> None:
    x = np.array(values, np.float64)[:, None] * scale
    # The mean of ones is the sum of the weights; that of x is the mean reached.
    y = np.concatenate([np.ones_like(x), x / scale], axis=1)

    result = explain(x, y, taus=(tau,))

    assert result.influences[0, 0, 0] == pytest.approx(1, abs=1e-12)
    assert result.influences[0, 0, 1] == pytest.approx(result.attained_means[0, 0] / scale, abs=1e-8)
    if x.min() < result.targets[0, 0] < x.max():
        assert result.attained[0, 0]
        assert abs(result.attained_means[0, 0] - result.targets[0, 0]) <= 1e-10 * max(float(np.ptp(x)), 1e-300)


@pytest.mark.parametrize("share", [1e-12, 1e-6, 0.5, 1 - 1e-6, 1 - 1e-12])
def test_targets_very_close_to_a_bound_are_reached(share: float) -> None:
    x = np.array([0.0, 1e-4, 0.3, 0.9999, 1.0, 1.0])[:, None]

    result = explain(x, np.arange(6.0), targets=(share,))

    assert result.attained[0, 0]
    assert result.attained_means[0, 0] == pytest.approx(share, abs=1e-12)


def test_a_column_of_integers_and_the_same_as_reals_give_the_same() -> None:
    random = np.random.default_rng(10)
    integers = random.integers(0, 200, (300, 4))
    y = random.random((300, 3))
    nudge = random.random((300, 1)) * 50  # a real-valued column, so that no grid holds for all

    by_grid = explain(integers.astype(np.uint8), y, taus=(-0.7, 0.7))
    by_column = explain(np.concatenate([integers, nudge], axis=1), y, taus=(-0.7, 0.7))

    np.testing.assert_allclose(by_grid.influences, by_column.influences[:4], rtol=1e-10)
    np.testing.assert_allclose(by_grid.standard_errors, by_column.standard_errors[:4], rtol=1e-8)
    np.testing.assert_allclose(by_grid.targets, by_column.targets[:4], rtol=1e-12)
    np.testing.assert_allclose(by_grid.slopes, by_column.slopes[:4], rtol=1e-9)
