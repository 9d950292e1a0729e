"""Standard errors of metrics are the infinitesimal jackknife's: each example's weight moved, each tilt solved again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from sidelight_engines.influence import Metric, UnattainableTarget
from tilted_by_hand import explain

Array = np.ndarray[Any, Any]
Score = Callable[[Array], float]

COUNT = 60
STEP = 1e-4
TAUS = (-0.5, 0.7)
OF_CLASSES = tuple(metric for metric in Metric if metric.of_classes)


def _weights(x: Array, base: Array, target: float) -> Array:
    """Weights in proportion to base exp(k x) whose mean is the target."""
    away = (x - target) / np.ptp(x)

    def tilted(k: float) -> Array:
        weights = base * np.exp(k * away)
        return np.asarray(weights / weights.sum())

    k = brentq(lambda k: float(tilted(k) @ away), -60, 60, xtol=1e-15, rtol=8.9e-16, maxiter=1000)
    return tilted(k)


def _jackknife(x: Array, target: float, scores: list[Score]) -> Array:
    """For each score the root of the sum over examples of (d score / d base weight)^2, by central differences."""
    changes = []
    for example in range(len(x)):
        at = []
        for step in (STEP, -STEP):
            base = np.ones(len(x))
            base[example] += step
            weights = _weights(x, base, target)
            at.append(np.array([score(weights) for score in scores]))
        changes.append((at[0] - at[1]) / (2 * STEP))
    return np.asarray(np.sqrt(np.square(changes).sum(axis=0)))


def _pairs(positive: Array, scores: Array, w: Array) -> float:
    """AUC by its definition."""
    above = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    both = np.outer(w * positive, w * ~positive)
    return float((both * above).sum() / both.sum())


def _rate(metric: Metric, told: Array, y: Array, classes: list[int]) -> Score:
    def score(w: Array) -> float:
        rates = []
        for label in classes:
            both = w @ ((told == label) & (y == label))
            predicted, actual = w @ (told == label), w @ (y == label)
            among = {Metric.PRECISION: predicted, Metric.RECALL: actual, Metric.F1: (predicted + actual) / 2}[metric]
            rates.append(both / among if among > 0 else 0.0)
        return float(np.mean(rates))

    return score


def _score(metric: Metric, y: Array, p: Array) -> Score:
    """A metric of any weights."""
    if metric in (Metric.SQUARED_ERROR, Metric.ABSOLUTE_ERROR):
        distance = np.abs(p - y).reshape(len(p), -1)
        numbers = (distance**2 if metric is Metric.SQUARED_ERROR else distance).mean(axis=1)
        return lambda w: float(w @ numbers / w.sum())
    single = p.ndim == 1
    rows = np.stack([1 - p, p], axis=1) if single else p
    told = (p >= 0.5).astype(int) if single else p.argmax(axis=1)
    classes = [1] if rows.shape[1] == 2 else np.union1d(told, y).tolist()
    if metric is Metric.AUC:
        paired = [label for label in classes if 0 < (y == label).sum() < len(y)]
        return lambda w: float(np.mean([_pairs(y == label, rows[:, label], w) for label in paired]))
    if metric in (Metric.PRECISION, Metric.RECALL, Metric.F1):
        return _rate(metric, told, y, classes)
    if metric is Metric.ACCURACY:
        numbers = (told == y).astype(float)
    elif metric is Metric.LOG_LOSS:
        numbers = -np.log(rows[np.arange(len(y)), y])
    else:
        numbers = (p - y) ** 2 if single else ((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1)
    return lambda w: float(w @ numbers / w.sum())


def _within(group: Array, score: Score) -> Score:
    return lambda w: score(w[group])


def _data(kind: str, width: int) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(width)
    x = random.normal(size=COUNT)
    if kind == "levels":  # the way of pixels
        x = np.clip(np.rint(x * 2 + 4), 0, 9).astype(np.uint8)
    if width == 1:
        predictions = random.integers(1, 20, COUNT) / 20  # scores that tie
        labels = (predictions + random.normal(0, 0.4, COUNT) + 0.1 * x > 0.5).astype(int)
        return x, predictions, labels
    predictions = random.dirichlet(np.ones(width), COUNT)
    return x, predictions, np.array([random.choice(width, p=0.5 * p + 0.5 / width) for p in predictions])


@pytest.mark.parametrize("kind", ["levels", "real"])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_errors_of_metrics_are_those_of_the_infinitesimal_jackknife(kind: str, width: int) -> None:
    x, predictions, labels = _data(kind, width)

    result = explain(x[:, None], predictions, labels, taus=TAUS, metrics=OF_CLASSES)

    scores = [_score(metric, labels, predictions) for metric in OF_CLASSES]
    for place in range(len(TAUS)):
        assert result.attained[0, place]
        expected = _jackknife(x.astype(np.float64), result.targets[0, place], scores)
        np.testing.assert_allclose(result.performance_errors[0, place], expected, rtol=1e-5)


def test_errors_of_distances_from_targets_are_those_of_the_infinitesimal_jackknife() -> None:
    random = np.random.default_rng(4)
    x, predictions, targets = random.normal(size=COUNT), random.normal(size=(COUNT, 2)), random.normal(size=(COUNT, 2))
    metrics = (Metric.SQUARED_ERROR, Metric.ABSOLUTE_ERROR)

    result = explain(x[:, None], predictions, targets, taus=(0.6,), metrics=metrics)

    expected = _jackknife(x, result.targets[0, 0], [_score(metric, targets, predictions) for metric in metrics])
    np.testing.assert_allclose(result.performance_errors[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["levels", "real"])
def test_errors_within_a_group_count_that_its_share_varies_and_that_others_move_the_tilt(kind: str) -> None:
    x, predictions, labels = _data(kind, 3)
    groups = np.random.default_rng(1).choice([7, -2], COUNT)

    result = explain(x[:, None], predictions, labels, groups, taus=(0.7,), metrics=OF_CLASSES)

    assert result.group_performance_errors is not None
    for place, group in enumerate((-2, 7)):
        of = groups == group
        scores = [_within(of, _score(metric, labels[of], predictions[of])) for metric in OF_CLASSES]
        expected = _jackknife(x.astype(np.float64), result.targets[0, 0], scores)
        np.testing.assert_allclose(result.group_performance_errors[0, 0, place], expected, rtol=1e-5)


def test_the_error_of_accuracy_is_that_of_the_mean_of_right_and_wrong() -> None:
    random = np.random.default_rng(2)
    x = random.integers(0, 9, (200, 3))
    predictions, labels = random.dirichlet(np.ones(3), 200), random.integers(0, 3, 200)
    right = (predictions.argmax(axis=1) == labels).astype(np.float64)

    of_metric = explain(x, predictions, labels, taus=(-1.0, -0.3, 0.8), metrics=(Metric.ACCURACY,))
    of_mean = explain(x, right, taus=(-1.0, -0.3, 0.8))

    np.testing.assert_allclose(of_metric.performance_errors, of_mean.standard_errors, rtol=1e-9)


@pytest.mark.parametrize("metric", [Metric.SQUARED_ERROR, Metric.ABSOLUTE_ERROR])
def test_the_error_of_a_mean_metric_far_from_zero_is_that_of_the_same_numbers_as_predictions(metric: Metric) -> None:
    random = np.random.default_rng(3)
    x, y = random.normal(size=(80, 2)), 1000 + random.random(80)

    of_metric = explain(x, y, np.zeros(80), metrics=(metric,))
    of_mean = explain(x, y**2 if metric is Metric.SQUARED_ERROR else y)

    np.testing.assert_allclose(of_metric.performance_errors, of_mean.standard_errors, rtol=1e-9)


def test_one_group_of_everyone_has_the_errors_of_everyone() -> None:
    x, predictions, labels = _data("levels", 4)

    result = explain(x[:, None], predictions, labels, np.zeros(COUNT), metrics=OF_CLASSES)

    assert result.group_performance_errors is not None
    np.testing.assert_allclose(result.group_performance_errors[:, :, 0], result.performance_errors, rtol=1e-9)


def test_at_a_bound_errors_are_those_of_the_examples_there_however_many_they_are() -> None:
    # 12 times 1/12 is not 1 in floating-point numbers, so that the mean is not quite the bound.
    random = np.random.default_rng(5)
    x = np.concatenate([np.ones(12), 0.9 * random.random(40)])
    predictions = random.random(52)
    labels = np.where(np.arange(52) % 3, predictions >= 0.5, predictions < 0.5).astype(int)

    result = explain(x[:, None], predictions, labels, targets=(1.0,), metrics=(Metric.ACCURACY,))

    assert result.standard_errors[0, 0, 0] == pytest.approx(predictions[:12].std() / np.sqrt(12), rel=1e-9)
    assert result.performances[0, 0, 0] == pytest.approx(2 / 3)
    assert result.performance_errors[0, 0, 0] == pytest.approx(np.sqrt(2 / 9 / 12), rel=1e-9)


def test_fewer_than_two_effective_examples_have_no_errors() -> None:
    x, predictions, labels = np.array([0, 0, 0, 4, 9]), np.array([0.1, 0.2, 0.6, 0.9, 0.7]), [0, 1, 1, 1, 0]

    result = explain(x[:, None], predictions, labels, [0, 1, 1, 1, 1], targets=(0.0, 9.0), metrics=OF_CLASSES)

    assert result.group_performance_errors is not None
    assert np.isfinite(result.performance_errors[0, 0]).all()
    assert np.isnan(result.performance_errors[0, 1]).all()
    assert np.isnan(result.group_performance_errors[0, :, 0]).all(), "the group has one example"
    assert np.isfinite(result.group_performance_errors[0, 0, 1, 0])


def test_targets_that_are_missing_have_neither_metrics_nor_errors() -> None:
    x, predictions, labels = _data("levels", 4)

    result = explain(
        x[:, None], predictions, labels, np.arange(COUNT) % 2, targets=(-1.0, 5.0), metrics=OF_CLASSES,
        unattainable=UnattainableTarget.MISSING,
    )  # fmt: skip

    assert result.group_performances is not None
    assert result.group_performance_errors is not None
    for numbers in (
        result.performances, result.performance_errors, result.group_performances, result.group_performance_errors
    ):  # fmt: skip
        assert np.isnan(numbers[0, 0]).all()
        assert np.isfinite(numbers[0, 1]).all()


def test_errors_of_metrics_are_close_to_their_spread_over_solved_bootstraps() -> None:
    random = np.random.default_rng(6)
    x = random.normal(size=300)
    predictions = random.dirichlet(np.ones(3), 300)
    labels = np.array([random.choice(3, p=0.7 * p + 0.1) for p in predictions])
    metrics = (Metric.LOG_LOSS, Metric.F1)

    result = explain(x[:, None], predictions, labels, targets=(0.5,), metrics=metrics)

    samples = [random.integers(0, 300, 300) for _ in range(300)]
    found = []
    for sample in samples:
        weights = _weights(x[sample], np.ones(300), 0.5)
        found.append([_score(metric, labels[sample], predictions[sample])(weights) for metric in metrics])
    np.testing.assert_allclose(result.performance_errors[0, 0], np.std(found, axis=0, ddof=1), rtol=0.2)
