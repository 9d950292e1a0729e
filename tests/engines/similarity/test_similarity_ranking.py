"""The best are found without looking at all, and are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sidelight_engines.similarity import SimilarityFunction, SimilarityParameters, explain_similarity
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
