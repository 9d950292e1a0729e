"""A server in this process that implements the generated services and remembers what it was asked.

Its linearity of an instance is a sum over the instance times the instance's place in the whole list,
so a result tells whether instances and places arrived as they should.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from fake_lrp import explain_lrp
from google.protobuf import any_pb2, message
from google.rpc import status_pb2
from grpc_status import rpc_status
from sidelight.v1 import (
    explain_service_pb2_grpc,
    explanation_pb2,
    influence_pb2,
    linearity_pb2,
    lrp_pb2,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    reference_pb2,
    reference_service_pb2,
    reference_service_pb2_grpc,
    similarity_pb2,
    tensor_pb2,
)

LAYERS = ("conv_1", "relu_1")
OUTPUT = "softmax"


@dataclass
class Failure:
    """A status to refuse a call with."""

    code: grpc.StatusCode
    message: str
    details: tuple[message.Message, ...] = ()

    def abort(self, context: grpc.ServicerContext) -> None:
        packed = []
        for detail in self.details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        context.abort_with_status(rpc_status.to_status(status))


def influence_response() -> influence_pb2.ExplainInfluenceResponse:
    """Two of four features, two taus, two labels, one metric; the second target of the second was not reached."""
    tensors = {
        "feature_means": [5.0, 6.0],
        "targets": [[4.0, 7.0], [6.0, 9.0]],
        "influences": [[[0.25, 0.75], [0.5, 0.5]], [[0.25, 0.75], [1.0, 0.0]]],
        "standard_errors": [[[0.1, 0.1], [0.2, 0.2]], [[0.1, 0.1], [np.nan, np.nan]]],
        "slopes": [[0.5, -0.5], [0.0, 0.0]],
        "performances": [[[0.5], [0.75]], [[0.5], [np.nan]]],
        "performance_errors": [[[0.01], [0.02]], [[0.03], [np.nan]]],
        "attained_means": [[4.0, 7.0], [6.0, 8.0]],
        "effective_sample_sizes": [[2.5, 2.5], [3.0, 1.0]],
        "baseline_predictions": [0.3, 0.7],
        "baseline_performances": [0.6],
    }
    return influence_pb2.ExplainInfluenceResponse(
        features=[3, 0],
        feature_names=["d", "a"],
        example_shape=[2, 2],
        taus=[-1, 1],
        metrics=[influence_pb2.METRIC_LOG_LOSS],
        attained=tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_BOOL, shape=[2, 2], raw=b"\1\1\1\0"),
        provenance=explanation_pb2.Provenance(
            model="digits",
            version=3,
            runtime=model_pb2.RUNTIME_ONNX_RUNTIME,
            warnings=[explanation_pb2.Warning(code="TARGETS_NOT_ATTAINED", message="1 of 4")],
        ),
        **{name: _float64(np.array(values)) for name, values in tensors.items()},
    )


def _float64(array: np.ndarray[Any, Any]) -> tensor_pb2.Tensor:
    return tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_FLOAT64, shape=array.shape, raw=array.tobytes())


@dataclass
class FakeServer:
    """What the server was asked, and how it is to answer.

    Attributes:
        address: where it listens.
        requests: every request, in order.
        failures: refuses one call with each, first to last, before it answers any.
        versions: the version that serves each next call; the last one stays.
        digests: likewise.
        seconds: how long a linearity call takes.
        references: the reference sets, listed two to a page.
        refuse_chunk: refuses an upload at its chunk of this number, from 0.
        influence: answers calls for influence.
    """

    address: str = ""
    requests: list[Any] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    versions: list[int] = field(default_factory=lambda: [3])
    digests: list[str] = field(default_factory=lambda: ["sha256:" + "a" * 64])
    seconds: float = 0.0
    pages: list[list[model_pb2.Model]] = field(default_factory=list)
    detail: model_pb2.ModelDetail = field(default_factory=model_pb2.ModelDetail)
    references: list[reference_pb2.ReferenceSet] = field(default_factory=list)
    refuse_chunk: int | None = None
    influence: influence_pb2.ExplainInfluenceResponse = field(default_factory=influence_response)

    def take(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.failures:
            self.failures.pop(0).abort(context)


def to_array(tensor: tensor_pb2.Tensor) -> np.ndarray[Any, Any]:
    name = tensor_pb2.DataType.Name(tensor.data_type).removeprefix("DATA_TYPE_").lower()
    return np.frombuffer(tensor.raw, np.dtype(name).newbyteorder("<")).reshape(tuple(tensor.shape))


class _Explain(explain_service_pb2_grpc.ExplainServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def ExplainLinearity(
        self, request: linearity_pb2.ExplainLinearityRequest, context: grpc.ServicerContext
    ) -> linearity_pb2.ExplainLinearityResponse:
        fake = self._fake
        fake.take(request, context)
        time.sleep(fake.seconds)
        if request.instances.HasField("inline"):
            x = to_array(request.instances.inline.inputs[0].tensor)
        else:
            x = np.ones((len(request.instances.reference.indices) or 5, 2))
        return _respond(
            request, x, *(part.pop(0) if len(part) > 1 else part[0] for part in (fake.versions, fake.digests))
        )

    def ExplainLrp(
        self, request: lrp_pb2.ExplainLrpRequest, context: grpc.ServicerContext
    ) -> lrp_pb2.ExplainLrpResponse:
        self._fake.take(request, context)
        time.sleep(self._fake.seconds)
        if request.instances.HasField("inline"):
            x = to_array(request.instances.inline.inputs[0].tensor)
        else:
            x = np.ones((len(request.instances.reference.indices) or 5, 2), np.float32)
        return explain_lrp(request, x)

    def ExplainInfluence(
        self, request: influence_pb2.ExplainInfluenceRequest, context: grpc.ServicerContext
    ) -> influence_pb2.ExplainInfluenceResponse:
        self._fake.take(request, context)
        return self._fake.influence

    def ExplainSimilarity(
        self, request: similarity_pb2.ExplainSimilarityRequest, context: grpc.ServicerContext
    ) -> similarity_pb2.ExplainSimilarityResponse:
        fake = self._fake
        fake.take(request, context)
        count = 3
        if request.instances.HasField("inline"):
            count = request.instances.inline.inputs[0].tensor.shape[0]
        version, digest = (part.pop(0) if len(part) > 1 else part[0] for part in (fake.versions, fake.digests))
        return similar(request.parameters, count, version, digest)


def similar(
    parameters: similarity_pb2.SimilarityParameters, count: int, version: int, digest: str
) -> similarity_pb2.ExplainSimilarityResponse:
    """An answer in which rank r of every instance is reference 10 r, of class r and score 1 / (r + 1)."""
    response = similarity_pb2.ExplainSimilarityResponse(reference_digest="sha256:" + "c" * 64, layers=["conv_1", "out"])
    response.provenance.model, response.provenance.version, response.provenance.digest = "digits", version, digest
    response.provenance.forward_rows = count
    for row in range(1 if parameters.aggregate_instances else count):
        ranking = response.rankings.add(gradient_norm=row + 0.5)
        if not parameters.aggregate_instances:
            ranking.prediction = row
        for rank in range(parameters.top if parameters.HasField("top") else 2):
            found = ranking.most_similar.add(index=10 * rank, score=1 / (rank + 1), label=rank, prediction=rank + 1)
            if parameters.layer_contributions:
                found.layer_scores.extend([0.25, 0.75])
            if parameters.include_examples:
                image = np.full((2, 2), rank, np.float32)
                tensor = tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2, 2], raw=image.tobytes())
                found.example.add(name="x", tensor=tensor)
        if parameters.all_scores:
            scores = np.arange(4, dtype=np.float32) + row
            ranking.scores.CopyFrom(
                tensor_pb2.Tensor(data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=[4], raw=scores.tobytes())
            )
        if parameters.class_means:
            ranking.class_means.add(class_index=3, source=reference_pb2.CLASS_SOURCE_LABEL, mean=0.5, count=7)
        if parameters.self_influence:
            ranking.self_influence = 1.0
    return response


def _respond(
    request: linearity_pb2.ExplainLinearityRequest, x: np.ndarray[Any, Any], version: int, digest: str
) -> linearity_pb2.ExplainLinearityResponse:
    parameters, count = request.parameters, len(x)
    places = parameters.draws.first_instance + np.arange(count) + 1
    base = np.abs(x.reshape(count, -1).astype(np.float64)).sum(axis=1) * places
    layers = parameters.layers
    names = [OUTPUT, *(LAYERS if layers.all else layers.names)]
    response = linearity_pb2.ExplainLinearityResponse(
        instance_count=count,
        next_word_offset=77,
        provenance=explanation_pb2.Provenance(
            model=request.model.name,
            version=version,
            digest=digest,
            runtime=model_pb2.RUNTIME_ONNX_RUNTIME,
            server_version="9.9",
            forward_rows=21 * count,
            warnings=[explanation_pb2.Warning(code="FEATURE_RANGE_EMPTY", message="feature 7 does not vary")],
        ),
        effective_parameters=linearity_pb2.LinearityParameters(
            grid=linearity_pb2.GridSampling(epsilon=0.04, resolution=100),
            samples=20,
            aggregation=linearity_pb2.AGGREGATION_GLOBAL,
            output=OUTPUT,
            model_type=linearity_pb2.MODEL_TYPE_CLASSIFIER,
            draws=parameters.draws,
        ),
    )
    response.provenance.queue_time.FromMilliseconds(250)
    response.provenance.compute_time.FromMilliseconds(1500)
    if parameters.HasField("confidence_level"):
        response.effective_parameters.confidence_level = parameters.confidence_level
    for depth, name in enumerate(names):
        affine = name == "conv_1"
        values = base * 0 if affine else base / (depth + 1)
        response.layers.add(
            layer=name,
            output=name == OUTPUT,
            linearity=values,
            normalized=values / 10,
            noise_floor=base * 1e-7,
            confidence_low=values * 0.9 if parameters.HasField("confidence_level") else [],
            confidence_high=values * 1.1 if parameters.HasField("confidence_level") else [],
            zero_reason=linearity_pb2.ZERO_REASON_AFFINE if affine else linearity_pb2.ZERO_REASON_UNSPECIFIED,
            zero_count=count if affine else 0,
        )
    if request.render.format:
        response.pictures.add(name="linearity-by-layer", format=request.render.format, data=b"picture", width_pixels=9)
    return response


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> model_service_pb2.ListModelsResponse:
        self._fake.take(request, context)
        page = int(request.page_token or 0)
        more = page + 1 < len(self._fake.pages)
        models = self._fake.pages[page] if self._fake.pages else []
        return model_service_pb2.ListModelsResponse(models=models, next_page_token=str(page + 1) if more else "")

    def GetModel(self, request: Any, context: grpc.ServicerContext) -> model_service_pb2.GetModelResponse:
        self._fake.take(request, context)
        return model_service_pb2.GetModelResponse(model=self._fake.detail)

    def LoadModel(self, request: Any, context: grpc.ServicerContext) -> model_service_pb2.LoadModelResponse:
        self._fake.take(request, context)
        return model_service_pb2.LoadModelResponse(model=self._fake.detail)

    def UnloadModel(self, request: Any, context: grpc.ServicerContext) -> model_service_pb2.UnloadModelResponse:
        self._fake.take(request, context)
        version = model_pb2.ModelVersion(version=3, state=model_pb2.MODEL_VERSION_STATE_UNLOADED)
        return model_service_pb2.UnloadModelResponse(model=model_pb2.Model(name=request.model.name, versions=[version]))


class _References(reference_service_pb2_grpc.ReferenceServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def ListReferences(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._fake.take(request, context)
        first = int(request.page_token or 0)
        more = first + 2 < len(self._fake.references)
        return reference_service_pb2.ListReferencesResponse(
            references=self._fake.references[first : first + 2], next_page_token=str(first + 2) if more else ""
        )

    def GetReference(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._fake.take(request, context)
        return reference_service_pb2.GetReferenceResponse(reference=self._fake.references[0])

    def ImportReference(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._fake.take(request, context)
        return reference_service_pb2.ImportReferenceResponse(reference=reference_set(request.name))

    def DeleteReference(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._fake.take(request, context)
        return reference_service_pb2.DeleteReferenceResponse()

    def CreateReference(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:
        fake = self._fake
        parts = []
        for number, part in enumerate(request_iterator):
            parts.append(part)
            if number - 1 == fake.refuse_chunk:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such chunk")
        fake.take(parts, context)
        if parts[-1].WhichOneof("part") != "trailer":
            context.abort(grpc.StatusCode.DATA_LOSS, "no trailer")
        created = reference_set(parts[0].header.name)
        created.count = parts[-1].trailer.count
        return reference_service_pb2.CreateReferenceResponse(reference=created)


def reference_set(name: str) -> reference_pb2.ReferenceSet:
    """A reference set as GetReference shows it, with every field set."""
    described = reference_pb2.ReferenceSet(
        name=name,
        digest="sha256:" + "b" * 64,
        count=1500,
        class_counts={1: 500, 0: 1000},
        labelled=True,
        size_bytes=384_512,
    )
    described.inputs.add(data_type=tensor_pb2.DATA_TYPE_FLOAT32, shape=[8, 8, 1], minimum=0.0, maximum=1.0)
    described.create_time.FromJsonString("2026-01-02T03:04:05Z")
    return described


@contextmanager
def serving(address: str = "localhost:0") -> Iterator[FakeServer]:
    """Runs a fake server, by default on a free port."""
    fake = FakeServer()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    explain_service_pb2_grpc.add_ExplainServiceServicer_to_server(_Explain(fake), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(fake), server)
    reference_service_pb2_grpc.add_ReferenceServiceServicer_to_server(_References(fake), server)
    port = server.add_insecure_port(address)
    fake.address = address.replace(":0", f":{port}")
    server.start()
    try:
        yield fake
    finally:
        server.stop(0).wait()


def digits_detail() -> model_pb2.ModelDetail:
    """A model as GetModel shows it, with every field set."""
    op = model_pb2.UnsupportedOp(node="n", op="Loop", opset=17, reason="no entry")
    version = model_pb2.ModelVersion(
        version=3,
        state=model_pb2.MODEL_VERSION_STATE_AVAILABLE,
        labels=["stable"],
        format=model_pb2.MODEL_FORMAT_ONNX,
        digest="sha256:" + "a" * 64,
        size_bytes=48051,
    )
    version.available_time.FromJsonString("2026-01-02T03:04:05Z")
    float32 = tensor_pb2.DATA_TYPE_FLOAT32
    return model_pb2.ModelDetail(
        name="digits",
        version=3,
        status=version,
        inputs=[model_pb2.TensorSpec(name="input", data_type=float32, shape=[-1, 8, 8, 1])],
        outputs=[model_pb2.TensorSpec(name="softmax", data_type=float32, shape=[-1, 10])],
        layers=[
            model_pb2.Layer(
                name="conv_1",
                op="Conv",
                data_type=float32,
                shape=[-1, 16, 8, 8],
                shape_known=True,
                parameter_count=80,
                affine=True,
                tensor="conv_1/BiasAdd:0",
                lrp_supported=False,
            ),
            model_pb2.Layer(name="softmax", op="Softmax", data_type=float32, output=True),
        ],
        parameter_count=11066,
        methods=[
            model_pb2.MethodSupport(
                method=model_pb2.METHOD_LINEARITY, supported=True, runtime=model_pb2.RUNTIME_ONNX_RUNTIME
            ),
            model_pb2.MethodSupport(method=model_pb2.METHOD_LRP, reason="not built yet", unsupported_ops=[op]),
        ],
        gradient_check=model_pb2.GradientCheck(
            state=model_pb2.GradientCheck.STATE_PASSED, max_relative_error=1e-7, tolerance=1e-4, probe_rows=8
        ),
        producer="tf2onnx 1.17",
        classifier=True,
    )
