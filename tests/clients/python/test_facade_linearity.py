"""What `Client.linearity` sends, and how it puts the answers together."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sidelight
from fake_server import FakeServer, to_array
from sidelight.linearity_options import LinearityOptions, linearity_request
from sidelight.pace import Pace
from sidelight.v1 import linearity_pb2, reference_pb2

X = np.random.default_rng(0).random((10, 2, 3), dtype=np.float32)
RANGE = (0, 1)
UNIT = linearity_pb2.FeatureRange(uniform=linearity_pb2.UniformRange(minimum=0, maximum=1))


def parameters(**options: Any) -> linearity_pb2.LinearityParameters:
    return linearity_request("digits", options).parameters


def test_what_a_caller_leaves_out_is_not_sent(client: sidelight.Client, fake: FakeServer) -> None:
    client.linearity("digits", X, feature_range=RANGE, layers=None, samples=None, clip=None, seed=None, picture=None)

    (sent,) = fake.requests
    assert {field.name for field, _ in sent.ListFields()} == {"model", "instances", "parameters"}
    assert sent.parameters == linearity_pb2.LinearityParameters(grid=linearity_pb2.GridSampling(feature_range=UNIT))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"samples": 0}, {"samples": 0}),
        ({"aggregate": "pairwise"}, {"aggregation": linearity_pb2.AGGREGATION_PAIRWISE}),
        ({"coefficients": [0.25, 0.75]}, {"coefficients": [0.25, 0.75]}),
        ({"layers": "all"}, {"layers": {"all": True}}),
        ({"layers": ["b", "a"]}, {"layers": {"names": ["b", "a"]}}),
        ({"layers": "conv_1"}, {"layers": {"names": ["conv_1"]}}),
        ({"output": "probabilities"}, {"output": "probabilities"}),
        ({"model_type": "regressor"}, {"model_type": linearity_pb2.MODEL_TYPE_REGRESSOR}),
        (
            {"classifier_scale": "exact-log-probability"},
            {"classifier_scale": linearity_pb2.CLASSIFIER_SCALE_EXACT_LOG_PROBABILITY},
        ),
        ({"probability_floor": 0.0}, {"probability_floor": 0.0}),
        ({"confidence": 0.95}, {"confidence_level": 0.95}),
        ({"runtime": "tensorflow"}, {"runtime": 2}),
        (
            {"seed": 5, "draws": "mersenne-twister", "first_instance": 3, "total_instances": 20, "word_offset": 9},
            {"draws": {"seed": 5, "generator": 2, "first_instance": 3, "total_instances": 20, "word_offset": 9}},
        ),
        (
            {"epsilon": 0.0, "resolution": 0, "clip": True},
            {"grid": {"feature_range": UNIT, "epsilon": 0.0, "resolution": 0, "clip": True}},
        ),
    ],
    ids=lambda value: "-".join(value),
)
def test_an_option_reaches_its_field_even_when_it_is_zero(options: dict[str, Any], expected: dict[str, Any]) -> None:
    expected = {"grid": {"feature_range": UNIT}} | expected
    assert parameters(feature_range=RANGE, **options) == linearity_pb2.LinearityParameters(**expected)


def test_every_parameter_of_the_contract_can_be_set() -> None:
    everything: LinearityOptions = {
        "layers": "all",
        "samples": 5,
        "aggregate": "global",
        "feature_range": RANGE,
        "epsilon": 0.1,
        "resolution": 10,
        "clip": True,
        "coefficients": [0.2] * 5,
        "output": "o",
        "model_type": "classifier",
        "classifier_scale": "log-probability",
        "probability_floor": 1e-9,
        "seed": 1,
        "draws": "counter",
        "first_instance": 1,
        "total_instances": 9,
        "word_offset": 1,
        "confidence": 0.9,
        "runtime": "onnx-runtime",
    }

    request = linearity_request("digits", everything).parameters

    for message in (request, request.grid, request.draws):
        unset = {field.name for field in message.DESCRIPTOR.fields} - {field.name for field, _ in message.ListFields()}
        assert unset <= {"knn"}
    assert parameters(neighbours=X).HasField("knn")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float16", "float32", "float64"])
def test_arrays_travel_as_raw_bytes_of_their_own_type(client: sidelight.Client, fake: FakeServer, dtype: str) -> None:
    x = (X * 3).astype(dtype)

    client.linearity("digits", x, feature_range=RANGE)

    (named,) = fake.requests[0].instances.inline.inputs
    assert named.name == ""
    assert to_array(named.tensor).dtype == x.dtype
    np.testing.assert_array_equal(to_array(named.tensor), x)


@pytest.mark.parametrize("order", [">f4", "F", "strided"])
def test_memory_layout_does_not_matter(client: sidelight.Client, fake: FakeServer, order: str) -> None:
    layouts = {">f4": X.astype(">f4"), "F": np.asfortranarray(X), "strided": np.repeat(X, 2, axis=2)[:, :, ::2]}

    client.linearity("digits", layouts[order], feature_range=RANGE)

    np.testing.assert_array_equal(to_array(fake.requests[0].instances.inline.inputs[0].tensor), X)


def test_inputs_are_named_when_a_dict_is_given(client: sidelight.Client, fake: FakeServer) -> None:
    client.linearity("digits", {"left": X, "right": X[:, 0]}, feature_range=RANGE, instances_per_call=4)

    assert [[(i.name, list(i.tensor.shape)) for i in r.instances.inline.inputs] for r in fake.requests] == [
        [("left", [4, 2, 3]), ("right", [4, 3])],
        [("left", [4, 2, 3]), ("right", [4, 3])],
        [("left", [2, 2, 3]), ("right", [2, 3])],
    ]


@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (1.0, "a single number"),
        (np.zeros((0, 3)), "no instance"),
        ([[1, 2], [3]], "equal length"),
        (np.array(["a"]), "element type"),
        (np.zeros(2, complex), "element type"),
        ({"a": X, "b": X[:2]}, "differ in length"),
        ({}, "empty dict"),
    ],
)
def test_what_is_no_batch_of_numbers_is_refused_before_it_is_sent(
    client: sidelight.Client, fake: FakeServer, x: Any, complaint: str
) -> None:
    with pytest.raises(sidelight.InvalidArgument, match=complaint):
        client.linearity("digits", x, feature_range=RANGE)
    assert fake.requests == []


def test_a_missing_feature_range_is_never_guessed(client: sidelight.Client, fake: FakeServer) -> None:
    with pytest.raises(ValueError, match=r"feature_range=.*range_data=.*neighbours="):
        client.linearity("digits", X)
    assert fake.requests == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"feature_range": RANGE, "range_data": X}, "exclude each other"),
        ({"neighbours": X, "range_data": X}, "exclude each other"),
        ({"neighbours": X, "epsilon": 0.1}, "epsilon can not go with neighbours"),
        ({"feature_range": (0, 1, 2)}, "not a pair"),
        ({"feature_range": np.zeros((2, 2))}, "not a pair"),
        ({"feature_range": (np.zeros(3), np.ones(2))}, "shape"),
        ({"range_data": np.array([[0.0], [np.nan]])}, "NaN"),
        ({"feature_range": RANGE, "aggregate": "mean"}, "'global' or 'pairwise'"),
        ({"feature_range": RANGE, "draws": "unspecified"}, "'counter' or 'mersenne-twister'"),
        ({"feature_range": RANGE, "seed": -1}, "at least 0"),
    ],
)
def test_options_that_can_not_be_sent_are_refused_with_a_remedy(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(sidelight.InvalidArgument, match=complaint):
        parameters(**options)


def test_an_option_that_does_not_exist_is_a_type_error(client: sidelight.Client) -> None:
    with pytest.raises(TypeError, match="'sample'"):
        client.linearity("digits", X, feature_range=RANGE, sample=5)


def test_help_lists_every_option_of_both_clients() -> None:
    for client in (sidelight.Client, sidelight.AsyncClient):
        assert inspect.signature(client.linearity).parameters.keys() >= LinearityOptions.__annotations__.keys()
    assert all(f"{name}:" in (sidelight.Client.linearity.__doc__ or "") for name in LinearityOptions.__annotations__)


def test_a_range_may_differ_by_feature() -> None:
    sent = parameters(feature_range=([0, 0], [1.5, 2])).grid.feature_range.per_feature

    np.testing.assert_array_equal(to_array(sent.minimum), [0, 0])
    np.testing.assert_array_equal(to_array(sent.maximum), [1.5, 2])


def test_range_data_is_reduced_before_it_is_sent() -> None:
    sent = parameters(range_data=X).grid.feature_range.per_feature

    np.testing.assert_array_equal(to_array(sent.minimum), X.min(axis=0))
    np.testing.assert_array_equal(to_array(sent.maximum), X.max(axis=0))


def test_examples_of_a_reference_set_are_pointed_at(client: sidelight.Client, fake: FakeServer) -> None:
    rows = sidelight.ReferenceSelection("train", digest="sha256:d", indices=[4, 2, 9])
    sample = sidelight.ReferenceSelection("train", classes=[1], by_prediction=True, sample=50, sample_seed=7)

    result = client.linearity("digits", rows, range_data=sample)

    assert result.instance_count == 3
    assert fake.requests[0].instances.reference == reference_pb2.ReferenceSelection(
        reference="train", digest="sha256:d", indices=[4, 2, 9]
    )
    assert fake.requests[0].parameters.grid.feature_range.data.reference == reference_pb2.ReferenceSelection(
        reference="train",
        class_filter=reference_pb2.ClassFilter(classes=[1], source=reference_pb2.CLASS_SOURCE_PREDICTION),
        sample=reference_pb2.ReferenceSample(count=50, seed=7),
    )


@pytest.mark.parametrize("per_call", [1, 3, 9, 10, 99])
def test_the_result_does_not_depend_on_the_split(client: sidelight.Client, fake: FakeServer, per_call: int) -> None:
    options: Any = {"feature_range": RANGE, "layers": "all", "confidence": 0.9}
    whole = client.linearity("digits", X, **options)
    fake.requests.clear()

    split = client.linearity("digits", X, instances_per_call=per_call, **options)

    assert len(fake.requests) == -(-10 // per_call)
    assert [r.parameters.draws.first_instance for r in fake.requests] == list(range(0, 10, per_call))
    assert [layer.as_dict() for layer in split.layers] == [layer.as_dict() for layer in whole.layers]
    assert split.provenance.forward_rows == whole.provenance.forward_rows
    assert split.provenance.compute_seconds == pytest.approx(1.5 * len(fake.requests))
    assert split.provenance.warnings == whole.provenance.warnings


def test_parts_of_a_mersenne_twister_list_know_its_length(client: sidelight.Client, fake: FakeServer) -> None:
    client.linearity("digits", X, feature_range=RANGE, draws="mersenne-twister", word_offset=5, instances_per_call=6)

    assert [
        (d.first_instance, d.total_instances, d.word_offset) for d in (r.parameters.draws for r in fake.requests)
    ] == [
        (0, 10, 5),
        (6, 10, 5),
    ]


def test_a_list_that_the_caller_splits_keeps_its_place(client: sidelight.Client, fake: FakeServer) -> None:
    client.linearity("digits", X, feature_range=RANGE, first_instance=100, total_instances=500, instances_per_call=6)

    assert [(d.first_instance, d.total_instances) for d in (r.parameters.draws for r in fake.requests)] == [
        (100, 500),
        (106, 500),
    ]


def test_neighbours_need_no_draws(client: sidelight.Client, fake: FakeServer) -> None:
    client.linearity("digits", X, neighbours=X, instances_per_call=6)

    assert not any(request.parameters.HasField("draws") for request in fake.requests)


def test_every_request_stays_below_the_message_limit(fake: FakeServer) -> None:
    x = np.zeros((200, 1000), np.float32)
    with sidelight.connect(fake.address, max_message_bytes=100_000) as client:
        result = client.linearity("digits", x, feature_range=RANGE)

    assert result.instance_count == 200
    assert len(fake.requests) == 10
    assert max(request.ByteSize() for request in fake.requests) <= 100_000


def test_range_data_may_be_larger_than_a_message(fake: FakeServer) -> None:
    with sidelight.connect(fake.address, max_message_bytes=100_000) as client:
        client.linearity("digits", X, range_data=np.tile(X, (1000, 1, 1)))


@pytest.mark.parametrize("options", [{"feature_range": RANGE}, {"neighbours": np.zeros((9, 3000))}])
def test_what_can_not_be_split_below_the_limit_is_refused(fake: FakeServer, options: Any) -> None:
    x = np.zeros((2, 30_000 if "feature_range" in options else 3000))
    with (
        sidelight.connect(fake.address, max_message_bytes=200_000) as client,
        pytest.raises(sidelight.InvalidArgument, match="200000; give less, or raise max_message_bytes"),
    ):
        client.linearity("digits", x, **options)


def test_all_parts_are_answered_by_the_content_that_answered_first(client: sidelight.Client, fake: FakeServer) -> None:
    client.linearity("digits@stable", X, feature_range=RANGE, instances_per_call=5)

    assert [r.model.WhichOneof("choice") for r in fake.requests] == ["label", "version"]
    assert fake.requests[1].model.version == 3
    assert fake.requests[0].model.digest == ""
    assert fake.requests[1].model.digest == "sha256:" + "a" * 64


def test_progress_goes_up_to_the_number_of_instances(client: sidelight.Client, fake: FakeServer) -> None:
    told: list[tuple[int, int]] = []

    client.linearity("digits", X, feature_range=RANGE, progress=lambda done, total: told.append((done, total)))

    assert told == [(8, 10), (10, 10)]
    assert len(fake.requests) == 2


def test_calls_grow_to_about_a_second_and_shrink_on_a_slow_model() -> None:
    pace = Pace(10_000, 1.0)
    sizes = []
    for seconds_per_instance in [1e-4] * 5 + [0.01] * 2:
        sizes.append(pace.size)
        pace.took(pace.size, pace.size * seconds_per_instance)

    assert sizes == [8, 64, 512, 4096, 10_000, 10_000, 100]


def test_without_progress_the_split_does_not_depend_on_time() -> None:
    pace = Pace(50, None)
    pace.took(50, 100.0)

    assert pace.size == 50


def test_a_picture_comes_from_a_single_call(client: sidelight.Client, fake: FakeServer) -> None:
    result = client.linearity(
        "digits", X, feature_range=RANGE, picture="svg", picture_width=400, picture_dark=True, progress=lambda *_: None
    )

    (sent,) = fake.requests
    assert (sent.render.format, sent.render.width_pixels, sent.render.dark) == (2, 400, True)
    assert [(picture.format, picture.data) for picture in result.pictures] == [("svg", b"picture")]
    with pytest.raises(sidelight.InvalidArgument, match="one call"):
        client.linearity("digits", X, feature_range=RANGE, picture="png", instances_per_call=3)


def test_the_timeout_is_for_all_parts_together(client: sidelight.Client, fake: FakeServer) -> None:
    fake.seconds = 0.15

    with pytest.raises(TimeoutError) as caught:
        client.linearity("digits", X, feature_range=RANGE, instances_per_call=1, timeout=0.4)

    assert isinstance(caught.value, sidelight.DeadlineExceeded)
    assert 1 < len(fake.requests) <= 3


def test_a_result_reads_like_a_dict_of_layers(client: sidelight.Client) -> None:
    result = client.linearity("digits", X, feature_range=RANGE, layers="all")

    assert list(result) == ["softmax", "conv_1", "relu_1"]
    assert result.output is result["softmax"] is result.layers[0]
    assert result["conv_1"].zero_reason == "affine"
    assert result["conv_1"].zero_count == result.instance_count == 10
    assert result["relu_1"].linearity.shape == (10,)
    assert result.mean["relu_1"] == pytest.approx(result["relu_1"].linearity.mean())
    assert result["relu_1"].standard_deviation == pytest.approx(result["relu_1"].linearity.std(ddof=1))
    assert result["relu_1"].confidence_low is None
    assert result.provenance.model == "digits"
    assert result.provenance.runtime == "onnx-runtime"
    assert result.parameters.sampling == "grid"
    assert result.parameters.aggregate == "global"
    assert result.next_word_offset == 77
    assert "digits:3" in repr(result)
    with pytest.raises(KeyError, match="conv_1"):
        result["conv1"]


def test_a_result_survives_json_and_npz_without_pickle(client: sidelight.Client, tmp_path: Path) -> None:
    result = client.linearity("digits", X, feature_range=RANGE, layers="all", confidence=0.9)

    read = json.loads(json.dumps(result.as_dict()))
    assert read["layers"][2]["name"] == "relu_1"
    assert read["layers"][2]["linearity"] == result["relu_1"].linearity.tolist()

    result.to_npz(tmp_path / "result")
    with np.load(tmp_path / "result", allow_pickle=False) as saved:
        assert saved["layer"].tolist() == ["softmax", "conv_1", "relu_1"]
        np.testing.assert_array_equal(saved["linearity"][2], result["relu_1"].linearity)
        assert saved["confidence_high"].shape == (3, 10)
        assert json.loads(str(saved["provenance"]))["digest"] == result.provenance.digest


async def test_the_asyncio_client_gives_the_same(client: sidelight.Client, fake: FakeServer) -> None:
    told: list[tuple[int, int]] = []
    expected = client.linearity("digits", X, feature_range=RANGE, layers="all")

    async with sidelight.connect_async(fake.address) as asynchronous:
        result = await asynchronous.linearity(
            "digits", X, feature_range=RANGE, layers="all", progress=lambda *p: told.append(p), instances_per_call=4
        )
        with pytest.raises(sidelight.InvalidArgument):
            await asynchronous.linearity("digits", X)

    assert told == [(4, 10), (8, 10), (10, 10)]
    assert [layer.as_dict() for layer in result.layers] == [layer.as_dict() for layer in expected.layers]
