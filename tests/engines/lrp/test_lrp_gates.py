"""Gates, choices and biases per head."""

from __future__ import annotations

import numpy as np
import pytest
from sidelight_engines.lrp import Epsilon, GivenRelevance, LrpParameters, LrpTarget, RuleMap, propagate_relevance
from tiny_models import saved_model

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(2, 4, 3))
GATE = RANDOM.normal(size=(2, 1, 3))
RELEVANCE = RANDOM.normal(size=(2, 2, 4, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gates")


def relevance_of(model, inputs, relevance=RELEVANCE):
    parameters = LrpParameters(RuleMap(otherwise=Epsilon(1e-6)), target=LrpTarget(GivenRelevance(relevance)))
    result = propagate_relevance(model, inputs, parameters)
    assert max(explained.ledger_residual for explained in result.explained) < 1e-9
    return result


def squeeze_and_excite(x, gate):
    import tensorflow as tf

    return x * tf.sigmoid(gate)


def update_gate(x, gate):
    """As in a GRU."""
    import tensorflow as tf

    return (1 - tf.sigmoid(gate)) * x


def hard_gate(x, gate):
    import tensorflow as tf

    return tf.nn.relu6(gate + 3) * (1 / 6) * x


@pytest.mark.parametrize("function", [squeeze_and_excite, update_gate, hard_gate])
def test_gated_signal_takes_all_relevance(function, folder):
    model = saved_model(function, [(4, 3), (1, 3)], folder / function.__name__)
    result = relevance_of(model, {"a": X, "b": GATE})
    np.testing.assert_array_equal(result.inputs[0].values, RELEVANCE)
    assert not result.inputs[1].values.any()


def test_chosen_value_takes_the_relevance(folder):
    import tensorflow as tf

    other = RANDOM.normal(size=X.shape)
    model = saved_model(lambda x, y: tf.where(y > 0, x, y), [(4, 3), (4, 3)], folder / "choose")
    result = relevance_of(model, {"a": X, "b": other})
    first = (other > 0)[:, None]
    np.testing.assert_array_equal(result.inputs[0].values, RELEVANCE * first)
    np.testing.assert_array_equal(result.inputs[1].values, RELEVANCE * ~first)


def test_bias_per_head_is_the_bias_of_the_product_before_it(folder):
    import tensorflow as tf

    weights, bias = RANDOM.normal(size=(3, 6)), RANDOM.normal(size=6)

    def heads(x):
        return tf.reshape(tf.matmul(x, weights), [-1, 4, 2, 3]) + bias.reshape(2, 3)

    relevance = RANDOM.normal(size=(2, 1, 4, 2, 3))
    result = relevance_of(saved_model(heads, [(4, 3)], folder / "heads"), {"a": X}, relevance)
    z = X[..., None] * weights
    y = z.sum(2) + bias
    share = relevance[:, 0].reshape(2, 4, 6) / (y + np.copysign(1e-6, y))
    np.testing.assert_allclose(result.inputs[0].values[:, 0], (z * share[:, :, None]).sum(-1), rtol=1e-9)
    np.testing.assert_allclose(result.ledger[-1].bias[:, 0], (bias * share).sum((1, 2)), rtol=1e-9)
    assert not result.ledger[-1].sink.any()
