"""What must hold for any network and any rule: the ledger closes, and both ways of cutting the work agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from sidelight_engines.lrp import (
    AlphaBeta,
    AlphaBetaX,
    Chunking,
    Classes,
    EmptyBranchPolicy,
    Epsilon,
    Flat,
    Gamma,
    LayerSelection,
    LrpParameters,
    LrpPreset,
    LrpTarget,
    RuleMap,
    WSquare,
    ZBox,
    propagate_relevance,
)
from tiny_models import onnx_model

RULES = [
    Epsilon(1e-6),
    Epsilon(0.1, ignore_bias=True),
    Gamma(0.25),
    AlphaBeta(1.0, 0.0),
    AlphaBeta(2.0, 1.0),
    AlphaBetaX(2.0, 0.0, 1.0, 0.0),
    WSquare(),
    Flat(),
    ZBox(-1.0, 1.0),
]


class RandomNetwork:
    """A random image classifier of blocks drawn by a seed: convolutions, normalisation, pooling, residuals, joins."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list = []
        self.constants: dict = {}
        self.count = 0

    def add(self, op, *inputs, **attributes):
        self.count += 1
        name = f"{op.lower()}_{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def constant(self, *shape, positive=False):
        self.count += 1
        name = f"constant_{self.count}"
        value = self.random.uniform(0.5, 1.5, shape) if positive else self.random.normal(0, 0.4, shape)
        self.constants[name] = value.astype(np.float32)
        return name

    def convolution(self, x, inner, outer, **more):
        arguments = [self.constant(outer, inner // more.get("group", 1), 3, 3)]
        if self.random.random() < 0.7:
            arguments.append(self.constant(outer))
        return self.add("Conv", x, *arguments, pads=[1, 1, 1, 1], **more)

    def normalised(self, x, channels):
        shape = [channels]
        scale, variance = self.constant(*shape), self.constant(*shape, positive=True)
        return self.add("BatchNormalization", x, scale, self.constant(*shape), self.constant(*shape), variance)

    def block(self, x, channels):
        kind = self.random.integers(6)
        if kind == 0:
            x = self.normalised(self.convolution(x, channels, channels), channels)
        elif kind == 1:
            left = self.convolution(self.add("Relu", x), channels, channels)
            x = self.add("Add", left, x)
        elif kind == 2:
            left, right = self.convolution(x, channels, 2), self.convolution(x, channels, 2, group=2)
            return self.add("Concat", self.add("Relu", left), right, axis=1), 4
        elif kind == 3:
            x = self.normalised(x, channels)
        elif kind == 4:
            x = self.add("AveragePool", x, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
        else:
            gate = self.add("Sigmoid", x)
            return self.add("Mul", x, gate), channels
        return (self.add("Relu", x) if self.random.random() < 0.7 else x), channels

    def build(self, folder):
        x = self.add("Relu", self.convolution("x", 2, 4))
        channels = 4
        for _ in range(3):
            x, channels = self.block(x, channels)
        x = self.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        if self.random.random() < 0.5:
            x, size = self.add("Flatten", self.add("GlobalAveragePool", x)), channels
        else:
            x, size = self.add("Flatten", x), channels * 9
        x = self.add("Relu", self.add("Gemm", x, self.constant(size, 8), self.constant(8)))
        x = self.add("Add", self.add("MatMul", x, self.constant(8, 5)), self.constant(5))
        output = self.add("Softmax", x)
        return onnx_model(self.nodes, self.constants, {"x": (2, 6, 6)}, output, folder)


_MODELS: dict = {}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    root = tmp_path_factory.mktemp("random")

    def make(seed):
        if seed not in _MODELS:
            _MODELS[seed] = RandomNetwork(seed).build(root / str(seed))
        return _MODELS[seed]

    yield make
    _MODELS.clear()


def instances(seed, count=3):
    return {"x": np.random.default_rng(seed).normal(size=(count, 2, 6, 6)).astype(np.float32)}


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2),
    rule=st.sampled_from(RULES),
    policy=st.sampled_from(EmptyBranchPolicy),
    classes=st.sampled_from([(0,), (4, 1, 2)]),
)
def test_the_ledger_of_every_layer_closes_to_rounding(network, seed, rule, policy, classes):
    parameters = LrpParameters(
        RuleMap(otherwise=rule),
        target=LrpTarget(Classes(classes)),
        layers=LayerSelection(everything=True),
        empty_branch=policy,
    )
    result = propagate_relevance(network(seed), instances(seed), parameters)
    # Relevance that cancels out in a sum was rounded at its own size, and rounding is passed on to the layers below.
    parts = [*result.layers, *result.inputs]
    sizes = np.maximum.reduce([np.abs(part.values).reshape(3, len(classes), -1).sum(-1) for part in parts])
    for entry in result.ledger:
        assert np.all(np.abs(entry.residual) <= 1e-5 * np.maximum(sizes, np.abs(entry.relevance_out))), entry.layer
    assert max(each.ledger_residual for each in result.explained) < 1e-4


@pytest.mark.parametrize("preset", [p for p in LrpPreset if "BOX" not in p.name and "BOUNDED" not in p.name])
def test_every_preset_explains_and_its_ledger_closes(network, preset):
    result = propagate_relevance(network(1), instances(1), LrpParameters(preset))
    assert all(each.ledger_residual < 1e-5 for each in result.explained)


@pytest.mark.parametrize("rule", [WSquare(0.0, ignore_bias=True), Flat(0.0), ZBox(-3.0, 3.0, 0.0)])
def test_rules_without_bias_lose_nothing_in_layers_with_weights(tmp_path, rule):
    network = RandomNetwork(0)
    x = network.add("Relu", network.convolution("x", 2, 4))
    x = network.add("Gemm", network.add("Flatten", x), network.constant(144, 3))
    model = onnx_model(network.nodes, network.constants, {"x": (2, 6, 6)}, x, tmp_path / "m")
    result = propagate_relevance(model, instances(2), LrpParameters(RuleMap(otherwise=rule)))
    assert max(each.conservation_gap for each in result.explained) < 1e-5


def test_chunks_of_one_instance_give_what_one_chunk_gives(network):
    parameters = LrpParameters(LrpPreset.EPSILON_ALPHA2_BETA1, target=LrpTarget(Classes(tuple(range(5)) * 2)))
    whole = propagate_relevance(network(2), instances(3, 5), parameters)
    parts = propagate_relevance(network(2), instances(3, 5), parameters, chunking=Chunking(rows=2))
    np.testing.assert_allclose(parts.inputs[0].values, whole.inputs[0].values, rtol=1e-4, atol=1e-6)
    assert parts.inputs[0].values.shape == (5, 5, 2, 6, 6)
    assert [each.class_index for each in parts.explained] == [0, 1, 2, 3, 4] * 5


@pytest.mark.parametrize("shape", [(48, 64, 3), (64, 47, 2), (5, 7, 3), (1500, 2, 4), (2, 1500, 4)])
def test_channels_are_summed_by_target_and_instance_over_planes_of_any_size(shape: tuple[int, ...]) -> None:
    import tensorflow as tf
    from sidelight_engines.lrp.walk.replicas import Replicas

    values = np.random.default_rng(3).normal(size=(2 * 3, *shape)).astype(np.float32)
    found = Replicas(2, tf.constant(3)).channel_totals(tf.constant(values))
    expected = values.astype(np.float64).sum(axis=(1, 2)).reshape(2, 3, -1)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(values).sum(axis=(1, 2)).max())
