"""What may not be asked: each refusal names the field, the value and the remedy."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, MemoryLimitExceeded, NonFiniteOutput, Stopped, UnknownLayer
from sidelight_engines.lrp import (
    AlphaBeta,
    AlphaBetaX,
    Chunking,
    Classes,
    ClassPerInstance,
    Epsilon,
    Gamma,
    GivenRelevance,
    GradientKind,
    GradientMethod,
    LayerSelection,
    LrpParameters,
    LrpPreset,
    LrpTarget,
    MatchGlob,
    MatchLayer,
    QualityOptions,
    RuleEntry,
    RuleMap,
    TargetValue,
    ZBox,
    lrp_support,
    propagate_relevance,
)
from tiny_models import onnx_model

X = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]], np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["first"], "first"),
        helper.make_node("Exp", ["first"], ["grown"], "grown"),
        helper.make_node("Gemm", ["grown", "w2"], ["second"], "second"),
        helper.make_node("Softmax", ["second"], ["out"], "out"),
    ]
    constants = {name: random.normal(size=shape).astype(np.float32) for name, shape in (("w1", (3, 4)), ("w2", (4, 3)))}
    return onnx_model(nodes, constants, {"x": (3,)}, "out", tmp_path_factory.mktemp("models") / "refusing")


def rules(rule):
    return LrpParameters(RuleMap(otherwise=rule))


def target(what, **more):
    return LrpParameters(target=LrpTarget(what, **more))


REFUSED = [
    (rules(Epsilon(-1)), "parameters.rules.otherwise.epsilon"),
    (rules(Epsilon(float("nan"))), "parameters.rules.otherwise.epsilon"),
    (rules(Gamma(-0.1)), "parameters.rules.otherwise.gamma"),
    (rules(AlphaBeta(0.5, -0.5)), "parameters.rules.otherwise.alpha"),
    (rules(AlphaBeta(2.0, 2.0)), "parameters.rules.otherwise.beta"),
    (rules(AlphaBetaX(0.0)), "parameters.rules.otherwise.alpha_positive_input"),
    (rules(ZBox(1.0, 0.0)), "parameters.rules.otherwise.low"),
    (rules(ZBox()), "parameters.input_minimum"),
    (LrpParameters(RuleMap((RuleEntry(MatchGlob("no_*"), Epsilon()),))), "parameters.rules.entries[0]"),
    (LrpParameters(RuleMap((RuleEntry(MatchLayer("frist"), Epsilon()),))), "parameters.rules.entries[0].layer"),
    (LrpParameters(LrpPreset.EPSILON_GAMMA_BOX), "parameters.input_minimum"),
    (LrpParameters(LrpPreset.EPSILON_GAMMA_BOX, 0.0), "parameters.input_maximum"),
    (LrpParameters(LrpPreset.EPSILON_GAMMA_BOX, 1.0, 0.0), "parameters.input_minimum"),
    (LrpParameters(LrpPreset.EPSILON_GAMMA_BOX, np.zeros(2), 1.0), "parameters.input_minimum"),
    (LrpParameters(input_maximum=1.0), "parameters.input_maximum"),
    (target(Classes(())), "parameters.target.classes.indices"),
    (target(Classes((0, 3))), "parameters.target.classes.indices[1]"),
    (target(ClassPerInstance((0,))), "parameters.target.class_per_instance.indices"),
    (target(ClassPerInstance((0, -1))), "parameters.target.class_per_instance.indices[1]"),
    (target(GivenRelevance(np.zeros((2, 4)))), "parameters.target.relevance"),
    (target(GivenRelevance(np.full((2, 3), np.inf))), "parameters.target.relevance"),
    (target(None, output="none"), "parameters.target.output"),
    (LrpParameters(layers=LayerSelection(("frist",))), "parameters.layers.names[0]"),
    (LrpParameters(layers=LayerSelection(("out",))), "parameters.layers.names"),
    (LrpParameters(layers=LayerSelection(("first",), everything=True)), "parameters.layers.names"),
    (LrpParameters(GradientMethod(samples=1)), "parameters.gradient.samples"),
    (LrpParameters(GradientMethod(noise=0.0)), "parameters.gradient.noise"),
    (LrpParameters(GradientMethod(baseline=np.zeros(3))), "parameters.gradient.baseline"),
    (
        LrpParameters(GradientMethod(GradientKind.INTEGRATED_GRADIENTS, baseline=np.zeros(2))),
        "parameters.gradient.baseline",
    ),
    (LrpParameters(quality=QualityOptions(1001)), "parameters.quality.pixel_flipping_steps"),
    (
        LrpParameters(target=LrpTarget(GivenRelevance(np.ones((2, 3)))), quality=QualityOptions(random_logit=True)),
        "parameters.quality.random_logit",
    ),
]


@pytest.mark.parametrize(("parameters", "field"), REFUSED, ids=[f"{i}-{field}" for i, (_, field) in enumerate(REFUSED)])
def test_a_value_that_may_not_be_given_is_refused_by_its_field(model, parameters, field):
    with pytest.raises(InvalidField) as caught:
        propagate_relevance(model, {"x": X}, parameters)
    assert caught.value.field == field
    assert caught.value.remedy


def test_an_unknown_layer_is_answered_with_the_nearest(model):
    with pytest.raises(UnknownLayer) as caught:
        propagate_relevance(model, {"x": X}, LrpParameters(layers=LayerSelection(("frist",))))
    assert caught.value.nearest[0] == "first"


def test_instances_that_are_not_finite_are_refused_by_their_place(model):
    x = X.copy()
    x[1, 2] = np.nan
    with pytest.raises(InvalidField, match=r"instances\.inline\.inputs\.x: instance 1"):
        propagate_relevance(model, {"x": x}, LrpParameters())


def test_instances_of_another_shape_are_refused_by_their_place(model):
    with pytest.raises(InvalidField, match=r"instances\.inline\.inputs\.x: its shape"):
        propagate_relevance(model, {"x": X[:, :2]}, LrpParameters())


def test_a_model_that_overflows_is_named_with_the_instance(model):
    # Along a column of the weights, so that the exponential overflows.
    grown = 1e5 * np.random.default_rng(0).normal(size=(3, 4))[:, 0].astype(np.float32)
    with pytest.raises(NonFiniteOutput) as caught:
        propagate_relevance(model, {"x": np.stack([X[0], grown])}, LrpParameters())
    assert caught.value.row == 1


def test_a_margin_needs_two_logits(tmp_path):
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "only")
    model = onnx_model([node], {"w": np.ones((3, 1), np.float32)}, {"x": (3,)}, "y", tmp_path / "one")
    with pytest.raises(InvalidField, match="one logit"):
        propagate_relevance(model, {"x": X}, target(None, value=TargetValue.MARGIN))


def test_memory_that_does_not_hold_one_instance_is_refused(model):
    with pytest.raises(MemoryLimitExceeded):
        propagate_relevance(model, {"x": X}, LrpParameters(), chunking=Chunking(memory_bytes=10))


def test_a_stop_is_heeded_before_the_next_pass(model):
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 2

    with pytest.raises(Stopped):
        propagate_relevance(model, {"x": X.repeat(5, 0)}, LrpParameters(), Control(stop), chunking=Chunking(rows=2))
    assert len(asked) == 3


def test_what_is_covered_is_known_by_layer(model, tmp_path):
    assert lrp_support(model.graph).reason == ""
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], ["summed"], "summed"),
        helper.make_node("Relu", ["summed"], ["y"], "y"),
    ]
    other = onnx_model(nodes, {"axis": np.array(1)}, {"x": (3,)}, "y", tmp_path / "cumsum")
    support = lrp_support(other.graph)
    assert support.layers == {"summed": False, "y": True}
    assert [(problem.node, problem.op) for problem in support.problems] == [("summed", "CumSum")]
    assert "CumSum" in support.reason
