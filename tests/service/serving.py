"""Models made by hand, requests, and real servers to send them to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import onnx
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from onnx import TensorProto, helper, numpy_helper
from sidelight.v1 import (
    explain_service_pb2_grpc,
    linearity_pb2,
    model_pb2,
    model_service_pb2_grpc,
    reference_pb2,
    reference_service_pb2_grpc,
    tensor_pb2,
)
from sidelight_service.server import Server
from sidelight_service.settings import Settings

FEATURES = 6
CLASSES = 3


def dense_network(widths: list[int], *, seed: int = 0, softmax: bool = True) -> onnx.ModelProto:
    """Dense layers `dense_1`, `dense_2`, ... with ReLU between them and, if wanted, a softmax at the end."""
    random = np.random.default_rng(seed)
    nodes, weights, value = [], [], "x"
    for number, (n_in, n_out) in enumerate(itertools.pairwise(widths), start=1):
        last = number == len(widths) - 1
        w = random.normal(0, (2 / n_in) ** 0.5, (n_in, n_out)).astype(np.float32)
        b = random.normal(0, 0.1, n_out).astype(np.float32)
        weights += [numpy_helper.from_array(w, f"w{number}"), numpy_helper.from_array(b, f"b{number}")]
        dense = f"dense_{number}"
        nodes.append(helper.make_node("Gemm", [value, f"w{number}", f"b{number}"], [dense], name=dense))
        value = dense
        if not last:
            value = f"relu_{number}"
            nodes.append(helper.make_node("Relu", [dense], [value], name=value))
    if softmax:
        nodes.append(helper.make_node("Softmax", [value], ["probabilities"], name="softmax", axis=-1))
        value = "probabilities"
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", widths[0]])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["n", widths[-1]])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def put_model(repository: Path, name: str, version: int, model: onnx.ModelProto) -> Path:
    """Saves a model into a repository, the file appearing whole."""
    folder = repository / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = repository / f".{name}-{version}"
    onnx.save(model, unfinished)
    unfinished.rename(folder / "model.onnx")
    return folder


@dataclass
class Running:
    """A running server and stubs for it."""

    server: Server
    channel: grpc.aio.Channel
    models: Any
    explain: Any
    references: Any

    async def until_available(self, *names: str, seconds: float = 60.0) -> None:
        """Waits until each of these models has an available version."""
        async with asyncio.timeout(seconds):
            while not all(self.server.catalogue.is_available(name) for name in names):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    server = Server(settings)
    await server.start()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(server.addresses[0], options=options) as channel:
        yield Running(
            server,
            channel,
            model_service_pb2_grpc.ModelServiceStub(channel),
            explain_service_pb2_grpc.ExplainServiceStub(channel),
            reference_service_pb2_grpc.ReferenceServiceStub(channel),
        )
    await server.stop()


Start = Callable[..., Awaitable[Running]]


def raw_tensor(array: np.ndarray[Any, Any]) -> tensor_pb2.Tensor:
    data_type = tensor_pb2.DataType.Value(f"DATA_TYPE_{array.dtype.name.upper()}")
    return tensor_pb2.Tensor(data_type=data_type, shape=array.shape, raw=array.tobytes())


def inline(array: np.ndarray[Any, Any]) -> reference_pb2.Instances:
    named = tensor_pb2.NamedTensor(tensor=raw_tensor(array))
    return reference_pb2.Instances(inline=reference_pb2.InlineInstances(inputs=[named]))


def linearity_request(model: str = "small", rows: int = 4, **parameters: Any) -> linearity_pb2.ExplainLinearityRequest:
    x = np.random.default_rng(1).random((rows, FEATURES), dtype=np.float32)
    given = linearity_pb2.LinearityParameters(
        grid=linearity_pb2.GridSampling(
            feature_range=linearity_pb2.FeatureRange(uniform=linearity_pb2.UniformRange(minimum=0, maximum=1))
        ),
        **parameters,
    )
    return linearity_pb2.ExplainLinearityRequest(
        model=model_pb2.ModelSelector(name=model), instances=inline(x), parameters=given
    )


@dataclass
class Refusal:
    """A call's status, taken apart."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    fields: list[str]
    retry_seconds: float | None


def taken_apart(error: grpc.aio.AioRpcError | grpc.RpcError) -> Refusal:
    """Reads the details of a status; fails if it has no ErrorInfo."""
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    found: dict[str, Any] = {}
    for detail in status.details:
        assert isinstance(detail, any_pb2.Any)
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            message = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    info = found["ErrorInfo"]
    assert info.domain == "sidelight"
    violations = found["BadRequest"].field_violations if "BadRequest" in found else []
    retry = found["RetryInfo"].retry_delay.ToMilliseconds() / 1000 if "RetryInfo" in found else None
    return Refusal(
        error.code(), error.details() or "", info.reason, dict(info.metadata), [v.field for v in violations], retry
    )


async def refusal(call: Awaitable[Any]) -> Refusal:
    """What a call that must fail was refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return taken_apart(caught.value)
