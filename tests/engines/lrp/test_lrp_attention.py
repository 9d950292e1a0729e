"""Attention against the equations of AttnLRP (Achtibat et al. 2024) and CP-LRP (Ali et al. 2022)."""

from __future__ import annotations

import numpy as np
import pytest
from sidelight_engines.lrp import AttentionRule, GivenRelevance, LrpParameters, LrpTarget, propagate_relevance
from tiny_models import saved_model

RANDOM = np.random.default_rng(4)
SCORES, VALUES = RANDOM.normal(size=(2, 3, 4)), RANDOM.normal(size=(2, 4, 2))
RELEVANCE = RANDOM.normal(size=(2, 2, 3, 2))
STABILISER = 1e-6
MASK = np.array([[0, -np.inf, 0, 0], [0, 0, -1e9, 0], [0, 0, 0, -np.inf]])


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def stabilised(y):
    return y + np.copysign(STABILISER, y)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attention")


@pytest.fixture(scope="module")
def plain(folder):
    import tensorflow as tf

    return saved_model(lambda a, b: tf.matmul(tf.nn.softmax(a), b), [(3, 4), (4, 2)], folder / "plain")


def relevance_of(model, rule):
    target = LrpTarget(GivenRelevance(RELEVANCE))
    result = propagate_relevance(model, {"a": SCORES, "b": VALUES}, LrpParameters(target=target, attention=rule))
    assert max(explained.ledger_residual for explained in result.explained) < 1e-9
    return result


def attn_lrp(instance, target, mask=None):
    x = SCORES[instance] + (0 if mask is None else mask)
    s, v, r = softmax(x), VALUES[instance], RELEVANCE[instance, target]
    share = r / stabilised(2 * (s @ v))
    of_weights, of_values = s * (share @ v.T), v * (s.T @ share)
    of_scores = np.zeros_like(s)
    for row, column in np.ndindex(s.shape):
        if s[row, column]:
            of_scores[row, column] = x[row, column] * (of_weights[row, column] - s[row, column] * of_weights[row].sum())
    return of_scores, of_values


def test_attn_lrp_goes_through_both_operands_and_the_softmax(plain):
    result = relevance_of(plain, AttentionRule.ATTN_LRP)
    for instance, target in np.ndindex(2, 2):
        of_scores, of_values = attn_lrp(instance, target)
        np.testing.assert_allclose(result.inputs[0].values[instance, target], of_scores, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(result.inputs[1].values[instance, target], of_values, rtol=1e-9, atol=1e-12)


def test_cp_lrp_gives_everything_to_the_values(plain):
    result = relevance_of(plain, AttentionRule.CP_LRP)
    assert not result.inputs[0].values.any()
    for instance, target in np.ndindex(2, 2):
        s, v = softmax(SCORES[instance]), VALUES[instance]
        expected = v * (s.T @ (RELEVANCE[instance, target] / stabilised(s @ v)))
        np.testing.assert_allclose(result.inputs[1].values[instance, target], expected, rtol=1e-9, atol=1e-12)


def test_product_in_index_notation_is_the_same(plain, folder):
    import tensorflow as tf

    model = saved_model(
        lambda a, b: tf.einsum("nij,njk->nik", tf.nn.softmax(a), b), [(3, 4), (4, 2)], folder / "einsum"
    )
    for ours, theirs in zip(
        relevance_of(model, AttentionRule.ATTN_LRP).inputs,
        relevance_of(plain, AttentionRule.ATTN_LRP).inputs,
        strict=True,
    ):
        np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-9, atol=1e-12)


def test_masked_scores_get_nothing_and_spoil_nothing(folder):
    import tensorflow as tf

    def masked(a, b):
        return tf.matmul(tf.nn.softmax(a + MASK), b)

    result = relevance_of(saved_model(masked, [(3, 4), (4, 2)], folder / "masked"), AttentionRule.ATTN_LRP)
    hidden = MASK < 0
    assert np.isfinite(result.inputs[0].values).all()
    assert not result.inputs[0].values[:, :, hidden].any()
    for instance, target in np.ndindex(2, 2):
        of_scores, of_values = attn_lrp(instance, target, MASK)
        np.testing.assert_allclose(
            result.inputs[0].values[instance, target][~hidden], of_scores[~hidden], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(result.inputs[1].values[instance, target], of_values, rtol=1e-9, atol=1e-12)
