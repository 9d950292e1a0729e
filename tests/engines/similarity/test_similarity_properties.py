"""What holds for every model and every score."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sidelight_engines.control import Control
from sidelight_engines.errors import Stopped
from sidelight_engines.similarity import (
    Checkpoint,
    Chunking,
    ClassSource,
    Examples,
    GradientOptions,
    LayerSelection,
    SimilarityFunction,
    SimilarityParameters,
    SimilarityResult,
    explain_similarity,
)

if TYPE_CHECKING:
    from tests.engines.similarity.conftest import Array, Digits, ZooNetwork

FUNCTIONS = list(SimilarityFunction)
REFERENCES = slice(8, 68)


def explained(digits: Digits, parameters: SimilarityParameters, instances: slice = slice(0, 4)) -> SimilarityResult:
    return explain_similarity(digits.model, digits.examples(instances), parameters, digits.examples(REFERENCES))


def scores_of(result: SimilarityResult) -> Array:
    rows = [ranking.scores for ranking in result.rankings if ranking.scores is not None]
    return np.stack(rows).astype(np.float64)


def test_the_cosine_of_an_example_with_itself_is_1(digits: Digits) -> None:
    same = digits.examples(slice(0, 40))
    result = explain_similarity(digits.model, same, SimilarityParameters(all_scores=True, self_influence=True), same)
    np.testing.assert_allclose(np.diag(scores_of(result)), 1, atol=2e-6)
    assert [ranking.self_influence for ranking in result.rankings] == pytest.approx([1] * 40)
    assert all(ranking.most_similar[0].index == i for i, ranking in enumerate(result.rankings))


@pytest.mark.parametrize("name", ["sequence", "shared"])
def test_the_gram_matrix_is_positive_semidefinite(zoo: dict[str, ZooNetwork], name: str) -> None:
    model = zoo[name].saved_model
    same = zoo[name].examples(model, 12)
    parameters = SimilarityParameters(SimilarityFunction.GRAD_DOT, all_scores=True)
    gram = scores_of(explain_similarity(model, same, parameters, same))
    np.testing.assert_allclose(gram, gram.T, atol=1e-5 * np.abs(gram).max())
    assert np.linalg.eigvalsh((gram + gram.T) / 2).min() > -1e-5 * np.abs(gram).max()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_layers_sum_to_the_score(digits: Digits, function: SimilarityFunction) -> None:
    result = explained(digits, SimilarityParameters(function, top=5, bottom=3, layer_contributions=True))
    assert result.layers == ("conv_1", "conv_2", "dense_1", "dense_2")
    for ranking in result.rankings:
        for example in (*ranking.most_similar, *ranking.least_similar):
            assert sum(example.layer_scores) == pytest.approx(example.score, rel=1e-12)


def test_inner_products_of_chosen_layers_add_up(digits: Digits) -> None:
    dot = SimilarityParameters(SimilarityFunction.GRAD_DOT, all_scores=True)

    def scored(*layers: str) -> Array:
        return scores_of(explained(digits, replace(dot, gradients=GradientOptions(layers=LayerSelection(layers)))))

    whole = scored()
    np.testing.assert_allclose(
        scored("conv_1", "dense_2") + scored("conv_2", "dense_1"), whole, atol=1e-5 * np.abs(whole).max()
    )


def test_scores_are_what_their_formulas_say(digits: Digits) -> None:
    found = {f: explained(digits, SimilarityParameters(f, all_scores=True, self_influence=True)) for f in FUNCTIONS}
    references = digits.examples(REFERENCES)
    own = explain_similarity(digits.model, references, SimilarityParameters(top=0), references)
    h = np.array([ranking.gradient_norm for ranking in own.rankings])
    g = np.array([[ranking.gradient_norm] for ranking in found[SimilarityFunction.GRAD_DOT].rankings])
    dot = scores_of(found[SimilarityFunction.GRAD_DOT])
    expected = {
        SimilarityFunction.GRAD_COS: (dot / (g * h), g / g),
        SimilarityFunction.GRAD_ASYM_DOT: (dot / h**2, g / g),
        SimilarityFunction.RELATIF: (dot / h, g),
        SimilarityFunction.GRAD_DOT: (dot, g**2),
    }
    for function, (scores, itself) in expected.items():
        np.testing.assert_allclose(scores_of(found[function]), scores, rtol=1e-5, atol=1e-6 * np.abs(scores).max())
        selves = [[ranking.self_influence] for ranking in found[function].rankings]
        np.testing.assert_allclose(np.array(selves, np.float64), itself, rtol=1e-9)


def test_aggregated_inner_products_are_sums(digits: Digits) -> None:
    dot = SimilarityParameters(SimilarityFunction.GRAD_DOT, all_scores=True)
    single = scores_of(explained(digits, dot))
    result = explained(digits, replace(dot, aggregate_instances=True, layer_contributions=True))
    assert len(result.rankings) == 1
    np.testing.assert_allclose(scores_of(result)[0], single.sum(axis=0), rtol=1e-5, atol=1e-5 * np.abs(single).max())
    best = result.rankings[0].most_similar[0]
    assert best.score == pytest.approx(single.sum(axis=0).max(), rel=1e-5)
    assert result.rankings[0].prediction is None


def test_checkpoints_add_their_weighted_scores(digits_by_format: dict[str, Digits]) -> None:
    digits, other = digits_by_format["saved_model"], digits_by_format["onnx"]
    references = Examples({other.model.graph.inputs[0].name: digits.images[REFERENCES]}, None)
    references = replace(references, labels=digits.examples(REFERENCES).labels)
    parameters = SimilarityParameters(all_scores=True, layer_contributions=True, self_influence=True)
    alone = scores_of(explained(digits, parameters))
    both = explain_similarity(
        digits.model,
        digits.examples(slice(0, 4)),
        parameters,
        digits.examples(REFERENCES),
        checkpoints=[Checkpoint(digits.model, 0.5, digits.examples(REFERENCES))],
    )
    np.testing.assert_allclose(scores_of(both), 1.5 * alone, rtol=1e-5, atol=1e-6)
    best = both.rankings[0].most_similar[0]
    assert sum(best.layer_scores) == pytest.approx(best.score, rel=1e-12)
    assert both.rankings[0].self_influence == pytest.approx(1.5)


def test_class_means_are_means_by_label_and_by_prediction(digits: Digits) -> None:
    result = explained(digits, SimilarityParameters(all_scores=True, class_means=True))
    labels = digits.labels[REFERENCES]
    for ranking, scores in zip(result.rankings, scores_of(result), strict=True):
        by_label = [mean for mean in ranking.class_means if mean.source is ClassSource.LABEL]
        assert [mean.class_index for mean in by_label] == sorted(set(labels.tolist()))
        for mean in by_label:
            assert mean.mean == pytest.approx(scores[labels == mean.class_index].mean(), rel=1e-5)
            assert mean.count == np.count_nonzero(labels == mean.class_index)
        predicted = [mean for mean in ranking.class_means if mean.source is ClassSource.PREDICTION]
        assert sum(mean.count for mean in predicted) == len(labels)


def test_equal_references_come_in_the_order_of_their_indices(digits: Digits) -> None:
    rows = np.array([20, 9, 30, 9, 9, 31, 9, 20, 9, 20, *range(40, 75), 9, 20])
    result = explain_similarity(
        digits.model, digits.examples(slice(9, 10)), SimilarityParameters(top=12, bottom=47), digits.examples(rows)
    )
    ranking = result.rankings[0]
    assert [example.index for example in ranking.most_similar[:6]] == [1, 3, 4, 6, 8, 45]
    assert len({example.score for example in ranking.most_similar[:6]}) == 1
    ends = [example.index for example in ranking.least_similar if example.index in (0, 7, 9, 46)]
    assert ends == [0, 7, 9, 46]


def test_a_selection_scores_the_same_references(digits: Digits) -> None:
    parameters = SimilarityParameters(all_scores=True, top=3)
    whole = scores_of(explained(digits, parameters))
    chosen = np.array([5, 50, 2, 17])
    part = explain_similarity(
        digits.model, digits.examples(slice(0, 4)), parameters, digits.examples(REFERENCES), selection=chosen
    )
    np.testing.assert_allclose(scores_of(part), whole[:, chosen], rtol=1e-5, atol=1e-6)
    assert {example.index for example in part.rankings[0].most_similar} <= set(chosen.tolist())


def test_scores_do_not_depend_on_how_work_is_cut(digits: Digits) -> None:
    parameters = SimilarityParameters(all_scores=True)
    whole = scores_of(explained(digits, parameters))
    cut = explain_similarity(
        digits.model,
        digits.examples(slice(0, 4)),
        parameters,
        digits.examples(REFERENCES),
        chunking=Chunking(rows=7, memory_bytes=2**20),
        threads=1,
    )
    np.testing.assert_allclose(scores_of(cut), whole, atol=1e-5)


def test_a_stop_ends_the_work(digits: Digits) -> None:
    with pytest.raises(Stopped):
        explain_similarity(
            digits.model,
            digits.examples(slice(0, 4)),
            SimilarityParameters(),
            digits.examples(REFERENCES),
            Control(should_stop=lambda: True),
        )
