"""Relevance asked for over the wire, as a call and as a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from job_serving import SUCCEEDED, job_server
from onnx import TensorProto, helper, numpy_helper
from serving import CLASSES, FEATURES, Running, Start, dense_network, inline, put_model, raw_tensor, refusal
from sidelight.v1 import (
    explanation_pb2,
    job_pb2,
    job_service_pb2,
    lrp_pb2,
    model_pb2,
    model_service_pb2,
    reference_pb2,
    tensor_pb2,
)
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.lrp import Classes, LayerSelection, LrpParameters, LrpPreset, LrpTarget, propagate_relevance
from sidelight_engines.model import open_model

X = np.random.default_rng(2).normal(size=(5, FEATURES)).astype(np.float32)


def lrp_request(x: np.ndarray[Any, Any] = X, model: str = "small", **parameters: Any) -> lrp_pb2.ExplainLrpRequest:
    return lrp_pb2.ExplainLrpRequest(
        model=model_pb2.ModelSelector(name=model),
        instances=inline(x),
        parameters=lrp_pb2.LrpParameters(**parameters),
    )


def array_of(tensor: tensor_pb2.Tensor) -> np.ndarray[Any, Any]:
    return np.frombuffer(tensor.raw, "<f4").reshape(tuple(tensor.shape))


async def test_relevance_over_the_wire_is_the_engines_own(shared_server: Running, tmp_path: Path) -> None:
    request = lrp_request(
        preset=lrp_pb2.LRP_PRESET_EPSILON_ALPHA2_BETA1,
        target=lrp_pb2.LrpTarget(classes=lrp_pb2.ClassList(indices=[2, 0])),
        layers=explanation_pb2.LayerSelection(names=["relu_1"]),
    )

    response = await shared_server.explain.ExplainLrp(request)

    put_model(tmp_path, "small", 1, dense_network([FEATURES, 8, CLASSES]))
    model = open_model(tmp_path / "small" / "1", ModelFormat.ONNX)
    expected = propagate_relevance(
        model,
        {"x": X},
        LrpParameters(
            LrpPreset.EPSILON_ALPHA2_BETA1, target=LrpTarget(Classes((2, 0))), layers=LayerSelection(("relu_1",))
        ),
    )
    (found,) = response.inputs
    assert found.name == "x"
    np.testing.assert_allclose(array_of(found.tensor), expected.inputs[0].values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(array_of(response.layers[0].tensor), expected.layers[0].values, rtol=1e-4, atol=1e-6)
    assert [(one.instance, one.class_index) for one in response.explained[:3]] == [(0, 2), (0, 0), (1, 2)]
    assert response.explained[0].ledger_residual <= 1e-5
    assert [entry.layer for entry in response.ledger] == [entry.layer for entry in expected.ledger]
    np.testing.assert_allclose(response.ledger[-1].bias, expected.ledger[-1].bias.ravel(), rtol=1e-3, atol=1e-6)
    assert response.head_cut_at == "softmax"
    assert [rule.rule for rule in response.applied_rules] == [rule.rule for rule in expected.applied_rules]
    assert response.provenance.runtime == model_pb2.RUNTIME_TENSORFLOW
    assert response.provenance.forward_rows == expected.forward_rows


async def test_the_default_is_the_largest_logit_by_epsilon_plus(shared_server: Running) -> None:
    by_default = await shared_server.explain.ExplainLrp(lrp_request())
    said = await shared_server.explain.ExplainLrp(lrp_request(preset=lrp_pb2.LRP_PRESET_EPSILON_PLUS))

    assert by_default.inputs == said.inputs
    assert all(one.logit == one.relevance_out for one in by_default.explained)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"epsilon": {}}, "epsilon(1e-06)"),
        ({"epsilon": {"epsilon": 0.0}}, "epsilon(0)"),
        ({"alpha_beta": {"alpha": 3.0}}, "alpha_beta(3, 2, epsilon=1e-06)"),
        ({"alpha_beta": {}, "ignore_bias": True}, "alpha_beta(2, 1, epsilon=1e-06, bias ignored)"),
        ({"gamma": {"gamma": 0.5, "epsilon": 1e-3}}, "gamma(0.5, epsilon=0.001)"),
        ({"flat": {}, "ignore_bias": True}, "flat(epsilon=1e-06)"),
        ({"z_box": {"low": -4.0, "high": 4.0}}, "z_box(-4, 4, epsilon=1e-06)"),
    ],
)
async def test_a_rule_reaches_the_layers_it_is_for(shared_server: Running, rule: dict[str, Any], said: str) -> None:
    rules = lrp_pb2.LrpRuleMap(
        entries=[lrp_pb2.LrpRuleEntry(layer="dense_1", rule=lrp_pb2.LrpRule(**rule))],
        otherwise=lrp_pb2.LrpRule(w_square=lrp_pb2.WSquareRule()),
    )

    response = await shared_server.explain.ExplainLrp(lrp_request(rules=rules))

    applied = {one.layer: one.rule for one in response.applied_rules}
    assert applied["dense_1"] == said
    assert applied["dense_2"].startswith("w_square")


async def test_a_gradient_method_has_no_ledger_and_repeats_with_its_seed(shared_server: Running) -> None:
    gradient = lrp_pb2.GradientMethod(kind=lrp_pb2.GRADIENT_KIND_SMOOTH_GRAD, samples=4, seed=3)

    first, again = [await shared_server.explain.ExplainLrp(lrp_request(gradient=gradient)) for _ in range(2)]
    # The noise of an instance hangs on its place in the whole list.
    later = await shared_server.explain.ExplainLrp(lrp_request(X[3:], gradient=gradient, first_instance=3))

    assert first.inputs == again.inputs
    assert not first.ledger
    np.testing.assert_allclose(array_of(later.inputs[0].tensor), array_of(first.inputs[0].tensor)[3:], rtol=1e-5)


async def test_quality_figures_come_when_asked_for(shared_server: Running) -> None:
    quality = lrp_pb2.LrpQualityOptions(pixel_flipping_steps=3, random_logit=True)

    response = await shared_server.explain.ExplainLrp(lrp_request(X[:2], quality=quality))
    without = await shared_server.explain.ExplainLrp(lrp_request(X[:2]))

    assert all(one.HasField("pixel_flipping_auc") for one in response.explained)
    assert all(-1 <= one.random_logit_similarity <= 1 for one in response.explained)
    assert not without.explained[0].HasField("pixel_flipping_auc")


async def test_pictures_come_along_when_asked_for(shared_server: Running) -> None:
    request = lrp_request()
    request.render.format = explanation_pb2.PICTURE_FORMAT_PNG
    request.render.width_pixels = 480

    response = await shared_server.explain.ExplainLrp(request)

    assert [picture.name for picture in response.pictures] == ["relevance", "relevance-ledger"]
    assert all(picture.data.startswith(b"\x89PNG") for picture in response.pictures)
    assert "instance 0" in response.pictures[0].alternative_text


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"preset": 99}, "parameters.preset"),
        ({"gradient": {}}, "parameters.gradient.kind"),
        ({"gradient": {"kind": 3, "samples": 1}}, "parameters.gradient.samples"),
        ({"rules": {"entries": [{"layer": "dense_1"}]}}, "parameters.rules.entries[0].rule"),
        ({"rules": {"entries": [{"rule": {"flat": {}}}]}}, "parameters.rules.entries[0].match"),
        ({"rules": {"entries": [{"layer": "dense_1", "rule": {}}]}}, "parameters.rules.entries[0].rule.kind"),
        ({"rules": {"entries": [{"position": 0, "rule": {"flat": {}}}]}}, "parameters.rules.entries[0].position"),
        ({"rules": {"otherwise": {"alpha_beta": {"alpha": 2.0, "beta": 2.0}}}}, "parameters.rules.otherwise"),
        ({"preset": 5}, "parameters.input_minimum"),
        ({"target": {"classes": {}}}, "parameters.target.classes.indices"),
        ({"target": {"classes": {"indices": [3]}}}, "parameters.target.classes.indices[0]"),
        ({"target": {"class_per_instance": {"indices": [1]}}}, "parameters.target.class_per_instance.indices"),
        ({"target": {"output": "odd"}}, "parameters.target.output"),
        ({"target": {"value": 9}}, "parameters.target.value"),
        ({"layers": {"names": ["odd"]}}, "parameters.layers.names[0]"),
        ({"layers": {"names": ["relu_1"], "all": True}}, "parameters.layers.names"),
        ({"empty_branch": 7}, "parameters.empty_branch"),
        ({"fallback": 7}, "parameters.fallback"),
        ({"attention": 7}, "parameters.attention"),
        ({"quality": {"pixel_flipping_steps": -1}}, "parameters.quality.pixel_flipping_steps"),
        ({"first_instance": -1}, "parameters.first_instance"),
    ],
)
async def test_a_value_that_may_not_be_given_is_named(
    shared_server: Running, parameters: dict[str, Any], field: str
) -> None:
    refused = await refusal(shared_server.explain.ExplainLrp(lrp_request(**parameters)))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT, refused.message
    assert refused.fields[0].startswith(field), refused.message


async def test_instances_that_do_not_fit_are_refused(shared_server: Running) -> None:
    missing = lrp_pb2.ExplainLrpRequest(model=model_pb2.ModelSelector(name="small"))
    narrow = lrp_request(X[:, :4])
    twice = lrp_request()
    twice.instances.inline.inputs.add(name="y", tensor=raw_tensor(X))

    for request, field in (
        (missing, "instances"),
        (narrow, "instances.inline.inputs"),
        (twice, "instances.inline.inputs"),
    ):
        refused = await refusal(shared_server.explain.ExplainLrp(request))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.fields[0].startswith(field), refused.message


async def test_a_result_that_no_memory_is_granted_for_is_refused_before_it_is_computed(start: Start) -> None:
    server = await start("small", chunk_mebibytes=1)
    x = np.zeros((20_000, FEATURES), np.float32)
    request = lrp_request(x, layers=explanation_pb2.LayerSelection(all=True))

    refused = await refusal(server.explain.ExplainLrp(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MEMORY_LIMIT")
    assert "fewer instances" in refused.message


async def test_a_model_of_two_inputs_shares_relevance_between_them(start: Start, repository: Path) -> None:
    weights = {"w_age": np.array([[2.0], [1.0]]), "w_place": np.array([[3.0], [-1.0]])}
    nodes = [
        helper.make_node("MatMul", ["age", "w_age"], ["of_age"], name="of_age"),
        helper.make_node("MatMul", ["place", "w_place"], ["of_place"], name="of_place"),
        helper.make_node("Add", ["of_age", "of_place"], ["score"], name="score"),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("age", "place")]
    graph = helper.make_graph(
        nodes,
        "two",
        inputs,
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    put_model(repository, "two", 1, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    server = await start("two")
    named = [
        tensor_pb2.NamedTensor(name=name, tensor=raw_tensor(np.array([row], np.float32)))
        for name, row in (("age", [1.0, 2.0]), ("place", [1.0, 1.0]))
    ]
    request = lrp_pb2.ExplainLrpRequest(
        model=model_pb2.ModelSelector(name="two"),
        instances=reference_pb2.Instances(inline=reference_pb2.InlineInstances(inputs=named)),
    )

    response = await server.explain.ExplainLrp(request)

    # age gives 2 + 2 and place 3 - 1, by the epsilon rule of the last layers.
    assert [found.name for found in response.inputs] == ["age", "place"]
    np.testing.assert_allclose(array_of(response.inputs[0].tensor)[0, 0], [2.0, 2.0], rtol=1e-4)
    np.testing.assert_allclose(array_of(response.inputs[1].tensor)[0, 0], [3.0, -1.0], rtol=1e-4)


async def test_get_model_says_which_layers_relevance_passes(shared_server: Running) -> None:
    request = model_service_pb2.GetModelRequest(model=model_pb2.ModelSelector(name="small"))

    model = (await shared_server.models.GetModel(request)).model

    assert [(layer.name, layer.lrp_supported) for layer in model.layers] == [
        ("dense_1", True),
        ("relu_1", True),
        ("dense_2", True),
        ("softmax", True),
    ]


async def test_a_job_in_slices_equals_the_call(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    put_model(models, "small", 1, dense_network([FEATURES, 8, CLASSES]))
    x = np.random.default_rng(3).normal(size=(40, FEATURES)).astype(np.float32)
    target = lrp_pb2.LrpTarget(class_per_instance=lrp_pb2.ClassList(indices=[i % CLASSES for i in range(40)]))
    request = lrp_request(x, target=target, layers=explanation_pb2.LayerSelection(names=["relu_1"]))
    request.render.format = explanation_pb2.PICTURE_FORMAT_SVG
    async with job_server(models, tmp_path / "data", "small") as jobs:
        direct = await jobs.server.explain.ExplainLrp(request)
        created = await jobs.stub.CreateJob(job_service_pb2.CreateJobRequest(request=job_pb2.JobRequest(lrp=request)))
        ended = await jobs.ended(created.job.id)
        result = (await jobs.stub.GetJobResult(job_service_pb2.GetJobResultRequest(id=created.job.id))).result.lrp

    assert ended.state == SUCCEEDED, ended.error
    assert (ended.progress.done, ended.progress.total) == (40, 40)
    np.testing.assert_allclose(
        array_of(result.inputs[0].tensor), array_of(direct.inputs[0].tensor), rtol=1e-4, atol=1e-6
    )
    assert [(one.instance, one.class_index) for one in result.explained] == [(i, i % CLASSES) for i in range(40)]
    np.testing.assert_allclose(result.ledger[0].bias, direct.ledger[0].bias, rtol=1e-4, atol=1e-6)
    assert [picture.name for picture in result.pictures] == ["relevance", "relevance-ledger"]
