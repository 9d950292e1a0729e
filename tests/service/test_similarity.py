"""Similarity over the wire: alibi's numbers, what a response holds, and every refusal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from serving import FEATURES, Running, dense_network, inline, put_model, refusal, running
from sidelight.v1 import (
    explanation_pb2,
    model_pb2,
    model_service_pb2,
    reference_pb2,
    similarity_pb2,
)
from sidelight_engines.errors import NonFiniteGradient
from sidelight_service.jobs.similarity_slices import SimilaritySlicer
from sidelight_service.settings import Settings
from sidelight_service.status import Failure, to_status
from similarity_serving import (
    IMAGES,
    INSTANCES,
    LABELS,
    REFERENCES,
    SIMILARITY,
    X,
    Y,
    indices_of,
    put_digits,
    put_references,
    put_saved_digits,
    scores_of,
    similarity_request,
)
from test_references import upload

CASES: dict[str, dict[str, Any]] = json.loads((SIMILARITY / "cases.json").read_text())["cases"]
# The same in double precision: how far the reference's own rounding takes it (tests/golden/similarity/README.md).
TWINS = {"cos": "cos_double", "cos_ad_hoc": "cos_double", "cos_predicted": "cos_double", "asym_dot": "asym_dot_double"}
FUNCTIONS = {
    "grad_cos": similarity_pb2.SIMILARITY_FUNCTION_GRAD_COS,
    "grad_dot": similarity_pb2.SIMILARITY_FUNCTION_GRAD_DOT,
    "grad_asym_dot": similarity_pb2.SIMILARITY_FUNCTION_GRAD_ASYM_DOT,
}
LOSSES = {
    "categorical_cross_entropy": similarity_pb2.LOSS_UNSPECIFIED,
    "categorical_from_probabilities": similarity_pb2.LOSS_CATEGORICAL_CROSS_ENTROPY,
    "squared_error": similarity_pb2.LOSS_SQUARED_ERROR,
    "absolute_error": similarity_pb2.LOSS_ABSOLUTE_ERROR,
    "huber": similarity_pb2.LOSS_HUBER,
    "binary_cross_entropy": similarity_pb2.LOSS_BINARY_CROSS_ENTROPY,
}
PLAIN = helper.make_model(
    helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], name="relu")],
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", FEATURES])],
    ),
    opset_imports=[helper.make_opsetid("", 17)],
    ir_version=8,
)
LINEAR = dense_network([FEATURES, 3], softmax=False)

# One matrix that is used by two layers: softmax(relu(x w) w).
TWICE = helper.make_model(
    helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Relu", ["a"], ["r"]),
            helper.make_node("MatMul", ["r", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["p"]),
        ],
        "twice",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", FEATURES])],
        [numpy_helper.from_array(np.random.default_rng(3).standard_normal((FEATURES, FEATURES), np.float32), "w")],
    ),
    opset_imports=[helper.make_opsetid("", 17)],
    ir_version=8,
)


@pytest.fixture(scope="module")
async def digits(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A server with the network in both formats, and sets with and without labels."""
    folder = tmp_path_factory.mktemp("similarity")
    models = folder / "models"
    put_digits(models)
    put_saved_digits(models)
    put_model(models, "small", 1, dense_network([FEATURES, 8, 3]))
    put_model(models, "linear", 1, LINEAR)
    put_model(models, "plain", 1, PLAIN)
    put_model(models, "twice", 1, TWICE)
    for version in (1, 2):
        put_model(models, "pair", version, dense_network([FEATURES, 8, 3], seed=version))
    settings = Settings(
        models=models,
        data=folder / "data",
        addresses=("127.0.0.1:0",),
        settle_seconds=0.0,
        max_message_mebibytes=1,
        version_policies={"pair": "all"},
    )
    async with running(settings) as server:
        await server.until_available("digits", "saved", "small", "linear", "plain", "twice", "pair")
        await put_references(server)
        await put_references(server, "bare", labels=False)
        await put_references(server, "large", copies=50)
        yield server


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("model", ["digits", "saved"])
async def test_scores_are_alibis(digits: Running, model: str, name: str) -> None:
    held = np.load(SIMILARITY / "scores.npz")
    case, expected = CASES[name], held[name].astype(np.float64)
    labels = None if case["labels"] == "predicted" else np.eye(10, dtype=np.float32)[Y]
    request = similarity_request(
        model,
        labels=labels,
        function=FUNCTIONS[case["function"]],
        loss=LOSSES[case["loss"]],
        all_scores=True,
        norm_offset=1e-7,
    )

    found = scores_of(await digits.explain.ExplainSimilarity(request))

    tolerance = 2e-5 if case["function"] == "grad_cos" else 1e-5 * np.abs(expected).max()
    own_error = np.abs(expected - held[TWINS[name]]) if name in TWINS else 0.0
    assert found.shape == (INSTANCES, REFERENCES)
    assert np.all(np.abs(found - expected) <= tolerance + own_error)


async def test_a_response_holds_what_was_asked_for(digits: Running) -> None:
    request = similarity_request(
        top=3,
        bottom=2,
        all_scores=True,
        include_examples=True,
        class_means=True,
        layer_contributions=True,
        self_influence=True,
    )

    response = await digits.explain.ExplainSimilarity(request)

    assert response.provenance.runtime == model_pb2.RUNTIME_TENSORFLOW
    assert response.provenance.forward_rows == INSTANCES + REFERENCES
    assert response.reference_digest.startswith("sha256:")
    assert len(response.layers) == 4
    scores = scores_of(response)
    references = LABELS[INSTANCES:]
    for ranking, row in zip(response.rankings, scores, strict=True):
        assert indices_of(ranking) == np.argsort(-row, kind="stable")[:3].tolist()
        assert [e.index for e in ranking.least_similar] == np.argsort(row, kind="stable")[:2].tolist()
        assert ranking.self_influence == pytest.approx(1.0)
        assert ranking.gradient_norm > 0
        for example in (*ranking.most_similar, *ranking.least_similar):
            assert example.score == pytest.approx(row[example.index], abs=1e-5)
            assert sum(example.layer_scores) == pytest.approx(example.score)
            assert example.label == references[example.index]
            (pixels,) = example.example
            sent = np.frombuffer(pixels.tensor.raw, "<f4").reshape(pixels.tensor.shape)
            np.testing.assert_array_equal(sent, IMAGES[INSTANCES + example.index])
        by_label = {m.class_index: m for m in ranking.class_means if m.source == reference_pb2.CLASS_SOURCE_LABEL}
        for digit, mean in by_label.items():
            assert mean.count == (references == digit).sum()
            assert mean.mean == pytest.approx(row[references == digit].mean(), abs=1e-5)
        assert sum(m.count for m in ranking.class_means) == 2 * REFERENCES
    assert [ranking.prediction for ranking in response.rankings] == Y.tolist()


async def test_what_was_not_asked_for_is_left_out(digits: Running) -> None:
    response = await digits.explain.ExplainSimilarity(similarity_request())

    for ranking in response.rankings:
        assert len(ranking.most_similar) == 5
        assert not [*ranking.least_similar, *ranking.class_means]
        assert not ranking.HasField("scores")
        assert not ranking.HasField("self_influence")
        assert not any(example.layer_scores or example.example for example in ranking.most_similar)
    assert not response.pictures


async def test_selections_keep_the_positions_of_their_set(digits: Running) -> None:
    whole = scores_of(await digits.explain.ExplainSimilarity(similarity_request(all_scores=True)))
    chosen = np.flatnonzero(LABELS[INSTANCES:] == 3)[::-1]
    selection = reference_pb2.ReferenceSelection(reference="train", indices=chosen.tolist())

    response = await digits.explain.ExplainSimilarity(
        similarity_request(selection=selection, top=len(chosen), all_scores=True)
    )

    np.testing.assert_allclose(scores_of(response), whole[:, chosen], atol=2e-6)
    for ranking in response.rankings:
        assert sorted(indices_of(ranking)) == sorted(chosen.tolist())


async def test_instances_of_a_labelled_set_bring_their_labels(digits: Running) -> None:
    expected = await digits.explain.ExplainSimilarity(similarity_request(x=IMAGES[8:12], labels=LABELS[8:12]))
    request = similarity_request(labels=None, label_source=similarity_pb2.LABEL_SOURCE_GIVEN)
    request.instances.reference.CopyFrom(reference_pb2.ReferenceSelection(reference="train", indices=[0, 1, 2, 3]))

    response = await digits.explain.ExplainSimilarity(request)

    assert response.rankings == expected.rankings
    assert [indices_of(ranking)[0] for ranking in response.rankings] == [0, 1, 2, 3]


async def test_a_set_without_labels_is_compared_by_predictions(digits: Running) -> None:
    response = await digits.explain.ExplainSimilarity(
        similarity_request(labels=None, reference="bare", class_means=True)
    )

    for ranking in response.rankings:
        assert not any(example.HasField("label") for example in ranking.most_similar)
        assert all(example.HasField("prediction") for example in ranking.most_similar)
        assert {mean.source for mean in ranking.class_means} == {reference_pb2.CLASS_SOURCE_PREDICTION}


async def test_together_is_the_sum_of_each(digits: Running) -> None:
    dot = similarity_pb2.SIMILARITY_FUNCTION_GRAD_DOT
    each = scores_of(await digits.explain.ExplainSimilarity(similarity_request(function=dot, all_scores=True)))

    together = await digits.explain.ExplainSimilarity(
        similarity_request(function=dot, all_scores=True, aggregate_instances=True)
    )

    assert len(together.rankings) == 1
    assert not together.rankings[0].HasField("prediction")
    np.testing.assert_allclose(scores_of(together)[0], each.sum(axis=0), atol=1e-5 * np.abs(each).max())


async def test_layers_add_up_and_are_chosen_by_name(digits: Running) -> None:
    dot = similarity_pb2.SIMILARITY_FUNCTION_GRAD_DOT
    whole = await digits.explain.ExplainSimilarity(similarity_request(function=dot, all_scores=True))
    total = np.zeros((INSTANCES, REFERENCES))
    for layer in whole.layers:
        layers = explanation_pb2.LayerSelection(names=[layer])
        request = similarity_request(function=dot, all_scores=True, layers=layers)
        response = await digits.explain.ExplainSimilarity(request)
        assert list(response.layers) == [layer]
        total += scores_of(response)

    expected = scores_of(whole)
    np.testing.assert_allclose(total, expected, atol=2e-5 * np.abs(expected).max())
    every = similarity_request(function=dot, all_scores=True, layers=explanation_pb2.LayerSelection(all=True))
    np.testing.assert_array_equal(scores_of(await digits.explain.ExplainSimilarity(every)), expected)


async def test_checkpoints_are_added_by_their_weights(digits: Running) -> None:
    dot = similarity_pb2.SIMILARITY_FUNCTION_GRAD_DOT
    alone = await digits.explain.ExplainSimilarity(similarity_request("saved", function=dot, all_scores=True))
    checkpoint = similarity_pb2.Checkpoint(model=model_pb2.ModelSelector(name="saved", version=1), weight=0.5)
    request = similarity_request("saved", function=dot, all_scores=True, checkpoints=[checkpoint, checkpoint])

    response = await digits.explain.ExplainSimilarity(request)

    np.testing.assert_allclose(scores_of(response), 2 * scores_of(alone), rtol=1e-5)
    assert response.provenance.forward_rows == 3 * (INSTANCES + REFERENCES)


async def test_versions_of_a_model_are_added_up(digits: Running) -> None:
    random = np.random.default_rng(5)
    x, y = random.random((30, FEATURES), dtype=np.float32), np.arange(30) % 3
    await digits.references.CreateReference(iter(upload("numbers", x, y)))
    shared = {"function": similarity_pb2.SIMILARITY_FUNCTION_GRAD_DOT, "all_scores": True, "reference": "numbers"}

    def asked(version: int, **more: Any) -> similarity_pb2.ExplainSimilarityRequest:
        request = similarity_request("pair", x[:4], y[:4], **shared, **more)
        request.model.version = version
        return request

    alone = [scores_of(await digits.explain.ExplainSimilarity(asked(version))) for version in (1, 2)]
    first = similarity_pb2.Checkpoint(model=model_pb2.ModelSelector(name="pair", version=1), weight=0.25)

    response = await digits.explain.ExplainSimilarity(asked(2, checkpoints=[first], layer_contributions=True))

    assert response.provenance.version == 2
    assert not np.allclose(alone[0], alone[1])
    np.testing.assert_allclose(scores_of(response), alone[1] + 0.25 * alone[0], rtol=1e-4, atol=1e-6)
    for ranking, row in zip(response.rankings, scores_of(response), strict=True):
        for example in ranking.most_similar:
            assert sum(example.layer_scores) == pytest.approx(row[example.index], rel=1e-4)


async def test_bytes_are_compared_as_the_numbers_that_they_are(digits: Running) -> None:
    whole = np.rint(IMAGES[INSTANCES : INSTANCES + 60] * 16)
    for name, dtype in (("bytes", np.uint8), ("floats", np.float32)):
        await digits.references.CreateReference(iter(upload(name, whole.astype(dtype), LABELS[INSTANCES:][:60])))

    found = [
        scores_of(await digits.explain.ExplainSimilarity(similarity_request(reference=name, all_scores=True)))
        for name in ("bytes", "floats")
    ]

    np.testing.assert_array_equal(*found)


async def test_a_model_without_parameters_is_refused(digits: Running) -> None:
    described = await digits.models.GetModel(
        model_service_pb2.GetModelRequest(model=model_pb2.ModelSelector(name="plain"))
    )
    (support,) = [each for each in described.model.methods if each.method == model_pb2.METHOD_SIMILARITY]
    assert not support.supported
    assert "no parameters" in support.reason

    refused = await refusal(
        digits.explain.ExplainSimilarity(similarity_request("plain", np.ones((1, FEATURES), np.float32)))
    )
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "METHOD_NOT_SUPPORTED")


def test_an_instance_whose_gradient_is_nan_is_named_by_its_place_in_the_whole_list() -> None:
    slicer = SimilaritySlicer()
    instance = Failure(to_status(NonFiniteGradient("instance", 3, "dense_1")))
    reference = Failure(to_status(NonFiniteGradient("reference", 3, "dense_1")))

    relocated = slicer.relocate(instance, 40)

    assert "instance 43" in str(relocated)
    assert slicer.relocate(reference, 40) is reference
    other = ValueError("another")
    assert slicer.relocate(other, 40) is other


async def test_pictures_show_neighbours_and_means(digits: Running) -> None:
    request = similarity_request()
    request.render.CopyFrom(
        explanation_pb2.RenderOptions(format=explanation_pb2.PICTURE_FORMAT_PNG, width_pixels=600, max_instances=2)
    )

    response = await digits.explain.ExplainSimilarity(request)

    assert [picture.name for picture in response.pictures] == ["similarity-strip", "similarity-class-means"]
    for picture in response.pictures:
        assert picture.data.startswith(b"\x89PNG")
        assert picture.width_pixels == 600
        assert "the first 2 of 8 instances" in picture.alternative_text
    # Mean scores were needed for the picture and not asked for.
    assert not any(ranking.class_means for ranking in response.rankings)


async def test_a_model_tells_whether_its_gradients_can_be_compared(digits: Running) -> None:
    described = await digits.models.GetModel(
        model_service_pb2.GetModelRequest(model=model_pb2.ModelSelector(name="digits"))
    )

    (support,) = [each for each in described.model.methods if each.method == model_pb2.METHOD_SIMILARITY]
    assert support.supported
    assert support.runtime == model_pb2.RUNTIME_TENSORFLOW


def _checkpoint(name: str, weight: float = 1.0) -> list[similarity_pb2.Checkpoint]:
    return [similarity_pb2.Checkpoint(model=model_pb2.ModelSelector(name=name), weight=weight)]


def _without(field: str) -> similarity_pb2.ExplainSimilarityRequest:
    request = similarity_request()
    (request.parameters if field == "reference" else request).ClearField(field)
    return request


GIVEN = similarity_pb2.LABEL_SOURCE_GIVEN
PREDICTION = similarity_pb2.LABEL_SOURCE_PREDICTION


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (_without("instances"), "instances"),
        (_without("reference"), "parameters.reference"),
        (similarity_request(reference=""), "parameters.reference.reference"),
        (similarity_request(labels=None, label_source=GIVEN), "parameters.labels"),
        (similarity_request(label_source=PREDICTION), "parameters.labels"),
        (similarity_request(label_source=99), "parameters.label_source"),
        (similarity_request(labels=Y[:3]), "parameters.labels"),
        (similarity_request(labels=Y + 5), "parameters.labels"),
        (similarity_request(labels=np.full(8, np.nan)), "parameters.labels"),
        (similarity_request(labels=np.ones((8, 4), np.float32)), "parameters.labels"),
        (similarity_request(reference="bare"), "parameters.reference"),
        (similarity_request(function=77), "parameters.function"),
        (similarity_request(loss=77), "parameters.loss"),
        (similarity_request(labels=None, loss=similarity_pb2.LOSS_SQUARED_ERROR), "parameters.label_source"),
        (similarity_request(output="logits"), "parameters.output"),
        (similarity_request(layers=explanation_pb2.LayerSelection(names=["dens"])), "parameters.layers.names[0]"),
        (similarity_request(layers=explanation_pb2.LayerSelection(all=True, names=["a"])), "parameters.layers.names"),
        (similarity_request(top=-1), "parameters.top"),
        (similarity_request(top=10_001), "parameters.top"),
        (similarity_request(bottom=-1), "parameters.bottom"),
        (similarity_request(norm_offset=-1.0), "parameters.norm_offset"),
        (similarity_request(norm_offset=float("nan")), "parameters.norm_offset"),
        (similarity_request(checkpoints=[similarity_pb2.Checkpoint(weight=1)]), "parameters.checkpoints[0].model"),
        (similarity_request(checkpoints=_checkpoint("")), "parameters.checkpoints[0].model.name"),
        (similarity_request("saved", checkpoints=_checkpoint("saved", np.inf)), "parameters.checkpoints[0].weight"),
        (similarity_request(checkpoints=_checkpoint("digits") * 33), "parameters.checkpoints"),
        (similarity_request(x=X[:, :4]), "instances.inline.inputs"),
        (similarity_request("small", np.ones((8, FEATURES), np.float32), Y % 3), "parameters.reference"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_value_is_refused_by_the_path_of_its_field(
    digits: Running, request_message: similarity_pb2.ExplainSimilarityRequest, field: str
) -> None:
    refused = await refusal(digits.explain.ExplainSimilarity(request_message))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(refused.fields) == 1
    assert refused.fields[0].startswith(field), refused.message
    assert "Traceback" not in refused.message


async def test_inputs_are_refused_by_name(digits: Running) -> None:
    twice = similarity_request()
    twice.instances.inline.inputs.extend(inline(X).inline.inputs)
    assert (await refusal(digits.explain.ExplainSimilarity(twice))).fields == ["instances.inline.inputs"]
    named = similarity_request()
    named.instances.inline.inputs[0].name = "picture"
    assert (await refusal(digits.explain.ExplainSimilarity(named))).fields == ["instances.inline.inputs[0].name"]


@pytest.mark.parametrize("name", ["nothing", "small"])
async def test_a_checkpoint_must_be_there_and_of_the_same_kind(digits: Running, name: str) -> None:
    refused = await refusal(digits.explain.ExplainSimilarity(similarity_request(checkpoints=_checkpoint(name))))

    assert refused.reason == ("MODEL_NOT_FOUND" if name == "nothing" else "INVALID_FIELD")


async def test_a_set_that_is_not_there_is_named(digits: Running) -> None:
    refused = await refusal(digits.explain.ExplainSimilarity(similarity_request(reference="gone")))

    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "REFERENCE_NOT_FOUND")


async def test_what_no_message_has_room_for_is_refused_before_it_is_computed(digits: Running) -> None:
    many = np.tile(X, (4, 1, 1, 1))
    request = similarity_request(x=many, labels=np.tile(Y, 4), reference="large", all_scores=True)

    refused = await refusal(digits.explain.ExplainSimilarity(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert refused.metadata["limit_bytes"] == str(1 << 20)
    assert "at most 25 instances at a time" in refused.message


async def test_a_gradient_of_zero_is_warned_of(digits: Running) -> None:
    # Without inputs a linear model gives its bias; the squared error of that, and its gradient, are zero.
    x = np.zeros((3, FEATURES), np.float32)
    bias = numpy_helper.to_array(LINEAR.graph.initializer[1])
    await digits.references.CreateReference(iter(upload("zeros", x, np.tile(bias + 2, (3, 1)))))

    response = await digits.explain.ExplainSimilarity(
        similarity_request("linear", x, np.stack([bias, bias + 1, bias]), "zeros")
    )

    (warning,) = response.provenance.warnings
    assert warning.code == "GRADIENT_ZERO"
    assert "2 of 3 instances is zero, first that of instance 0" in warning.message
    assert [ranking.most_similar[0].score for ranking in response.rankings] == [0, pytest.approx(1, abs=1e-6), 0]


async def test_layers_whose_gradients_are_kept_whole_are_named(digits: Running) -> None:
    x = np.random.default_rng(8).random((4, FEATURES), np.float32)
    await digits.references.CreateReference(iter(upload("few", x, np.arange(4))))

    response = await digits.explain.ExplainSimilarity(similarity_request("twice", x[:1], np.array([0]), "few"))

    (warning,) = response.provenance.warnings
    assert warning.code == "GRADIENTS_KEPT_WHOLE"
    assert "could not be factored" in warning.message
    assert response.rankings[0].most_similar[0].index == 0
    assert response.rankings[0].most_similar[0].score == pytest.approx(1, abs=1e-6)


def test_the_front_process_needs_no_engine_of_similarity() -> None:
    import subprocess
    import sys

    program = (
        "import sys, sidelight_service.server; print([n for n in ('tensorflow', 'onnxruntime', "
        "'sidelight_engines.similarity') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
