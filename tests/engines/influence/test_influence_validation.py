"""What influence refuses, naming the field and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sidelight_engines.errors import InvalidField
from sidelight_engines.influence import Metric
from tilted_by_hand import explain

X = np.arange(12.0).reshape(4, 3)
P = np.full((4, 2), 0.5)
CLASSES = np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"taus": ()}, "parameters.taus"),
        ({"taus": (0.0,) * 202}, "parameters.taus"),
        ({"taus": (0.0, 1.5)}, "parameters.taus[1]"),
        ({"taus": (float("nan"),)}, "parameters.taus[0]"),
        ({"targets": (1.0, float("inf"))}, "parameters.targets[1]"),
        ({"taus": (0.0,), "targets": (1.0,)}, "parameters.targets"),
        ({"low_quantile": -0.1}, "parameters.low_quantile"),
        ({"high_quantile": 1.1}, "parameters.high_quantile"),
        ({"low_quantile": 0.9, "high_quantile": 0.9}, "parameters.low_quantile"),
        ({"features": (0, 3)}, "parameters.features[1]"),
        ({"features": (1, -1)}, "parameters.features[1]"),
        ({"features": (1, 2, 1)}, "parameters.features[2]"),
        ({"feature_names": ("a", "b")}, "parameters.feature_names"),
        ({"confidence_level": 1.0}, "parameters.confidence_level"),
        ({"metrics": (Metric.ACCURACY, Metric.ACCURACY)}, "parameters.metrics"),
        ({"metrics": (Metric.ACCURACY,)}, "parameters.labels"),
    ],
)
def test_parameters_out_of_their_limits_are_refused(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        explain(X, P, **parameters)

    assert caught.value.field == field


def _with(value: float) -> np.ndarray[Any, Any]:
    x = X.copy()
    x[2, 1] = value
    return x


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_named(value: float) -> None:
    with pytest.raises(InvalidField, match=r"feature 1 \('pay'\) is .* in example 2") as caught:
        explain(_with(value), P, feature_names=("age", "pay", "rank"))

    assert caught.value.field == "x"


def test_a_feature_that_is_not_finite_may_be_left_out() -> None:
    assert explain(_with(np.nan), P, features=(0, 2)).attained.shape == (2, 2)


@pytest.mark.parametrize(
    ("x", "problem"),
    [
        (X[:1], "has 1 examples"),
        (np.array(3.0), "has 0 examples"),
        (np.zeros((4, 0)), "has shape"),
        (np.array([["a"], ["b"]]), "are <U1"),
    ],
)
def test_examples_must_be_two_rows_of_numbers(x: Any, problem: str) -> None:
    with pytest.raises(InvalidField, match=problem):
        explain(x, P[: len(np.atleast_1d(x))])


@pytest.mark.parametrize(
    ("predictions", "problem"),
    [
        (P[:3], "has 3 rows where there are 4"),
        (np.full((4, 2, 2), 0.5), "shape"),
        (np.full((4, 0), 0.5), "shape"),
        (np.array([0, 1, np.nan, 0]), "first in row 2"),
    ],
)
def test_predictions_must_be_a_finite_row_for_each_example(predictions: Any, problem: str) -> None:
    with pytest.raises(InvalidField, match=problem) as caught:
        explain(X, predictions)

    assert caught.value.field == "predictions"


@pytest.mark.parametrize(
    ("labels", "metric", "problem"),
    [
        ([0, 1, 2, 0], Metric.ACCURACY, "holds 2 in row 2"),
        ([0, 1, 0.5, 0], Metric.ACCURACY, "holds 0.5 in row 2"),
        ([0, 1, 0], Metric.ACCURACY, "has 3 rows where there are 4"),
        (np.ones((4, 2)), Metric.ACCURACY, "not one-hot"),
        (np.ones((4, 3)), Metric.ACCURACY, "need classes"),
        ([0, 1, 0, 1], Metric.SQUARED_ERROR, "a target for each prediction"),
        (np.full((4, 2), np.nan), Metric.ABSOLUTE_ERROR, "first in row 0"),
    ],
)
def test_labels_must_go_with_predictions_and_metrics(labels: Any, metric: Metric, problem: str) -> None:
    with pytest.raises(InvalidField, match=problem) as caught:
        explain(X, P, np.asarray(labels), metrics=(metric,))

    assert caught.value.field == "labels"


@pytest.mark.parametrize("metric", [Metric.LOG_LOSS, Metric.BRIER])
def test_metrics_of_probabilities_refuse_other_predictions(metric: Metric) -> None:
    with pytest.raises(InvalidField, match=f"{metric.name} is of probabilities") as caught:
        explain(X, P * 4, CLASSES, metrics=(Metric.ACCURACY, metric))

    assert caught.value.field == "parameters.metrics[1]"


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ([0, 1, 0], "where there are 4 examples"),
        ([0, 1, 0.5, 1], "not whole numbers"),
        (["a", "b", "a", "b"], "where there are 4 examples"),
    ],
)
def test_groups_must_be_a_whole_number_for_each_example(groups: Any, problem: str) -> None:
    with pytest.raises(InvalidField, match=problem) as caught:
        explain(X, P, CLASSES, np.asarray(groups), metrics=(Metric.ACCURACY,))

    assert caught.value.field == "groups"


def test_more_groups_than_could_be_compared_are_refused() -> None:
    x = np.arange(600.0)[:, None]

    with pytest.raises(InvalidField, match="are 600 different ones"):
        explain(x, x[:, 0] > 3, (x[:, 0] > 5).astype(int), np.arange(600), metrics=(Metric.ACCURACY,))


def test_groups_without_metrics_are_refused() -> None:
    with pytest.raises(InvalidField, match="groups are compared by metrics") as caught:
        explain(X, P, None, CLASSES)

    assert caught.value.field == "parameters.metrics"
