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
IN_SINGLE = [(network, "attn_lrp", "float32") for network in ("attention_head", "attention_padded", "encoder", "gated")]


@pytest.fixture(scope="module")
def held() -> dict[str, Array]:
    with np.load(FOLDER / "lxt_attention.npz") as file:
        return dict(file)


def part_of(held: dict[str, Array], *names: str) -> dict[str, Array]:
    """Relevance by place, or, of "given", what was put in."""
    start = "".join(f"{name}/" for name in names)
    return {name.removeprefix(start): array for name, array in held.items() if name.startswith(start)}


def propagate(
    network: GoldenNetwork, name: str, held: dict[str, Array], rule: AttentionRule, layers: LayerSelection
) -> LrpResult:
    inputs = part_of(held, "given", name)
    # Epsilon everywhere, with the stabiliser of the goldens.
    parameters = LrpParameters(
        RuleMap(),
        target=LrpTarget(GivenRelevance(inputs.pop("relevance"))),
        layers=layers,
        attention=rule,
    )
    return network.propagate(inputs, parameters)


@pytest.mark.parametrize(("name", "case", "dtype"), CASES + IN_SINGLE)
def test_relevance_is_lxts(golden: Golden, held: dict[str, Array], name: str, case: str, dtype: str) -> None:
    network = golden(name, dtype)
    rule = AttentionRule.CP_LRP if RECORD["cases"][name][case].get("cp") else AttentionRule.ATTN_LRP
    expected = part_of(held, name, case)
    layers = LayerSelection(tuple(place for place in expected if place != "input"))

    result = propagate(network, name, held, rule, layers)

    found = {"input": result.inputs[0], **{layer.name: layer for layer in result.layers}}
    for place, array in expected.items():
        network.assert_equal(found[place].values[:, 0], array, place)


def test_cp_lrp_passes_no_layer_that_lxt_hands_nothing(golden: Golden, held: dict[str, Array]) -> None:
    reached = {rule: part_of(held, "attention_head", rule).keys() for rule in ("attn_lrp", "cp_lrp")}
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


def test_a_mask_that_comes_with_the_instance_gets_nothing(golden: Golden, held: dict[str, Array]) -> None:
    network = golden("attention_padded", "float64")

    result = propagate(network, "attention_padded", held, AttentionRule.ATTN_LRP, LayerSelection())

    found = {relevance.name: relevance.values for relevance in result.inputs}
    assert not found["keep"].any()


def test_rms_norm_passes_all_that_lxts_identity_rule_does_but_the_stabilisers_share(
    golden: Golden, held: dict[str, Array]
) -> None:
    network = golden("gated", "float64")
    expected = part_of(held, "gated", "identity")
    magnitude = np.abs(held["gated/rms_values"])

    result = propagate(network, "gated", held, AttentionRule.ATTN_LRP, LayerSelection(("rms",)))

    network.assert_equal(result.layers[0].values[:, 0], expected["rms"], "rms")
    kept = magnitude / (magnitude + STABILISER)
    network.assert_equal(result.inputs[0].values[:, 0], expected["input"] * kept, "input")
