"""The best are found without looking at all, and are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sidelight_engines.similarity import SimilarityFunction, SimilarityParameters, comparison, explain_similarity
from sidelight_engines.similarity.ranking import select, select_bounded

if TYPE_CHECKING:
    from tests.engines.similarity.conftest import Digits

Array = npt.NDArray[Any]


def reference_order(scores: Array, positions: Array, count: int, least: bool) -> list[int]:
    return np.lexsort((positions, scores if least else -scores))[:count].tolist()


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.integers(-8, 8), min_size=1, max_size=80),
    count=st.integers(0, 90),
    least=st.booleans(),
    seed=st.integers(0, 100),
)
def test_selections_are_those_of_a_stable_sort(values: list[int], count: int, least: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.asarray(values, np.float64)
    positions = random.permutation(len(scores))
    expected = reference_order(scores, positions, count, least)
    noisy = scores + random.uniform(-4e-6, 4e-6, len(scores))
    chosen, found = select(noisy, positions, count, lambda some: scores[some], least=least)
    assert found.tolist() == scores[expected].tolist()
    assert chosen.tolist() == expected

    slack = random.uniform(0, 6, len(scores))
    middle = scores + random.uniform(-1, 1, len(scores)) * slack
    bounded = select_bounded(middle, slack + 1e-9, positions, count, lambda some: scores[some], least=least)
    assert bounded is not None
    assert bounded[0].tolist() == expected


def test_many_equal_scores_are_not_all_scored_again() -> None:
    scored = []

    def exact(some: Array) -> Array:
        scored.append(len(some))
        return np.ones(len(some))

    chosen, _ = select(np.ones(100_000), np.arange(100_000), 5, exact)
    assert chosen.tolist() == [0, 1, 2, 3, 4]
    assert sum(scored) < 100
    assert select_bounded(np.zeros(100_000), np.ones(100_000), np.arange(100_000), 5, exact) is None


@pytest.mark.parametrize("function", list(SimilarityFunction))
@pytest.mark.parametrize("together", [False, True])
def test_leaving_blocks_out_changes_nothing(digits: Digits, function: SimilarityFunction, together: bool) -> None:
    references, instances = digits.examples(slice(8, 208)), digits.examples(slice(0, 8))

    def found(all_scores: bool) -> list[tuple[Any, Any]]:
        parameters = SimilarityParameters(
            function, top=7, bottom=4, all_scores=all_scores, aggregate_instances=together
        )
        result = explain_similarity(digits.model, instances, parameters, references)
        return [(ranking.most_similar, ranking.least_similar) for ranking in result.rankings]

    assert found(all_scores=False) == found(all_scores=True)


def test_instances_together_are_the_sum_however_many_are_scanned_at_a_time(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    references, instances = digits.examples(slice(8, 60)), digits.examples(slice(0, 8))

    def scored(**more: Any) -> Any:
        parameters = SimilarityParameters(SimilarityFunction.GRAD_DOT, all_scores=True, self_influence=True, **more)
        return explain_similarity(digits.model, instances, parameters, references).rankings

    each = np.sum([ranking.scores for ranking in scored()], axis=0)
    whole = scored(aggregate_instances=True)[0]
    monkeypatch.setattr(comparison, "_SCANNED_TOGETHER", 3 * 52)
    monkeypatch.setattr(comparison, "_EXACT_VALUES", 1)
    parts = scored(aggregate_instances=True)[0]

    tolerance = 1e-5 * np.abs(each).max()
    np.testing.assert_allclose(whole.scores, each, atol=tolerance)
    np.testing.assert_allclose(parts.scores, each, atol=tolerance)
    assert parts.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-9)
    # The norm of a sum, by adding the gradients of the instances up as references of one another.
    among = explain_similarity(
        digits.model,
        instances,
        SimilarityParameters(SimilarityFunction.GRAD_DOT, all_scores=True),
        instances,
    )
    squared = sum(float(np.sum(ranking.scores)) for ranking in among.rankings)
    assert whole.self_influence == pytest.approx(squared, rel=1e-4)
