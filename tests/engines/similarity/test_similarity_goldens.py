"""Scores are those of alibi 0.9.4; see tests/golden/similarity/README.md."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sidelight_engines.similarity import (
    GradientOptions,
    Loss,
    SimilarityFunction,
    SimilarityParameters,
    SimilarityResult,
    explain_similarity,
)

from tests.engines.similarity.conftest import GOLDEN

if TYPE_CHECKING:
    from tests.engines.similarity.conftest import Digits

FOLDER = GOLDEN / "similarity"
CASES: dict[str, dict[str, Any]] = json.loads((FOLDER / "cases.json").read_text())["cases"]
INSTANCES = 8

# Cases that divide by norms, and the same in double precision: how far the reference's own rounding takes it.
TWINS = {
    "cos": "cos_double",
    "cos_ad_hoc": "cos_double",
    "cos_predicted": "cos_double",
    "asym_dot": "asym_dot_double",
}


def explained(digits: Digits, case: dict[str, Any], **more: Any) -> SimilarityResult:
    loss = case["loss"].replace("categorical_from_probabilities", "categorical_cross_entropy")
    parameters = SimilarityParameters(
        function=SimilarityFunction(case["function"]),
        gradients=GradientOptions(loss=Loss(loss)),
        all_scores=True,
        norm_offset=1e-7,
        **more,
    )
    instances = digits.examples(slice(0, INSTANCES), labels=case["labels"] != "predicted")
    return explain_similarity(digits.model, instances, parameters, digits.examples(slice(INSTANCES, None)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("model_format", ["saved_model", "onnx"])
def test_scores_equal_alibis(digits_by_format: dict[str, Digits], model_format: str, name: str) -> None:
    held = np.load(FOLDER / "scores.npz")
    case, expected = CASES[name], held[name].astype(np.float64)
    found = np.stack([ranking.scores for ranking in explained(digits_by_format[model_format], case).rankings])
    relative = 2e-5 if case["function"] == "grad_cos" else 1e-5 * np.abs(expected).max()
    own_error = np.abs(expected - held[TWINS[name]]) if name in TWINS else 0.0
    assert np.all(np.abs(found - expected) <= relative + own_error)


def test_ranking_equals_alibis_but_for_ties(digits: Digits) -> None:
    expected = np.load(FOLDER / "scores.npz")["cos_double"]
    result = explained(digits, CASES["cos_double"], top=200, bottom=200)
    for ranking, scores in zip(result.rankings, expected, strict=True):
        best = [example.index for example in ranking.most_similar]
        worst = [example.index for example in ranking.least_similar]
        assert sorted(best) == sorted(worst) == list(range(200))
        assert np.all(np.diff(scores[best]) <= 1e-5)
        assert np.all(np.diff(scores[worst]) >= -1e-5)
