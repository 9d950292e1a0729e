"""A caller in another process asks for influence and gets it, or gets told why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession
from serving import CLASSES, FEATURES, Running, dense_network, inline, put_model, raw_tensor, refusal, running
from sidelight.v1 import (
    explanation_pb2,
    influence_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    model_pb2,
    model_service_pb2,
    reference_pb2,
    reference_service_pb2,
    tensor_pb2,
)
from sidelight_engines.influence import InfluenceParameters, Metric, Rows, explain_influence
from sidelight_service.settings import Settings

Array = np.ndarray[Any, Any]
ROWS = 200
RANDOM = np.random.default_rng(1)
X = RANDOM.random((ROWS, FEATURES), dtype=np.float32)
LABELS = RANDOM.integers(0, CLASSES, ROWS)


def two_inputs() -> onnx.ModelProto:
    """A model that adds two inputs."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    infos = [helper.make_tensor_value_info(name, kind, ["n", 2]) for name in ("a", "b", "sum")]
    node = helper.make_node("Add", ["a", "b"], ["sum"])
    graph = helper.make_graph([node], "two", infos[:2], infos[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def two_outputs() -> onnx.ModelProto:
    """A model whose second output has an axis too many."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["chances"]),
        helper.make_node("Unsqueeze", ["x", "axis"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "outputs",
        [helper.make_tensor_value_info("x", kind, ["n", FEATURES])],
        [
            helper.make_tensor_value_info("chances", kind, ["n", FEATURES]),
            helper.make_tensor_value_info("boxes", kind, ["n", 1, FEATURES]),
        ],
        [onnx.numpy_helper.from_array(np.array([1]), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A server with models and a reference set of labelled rows."""
    models = tmp_path_factory.mktemp("influence-models")
    put_model(models, "small", 1, dense_network([FEATURES, 8, CLASSES]))
    put_model(models, "two", 1, two_inputs())
    put_model(models, "outputs", 1, two_outputs())
    settings = Settings(
        models=models, addresses=("127.0.0.1:0",), settle_seconds=0.0, data=tmp_path_factory.mktemp("influence-data")
    )
    async with running(settings) as started:
        await started.until_available("small", "two", "outputs")
        message = reference_service_pb2.CreateReferenceRequest
        await started.references.CreateReference(
            iter(
                [
                    message(header=reference_service_pb2.ReferenceHeader(name="rows")),
                    message(
                        chunk=reference_service_pb2.ReferenceChunk(
                            inputs=[tensor_pb2.NamedTensor(tensor=raw_tensor(X))], labels=raw_tensor(LABELS)
                        )
                    ),
                    message(trailer=reference_service_pb2.ReferenceTrailer(count=ROWS)),
                ]
            )
        )
        yield started


def request(model: str = "small", instances: Any = None, **parameters: Any) -> influence_pb2.ExplainInfluenceRequest:
    return influence_pb2.ExplainInfluenceRequest(
        model=model_pb2.ModelSelector(name=model) if model else None,
        instances=inline(X) if instances is None else instances,
        parameters=influence_pb2.InfluenceParameters(**parameters),
    )


def of_set(**selection: Any) -> reference_pb2.Instances:
    return reference_pb2.Instances(reference=reference_pb2.ReferenceSelection(reference="rows", **selection))


def array(tensor: tensor_pb2.Tensor) -> Array:
    kind = tensor_pb2.DataType.Name(tensor.data_type).removeprefix("DATA_TYPE_").lower()
    return np.frombuffer(tensor.raw, kind).reshape(tuple(tensor.shape))


@cache
def own_predictions() -> Array:
    """What the small model gives, by ONNX Runtime itself."""
    session = InferenceSession(dense_network([FEATURES, 8, CLASSES]).SerializeToString())
    return np.asarray(session.run(None, {"x": X})[0])


async def test_influence_over_the_wire_is_the_engines_own(server: Running) -> None:
    metrics = [influence_pb2.METRIC_ACCURACY, influence_pb2.METRIC_AUC]
    groups = raw_tensor(np.arange(ROWS) % 2)

    response = await server.explain.ExplainInfluence(
        request(
            labels=raw_tensor(LABELS), metrics=metrics, groups=groups, taus=[-0.5, 0, 1], confidence_level=0.9,
            feature_names=list("abcdef"), features=[4, 0],
        )
    )  # fmt: skip

    expected = explain_influence(
        Rows(X, ""),
        Rows(own_predictions(), ""),
        InfluenceParameters(
            taus=(-0.5, 0, 1), metrics=(Metric.ACCURACY, Metric.AUC), confidence_level=0.9, features=(4, 0)
        ),
        labels=Rows(LABELS, ""),
        groups=Rows(np.arange(ROWS) % 2, ""),
    )
    for name in (
        "feature_means", "targets", "influences", "standard_errors", "confidence_low", "confidence_high", "slopes",
        "performances", "performance_errors", "group_performances", "group_performance_errors", "attained",
        "attained_means", "effective_sample_sizes", "baseline_predictions", "baseline_performances",
    ):  # fmt: skip
        sent, made = array(getattr(response, name)), getattr(expected, name)
        assert sent.shape == made.shape, name
        np.testing.assert_allclose(sent, made, rtol=1e-5, atol=1e-9, err_msg=name)
    assert list(response.features) == [4, 0]
    assert list(response.feature_names) == ["e", "a"]
    assert list(response.example_shape) == [FEATURES]
    assert list(response.taus) == [-0.5, 0, 1]
    assert list(response.groups) == [0, 1]
    assert list(response.metrics) == metrics
    provenance = response.provenance
    assert (provenance.model, provenance.version, provenance.forward_rows) == ("small", 1, ROWS)
    assert provenance.runtime == model_pb2.RUNTIME_ONNX_RUNTIME


async def test_a_reference_set_gives_the_same_as_its_rows_sent_and_brings_its_labels(server: Running) -> None:
    metrics = [influence_pb2.METRIC_LOG_LOSS]

    by_set = await server.explain.ExplainInfluence(request(instances=of_set(), metrics=metrics))
    by_rows = await server.explain.ExplainInfluence(request(labels=raw_tensor(LABELS), metrics=metrics))

    assert by_set.influences == by_rows.influences
    assert by_set.performances == by_rows.performances


async def test_examples_may_be_selected_by_class_and_sampled(server: Running) -> None:
    selected = of_set(
        class_filter=reference_pb2.ClassFilter(classes=[1]), sample=reference_pb2.ReferenceSample(count=20, seed=5)
    )

    response = await server.explain.ExplainInfluence(request(instances=selected, metrics=[1]))

    assert response.provenance.forward_rows == 20
    inside = X[LABELS == 1]
    assert (array(response.feature_means) != X.mean(axis=0)).all()
    assert (array(response.feature_means) >= inside.min(axis=0)).all()


@pytest.mark.parametrize("by_set", [True, False])
async def test_predictions_that_are_given_need_no_model(server: Running, by_set: bool) -> None:
    predictions = own_predictions()
    instances = of_set() if by_set else inline(X)

    given = await server.explain.ExplainInfluence(request("", instances, predictions=raw_tensor(predictions)))
    made = await server.explain.ExplainInfluence(request())

    np.testing.assert_allclose(array(given.influences), array(made.influences), rtol=1e-5)
    assert given.provenance.model == ""
    assert given.provenance.forward_rows == 0
    assert given.provenance.runtime == model_pb2.RUNTIME_UNSPECIFIED


async def test_predictions_that_are_given_are_used_although_a_model_is_named(server: Running) -> None:
    response = await server.explain.ExplainInfluence(request(predictions=raw_tensor(X[:, 0].copy()), taus=[1]))

    assert array(response.influences)[0, 0, 0] == pytest.approx(array(response.attained_means)[0, 0])
    assert response.provenance.model == "small"


async def test_targets_are_means_in_the_features_unit(server: Running) -> None:
    response = await server.explain.ExplainInfluence(request(targets=[0.25, 0.5, 7]))

    assert response.absolute_targets
    assert array(response.attained).tolist() == [[True, True, False]] * FEATURES
    np.testing.assert_allclose(array(response.attained_means)[:, :2], [[0.25, 0.5]] * FEATURES, atol=1e-10)
    assert "TARGETS_NOT_ATTAINED" in {warning.code for warning in response.provenance.warnings}


async def test_pictures_come_along_when_asked_for(server: Running) -> None:
    images = RANDOM.integers(0, 17, (50, 6, 7)).astype(np.uint8)
    asked = request("", inline(images), predictions=raw_tensor(RANDOM.random((50, 2))))
    asked.render.CopyFrom(explanation_pb2.RenderOptions(format=explanation_pb2.PICTURE_FORMAT_PNG, width_pixels=480))

    response = await server.explain.ExplainInfluence(asked)

    names = [picture.name for picture in response.pictures]
    assert names == ["influence-heatmaps", "influence-ranking", "influence-curves"]
    assert all(picture.data.startswith(b"\x89PNG") and picture.width_pixels == 480 for picture in response.pictures)


@pytest.mark.parametrize("model", ["small", ""])
async def test_a_job_gives_the_same_with_and_without_a_model(server: Running, model: str) -> None:
    asked = request(model, of_set(), metrics=[influence_pb2.METRIC_F1])
    if not model:
        asked.parameters.predictions.CopyFrom(raw_tensor(own_predictions()))
    jobs = job_service_pb2_grpc.JobServiceStub(server.channel)

    created = await jobs.CreateJob(job_service_pb2.CreateJobRequest(request=job_pb2.JobRequest(influence=asked)))
    async with asyncio.timeout(60):
        async for told in jobs.WatchJob(job_service_pb2.WatchJobRequest(id=created.job.id)):
            last = told.job
    assert last.state == job_pb2.JOB_STATE_SUCCEEDED, last.error
    result = await jobs.GetJobResult(job_service_pb2.GetJobResultRequest(id=created.job.id))

    called = await server.explain.ExplainInfluence(asked)
    assert result.result.influence.influences == called.influences
    assert result.result.influence.performances == called.performances


async def test_get_model_says_for_which_models_influence_can_run(server: Running) -> None:
    found = {}
    for name in ("small", "two"):
        selector = model_pb2.ModelSelector(name=name)
        detail = (await server.models.GetModel(model_service_pb2.GetModelRequest(model=selector))).model
        found[name] = next(s for s in detail.methods if s.method == model_pb2.METHOD_INFLUENCE)

    assert found["small"].supported
    assert not found["two"].supported
    assert "exactly one numeric input" in found["two"].reason


def _with_nan() -> Array:
    x = X.copy()
    x[7, 2] = np.nan
    return x


REFUSED: list[tuple[str, influence_pb2.ExplainInfluenceRequest, str, str]] = [
    ("no model and no predictions", request(""), "model.name", "empty"),
    ("no instances", request(instances=reference_pb2.Instances()), "instances", "is not set"),
    ("a single example", request(instances=inline(X[:1])), "instances.inline.inputs[0].tensor", "at least 2"),
    ("NaN", request(instances=inline(_with_nan())), "instances.inline.inputs[0].tensor", "feature 2 is nan"),
    ("a tau out of range", request(taus=[2]), "parameters.taus[0]", "-1 to 1"),
    ("taus and targets", request(taus=[1], targets=[1]), "parameters.targets", "one of the two"),
    ("a feature that is not there", request(features=[9]), "parameters.features[0]", "0 to 5"),
    ("quantiles that cross", request(low_quantile=0.9, high_quantile=0.1), "parameters.low_quantile", "not below"),
    ("a metric without labels", request(metrics=[1]), "parameters.labels", "need labels"),
    ("labels without a metric", request(labels=raw_tensor(LABELS)), "parameters.labels", "no metrics"),
    ("groups without a metric", request(groups=raw_tensor(LABELS)), "parameters.metrics", "groups"),
    ("an unknown metric", request(metrics=[99], labels=raw_tensor(LABELS)), "parameters.metrics[0]", "METRIC_AUC"),
    ("no metric", request(metrics=[0], labels=raw_tensor(LABELS)), "parameters.metrics[0]", "name a metric"),
    ("an unknown mode", request(unattainable=9), "parameters.unattainable", "UNATTAINABLE_TARGET_BOUNDARY"),
    ("an unknown output", request(output="nope"), "parameters.output", "'probabilities'"),
    ("an output of more axes", request("outputs", output="boxes"), "parameters.output", "shape"),
    (
        "an output beside predictions",
        request(predictions=raw_tensor(X), output="probabilities"),
        "parameters.output",
        "one of the two",
    ),
    ("predictions of another length", request(predictions=raw_tensor(X[:5])), "parameters.predictions", "5 rows"),
    ("malformed labels", request(metrics=[1], labels=tensor_pb2.Tensor(shape=[3])), "parameters.labels", "no content"),
    (
        "a target out of reach",
        request(targets=[3], unattainable=influence_pb2.UNATTAINABLE_TARGET_ERROR, feature_names=list("abcdef")),
        "parameters.targets[0]",
        "feature 0 ('a') can not have mean 3",
    ),
    (
        "classes by prediction without a model",
        request(
            "",
            of_set(
                class_filter=reference_pb2.ClassFilter(classes=[1], source=reference_pb2.CLASS_SOURCE_PREDICTION)
            ),
            predictions=raw_tensor(X),
        ),
        "model.name",
        "needs the model",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "field", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_what_can_not_be_explained_is_refused_by_its_field(
    server: Running, asked: influence_pb2.ExplainInfluenceRequest, field: str, words: str
) -> None:
    refused = await refusal(server.explain.ExplainInfluence(asked))

    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == [field]
    assert words in refused.message


async def test_a_model_of_several_inputs_is_refused_until_predictions_are_given(server: Running) -> None:
    refused = await refusal(server.explain.ExplainInfluence(request("two", inline(X[:, :2].copy()))))
    given = request("two", inline(X[:, :2].copy()), predictions=raw_tensor(X[:, 0].copy()))

    assert refused.reason == "METHOD_NOT_SUPPORTED"
    assert "give predictions" in refused.message
    assert array((await server.explain.ExplainInfluence(given)).influences).shape == (2, 2, 1)
