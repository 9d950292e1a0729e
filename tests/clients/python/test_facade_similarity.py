"""What `Client.similarity` and `Client.submit_gradient_index` send, and how answers are put together."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sidelight
from fake_server import FakeServer, to_array
from sidelight.similarity_options import SimilarityOptions, gradient_index_request, similarity_request
from sidelight.v1 import job_pb2, reference_pb2, similarity_pb2

X = np.random.default_rng(0).random((10, 2, 3), dtype=np.float32)
Y = np.arange(10)
TRAIN = reference_pb2.ReferenceSelection(reference="train")


def parameters(**options: Any) -> similarity_pb2.SimilarityParameters:
    return similarity_request("digits", {"reference": "train", **options}).parameters


def test_what_a_caller_leaves_out_is_not_sent(client: sidelight.Client, fake: FakeServer) -> None:
    client.similarity("digits", X, reference="train", labels=None, top=None, class_means=None, picture=None)

    (sent,) = fake.requests
    assert {field.name for field, _ in sent.ListFields()} == {"model", "instances", "parameters"}
    assert sent.parameters == similarity_pb2.SimilarityParameters(reference=TRAIN)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"function": "cos"}, {"function": similarity_pb2.SIMILARITY_FUNCTION_GRAD_COS}),
        ({"function": "grad_dot"}, {"function": similarity_pb2.SIMILARITY_FUNCTION_GRAD_DOT}),
        ({"function": "asym-dot"}, {"function": similarity_pb2.SIMILARITY_FUNCTION_GRAD_ASYM_DOT}),
        ({"function": "relatif"}, {"function": similarity_pb2.SIMILARITY_FUNCTION_RELATIF}),
        ({"loss": "squared-error"}, {"loss": similarity_pb2.LOSS_SQUARED_ERROR}),
        ({"label_source": "prediction"}, {"label_source": similarity_pb2.LABEL_SOURCE_PREDICTION}),
        ({"output": "probabilities"}, {"output": "probabilities"}),
        ({"layers": "all"}, {"layers": {"all": True}}),
        ({"layers": "conv_1"}, {"layers": {"names": ["conv_1"]}}),
        ({"layers": ["b", "a"]}, {"layers": {"names": ["b", "a"]}}),
        ({"top": 0, "bottom": 3}, {"top": 0, "bottom": 3}),
        ({"all_scores": True, "examples": True}, {"all_scores": True, "include_examples": True}),
        ({"class_means": True, "self_influence": True}, {"class_means": True, "self_influence": True}),
        ({"layer_contributions": True, "aggregate": True}, {"layer_contributions": True, "aggregate_instances": True}),
        ({"norm_offset": 1e-7}, {"norm_offset": 1e-7}),
        (
            {"checkpoints": {"digits:1": 0.5, "digits@old": 2}},
            {
                "checkpoints": [
                    {"model": {"name": "digits", "version": 1}, "weight": 0.5},
                    {"model": {"name": "digits", "label": "old"}, "weight": 2},
                ]
            },
        ),
        (
            {"reference": sidelight.ReferenceSelection("train", classes=[4])},
            {"reference": {"reference": "train", "class_filter": {"classes": [4]}}},
        ),
    ],
    ids=lambda value: "-".join(value),
)
def test_an_option_reaches_its_field_even_when_it_is_zero(options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert parameters(**options) == similarity_pb2.SimilarityParameters(**({"reference": TRAIN} | expected))


def test_every_parameter_of_the_contract_can_be_set() -> None:
    flags = ("all_scores", "examples", "class_means", "layer_contributions", "self_influence", "aggregate")
    everything: dict[str, Any] = dict.fromkeys(flags, True)
    everything |= {"labels": Y, "label_source": "given", "function": "dot", "loss": "huber", "output": "o"}
    everything |= {"layers": "all", "top": 1, "bottom": 1, "checkpoints": {"a": 1}, "norm_offset": 1.0}
    sent = {field.name for field, _ in parameters(**everything).ListFields()}
    assert sent == set(similarity_pb2.SimilarityParameters.DESCRIPTOR.fields_by_name)

    render = similarity_request(
        "digits",
        {
            "reference": "train",
            "picture": "svg",
            "picture_width": 300,
            "picture_instances": 2,
            "picture_dark": True,
        },
    ).render
    assert (render.format, render.width_pixels, render.max_instances, render.dark) == (2, 300, 2, True)


def test_an_index_is_asked_for_by_words() -> None:
    request = gradient_index_request("digits:2", "train", "huber", "prediction", "o", "float16")
    assert request == job_pb2.BuildGradientIndexRequest(
        model={"name": "digits", "version": 2},
        reference="train",
        loss=similarity_pb2.LOSS_HUBER,
        label_source=similarity_pb2.LABEL_SOURCE_PREDICTION,
        output="o",
        precision=job_pb2.INDEX_PRECISION_FLOAT16,
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"reference": None}, "name a reference set"),
        ({"function": "cosine"}, "'dot' or 'cos' or 'asym-dot' or 'relatif'"),
        ({"loss": "mse"}, "'squared-error'"),
        ({"label_source": "guess"}, "'given' or 'prediction'"),
        ({"labels": [1, 2]}, "labels are of shape (2,) for 10 instances"),
        ({"labels": 3}, "labels are of shape ()"),
        ({"instances_per_call": 0}, "give at least 1"),
        ({"instances_per_call": 4, "aggregate": True}, "aggregate= needs all instances in one call"),
        ({"instances_per_call": 4, "picture": "png"}, "picture= needs all instances in one call"),
        ({"checkpoints": {"digits:x": 1}}, "'x' is not a whole number"),
    ],
)
def test_options_that_can_not_be_sent_are_refused_with_a_remedy(
    client: sidelight.Client, fake: FakeServer, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(sidelight.InvalidArgument) as refused:
        client.similarity("digits", X, **({"reference": "train"} | options))
    assert complaint in refused.value.message
    assert not fake.requests


def test_an_option_that_does_not_exist_is_a_type_error(client: sidelight.Client) -> None:
    with pytest.raises(TypeError, match="'tops'"):
        client.similarity("digits", X, reference="train", tops=3)  # type: ignore[call-arg]


def test_help_lists_every_option_of_both_clients() -> None:
    for method in (
        sidelight.Client.similarity,
        sidelight.Client.submit_similarity,
        sidelight.AsyncClient.similarity,
        sidelight.AsyncClient.submit_similarity,
    ):
        assert SimilarityOptions.__annotations__.keys() <= inspect.signature(method).parameters.keys()
    for option in SimilarityOptions.__annotations__:
        assert f"{option}:" in str(sidelight.Client.similarity.__doc__)


@pytest.mark.parametrize("per_call", [None, 3, 10])
def test_the_result_does_not_depend_on_the_split(
    client: sidelight.Client, fake: FakeServer, per_call: int | None
) -> None:
    told: list[tuple[int, int]] = []

    explanation = client.similarity(
        "digits",
        X,
        reference="train",
        labels=Y,
        all_scores=True,
        instances_per_call=per_call,
        progress=lambda *at: told.append(at),
    )

    assert told[-1] == (10, 10)
    assert len(fake.requests) == len(told) == (4 if per_call == 3 else 1)
    assert len(explanation) == 10
    assert explanation.provenance.forward_rows == 10
    sent = [(to_array(r.instances.inline.inputs[0].tensor), to_array(r.parameters.labels)) for r in fake.requests]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in sent]), X)
    np.testing.assert_array_equal(np.concatenate([y for _, y in sent]), Y)
    for later in fake.requests[1:]:
        # The contents that answered first answer to the end.
        assert (later.model.version, later.model.digest) == (3, "sha256:" + "a" * 64)
        assert later.parameters.reference.digest == "sha256:" + "c" * 64


def test_every_request_stays_below_the_message_limit(fake: FakeServer) -> None:
    x = np.zeros((40, 1000), np.float32)
    with sidelight.connect(fake.address, max_message_bytes=64 * 1024) as client:
        client.similarity("digits", x, reference="train", labels=np.eye(10)[np.arange(40) % 10])
        assert len(fake.requests) > 1
        assert all(request.ByteSize() <= 64 * 1024 for request in fake.requests)
        with pytest.raises(sidelight.InvalidArgument, match="one instance and the rest"):
            client.similarity("digits", np.zeros((1, 100_000), np.float32), reference="train")


def test_a_result_is_arrays(client: sidelight.Client) -> None:
    explanation = client.similarity(
        "digits",
        X[:2],
        reference="train",
        top=3,
        all_scores=True,
        examples=True,
        class_means=True,
        layer_contributions=True,
        self_influence=True,
    )

    found = explanation.most_similar
    assert len(found) == 3
    np.testing.assert_array_equal(found.indices, [[0, 10, 20]] * 2)
    np.testing.assert_array_equal(found.scores, [[1, 0.5, 1 / 3]] * 2)
    np.testing.assert_array_equal(found.labels, [[0, 1, 2]] * 2)
    np.testing.assert_array_equal(found.predictions, [[1, 2, 3]] * 2)
    assert found.layer_scores is not None
    assert found.layer_scores.shape == (2, 3, 2)
    assert found.examples["x"].shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(found.examples["x"][1, 2], [[2, 2], [2, 2]])
    assert len(explanation.least_similar) == 0
    np.testing.assert_array_equal(explanation.predictions, [0, 1])
    np.testing.assert_array_equal(explanation.scores, [[0, 1, 2, 3], [1, 2, 3, 4]])
    np.testing.assert_array_equal(explanation.self_influence, [1, 1])
    assert explanation.by_label is not None
    np.testing.assert_array_equal(explanation.by_label.means, [[0.5], [0.5]])
    assert (explanation.by_label.classes.tolist(), explanation.by_label.counts.tolist()) == ([3], [7])
    assert explanation.by_prediction is None
    assert explanation.layers == ("conv_1", "out")
    assert "best [0, 0]" in repr(explanation)


def test_what_was_not_asked_for_is_none(client: sidelight.Client) -> None:
    explanation = client.similarity("digits", X, reference="train", aggregate=True, top=0)

    assert len(explanation) == 1
    assert len(explanation.most_similar) == 0
    for absent in ("predictions", "scores", "by_label", "by_prediction", "self_influence"):
        assert getattr(explanation, absent) is None
    assert explanation.most_similar.labels is None
    assert "rankings of 0" in repr(explanation)


def test_a_result_survives_json_and_npz_without_pickle(client: sidelight.Client, tmp_path: Path) -> None:
    explanation = client.similarity(
        "digits", X, reference="train", all_scores=True, examples=True, class_means=True, layer_contributions=True
    )

    read = json.loads(json.dumps(explanation.as_dict()))
    assert read["most_similar"]["indices"] == explanation.most_similar.indices.tolist()
    assert read["by_label"]["counts"] == [7]
    assert read["self_influence"] is None
    explanation.to_npz(tmp_path / "result")
    with np.load(tmp_path / "result", allow_pickle=False) as held:
        np.testing.assert_array_equal(held["most_similar_scores"], explanation.most_similar.scores)
        np.testing.assert_array_equal(held["most_similar_example_x"], explanation.most_similar.examples["x"])
        np.testing.assert_array_equal(held["scores"], explanation.scores)
        assert held["layers"].tolist() == ["conv_1", "out"]
        assert json.loads(str(held["provenance"]))["version"] == 3
        assert not any(name.startswith("least_similar") for name in held.files)


def test_instances_of_a_reference_set_are_pointed_at(client: sidelight.Client, fake: FakeServer) -> None:
    chosen = sidelight.ReferenceSelection("train", indices=[4, 2])
    explanation = client.similarity("digits", chosen, reference="train", label_source="given")

    assert fake.requests[0].instances.reference.indices == [4, 2]
    assert len(explanation) == 3


async def test_the_asyncio_client_gives_the_same(client: sidelight.Client, fake: FakeServer) -> None:
    expected = client.similarity("digits", X, reference="train", labels=Y, instances_per_call=4).as_dict()
    blocking, fake.requests[:] = list(fake.requests), []

    async with sidelight.connect_async(fake.address) as other:
        explanation = await other.similarity("digits", X, reference="train", labels=Y, instances_per_call=4)

    assert explanation.as_dict() == expected
    assert fake.requests == blocking
