"""Sidelight against what ethik 0.0.4 gave for the same data and predictions."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sidelight_engines.influence import InfluenceResult, Metric
from tilted_by_hand import explain

Array = np.ndarray[Any, Any]
FOLDER = Path(__file__).parents[2] / "golden" / "influence"
SETS = ("digits", "wines")


@cache
def golden(name: str) -> dict[str, Array]:
    return dict(np.load(FOLDER / f"{name}.npz"))


@cache
def explained(name: str, *, compatible: bool) -> InfluenceResult:
    data = golden(name)
    return explain(
        data["x"],
        data["p"],
        data["y"],
        taus=tuple(data["taus"]),
        metrics=(Metric.ACCURACY,),
        ethik_compatible=compatible,
    )


def _ethik_mean(x: Array, ksi: float) -> float:
    """The mean under ethik's weights, which tilt a feature of mean 0 and deviation 1."""
    return float(softmax(ksi * (x - x.mean()) / (x.std(ddof=1) or 1)) @ x)


@pytest.mark.parametrize("name", SETS)
def test_targets_are_ethiks(name: str) -> None:
    np.testing.assert_allclose(explained(name, compatible=False).targets, golden(name)["target"], rtol=1e-12)


@pytest.mark.parametrize("name", SETS)
def test_the_compatible_mode_gives_ethiks_influence_and_accuracy(name: str) -> None:
    result = explained(name, compatible=True)

    np.testing.assert_allclose(result.influences, golden(name)["influence"], atol=1e-6)
    np.testing.assert_allclose(result.performances[..., 0], golden(name)["accuracy"], atol=1e-6)
    assert (result.attained == golden(name)["converged"]).all()


@pytest.mark.parametrize("name", SETS)
def test_the_exact_mode_stays_within_ethiks_tolerance_of_it(name: str) -> None:
    difference = np.abs(explained(name, compatible=False).influences - golden(name)["influence"])

    assert difference.max() < 0.03
    assert difference.mean() < 0.003


@pytest.mark.parametrize("name", SETS)
def test_the_mean_that_ethik_reached_as_a_target_gives_its_influence(name: str) -> None:
    data = golden(name)
    columns = data["x"].reshape(len(data["x"]), -1).astype(np.float64)
    compared = 0
    for feature in range(0, columns.shape[1], 3):
        x = columns[:, feature]
        for place, ksi in enumerate(data["ksi"][feature]):
            result = explain(x[:, None], data["p"], targets=(_ethik_mean(x, ksi),))
            if result.attained.all():
                np.testing.assert_allclose(result.influences[0, 0], data["influence"][feature, place], atol=1e-6)
                compared += 1
    assert compared > columns.shape[1] / 2


@pytest.mark.parametrize("name", SETS)
def test_log_loss_is_ethiks_under_the_weights_that_it_used(name: str) -> None:
    # For a metric of all labels ethik repeats the feature and its ksi once per label, and so tilts that many times
    # as far. The mean under those weights, as a target, makes ours the same.
    data = golden(name)
    columns = data["x"].reshape(len(data["x"]), -1).astype(np.float64)
    labels = data["p"].shape[1]
    compared = 0
    for feature in range(0, columns.shape[1], 3):
        x = columns[:, feature]
        for place, ksi in enumerate(data["ksi"][feature]):
            mean = _ethik_mean(x, labels * ksi)
            if min(mean - x.min(), x.max() - mean) < 1e-6 * np.ptp(x) or not np.ptp(x):
                continue  # so far that the bound itself is all that is left of the mean
            result = explain(x[:, None], data["p"], data["y"], targets=(mean,), metrics=(Metric.LOG_LOSS,))
            assert result.performances[0, 0, 0] == pytest.approx(data["log_loss"][feature, place], rel=1e-5)
            compared += 1
    assert compared >= 8
