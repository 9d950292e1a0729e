"""Relevance is zennit's; see tests/golden/lrp/README.md."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest
from sidelight_engines.lrp import (
    AlphaBeta,
    Classes,
    Epsilon,
    Flat,
    Gamma,
    GivenRelevance,
    GradientKind,
    GradientMethod,
    LayerSelection,
    LrpParameters,
    LrpPreset,
    LrpTarget,
    MatchLayer,
    Rule,
    RuleEntry,
    RuleMap,
    TargetValue,
    WSquare,
    ZBox,
)

from tests.engines.lrp_golden.conftest import Golden
from tests.engines.lrp_golden.golden_networks import FOLDER, Array

CASES: dict[str, Any] = json.loads((FOLDER / "cases.json").read_text())
RULES: dict[str, Rule] = {
    "z": Epsilon(0.0),
    "epsilon": Epsilon(1e-6),
    "epsilon_0.1": Epsilon(0.1),
    "epsilon_ignore_bias": Epsilon(1e-6, ignore_bias=True),
    "gamma": Gamma(0.25),
    "gamma_2": Gamma(2.0),
    "gamma_ignore_bias": Gamma(0.25, ignore_bias=True),
    "alpha_2_beta_1": AlphaBeta(2.0, 1.0),
    "alpha_1.5_beta_0.5": AlphaBeta(1.5, 0.5),
    "alpha_2_beta_1_ignore_bias": AlphaBeta(2.0, 1.0, ignore_bias=True),
    "z_plus": AlphaBeta(1.0, 0.0),
    "z_plus_ignore_bias": AlphaBeta(1.0, 0.0, ignore_bias=True),
    "w_square": WSquare(),
    "w_square_ignore_bias": WSquare(ignore_bias=True),
    "flat": Flat(),
    "z_box": ZBox(-1.0, 1.0),
}
GRADIENTS = {"GUIDED_BACKPROP": GradientKind.GUIDED_BACKPROP, "DECONVNET": GradientKind.DECONVNET}
PRESETS = [name for name in CASES["composites"] if name not in GRADIENTS]
BOX = {"EPSILON_GAMMA_BOX": {"input_minimum": -1.0, "input_maximum": 1.0}}
DTYPES = ("float64", "float32")
# Layer i takes rule i + shift. All sixteen shifts are every rule at every layer, which takes minutes of tracing; these
# are every rule at several layers, and every layer under several rules.
_EVERY = bool(os.environ.get("SIDELIGHT_EVERY_GOLDEN"))
SHIFTS = range(16) if _EVERY else (0, 6, 8, 11)
SHIFTS_IN_SINGLE = range(16) if _EVERY else (3,)


@pytest.fixture(scope="module")
def inputs() -> dict[str, Array]:
    with np.load(FOLDER / "inputs.npz") as held:
        return dict(held)


def started_at(relevance: Array) -> LrpTarget:
    return LrpTarget(GivenRelevance(relevance))


def test_every_rule_of_the_goldens_is_compared() -> None:
    assert RULES.keys() == CASES["rules"].keys()


@pytest.mark.parametrize(
    ("shift", "dtype"), [(shift, "float64") for shift in SHIFTS] + [(shift, "float32") for shift in SHIFTS_IN_SINGLE]
)
def test_a_layer_hands_down_what_zennits_does(golden: Golden, inputs: dict[str, Array], shift: int, dtype: str) -> None:
    network = golden("layers", dtype)
    x = {name.removeprefix("layers/"): array for name, array in inputs.items() if name.startswith("layers/")}
    target = started_at(x.pop("relevance"))
    names = list(RULES)
    rules = {layer: names[(place + shift) % len(names)] for place, layer in enumerate(x)}
    entries = tuple(RuleEntry(MatchLayer(layer), RULES[rule]) for layer, rule in rules.items())

    result = network.propagate(x, LrpParameters(RuleMap(entries), target=target))

    found = {relevance.name: relevance.values[:, 0] for relevance in result.inputs}
    with np.load(FOLDER / "zennit_layers.npz") as held:
        for layer, rule in rules.items():
            network.assert_equal(found[layer], held[f"{rule}/{layer}"], f"{rule} at {layer}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", [name for name in RULES if name != "z"])
def test_a_neuron_without_contributions_hands_down_what_zennits_does(
    golden: Golden, inputs: dict[str, Array], rule: str, dtype: str
) -> None:
    network = golden("empty", dtype)
    relevance = inputs["empty/relevance"]
    # One target per neuron: each by itself.
    each = relevance[:, np.newaxis, :] * np.eye(relevance.shape[1], dtype=relevance.dtype)
    parameters = LrpParameters(RuleMap(otherwise=RULES[rule]), target=started_at(each))
    with np.load(FOLDER / "zennit_empty.npz") as held:
        expected = held[rule]

    result = network.propagate({"x": inputs["empty/x"]}, parameters)

    (found,) = result.inputs
    for neuron in range(expected.shape[1]):
        network.assert_equal(found.values[:, neuron], expected[:, neuron], f"neuron {neuron}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_what_zennits_composite_does(
    golden: Golden, inputs: dict[str, Array], preset: str, dtype: str
) -> None:
    network = golden("cnn", dtype)
    layers = CASES["inner_layers"]
    parameters = LrpParameters(LrpPreset[preset], **BOX.get(preset, {}), layers=LayerSelection(tuple(layers)))
    with np.load(FOLDER / "zennit_cnn.npz") as held:
        expected = {name: held[f"{preset}/{name}"] for name in ("input", *layers)}

    result = network.propagate({"x": inputs["cnn/x"]}, parameters)

    found = {"input": result.inputs[0], **{layer.name: layer for layer in result.layers}}
    for name, array in expected.items():
        network.assert_equal(found[name].values[:, 0], array, name)


@pytest.mark.parametrize("preset", CASES["composites"])
def test_class_1_from_1_gives_what_zennits_attributor_does(
    golden: Golden, inputs: dict[str, Array], preset: str
) -> None:
    network = golden("cnn", "float64")
    method = GradientMethod(GRADIENTS[preset]) if preset in GRADIENTS else LrpPreset[preset]
    target = LrpTarget(Classes((1,)), value=TargetValue.ONE)
    with np.load(FOLDER / "zennit_cnn.npz") as held:
        expected = held[f"{preset}/class_1/input"]

    result = network.propagate({"x": inputs["cnn/x"]}, LrpParameters(method, **BOX.get(preset, {}), target=target))

    network.assert_equal(result.inputs[0].values[:, 0], expected)
