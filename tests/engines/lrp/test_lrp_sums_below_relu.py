"""A sum whose result a ReLU reads, as in a residual network, against the formulas, operand by operand."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from sidelight_engines.lrp import (
    AlphaBeta,
    EmptyBranchPolicy,
    Epsilon,
    Gamma,
    GivenRelevance,
    LrpParameters,
    LrpTarget,
    MatchGlob,
    RuleEntry,
    RuleMap,
    propagate_relevance,
)
from slow_lrp import Layer, propagate
from tiny_models import saved_model

RANDOM = np.random.default_rng(21)
LEFT, RIGHT, LAST = (RANDOM.normal(size=shape) for shape in ((4, 6), (4, 6), (6, 2)))
# The first two sums have no negative operand.
LEFT[:, :2], RIGHT[:, :2] = abs(LEFT[:, :2]), abs(RIGHT[:, :2])

RULES = [
    ("epsilon", Epsilon(0.0)),
    ("epsilon", Epsilon(0.25)),
    ("gamma", Gamma(0.5, 0.1)),
    ("alpha_beta", AlphaBeta(1.0, 0.0)),
    ("alpha_beta", AlphaBeta(2.0, 1.0, 0.0)),
    ("alpha_beta", AlphaBeta(2.0, 1.0, 0.1)),
]


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    """relu(a L + tanh(a R)) W."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("models") / "residual"
    return saved_model(lambda a: tf.nn.relu(a @ LEFT + tf.nn.tanh(a @ RIGHT)) @ LAST, [(4,)], folder)


@pytest.mark.parametrize("policy", [EmptyBranchPolicy.REPORT, EmptyBranchPolicy.RENORMALISE], ids=["report", "renorm"])
@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize(("name", "rule"), RULES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(RULES)])
def test_operands_of_a_sum_share_by_the_formula(residual, name, rule, targets, policy):
    x = abs(RANDOM.normal(size=(3, 4)))
    start = RANDOM.normal(size=(3, targets, 2))
    rules = RuleMap((RuleEntry(MatchGlob("*"), rule),))
    parameters = LrpParameters(rules, target=LrpTarget(GivenRelevance(start)), empty_branch=policy)
    result = propagate_relevance(residual, {"a": x}, parameters)
    renormalise = policy is EmptyBranchPolicy.RENORMALISE
    none = np.zeros(6)
    for row in range(3):
        terms = np.stack([x[row] @ LEFT, np.tanh(x[row] @ RIGHT)])
        hidden = np.maximum(terms.sum(axis=0), 0)
        for target in range(targets):
            given, top = propagate(
                name, asdict(rule), Layer(LAST, np.zeros(2)), hidden, start[row, target], renormalise
            )
            shares, books = np.zeros((2, 6)), [top]
            for j in range(6):
                pair = Layer(np.ones((2, 1)), np.zeros(1))
                shares[:, j], own = propagate(name, asdict(rule), pair, terms[:, j], given[[j]], renormalise)
                books.append(own)
            parts = []
            for weights, share in zip((LEFT, RIGHT), shares, strict=True):
                part, own = propagate(name, asdict(rule), Layer(weights, none), x[row], share, renormalise)
                parts.append(part)
                books.append(own)
            total = result.ledger[-1]
            np.testing.assert_allclose(result.inputs[0].values[row, target], sum(parts), rtol=1e-8, atol=1e-10)
            for column, key in (("stabiliser", "stabiliser"), ("empty_branch", "empty")):
                expected = sum(getattr(book, key) for book in books)
                np.testing.assert_allclose(getattr(total, column)[row, target], expected, rtol=1e-8, atol=1e-10)
    assert np.abs(result.ledger[-1].residual).max() < 1e-11 * max(1.0, np.abs(result.inputs[0].values).sum())
