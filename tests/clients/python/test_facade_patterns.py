"""What `Client.activation_pattern` sends, and how it reads the answer."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sidelight
from fake_server import FakeServer
from sidelight.activation_pattern import decode_activation_pattern
from sidelight.activation_pattern_options import ActivationPatternOptions, activation_pattern_request
from sidelight.arrays import to_tensor
from sidelight.v1 import activation_pattern_pb2, reference_pb2

X = np.random.default_rng(0).random((6, 4), dtype=np.float32)
SET = sidelight.ReferenceSelection("digits")
RATES = np.array([[0.5, 1.0], [0.0, 0.25]])


def request(x: Any = SET, limit: int = 2**20, **options: Any) -> Any:
    return activation_pattern_request("digits", x, {"layers": ["dense"], **options}, limit)


def parameters(**options: Any) -> activation_pattern_pb2.ActivationPatternParameters:
    return request(**options).parameters


def test_what_a_caller_leaves_out_is_not_sent() -> None:
    sent = request(threshold=None, distances=None, picture=None)

    assert {field.name for field, _ in sent.ListFields()} == {"model", "instances", "parameters"}
    assert sent.parameters == activation_pattern_pb2.ActivationPatternParameters(layers={"names": ["dense"]})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layers": "all"}, {"layers": {"all": True}}),
        ({"layers": "conv"}, {"layers": {"names": ["conv"]}}),
        ({"threshold": 0.0}, {"value": 0.0}),
        ({"quantile": 0.0}, {"quantile": 0.0}),
        ({"pooling": "position"}, {"pooling": activation_pattern_pb2.UNIT_POOLING_POSITION}),
        ({"by_prediction": True}, {"class_source": reference_pb2.CLASS_SOURCE_PREDICTION}),
        ({"by_prediction": False}, {"class_source": reference_pb2.CLASS_SOURCE_LABEL}),
        ({"divisor": 1000}, {"divisor": 1000.0}),
        ({"distances": "cka"}, {"distances": [4]}),
        ({"distances": ["jaccard", "cosine"]}, {"distances": [3, 2]}),
        ({"specific_units": 0}, {"specific_units": 0}),
        ({"output": "probabilities"}, {"output": "probabilities"}),
        ({"labels": [0, 1]}, {"labels": to_tensor(np.array([0, 1]), "labels")}),
    ],
    ids=lambda value: "-".join(value),
)
def test_an_option_reaches_its_field_even_when_it_is_zero(options: dict[str, Any], expected: dict[str, Any]) -> None:
    expected = {"layers": {"names": ["dense"]}} | expected
    assert parameters(**options) == activation_pattern_pb2.ActivationPatternParameters(**expected)


def test_pictures_are_asked_for_with_their_options() -> None:
    render = request(picture="png", picture_width=480, picture_dark=True, picture_instances=9).render

    assert (render.format, render.width_pixels, render.dark, render.max_instances) == (1, 480, True, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": None}, "layers is not given"),
        ({"layers": []}, "layers is not given"),
        ({"threshold": 1.0, "quantile": 0.5}, "exclude each other"),
        ({"pooling": "max"}, "'any' or 'mean' or 'position'"),
        ({"distances": ["euclidean"]}, "'mean-absolute'"),
        ({"x": X, "limit": 100}, "create_reference"),
    ],
)
def test_what_can_not_be_sent_is_refused_with_what_to_give(options: dict[str, Any], message: str) -> None:
    with pytest.raises(sidelight.InvalidArgument, match=message):
        request(**options)


def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="poling"):
        request(poling="any")


@pytest.mark.parametrize("function", [sidelight.Client, sidelight.AsyncClient])
def test_every_option_shows_in_help(function: type) -> None:
    for name in ("activation_pattern", "submit_activation_pattern"):
        shown = inspect.signature(getattr(function, name)).parameters
        assert set(ActivationPatternOptions.__annotations__) <= set(shown)
    described = inspect.getdoc(sidelight.Client.activation_pattern) or ""
    assert all(f"{option}: " in described for option in ActivationPatternOptions.__annotations__)


def response() -> activation_pattern_pb2.ExplainActivationPatternResponse:
    return activation_pattern_pb2.ExplainActivationPatternResponse(
        classes=[2, 7],
        class_counts=[4, 8],
        class_examples=[1, 0],
        layers=[
            activation_pattern_pb2.LayerPattern(
                layer="dense",
                firing_rates=to_tensor(RATES, ""),
                standard_errors=to_tensor(RATES / 10, ""),
                thresholds=to_tensor(np.zeros(2), ""),
                unit_shape=[2],
                distances=[
                    activation_pattern_pb2.PatternDistanceMatrix(
                        distance=1,
                        values=to_tensor(np.array([[0, 0.625], [0.625, 0]]), ""),
                        neighbours=to_tensor(np.array([[0, 1], [1, 0]]), ""),
                    )
                ],
                always_on_units=[1],
                specific_units=[activation_pattern_pb2.SpecificUnit(class_index=2, unit=1, excess_rate=0.75)],
            )
        ],
        effective_parameters=activation_pattern_pb2.ActivationPatternParameters(quantile=0.0, pooling=1, distances=[1]),
    )


def test_an_answer_reads_like_a_dict_of_layers(tmp_path: Path) -> None:
    explanation = decode_activation_pattern(response())

    layer = explanation["dense"]
    np.testing.assert_array_equal(layer.firing_rates, RATES)
    assert list(explanation) == ["dense"]
    assert explanation.nearest("dense", 7) == (2,)
    assert layer.distances["mean-absolute"].values[0, 1] == 0.625
    assert (layer.dead_units, layer.always_on_units) == ((), (1,))
    assert (explanation.parameters.threshold, explanation.parameters.quantile) == (None, 0.0)
    assert explanation.as_dict()["layers"][0]["specific_units"] == [{"class_index": 2, "unit": 1, "excess_rate": 0.75}]
    with pytest.raises(KeyError, match="dense"):
        explanation["dens"]
    explanation.to_npz(tmp_path / "r")
    with np.load(tmp_path / "r") as numbers:
        np.testing.assert_array_equal(numbers["distances_mean-absolute_0"], [[0, 0.625], [0.625, 0]])


def test_a_server_without_the_method_is_told_of_as_such(client: sidelight.Client, fake: FakeServer) -> None:
    with pytest.raises(sidelight.Unimplemented):
        client.activation_pattern("digits", SET, layers="all")
