"""Relevance in attention, normalisation and gated products is LXT's; see tests/golden/lrp/README.md."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sidelight_engines.lrp import (
    AttentionRule,
    GivenRelevance,
    LayerSelection,
    LrpParameters,
    LrpResult,
    LrpTarget,
    RuleMap,
)

from tests.engines.lrp_golden.conftest import Golden
from tests.engines.lrp_golden.golden_networks import FOLDER, Array, GoldenNetwork

RECORD: dict[str, Any] = json.loads((FOLDER / "lxt.json").read_text())
STABILISER = RECORD["stabilizer"]
CASES = [
    (network, case, "float64")
    for network, cases in RECORD["cases"].items()
    for case, arguments in cases.items()
    if not arguments.get("identity")
]
IN_SINGLE = [(network, "attn_lrp", "float32") for network in ("attention_head", "encoder", "gated")]
# Sixteen roundings of numbers of about 1, by 2^-24 each, move the least denominator by this part of it, and its
# relevance with it: blocks of many layers round so often in the forward pass alone.
ROUNDING = {network: 16 * 2.0**-24 / RECORD["least_denominator"][network] for network in ("encoder", "gated")}


@pytest.fixture(scope="module")
def held() -> dict[str, Array]:
    with np.load(FOLDER / "lxt_attention.npz") as file:
        return dict(file)


def expected_of(held: dict[str, Array], network: str, case: str) -> dict[str, Array]:
    """Relevance by place."""
    start = f"{network}/{case}/"
    return {name.removeprefix(start): array for name, array in held.items() if name.startswith(start)}


def propagate(
    network: GoldenNetwork, name: str, held: dict[str, Array], rule: AttentionRule, layers: LayerSelection
) -> LrpResult:
    # Epsilon everywhere, with the stabiliser of the goldens.
    parameters = LrpParameters(
        RuleMap(),
        target=LrpTarget(GivenRelevance(held[f"given/{name}/relevance"])),
        layers=layers,
        attention=rule,
    )
    return network.propagate({"x": held[f"given/{name}/x"]}, parameters)


@pytest.mark.parametrize(("name", "case", "dtype"), CASES + IN_SINGLE)
def test_relevance_is_lxts(golden: Golden, held: dict[str, Array], name: str, case: str, dtype: str) -> None:
    network = golden(name, dtype)
    rule = AttentionRule.CP_LRP if RECORD["cases"][name][case].get("cp") else AttentionRule.ATTN_LRP
    expected = expected_of(held, name, case)
    layers = LayerSelection(tuple(place for place in expected if place != "input"))

    result = propagate(network, name, held, rule, layers)

    least = ROUNDING.get(name, 0.0) if dtype == "float32" else 0.0
    found = {"input": result.inputs[0], **{layer.name: layer for layer in result.layers}}
    for place, array in expected.items():
        network.assert_equal(found[place].values[:, 0], array, place, least)


def test_cp_lrp_passes_no_layer_that_lxt_hands_nothing(golden: Golden, held: dict[str, Array]) -> None:
    reached = {rule: expected_of(held, "attention_head", rule).keys() for rule in ("attn_lrp", "cp_lrp")}
    without = reached["attn_lrp"] - reached["cp_lrp"]
    assert without == {"query", "key", "scores", "weights"}

    result = propagate(
        golden("attention_head", "float64"),
        "attention_head",
        held,
        AttentionRule.CP_LRP,
        LayerSelection(everything=True),
    )

    assert without.isdisjoint(layer.name for layer in result.layers)
    assert "value" in {layer.name for layer in result.layers}


def test_rms_norm_passes_all_that_lxts_identity_rule_does_but_the_stabilisers_share(
    golden: Golden, held: dict[str, Array]
) -> None:
    network = golden("gated", "float64")
    expected = expected_of(held, "gated", "identity")
    magnitude = np.abs(held["gated/rms_values"])

    result = propagate(network, "gated", held, AttentionRule.ATTN_LRP, LayerSelection(("rms",)))

    network.assert_equal(result.layers[0].values[:, 0], expected["rms"], "rms")
    kept = magnitude / (magnitude + STABILISER)
    network.assert_equal(result.inputs[0].values[:, 0], expected["input"] * kept, "input")
