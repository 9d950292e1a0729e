"""Metrics under weights are scikit-learn's with sample_weight, and those of a group are those of its examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sidelight_engines.influence import Metric
from sklearn import metrics as sk
from tilted_by_hand import explain, tilted_weights

Array = np.ndarray[Any, Any]
Score = Callable[[Array, Array, Array], float]

COUNT = 120
TAUS = (-0.8, 0.9)


def _classes(p: Array) -> Array:
    return (p >= 0.5).astype(int) if p.ndim == 1 else p.argmax(axis=1)


def _average(p: Array) -> dict[str, Any]:
    return {"average": "macro" if p.ndim == 2 and p.shape[1] > 2 else "binary", "zero_division": 0}


def _pairs(y: Array, scores: Array, w: Array) -> float:
    """AUC by its definition, pair by pair."""
    above, total = 0.0, 0.0
    for i in np.flatnonzero(y == 1):
        for j in np.flatnonzero(y == 0):
            above += w[i] * w[j] * ((scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]))
            total += w[i] * w[j]
    return above / total


def _auc(y: Array, p: Array, w: Array) -> float:
    if p.ndim == 1:
        return _pairs(y, p, w)
    if p.shape[1] == 2:
        return _pairs(y, p[:, 1], w)
    return float(np.mean([_pairs((y == c).astype(int), p[:, c], w) for c in range(p.shape[1])]))


def _brier(y: Array, p: Array, w: Array) -> float:
    if p.ndim == 1:
        return float(w @ (p - y) ** 2 / w.sum())
    return float(w @ ((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1) / w.sum())


def _log_loss(y: Array, p: Array, w: Array) -> float:
    return float(sk.log_loss(y, p, sample_weight=w, labels=range(2 if p.ndim == 1 else p.shape[1])))


SCORES: dict[Metric, Score] = {
    Metric.ACCURACY: lambda y, p, w: sk.accuracy_score(y, _classes(p), sample_weight=w),
    Metric.LOG_LOSS: _log_loss,
    Metric.BRIER: _brier,
    Metric.PRECISION: lambda y, p, w: sk.precision_score(y, _classes(p), sample_weight=w, **_average(p)),
    Metric.RECALL: lambda y, p, w: sk.recall_score(y, _classes(p), sample_weight=w, **_average(p)),
    Metric.F1: lambda y, p, w: sk.f1_score(y, _classes(p), sample_weight=w, **_average(p)),
    Metric.AUC: _auc,
}
METRICS = tuple(SCORES)


def _data(width: int) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(width)
    x = np.concatenate([random.integers(0, 6, (COUNT, 1)), random.normal(size=(COUNT, 1))], axis=1)
    if width == 1:
        predictions = np.round(random.random(COUNT), 1)  # scores that tie
        labels = (predictions + random.normal(0, 0.4, COUNT) > 0.5).astype(int)
    else:
        predictions = random.dirichlet(np.ones(width), COUNT)
        labels = np.array([random.choice(width, p=0.5 * p + 0.5 / width) for p in predictions])
    return x, predictions, labels


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_metrics_of_classes_are_those_of_scikit_learn_under_the_weights(width: int, dtype: type) -> None:
    x, predictions, labels = _data(width)
    if dtype is np.uint8:
        x = np.clip(np.rint(x * 20 + 60), 0, 255).astype(np.uint8)  # the way of pixels

    result = explain(x, predictions, labels, taus=TAUS, metrics=METRICS)

    for feature in range(2):
        for place in range(len(TAUS)):
            if not result.attained[feature, place]:
                continue
            weights = tilted_weights(x[:, feature], result.targets[feature, place])
            expected = [score(labels, predictions, weights) for score in SCORES.values()]
            np.testing.assert_allclose(result.performances[feature, place], expected, rtol=1e-8)
    assert result.attained.sum() >= 3
    even = np.full(COUNT, 1 / COUNT)
    np.testing.assert_allclose(
        result.baseline_performances, [score(labels, predictions, even) for score in SCORES.values()], rtol=1e-10
    )


def test_a_group_has_the_metrics_of_its_own_examples() -> None:
    x, predictions, labels = _data(3)
    groups = np.random.default_rng(0).choice([7, -2], COUNT)

    result = explain(x, predictions, labels, groups, taus=TAUS, metrics=METRICS)

    assert result.groups is not None
    assert result.group_performances is not None
    assert result.groups.tolist() == [-2, 7]
    for feature in range(2):
        for place in range(len(TAUS)):
            if not result.attained[feature, place]:
                continue
            weights = tilted_weights(x[:, feature], result.targets[feature, place])
            for number, group in enumerate(result.groups):
                member = groups == group
                expected = [s(labels[member], predictions[member], weights[member]) for s in SCORES.values()]
                np.testing.assert_allclose(result.group_performances[feature, place, number], expected, rtol=1e-8)


def test_a_group_that_loses_all_weight_has_no_metrics() -> None:
    x = np.array([0, 0, 1, 1])[:, None]

    result = explain(x, [0.2, 0.9, 0.4, 0.8], [0, 1, 1, 1], [0, 0, 1, 1], targets=(0.0,), metrics=METRICS)

    assert result.group_performances is not None
    assert result.group_performances[0, 0, 0, 0] == 1
    assert np.isnan(result.group_performances[0, 0, 1]).all()


def test_errors_are_means_over_outputs_of_squares_and_distances() -> None:
    x = np.array([0, 0, 1, 1])[:, None]
    predictions = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0], [5.0, 5.0]])
    targets = np.array([[1.0, 4.0], [0.0, 2.0], [0.0, 0.0], [5.0, 5.0]])

    result = explain(x, predictions, targets, targets=(0.75,), metrics=(Metric.SQUARED_ERROR, Metric.ABSOLUTE_ERROR))

    # By half: squares (2, 2 | 5, 0), distances (1, 1 | 2, 0)
    np.testing.assert_allclose(result.performances[0, 0], [0.25 * 2 + 0.75 * 2.5, 0.25 * 1 + 0.75 * 1])


def test_one_hot_labels_mean_the_same_as_class_indices() -> None:
    x, predictions, labels = _data(4)

    indices, one_hot = (explain(x, predictions, y, metrics=METRICS) for y in (labels, np.eye(4)[labels]))

    np.testing.assert_array_equal(indices.performances, one_hot.performances)


def test_a_certain_and_wrong_float32_prediction_costs_its_machine_epsilon() -> None:
    predictions = np.array([[1, 0], [0, 1], [1, 0]], np.float32)

    result = explain(np.array([0, 1, 2])[:, None], predictions, [0, 1, 1], taus=(0.0,), metrics=(Metric.LOG_LOSS,))

    epsilon = float(np.finfo(np.float32).eps)
    expected = (-2 * np.log(1 - epsilon) - np.log(epsilon)) / 3
    assert result.performances[0, 0, 0] == pytest.approx(expected, rel=1e-12)
