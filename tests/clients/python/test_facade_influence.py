"""What `Client.influence` sends, and what it makes of the answer."""

from __future__ import annotations

import csv
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sidelight
from fake_server import FakeServer, influence_response, to_array
from sidelight.influence_decode import decode_influence
from sidelight.influence_options import InfluenceOptions, influence_request
from sidelight.v1 import influence_pb2, reference_pb2

X = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
NAN = float("nan")


def parameters(**options: Any) -> influence_pb2.InfluenceParameters:
    return influence_request("digits", X, None, options).parameters


def test_what_a_caller_leaves_out_is_not_sent(client: sidelight.Client, fake: FakeServer) -> None:
    client.influence("digits", X, labels=None, taus=None, metrics=None, picture=None)

    (sent,) = fake.requests
    assert {field.name for field, _ in sent.ListFields()} == {"model", "instances", "parameters"}
    assert sent.parameters == influence_pb2.InfluenceParameters()
    np.testing.assert_array_equal(to_array(sent.instances.inline.inputs[0].tensor), X)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"taus": np.array([-0.5, 0.5])}, {"taus": [-0.5, 0.5]}),
        ({"taus": range(-1, 2)}, {"taus": [-1, 0, 1]}),
        ({"targets": [3]}, {"targets": [3]}),
        ({"quantiles": (0, 0.9)}, {"low_quantile": 0, "high_quantile": 0.9}),
        ({"features": np.array([2, 0])}, {"features": [2, 0]}),
        ({"feature_names": ["a", "b"]}, {"feature_names": ["a", "b"]}),
        ({"output": "probabilities"}, {"output": "probabilities"}),
        ({"metrics": "accuracy"}, {"metrics": [1]}),
        ({"metrics": ["log-loss", "squared_error"]}, {"metrics": [2, 8]}),
        ({"unattainable": "missing"}, {"unattainable": 2}),
        ({"confidence": 0.9}, {"confidence_level": 0.9}),
        ({"ethik_compatible": True}, {"ethik_compatible": True}),
    ],
)
def test_every_option_arrives_in_its_field(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert parameters(**options) == influence_pb2.InfluenceParameters(**expected)


@pytest.mark.parametrize("name", ["labels", "groups", "predictions"])
def test_arrays_are_sent_in_their_own_type(name: str) -> None:
    sent = getattr(parameters(**{name: np.array([2, 0, 1], np.int16)}), name)

    np.testing.assert_array_equal(to_array(sent), [2, 0, 1])
    assert to_array(sent).dtype == np.int16


@pytest.mark.parametrize("given", ["digits", sidelight.ReferenceSelection("digits")])
def test_a_reference_set_is_named_rather_than_sent(given: Any) -> None:
    expected = reference_pb2.Instances(reference=reference_pb2.ReferenceSelection(reference="digits"))

    assert influence_request("m", None, given, {}).instances == expected
    if not isinstance(given, str):
        assert influence_request("m", given, None, {}).instances == expected


def test_pictures_are_asked_for_with_their_size_and_ground() -> None:
    request = influence_request("m", X, None, {"picture": "svg", "picture_width": 500, "picture_dark": True})

    assert (request.render.format, request.render.width_pixels, request.render.dark) == (2, 500, True)


def test_predictions_need_no_model() -> None:
    request = influence_request(None, X, None, {"predictions": [0, 1, 0]})

    assert not request.HasField("model")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None, X, None, {}), "neither a model nor predictions"),
        (("m", None, None, {}), "either x=, an array, or reference="),
        (("m", X, "set", {}), "either x=, an array, or reference="),
        (("m", X, None, {"metrics": ["acuracy"]}), "'accuracy' or 'log-loss'"),
        (("m", X, None, {"unattainable": "nan"}), "'boundary' or 'missing' or 'error'"),
        (("m", X, None, {"quantiles": [0.5]}), "give two"),
        (("m", X, None, {"taus": []}), "at least one number"),
        (("m", X, None, {"features": [0.5]}), "not whole"),
    ],
)
def test_what_can_not_be_sent_is_refused_here(arguments: Any, words: str) -> None:
    with pytest.raises(sidelight.InvalidArgument, match=words):
        influence_request(*arguments)


def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="tau"):
        influence_request("m", X, None, {"tau": [0]})  # type: ignore[typeddict-unknown-key]


def test_a_request_that_no_message_has_room_for_is_refused_with_a_way_out(fake: FakeServer) -> None:
    with (
        sidelight.connect(fake.address, max_message_bytes=1000) as small,
        pytest.raises(sidelight.InvalidArgument, match="create_reference"),
    ):
        small.influence("m", np.zeros((50, 50)))

    assert not fake.requests


def test_help_shows_every_option() -> None:
    for function in (sidelight.Client.influence, sidelight.AsyncClient.influence, sidelight.Client.submit_influence):
        assert InfluenceOptions.__annotations__.keys() <= inspect.signature(function).parameters.keys()
    documented = sidelight.Client.influence.__doc__ or ""
    assert all(f"{name}: " in documented for name in InfluenceOptions.__annotations__)


async def test_the_asyncio_client_sends_and_reads_the_same(fake: FakeServer) -> None:
    async with sidelight.connect_async(fake.address) as client:
        explanation = await client.influence("digits", X, taus=(0.5,), metrics=["auc"])

    assert fake.requests == [influence_request("digits", X, None, {"taus": (0.5,), "metrics": ["auc"]})]
    assert explanation.features.tolist() == [3, 0]


def test_an_explanation_holds_arrays_and_words(client: sidelight.Client, fake: FakeServer) -> None:
    explanation = client.influence("digits", X)

    assert explanation.influences.shape == (2, 2, 2)
    assert explanation.metrics == ("log-loss",)
    assert explanation.confidence_low is None
    assert explanation.groups is None
    assert explanation.attained.dtype == np.bool_
    assert explanation.feature_name(1) == "a"
    np.testing.assert_array_equal(explanation.differences, [[0.25, -0.25], [0.75, -0.75]])
    assert explanation.ranking().tolist() == [1, 0]
    np.testing.assert_array_equal(explanation.image(explanation.differences[:, 0]), [[0.75, NAN], [NAN, 0.25]])
    assert "2 features x 2 taus x 2 labels" in repr(explanation)


def test_an_explanation_is_fit_for_json_and_for_numpy(tmp_path: Path) -> None:
    explanation = decode_influence(influence_response())

    plain = json.loads(json.dumps(explanation.as_dict(), allow_nan=False))
    explanation.to_npz(tmp_path / "r.out")
    kept = np.load(tmp_path / "r.out", allow_pickle=False)

    assert plain["influences"] == [[[0.25, 0.75], [0.5, 0.5]], [[0.25, 0.75], [1.0, 0.0]]]
    assert plain["standard_errors"][1][1] == [None, None]
    assert plain["performance_errors"] == [[[0.01], [0.02]], [[0.03], [None]]]
    assert plain["attained"] == [[True, True], [True, False]]
    np.testing.assert_array_equal(kept["influences"], explanation.influences)
    np.testing.assert_array_equal(kept["performance_errors"], explanation.performance_errors)
    np.testing.assert_array_equal(kept["feature_names"], ["d", "a"])
    assert "confidence_low" not in kept
    assert json.loads(str(kept["provenance"]))["model"] == "digits"


def test_a_table_has_a_line_for_each_feature_tau_and_label(tmp_path: Path) -> None:
    decode_influence(influence_response()).to_csv(tmp_path / "r.csv")

    with (tmp_path / "r.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    assert lines[2] == {
        "feature": "3", "name": "d", "tau": "1.0", "target_mean": "7.0", "attained_mean": "7.0", "attained": "1",
        "effective_sample_size": "2.5", "label": "0", "influence": "0.5", "standard_error": "0.2", "log_loss": "0.75",
        "log_loss_error": "0.02",
    }  # fmt: skip
    assert lines[-1]["standard_error"] == lines[-1]["log_loss"] == lines[-1]["log_loss_error"] == ""
    assert lines[-1]["attained"] == "0"


def test_a_server_that_sends_no_errors_of_metrics_leaves_them_out(tmp_path: Path) -> None:
    response = influence_response()
    response.ClearField("performance_errors")

    explanation = decode_influence(response)
    explanation.to_csv(tmp_path / "r.csv")

    assert explanation.performance_errors is None
    assert explanation.group_performance_errors is None
    assert (tmp_path / "r.csv").read_text().splitlines()[0].endswith(",standard_error,log_loss")


def test_errors_of_metrics_by_group_have_their_axes() -> None:
    response = influence_response()
    response.groups.extend([1, 2])
    for name in ("group_performances", "group_performance_errors"):
        getattr(response, name).CopyFrom(response.influences)
        getattr(response, name).shape.append(1)

    explanation = decode_influence(response)

    assert explanation.group_performance_errors is not None
    np.testing.assert_array_equal(explanation.group_performance_errors[..., 0], explanation.influences)
