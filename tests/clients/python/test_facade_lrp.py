"""What `Client.lrp` sends, and how it puts the answers together."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sidelight
from fake_server import FakeServer, to_array
from sidelight.lrp_options import LrpOptions, lrp_request
from sidelight.lrp_rules import parse_rule
from sidelight.v1 import lrp_pb2

X = np.random.default_rng(0).random((10, 2, 3), dtype=np.float32)
PLACES = np.arange(1, 11)[:, np.newaxis, np.newaxis, np.newaxis]


def parameters(**options: Any) -> lrp_pb2.LrpParameters:
    return lrp_request("digits", options).parameters


def test_what_a_caller_leaves_out_is_not_sent(client: sidelight.Client, fake: FakeServer) -> None:
    client.lrp("digits", X, preset=None, layers=None, classes=None, seed=None, picture=None, output=None)

    (sent,) = fake.requests
    assert {field.name for field, _ in sent.ListFields()} == {"model", "instances", "parameters"}
    assert sent.parameters == lrp_pb2.LrpParameters()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"preset": "epsilon-plus"}, {"preset": lrp_pb2.LRP_PRESET_EPSILON_PLUS}),
        ({"preset": "epsilon_plus_flat"}, {"preset": lrp_pb2.LRP_PRESET_EPSILON_PLUS_FLAT}),
        ({"preset": "EpsilonAlpha2Beta1Flat"}, {"preset": lrp_pb2.LRP_PRESET_EPSILON_ALPHA2_BETA1_FLAT}),
        ({"preset": "SequentialPresetA"}, {"preset": lrp_pb2.LRP_PRESET_SEQUENTIAL_A}),
        ({"rules": "epsilon"}, {"rules": {"otherwise": {"epsilon": {}}}}),
        (
            {"rules": {"rule": "alpha-beta", "alpha": 2, "beta": 1, "ignore_bias": True}},
            {"rules": {"otherwise": {"alpha_beta": {"alpha": 2.0, "beta": 1.0}, "ignore_bias": True}}},
        ),
        (
            {
                "rules": [
                    {"position": "first", "rule": "z-box", "low": 0, "high": 1},
                    {"op": "Conv", "rule": "gamma", "gamma": 0.0},
                    {"layer_glob": "block1_*", "rule": "flat"},
                    {"layer": "head", "rule": "pass"},
                    "w-square",
                ]
            },
            {
                "rules": {
                    "entries": [
                        {"position": lrp_pb2.LAYER_POSITION_FIRST, "rule": {"z_box": {"low": 0.0, "high": 1.0}}},
                        {"op": "Conv", "rule": {"gamma": {"gamma": 0.0}}},
                        {"layer_glob": "block1_*", "rule": {"flat": {}}},
                        {"layer": "head", "rule": {"pass": {}}},
                    ],
                    "otherwise": {"w_square": {}},
                }
            },
        ),
        (
            {"gradient": "smooth_grad", "samples": 8, "noise": 0.0, "seed": 4},
            {
                "gradient": {"kind": lrp_pb2.GRADIENT_KIND_SMOOTH_GRAD, "samples": 8, "noise": 0.0, "seed": 4},
                "quality": {"seed": 4},
            },
        ),
        ({"classes": 3}, {"target": {"classes": {"indices": [3]}}}),
        ({"classes": [3, 0]}, {"target": {"classes": {"indices": [3, 0]}}}),
        ({"class_per_instance": np.array([1, 2])}, {"target": {"class_per_instance": {"indices": [1, 2]}}}),
        ({"output": "logits", "value": "margin"}, {"target": {"output": "logits", "value": 3}}),
        ({"layers": "all"}, {"layers": {"all": True}}),
        ({"layers": ["b", "a"]}, {"layers": {"names": ["b", "a"]}}),
        ({"layers": "conv_1"}, {"layers": {"names": ["conv_1"]}}),
        ({"empty_branch": "renormalise"}, {"empty_branch": lrp_pb2.EMPTY_BRANCH_POLICY_RENORMALISE}),
        ({"fallback": "gradient"}, {"fallback": lrp_pb2.LRP_FALLBACK_GRADIENT}),
        ({"attention": "cp-lrp"}, {"attention": lrp_pb2.ATTENTION_RULE_CP_LRP}),
        (
            {"pixel_flipping_steps": 16, "random_logit": True, "seed": 2},
            {"quality": {"pixel_flipping_steps": 16, "random_logit": True, "seed": 2}},
        ),
        ({"first_instance": 5}, {"first_instance": 5}),
    ],
    ids=lambda value: "-".join(value),
)
def test_an_option_reaches_its_field(options: dict[str, Any], expected: dict[str, Any]) -> None:
    if "pass" in str(expected):
        # A word of Python's own.
        sent = parameters(**options)
        assert sent.rules.entries[3].rule.WhichOneof("kind") == "pass"
        expected["rules"]["entries"] = expected["rules"]["entries"][:3]
        del sent.rules.entries[3]
        assert sent == lrp_pb2.LrpParameters(**expected)
        return
    assert parameters(**options) == lrp_pb2.LrpParameters(**expected)


def test_arrays_among_the_options_are_sent_as_they_are() -> None:
    relevance = np.arange(6, dtype=np.float32).reshape(2, 3)

    sent = parameters(preset="epsilon-gamma-box", input_range=(-1.0, np.ones((2, 3))), relevance=relevance)

    assert to_array(sent.input_minimum) == -1.0
    np.testing.assert_array_equal(to_array(sent.input_maximum), np.ones((2, 3)))
    np.testing.assert_array_equal(to_array(sent.target.relevance), relevance)
    baseline = parameters(gradient="integrated-gradients", baseline=0.5).gradient.baseline
    assert to_array(baseline) == 0.5


def test_every_parameter_of_the_contract_can_be_set() -> None:
    everything: dict[str, Any] = {
        "classes": 1,
        "input_range": (0, 1),
        "layers": "all",
        "empty_branch": "report",
        "fallback": "error",
        "attention": "attn-lrp",
        "random_logit": True,
        "first_instance": 1,
    }
    filled = {"input_minimum", "input_maximum", "target", "layers", "empty_branch", "fallback", "attention", "quality"}
    for method in ({"preset": "deep-taylor"}, {"rules": "epsilon"}, {"gradient": "deconvnet"}):
        sent = parameters(**everything, **method)
        assert {field.name for field, _ in sent.ListFields()} == filled | {"first_instance", *method}
    fields = set(lrp_pb2.LrpParameters.DESCRIPTOR.fields_by_name)
    assert fields == filled | {"first_instance", "preset", "rules", "gradient"}


def test_every_rule_of_the_contract_can_be_written_with_every_number() -> None:
    for field in lrp_pb2.LrpRule.DESCRIPTOR.oneofs_by_name["kind"].fields:
        numbers = {number.name: 0.5 for number in field.message_type.fields}
        written = parameters(rules={"rule": field.name, **numbers}).rules.otherwise
        message = getattr(written, field.name)
        assert {number.name: value for number, value in message.ListFields()} == numbers


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"preset": "epsilon-minus"}, "epsilon-plus"),
        ({"preset": "epsilon-plus", "rules": "flat"}, "exclude each other"),
        ({"classes": 1, "class_per_instance": [1]}, "exclude each other"),
        ({"samples": 8}, "gradient="),
        ({"rules": []}, "empty"),
        ({"rules": "epsilo"}, "alpha-beta"),
        ({"rules": {"rule": "flat", "gamma": 1}}, "has no number 'gamma'"),
        ({"rules": {"rule": "gamma", "gamma": "1"}}, "give a number"),
        ({"rules": ["flat", {"op": "Conv", "rule": "flat"}]}, "put it last"),
        ({"rules": [{"op": "Conv", "layer": "a", "rule": "flat"}]}, "layer and op"),
        ({"rules": [{"position": "middle", "rule": "flat"}]}, "'first' or 'last'"),
        ({"classes": [1.5]}, "class index"),
        ({"classes": []}, "class index"),
        ({"input_range": (0, 1, 2)}, "pair"),
        ({"seed": -1}, "at least 0"),
        ({"value": "probability"}, "logit"),
    ],
)
def test_what_can_not_be_sent_is_refused_before_anything_is(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(sidelight.InvalidArgument, match=complaint):
        parameters(**options)


def test_an_option_that_does_not_exist_is_a_type_error(client: sidelight.Client) -> None:
    with pytest.raises(TypeError, match="epsilon"):
        client.lrp("digits", X, epsilon=1)  # type: ignore[call-arg]


def test_options_show_in_the_signature() -> None:
    assert LrpOptions.__annotations__.keys() <= inspect.signature(sidelight.Client.lrp).parameters.keys()
    assert inspect.signature(sidelight.AsyncClient.lrp) == inspect.signature(sidelight.Client.lrp)


def test_a_rule_fits_on_one_line() -> None:
    assert parse_rule("alpha-beta,alpha=2, beta=1,ignore-bias") == {
        "rule": "alpha-beta",
        "alpha": 2.0,
        "beta": 1.0,
        "ignore_bias": True,
    }
    with pytest.raises(sidelight.InvalidArgument, match="name=number"):
        parse_rule("gamma,0.5")


def test_relevance_comes_back_as_arrays_by_instance_and_target(client: sidelight.Client) -> None:
    result = client.lrp("digits", X, classes=[2, 5], layers=["conv_1"], pixel_flipping_steps=4)

    np.testing.assert_allclose(result.relevance, X[:, np.newaxis] * PLACES * np.array([2, 5])[:, None, None], rtol=1e-6)
    assert result.layers["conv_1"].shape == (10, 2, 2, 1)
    assert result.classes.tolist() == [[2, 5]] * 10
    np.testing.assert_allclose(result.relevance_in, result.relevance.sum(axis=(2, 3)), rtol=1e-6)
    assert result.pixel_flipping_auc is not None
    assert result.pixel_flipping_auc.shape == (10, 2)
    assert result.random_logit_similarity is None
    assert [entry.layer for entry in result.ledger] == ["conv_1", ""]
    total = result.total
    assert total is not None
    np.testing.assert_array_equal(total.relevance_out, total.relevance_in + total.bias)
    assert result.head_cut_at == "softmax"
    assert result.applied_rules == (sidelight.AppliedRule("conv_1", "c", "Conv", "z", fallback=False),)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classes": [1, 4]},
        {"class_per_instance": list(range(10))},
        {"relevance": np.arange(30, dtype=np.float32).reshape(10, 3)},
    ],
    ids=["largest", "classes", "class-per-instance", "relevance"],
)
def test_no_split_changes_the_result(client: sidelight.Client, fake: FakeServer, options: dict[str, Any]) -> None:
    whole = client.lrp("digits", X, **options)
    split = client.lrp("digits", X, **options, instances_per_call=3)

    assert len(fake.requests) == 1 + 4
    assert fake.requests[-1].model.version == 3
    np.testing.assert_array_equal(split.relevance, whole.relevance)
    np.testing.assert_array_equal(split.classes, whole.classes)
    np.testing.assert_array_equal(split.ledger[0].bias, whole.ledger[0].bias)
    assert split.provenance.forward_rows == 10


def test_as_many_classes_as_instances_are_demanded(client: sidelight.Client, fake: FakeServer) -> None:
    with pytest.raises(sidelight.InvalidArgument, match="10 instances"):
        client.lrp("digits", X, class_per_instance=[1, 2])
    assert not fake.requests


def test_progress_is_told(client: sidelight.Client) -> None:
    told: list[tuple[int, int]] = []

    client.lrp("digits", X, progress=lambda done, total: told.append((done, total)))

    assert told[-1] == (10, 10)


def test_pictures_go_in_one_call_or_not_at_all(client: sidelight.Client) -> None:
    result = client.lrp("digits", X, picture="png", picture_instances=4, progress=lambda done, total: None)

    assert [picture.name for picture in result.pictures] == ["relevance", "relevance-ledger"]
    with pytest.raises(sidelight.InvalidArgument, match="picture="):
        client.lrp("digits", X, picture="png", instances_per_call=3)


def test_instances_may_be_selected_from_a_reference_set(client: sidelight.Client, fake: FakeServer) -> None:
    result = client.lrp("digits", sidelight.ReferenceSelection("train", indices=(4, 1)))

    assert list(fake.requests[0].instances.reference.indices) == [4, 1]
    assert result.instance_count == 2


def test_a_result_is_plain_data_for_json_and_numpy(client: sidelight.Client, tmp_path: Path) -> None:
    result = client.lrp("digits", X, layers=["conv_1"], random_logit=True)

    plain = json.loads(json.dumps(result.as_dict()))
    np.testing.assert_allclose(plain["inputs"]["x"], result.relevance, rtol=1e-6)
    assert plain["pixel_flipping_auc"] is None
    assert plain["ledger"][1]["layer"] == ""
    result.to_npz(tmp_path / "r")
    with np.load(tmp_path / "r", allow_pickle=False) as held:
        np.testing.assert_array_equal(held["input/x"], result.relevance)
        np.testing.assert_array_equal(held["layer/conv_1"], result.layers["conv_1"])
        assert held["ledger_bias"].shape == (2, 10, 1)
        assert held["random_logit_similarity"].shape == (10, 1)
        assert json.loads(str(held["provenance"]))["model"] == "digits"


def test_a_model_with_several_inputs_has_no_only_relevance(client: sidelight.Client) -> None:
    result = client.lrp("digits", X)
    several = {**vars(result), "inputs": {"a": X, "b": X}}

    with pytest.raises(KeyError, match="a, b"):
        _ = sidelight.LrpExplanation(**several).relevance


def test_a_gradient_method_has_no_ledger(client: sidelight.Client) -> None:
    result = client.lrp("digits", X, gradient="gradient")

    assert result.ledger == ()
    assert result.total is None


async def test_the_asyncio_client_does_the_same(fake: FakeServer) -> None:
    async with sidelight.connect_async(fake.address) as client:
        result = await client.lrp("digits", X, classes=[2], instances_per_call=4)

    np.testing.assert_allclose(result.relevance, X[:, np.newaxis] * PLACES * 2, rtol=1e-6)
