"""A caller in another process asks for an explanation and gets it, or gets told why not."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from serving import FEATURES, Running, Start, inline, linearity_request, put_model, refusal
from sidelight.v1 import (
    explain_service_pb2,
    explanation_pb2,
    linearity_pb2,
    model_pb2,
    model_service_pb2,
    server_service_pb2,
    server_service_pb2_grpc,
    tensor_pb2,
)
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.linearity import GridSampling, LinearityParameters, UniformRange, measure_linearity
from sidelight_engines.model import open_model
from sidelight_service.methods.names import METHOD_OF_RPC


async def test_linearity_over_the_wire_is_the_engines_own(start: Start, repository: Path) -> None:
    server = await start("small")
    request = linearity_request(layers=explanation_pb2.LayerSelection(all=True), confidence_level=0.9)

    response = await server.explain.ExplainLinearity(request)

    model = open_model(repository / "small" / "1", ModelFormat.ONNX)
    x = np.random.default_rng(1).random((4, FEATURES), dtype=np.float32)
    expected = measure_linearity(
        model.graph, model.runtime(), x, LinearityParameters(GridSampling(UniformRange(0, 1)), samples=20)
    )
    assert [layer.layer for layer in response.layers] == ["softmax", "dense_1", "relu_1", "dense_2"]
    assert response.layers[0].output
    np.testing.assert_allclose(response.layers[0].linearity, expected.layers[0].linearity, rtol=1e-5)
    assert response.layers[1].zero_reason == linearity_pb2.ZERO_REASON_AFFINE
    assert len(response.layers[2].confidence_low) == 4


async def test_a_response_says_what_made_it(shared_server: Running) -> None:
    server = shared_server

    response = await server.explain.ExplainLinearity(linearity_request(rows=3))

    provenance = response.provenance
    assert (provenance.model, provenance.version) == ("small", 1)
    assert provenance.digest.startswith("sha256:")
    assert provenance.runtime == model_pb2.RUNTIME_ONNX_RUNTIME
    assert provenance.forward_rows == 3 * 21
    assert provenance.compute_time.ToMilliseconds() >= 0
    assert response.instance_count == 3
    assert response.effective_parameters.samples == 20
    assert not response.effective_parameters.coefficients
    assert response.effective_parameters.grid.epsilon == pytest.approx(0.04)


async def test_coefficients_that_were_given_are_used_and_told(shared_server: Running) -> None:
    response = await shared_server.explain.ExplainLinearity(linearity_request(samples=2, coefficients=[0.25, 0.75]))

    assert list(response.effective_parameters.coefficients) == [0.25, 0.75]


async def test_typed_values_and_raw_bytes_mean_the_same(shared_server: Running) -> None:
    server = shared_server
    raw = linearity_request(rows=2)
    x = np.frombuffer(raw.instances.inline.inputs[0].tensor.raw, dtype=np.float32).reshape(2, FEATURES)
    typed = linearity_request(rows=2)
    typed.instances.inline.inputs[0].tensor.CopyFrom(
        tensor_pb2.Tensor(shape=[2, FEATURES], double_values=tensor_pb2.DoubleValues(values=x.ravel().tolist()))
    )

    by_raw, by_typed = [await server.explain.ExplainLinearity(request) for request in (raw, typed)]

    assert list(by_raw.layers[0].linearity) == list(by_typed.layers[0].linearity)


async def test_whole_number_pixels_are_taken_for_a_floating_point_input(shared_server: Running) -> None:
    server = shared_server
    request = linearity_request()
    request.instances.CopyFrom(inline(np.arange(2 * FEATURES, dtype=np.uint8).reshape(2, FEATURES)))
    as_floats = linearity_request()
    as_floats.instances.CopyFrom(inline(np.arange(2 * FEATURES, dtype=np.float32).reshape(2, FEATURES)))

    bytes_, floats = [await server.explain.ExplainLinearity(r) for r in (request, as_floats)]

    assert list(bytes_.layers[0].linearity) == list(floats.layers[0].linearity)


async def test_a_picture_comes_along_when_asked_for(shared_server: Running) -> None:
    server = shared_server
    request = linearity_request(layers=explanation_pb2.LayerSelection(all=True))
    request.render.format = explanation_pb2.PICTURE_FORMAT_PNG
    request.render.width_pixels = 480

    response = await server.explain.ExplainLinearity(request)

    (picture,) = response.pictures
    assert picture.data.startswith(b"\x89PNG")
    assert picture.width_pixels == 480
    assert "dense_1" in picture.alternative_text


async def test_an_onnx_model_runs_on_tensorflow_when_asked_and_agrees(shared_server: Running) -> None:
    server = shared_server

    native = await server.explain.ExplainLinearity(linearity_request())
    lowered = await server.explain.ExplainLinearity(linearity_request(runtime=model_pb2.RUNTIME_TENSORFLOW))

    assert lowered.provenance.runtime == model_pb2.RUNTIME_TENSORFLOW
    np.testing.assert_allclose(lowered.layers[0].linearity, native.layers[0].linearity, rtol=1e-3, atol=1e-6)
    check = (await server.models.GetModel(_get("small"))).model.gradient_check
    assert check.state == model_pb2.GradientCheck.STATE_PASSED
    assert check.max_relative_error <= check.tolerance


def _get(name: str) -> model_service_pb2.GetModelRequest:
    return model_service_pb2.GetModelRequest(model=model_pb2.ModelSelector(name=name))


def _set(path: str, value: object) -> linearity_pb2.ExplainLinearityRequest:
    request = linearity_request()
    target: object = request
    *parents, last = path.split(".")
    for name in parents:
        target = getattr(target, name)
    setattr(target, last, value)
    return request


def _without_instances() -> linearity_pb2.ExplainLinearityRequest:
    request = linearity_request()
    request.ClearField("instances")
    return request


def _without_sampling() -> linearity_pb2.ExplainLinearityRequest:
    request = linearity_request()
    request.parameters.ClearField("sampling")
    return request


def _without_range() -> linearity_pb2.ExplainLinearityRequest:
    request = linearity_request()
    request.parameters.grid.ClearField("feature_range")
    return request


def _with_instances(array: np.ndarray) -> linearity_pb2.ExplainLinearityRequest:
    request = linearity_request()
    request.instances.CopyFrom(inline(array))
    return request


def _with_tensor(**tensor: object) -> linearity_pb2.ExplainLinearityRequest:
    request = linearity_request()
    request.instances.inline.inputs[0].tensor.CopyFrom(tensor_pb2.Tensor(**tensor))
    return request


def _with_neighbours(rows: int) -> linearity_pb2.ExplainLinearityRequest:
    request = linearity_request(samples=5)
    data = inline(np.random.default_rng(0).random((rows, FEATURES), dtype=np.float32))
    request.parameters.knn.CopyFrom(linearity_pb2.KnnSampling(data=data))
    return request


_X = "instances.inline.inputs[0].tensor"
_NAN = np.full((2, FEATURES), np.nan, dtype=np.float32)


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (_set("model.name", ""), "model.name"),
        (_set("model.version", -1), "model.version"),
        (_without_instances(), "instances"),
        (_with_instances(np.zeros((0, FEATURES), np.float32)), _X),
        (_with_instances(np.zeros((2, FEATURES + 1), np.float32)), _X),
        (_with_instances(_NAN), _X),
        (_with_tensor(shape=[1, FEATURES], raw=b"\0" * 4 * FEATURES), f"{_X}.data_type"),
        (_with_tensor(data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=[1, FEATURES], raw=b"\0"), f"{_X}.raw"),
        (_with_tensor(data_type=tensor_pb2.DATA_TYPE_STRING, shape=[1], raw=b"\0"), f"{_X}.data_type"),
        (_with_tensor(data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=[-1, FEATURES], raw=b"\0"), f"{_X}.shape"),
        (_with_tensor(shape=[1, FEATURES]), _X),
        (_with_tensor(shape=[2], double_values=tensor_pb2.DoubleValues(values=[1])), f"{_X}.double_values"),
        (_set("parameters.samples", 1), "parameters.samples"),
        (_set("parameters.samples", 10_001), "parameters.samples"),
        (_set("parameters.grid.epsilon", 0.0), "parameters.grid.epsilon"),
        (_set("parameters.grid.resolution", 1), "parameters.grid.resolution"),
        (_set("parameters.confidence_level", 1.0), "parameters.confidence_level"),
        (_set("parameters.output", "no_such_output"), "parameters.output"),
        (_set("parameters.aggregation", 7), "parameters.aggregation"),
        (_set("parameters.draws.generator", 9), "parameters.draws.generator"),
        (_set("parameters.draws.first_instance", -1), "parameters.draws.first_instance"),
        (_set("render.width_pixels", 5), "render.width_pixels"),
        (_without_sampling(), "parameters.sampling"),
        (_without_range(), "parameters.grid.feature_range"),
        (_with_neighbours(3), "parameters.knn.data"),
        (linearity_request(coefficients=[0.5, 0.5]), "parameters.coefficients"),
        (linearity_request(coefficients=[float("nan")] * 20), "parameters.coefficients"),
        (linearity_request(layers=explanation_pb2.LayerSelection(names=["dens_1"])), "parameters.layers.names[0]"),
        (linearity_request(layers=explanation_pb2.LayerSelection(all=True, names=["a"])), "parameters.layers.names"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_value_is_refused_by_the_path_of_its_field(
    shared_server: Running, request_message: linearity_pb2.ExplainLinearityRequest, field: str
) -> None:
    refused = await refusal(shared_server.explain.ExplainLinearity(request_message))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(refused.fields) == 1
    assert refused.fields[0].startswith(field)
    assert "Traceback" not in refused.message


async def test_a_misspelt_layer_is_answered_with_the_nearest_names(shared_server: Running) -> None:
    server = shared_server
    layers = explanation_pb2.LayerSelection(names=["dense1"])

    refused = await refusal(server.explain.ExplainLinearity(linearity_request(layers=layers)))

    assert refused.reason == "UNKNOWN_LAYER"
    assert "dense_1" in json.loads(refused.metadata["nearest"])


async def test_a_deadline_stops_the_work_within_a_chunk(
    start: Start, repository: Path, slow_model: onnx.ModelProto
) -> None:
    put_model(repository, "slow", 1, slow_model)
    server = await start("slow")
    # Warm: the first request pays for making the session.
    await server.explain.ExplainLinearity(linearity_request("slow", rows=1))

    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await server.explain.ExplainLinearity(linearity_request("slow", rows=3000), timeout=1.0)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # The worker is free again: the next request does not wait for the rest of the 3,000 instances.
    await server.explain.ExplainLinearity(linearity_request("slow", rows=1))
    assert time.monotonic() - began < 10.0


async def test_the_servers_own_limit_on_calls_stops_the_work_too(
    start: Start, repository: Path, slow_model: onnx.ModelProto
) -> None:
    put_model(repository, "slow", 1, slow_model)
    server = await start("slow", max_call_seconds=1.0)

    refused = await refusal(server.explain.ExplainLinearity(linearity_request("slow", rows=3000)))

    assert (refused.code, refused.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_cancelled_call_frees_the_worker(start: Start, repository: Path, slow_model: onnx.ModelProto) -> None:
    put_model(repository, "slow", 1, slow_model)
    server = await start("slow")
    call = server.explain.ExplainLinearity(linearity_request("slow", rows=3000))
    await asyncio.sleep(1.0)

    began = time.monotonic()
    call.cancel()
    await server.explain.ExplainLinearity(linearity_request("slow", rows=1))

    assert time.monotonic() - began < 10.0


async def test_a_full_queue_refuses_at_once_with_a_time_to_retry(
    start: Start, repository: Path, slow_model: onnx.ModelProto
) -> None:
    put_model(repository, "slow", 1, slow_model)
    server = await start("slow", queue_limit=1)
    calls = [server.explain.ExplainLinearity(linearity_request("slow", rows=500)) for _ in range(2)]
    await asyncio.sleep(0.5)

    refused = await refusal(server.explain.ExplainLinearity(linearity_request("slow", rows=500)))

    assert not any(call.done() for call in calls)
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert refused.retry_seconds is not None
    for call in calls:
        call.cancel()


async def test_a_request_above_the_limit_is_refused_with_the_limit(start: Start) -> None:
    server = await start("small", max_message_mebibytes=1)
    too_large = _with_instances(np.zeros((60_000, FEATURES), np.float32))

    refused = await refusal(server.explain.ExplainLinearity(too_large))

    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    assert refused.metadata["limit_bytes"] == str(1 << 20)


async def test_bytes_that_are_no_request_are_refused_as_such(shared_server: Running) -> None:
    server = shared_server
    call = server.channel.unary_unary("/sidelight.v1.ExplainService/ExplainLinearity")

    refused = await refusal(call(b"\xff\xff\xff"))

    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_a_server_tells_its_methods_and_limits(start: Start) -> None:
    server = await start("small", max_message_mebibytes=2, max_call_seconds=1.5, queue_limit=3)
    stub = server_service_pb2_grpc.ServerServiceStub(server.channel)

    info = await stub.GetServerInfo(server_service_pb2.GetServerInfoRequest())

    assert list(info.methods) == sorted(METHOD_OF_RPC.values())
    contract = explain_service_pb2.DESCRIPTOR.services_by_name["ExplainService"]
    assert METHOD_OF_RPC.keys() == {method.name for method in contract.methods}
    assert model_pb2.METHOD_LINEARITY in info.methods
    assert (info.max_message_bytes, info.queue_limit) == (2 << 20, 3)
    assert info.max_call_duration.ToMilliseconds() == 1500
    assert info.version


async def test_a_method_that_nobody_knows_says_so(shared_server: Running) -> None:
    server = shared_server

    refused = await refusal(server.channel.unary_unary("/sidelight.v1.ExplainService/ExplainNothing")(b""))

    assert (refused.code, refused.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
