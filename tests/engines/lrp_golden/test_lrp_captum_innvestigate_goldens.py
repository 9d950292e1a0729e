"""Relevance and gradients are those of captum and iNNvestigate; see tests/golden/lrp/README.md."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sidelight_engines.lrp import (
    AlphaBeta,
    Classes,
    Epsilon,
    Flat,
    GradientKind,
    GradientMethod,
    LayerPosition,
    LrpParameters,
    LrpPreset,
    LrpTarget,
    MatchOp,
    MatchPosition,
    Norm,
    RuleEntry,
    RuleMap,
    WSquare,
    ZBox,
)

from tests.engines.lrp_golden.conftest import Golden
from tests.engines.lrp_golden.golden_networks import FOLDER

DTYPES = ("float64", "float32")
CLASS_1 = LrpTarget(Classes((1,)))
BOX = {"DEEP_TAYLOR_BOUNDED": {"input_minimum": -1.0, "input_maximum": 1.0}}

INNVESTIGATE: dict[str, Any] = json.loads((FOLDER / "innvestigate.json").read_text())["cases"]


def everywhere(rule: Any, pooling: Any, *first: RuleEntry) -> RuleMap:
    """One rule for all layers with weights; what averages is no layer with weights."""
    return RuleMap((*first, RuleEntry(MatchOp("AveragePool"), pooling)), rule)


# iNNvestigate adds 1e-7 to a denominator only where it is exactly 0.
EXACT = Norm(0.0)
METHODS: dict[str, Any] = {
    "z": everywhere(Epsilon(0.0), EXACT),
    "epsilon_0.1": everywhere(Epsilon(0.1), EXACT),
    "epsilon_0.1_ignore_bias": everywhere(Epsilon(0.1, ignore_bias=True), EXACT),
    "flat": everywhere(Flat(0.0), EXACT),
    "w_square": everywhere(WSquare(0.0, ignore_bias=True), EXACT),
    "alpha_2_beta_1_ignore_bias": everywhere(AlphaBeta(2.0, 1.0, 0.0, ignore_bias=True), EXACT),
    "alpha_1_beta_0_ignore_bias": everywhere(AlphaBeta(1.0, 0.0, 0.0, ignore_bias=True), EXACT),
    "z_then_bounded": everywhere(
        Epsilon(0.0), EXACT, RuleEntry(MatchPosition(LayerPosition.FIRST), ZBox(-1.0, 1.0, 0.0))
    ),
    **{name: LrpPreset[name] for name in INNVESTIGATE if name.isupper()},
    "gradient": GradientMethod(GradientKind.GRADIENT),
    "input_x_gradient": GradientMethod(GradientKind.INPUT_TIMES_GRADIENT),
    "guided_backprop": GradientMethod(GradientKind.GUIDED_BACKPROP),
    "deconvnet": GradientMethod(GradientKind.DECONVNET),
}
# Gradients are of 1; iNNvestigate starts these from the logit.
FROM_LOGIT = {"guided_backprop", "deconvnet"}


# Rounding is of the network and of the rules, not of the presets; each test costs a trace.
IN_SINGLE_PRECISION = ("epsilon_0.1", "alpha_2_beta_1_ignore_bias", "z_then_bounded", "gradient")


def test_every_analyzer_of_the_goldens_is_compared() -> None:
    assert METHODS.keys() == INNVESTIGATE.keys()


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, "float64") for name in METHODS] + [(name, "float32") for name in IN_SINGLE_PRECISION]
)
def test_relevance_is_innvestigates(golden: Golden, name: str, dtype: str) -> None:
    case = INNVESTIGATE[name]
    network = golden("plain_unbiased" if case.get("unbiased") else "plain", dtype)
    target = LrpTarget() if case.get("largest") else CLASS_1
    x = np.load(FOLDER / "inputs.npz")["plain/x"]

    result = network.propagate({"x": x}, LrpParameters(METHODS[name], **BOX.get(name, {}), target=target))

    expected = np.load(FOLDER / "innvestigate_plain.npz")[name]
    if name in FROM_LOGIT:
        expected = expected / np.array([one.logit for one in result.explained]).reshape(-1, 1, 1, 1)
    network.assert_equal(result.inputs[0].values[:, 0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relevance_by_epsilon_is_captums(golden: Golden, dtype: str) -> None:
    network = golden("plain", dtype)
    x = np.load(FOLDER / "inputs.npz")["plain/x"]
    expected = np.load(FOLDER / "captum_plain.npz")["epsilon_1e-09"]
    parameters = LrpParameters(everywhere(Epsilon(1e-9), Norm(1e-9)), target=CLASS_1)

    result = network.propagate({"x": x}, parameters)

    # captum stabilises max pooling too, by which a winner x keeps x / (x + 1e-9) of its relevance.
    network.assert_equal(result.inputs[0].values[:, 0], expected, least=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gradient", "input_x_gradient", "integrated_gradients_64"])
def test_gradients_are_captums(golden: Golden, name: str, dtype: str) -> None:
    network = golden("plain", dtype)
    kinds = {
        "gradient": GradientMethod(GradientKind.GRADIENT),
        "input_x_gradient": GradientMethod(GradientKind.INPUT_TIMES_GRADIENT),
        "integrated_gradients_64": GradientMethod(GradientKind.INTEGRATED_GRADIENTS, samples=64),
    }
    x = np.load(FOLDER / "inputs.npz")["plain/x"]

    result = network.propagate({"x": x}, LrpParameters(kinds[name], target=CLASS_1))

    network.assert_equal(result.inputs[0].values[:, 0], np.load(FOLDER / "captum_plain.npz")[name])
