"""Activation patterns asked of a real server: by the stub, the facade, as a job and at the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import sidelight
from job_serving import JobServer, job_server
from onnx import TensorProto, helper
from serving import CLASSES, FEATURES, inline, put_model, raw_tensor, refusal
from sidelight.v1 import activation_pattern_pb2, explanation_pb2, model_pb2, reference_pb2, tensor_pb2
from sidelight_service.cli import app
from typer.testing import CliRunner

COUNT = 90
X = np.random.default_rng(0).normal(size=(COUNT, FEATURES)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, CLASSES, COUNT)
LAYER = "relu_1"


def two_inputs() -> onnx.ModelProto:
    """y = relu(a + b), of two inputs."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"], name="sum"),
        helper.make_node("Relu", ["sum"], ["y"], name="relu"),
    ]
    specs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("a", "b", "y")]
    graph = helper.make_graph(nodes, "two", specs[:2], specs[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, small_model: onnx.ModelProto) -> AsyncIterator[JobServer]:
    root = tmp_path_factory.mktemp("patterns")
    put_model(root / "models", "small", 1, small_model)
    put_model(root / "models", "two", 1, two_inputs())
    async with job_server(root / "models", root / "data", "small", "two") as running:
        async with sidelight.connect_async(running.server.server.addresses[0]) as client:
            await client.create_reference("set", X, LABELS)
            await client.create_reference("targets", X, X[:, 0])
            await client.create_reference("plain", X)
        yield running


def address(server: JobServer) -> str:
    return server.server.server.addresses[0]


def activations(small_model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The first hidden layer of the small model."""
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in small_model.graph.initializer}
    return np.maximum(x @ weights["w1"] + weights["b1"], 0)


def expected_rates(small_model: onnx.ModelProto, x: Any, labels: Any) -> np.ndarray[Any, Any]:
    fired = activations(small_model, x) > 0
    return np.stack([fired[labels == label].mean(axis=0) for label in sorted(set(labels.tolist()))])


def selected(**fields: Any) -> reference_pb2.Instances:
    return reference_pb2.Instances(reference=reference_pb2.ReferenceSelection(**{"reference": "set"} | fields))


def request(instances: Any = None, model: str = "small", **parameters: Any) -> Any:
    given = {"layers": explanation_pb2.LayerSelection(names=[LAYER])} | parameters
    return activation_pattern_pb2.ExplainActivationPatternRequest(
        model=model_pb2.ModelSelector(name=model),
        instances=selected() if instances is None else instances,
        parameters=activation_pattern_pb2.ActivationPatternParameters(**given),
    )


def array(tensor: tensor_pb2.Tensor) -> np.ndarray[Any, Any]:
    name = tensor_pb2.DataType.Name(tensor.data_type).removeprefix("DATA_TYPE_").lower()
    return np.frombuffer(tensor.raw, name).reshape(tuple(tensor.shape))


async def test_a_reference_set_gives_the_rates_of_its_classes(server: JobServer, small_model: onnx.ModelProto) -> None:
    response = await server.server.explain.ExplainActivationPattern(request())

    rates = expected_rates(small_model, X, LABELS)
    (layer,) = response.layers
    np.testing.assert_allclose(array(layer.firing_rates), rates, rtol=1e-15)
    distances = np.abs(rates[:, np.newaxis] - rates).mean(axis=2)
    np.testing.assert_allclose(array(layer.distances[0].values), distances, atol=1e-15)
    assert list(response.classes) == [0, 1, 2]
    assert list(response.class_counts) == np.bincount(LABELS).tolist()
    assert list(response.class_examples) == [int(np.argmax(label == LABELS)) for label in range(3)]
    assert response.provenance.runtime == model_pb2.RUNTIME_ONNX_RUNTIME
    assert response.provenance.forward_rows >= COUNT
    used = response.effective_parameters
    assert (used.value, used.WhichOneof("threshold")) == (0.0, "value")
    assert used.pooling == activation_pattern_pb2.UNIT_POOLING_ANY
    assert list(used.distances) == [activation_pattern_pb2.PATTERN_DISTANCE_MEAN_ABSOLUTE]
    assert used.class_source == reference_pb2.CLASS_SOURCE_LABEL
    assert used.specific_units == 5


async def test_inline_examples_with_labels_give_what_a_reference_set_of_them_gives(server: JobServer) -> None:
    by_set = await server.server.explain.ExplainActivationPattern(request())

    by_message = await server.server.explain.ExplainActivationPattern(request(inline(X), labels=raw_tensor(LABELS)))

    assert by_message.layers == by_set.layers


async def test_first_examples_of_a_selection_are_told_by_their_place_in_the_set(server: JobServer) -> None:
    rows = [80, 3, 41, 7, 66, 12]

    response = await server.server.explain.ExplainActivationPattern(request(selected(indices=rows)))

    firsts = {int(LABELS[row]): row for row in reversed(rows)}
    assert list(response.class_examples) == [firsts[name] for name in response.classes]


async def test_a_model_of_two_inputs_has_patterns_too(server: JobServer) -> None:
    named = [tensor_pb2.NamedTensor(name=name, tensor=raw_tensor(X[:, :3])) for name in ("b", "a")]
    instances = reference_pb2.Instances(inline=reference_pb2.InlineInstances(inputs=named))
    layers = explanation_pb2.LayerSelection(names=["relu"])

    response = await server.server.explain.ExplainActivationPattern(
        request(instances, "two", layers=layers, labels=raw_tensor(LABELS))
    )

    fired = X[:, :3] > 0
    expected = np.stack([fired[label == LABELS].mean(axis=0) for label in range(3)])
    np.testing.assert_allclose(array(response.layers[0].firing_rates), expected, rtol=1e-15)


async def test_a_job_gives_what_the_call_gives(server: JobServer) -> None:
    async with sidelight.connect_async(address(server)) as client:
        chosen = sidelight.ReferenceSelection("set")
        called = await client.activation_pattern("small", chosen, layers="all", distances=["cosine", "jaccard"])
        job = await client.submit_activation_pattern("small", chosen, layers="all", distances=["cosine", "jaccard"])

        result = await (await job.wait(timeout=60)).result()

    assert isinstance(result, sidelight.ActivationPatternExplanation)
    assert job.info.kind == "activation-pattern"
    assert job.info.progress.done == job.info.progress.total == COUNT
    assert result.as_dict()["layers"] == called.as_dict()["layers"]


async def test_pictures_are_those_that_are_asked_for(server: JobServer) -> None:
    async with sidelight.connect_async(address(server)) as client:
        chosen = sidelight.ReferenceSelection("set")
        plain = await client.activation_pattern("small", chosen, layers=LAYER)
        drawn = await client.activation_pattern(
            "small", chosen, layers=LAYER, distances=["cka", "cosine"], picture="svg", picture_width=480
        )

    assert plain.pictures == ()
    assert [picture.name for picture in drawn.pictures] == [
        "firing-rates-relu_1",
        "pattern-distances-relu_1-CKA",
        "pattern-distances-relu_1-cosine",
        "class-neighbours-relu_1",
    ]
    assert all(picture.data.startswith(b"<?xml") and picture.width_pixels == 480 for picture in drawn.pictures)
    assert "nearest classes" in drawn.pictures[1].alternative_text


def _render(**fields: Any) -> Any:
    made = request()
    made.render.CopyFrom(explanation_pb2.RenderOptions(**fields))
    return made


_LABELS = raw_tensor(LABELS)
_PREDICTION = reference_pb2.CLASS_SOURCE_PREDICTION


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (request(layers=explanation_pb2.LayerSelection()), "parameters.layers"),
        (request(layers=explanation_pb2.LayerSelection(names=["relu1"])), "parameters.layers.names[0]"),
        (request(layers=explanation_pb2.LayerSelection(all=True, names=["x"])), "parameters.layers.names"),
        (request(value=float("inf")), "parameters.value"),
        (request(quantile=1.1), "parameters.quantile"),
        (request(pooling=9), "parameters.pooling"),
        (request(class_source=9), "parameters.class_source"),
        (request(divisor=-1), "parameters.divisor"),
        (request(distances=[2, 9]), "parameters.distances[1]"),
        (request(distances=[0]), "parameters.distances[0]"),
        (request(specific_units=1001), "parameters.specific_units"),
        (request(output="probabilities"), "parameters.output"),
        (request(output="nothing", class_source=_PREDICTION), "parameters.output"),
        (request(labels=_LABELS), "parameters.labels"),
        (request(inline(X)), "parameters.labels"),
        (request(inline(X), labels=raw_tensor(LABELS[:3])), "parameters.labels"),
        (request(inline(X), labels=raw_tensor(-LABELS)), "parameters.labels"),
        (request(inline(X), labels=_LABELS, class_source=_PREDICTION), "parameters.labels"),
        (request(inline(X[:, :2]), labels=_LABELS), "instances.inline.inputs[0].tensor"),
        (request(selected(reference="targets")), "instances.reference"),
        (request(selected(reference="plain")), "instances.reference"),
        (request(inline(X), model="two"), "instances.inline.inputs"),
        (_render(format=1, width_pixels=3), "render.width_pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_value_is_refused_by_the_path_of_its_field(
    server: JobServer, request_message: Any, field: str
) -> None:
    refused = await refusal(server.server.explain.ExplainActivationPattern(request_message))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == [field]


async def test_examples_without_labels_are_grouped_by_prediction(
    server: JobServer, small_model: onnx.ModelProto
) -> None:
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in small_model.graph.initializer}
    predicted = (activations(small_model, X) @ weights["w2"] + weights["b2"]).argmax(axis=1)

    response = await server.server.explain.ExplainActivationPattern(
        request(selected(reference="plain"), class_source=_PREDICTION)
    )

    assert list(response.classes) == sorted(set(predicted.tolist()))
    np.testing.assert_allclose(array(response.layers[0].firing_rates), expected_rates(small_model, X, predicted))
    assert response.effective_parameters.output == "probabilities"


def run(server: JobServer, *arguments: object) -> Any:
    command = ["explain", "activation-pattern", "--server", address(server), "--model", "small", *arguments]
    return CliRunner().invoke(app, [str(argument) for argument in command], env={"COLUMNS": "240"})


async def test_the_command_shows_writes_and_draws_the_patterns(server: JobServer, tmp_path: Path) -> None:
    plot, out = tmp_path / "p.png", tmp_path / "p.npz"

    shown = await asyncio.to_thread(
        run, server, "--reference", "set", "--layers", f"dense_1,{LAYER}", "--plot", plot, "--out", out
    )

    assert shown.exit_code == 0, shown.output
    assert "relu_1: 8 units" in shown.stdout
    assert "nearest classes (mean-absolute)" in shown.stdout
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "p-class-neighbours-dense_1.png",
        "p-class-neighbours-relu_1.png",
        "p-firing-rates-dense_1.png",
        "p-firing-rates-relu_1.png",
        "p-pattern-distances-dense_1-mean-absolute.png",
        "p-pattern-distances-relu_1-mean-absolute.png",
    ]
    with np.load(out) as numbers:
        assert numbers["layer"].tolist() == ["dense_1", "relu_1"]
        assert numbers["firing_rates_1"].shape == (3, 8)


async def test_the_command_takes_files_and_runs_jobs(server: JobServer, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", LABELS)
    files = ("--input", tmp_path / "x.npy", "--labels", tmp_path / "y.npy", "--layers", LAYER, "--json")

    direct = await asyncio.to_thread(run, server, *files)
    as_job = await asyncio.to_thread(run, server, *files, "--job", "--wait")

    assert direct.exit_code == as_job.exit_code == 0, direct.output + as_job.output
    # The server of these tests logs to the standard output of this process.
    shown, waited_for = (json.loads(done.stdout.splitlines()[-1]) for done in (direct, as_job))
    assert shown["layers"] == waited_for["layers"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layers", "a"), "either --reference NAME or --input FILE"),
        (("--layers", "a", "--reference", "set", "--labels", __file__), "--labels goes with --input"),
        (("--layers", "a", "--reference", "set", "--threshold", "1", "--quantile", "0.5"), "exclude each other"),
        (("--layers", "a", "--reference", "set", "--wait"), "--wait: goes with --job"),
        (("--layers", "relu1", "--reference", "set"), "did you mean"),
    ],
)
async def test_a_wrong_call_says_what_to_give(server: JobServer, arguments: tuple[str, ...], message: str) -> None:
    done = await asyncio.to_thread(run, server, *arguments)

    assert done.exit_code == 2
    assert message in done.output
