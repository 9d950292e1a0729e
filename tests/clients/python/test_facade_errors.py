"""What a caller of the client gets to see when something goes wrong."""

from __future__ import annotations

import pickle
import subprocess
import sys

import grpc
import numpy as np
import pytest
import sidelight
from fake_server import Failure, FakeServer
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from sidelight.status_details import StatusDetails, decode_status_details

UNKNOWN_LAYER = error_details_pb2.ErrorInfo(
    domain="sidelight", reason="UNKNOWN_LAYER", metadata={"layer": "conv1", "nearest": "conv_1"}
)
BAD_REQUEST = error_details_pb2.BadRequest(
    field_violations=[
        error_details_pb2.BadRequest.FieldViolation(field="parameters.layers.names[0]", description="no such layer")
    ]
)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, sidelight.InvalidArgument),
        (grpc.StatusCode.NOT_FOUND, sidelight.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, sidelight.AlreadyExists),
        (grpc.StatusCode.FAILED_PRECONDITION, sidelight.FailedPrecondition),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, sidelight.ResourceExhausted),
        (grpc.StatusCode.UNIMPLEMENTED, sidelight.Unimplemented),
        (grpc.StatusCode.DEADLINE_EXCEEDED, sidelight.DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, sidelight.Cancelled),
        (grpc.StatusCode.INTERNAL, sidelight.InternalError),
        (grpc.StatusCode.DATA_LOSS, sidelight.DataLoss),
        (grpc.StatusCode.ABORTED, sidelight.SidelightError),
    ],
)
def test_each_kind_of_status_has_its_class(
    client: sidelight.Client, fake: FakeServer, code: grpc.StatusCode, kind: type[sidelight.SidelightError]
) -> None:
    fake.failures = [Failure(code, "what was wrong", (error_details_pb2.ErrorInfo(reason="WHY", domain="sidelight"),))]

    with pytest.raises(sidelight.SidelightError) as caught:
        client.models()

    assert type(caught.value) is kind
    assert caught.value.code is code
    assert str(caught.value) == caught.value.message == "what was wrong"
    assert len(fake.requests) == 1


def test_the_details_of_a_status_are_decoded(client: sidelight.Client, fake: FakeServer) -> None:
    fake.failures = [Failure(grpc.StatusCode.INVALID_ARGUMENT, "no layer conv1", (UNKNOWN_LAYER, BAD_REQUEST))]

    with pytest.raises(sidelight.InvalidArgument) as caught:
        client.linearity("digits", np.zeros((1, 2)), layers=["conv1"], feature_range=(0, 1))

    error = caught.value
    assert error.reason == "UNKNOWN_LAYER"
    assert error.metadata == {"layer": "conv1", "nearest": "conv_1"}
    assert error.field_violations == (sidelight.FieldViolation("parameters.layers.names[0]", "no such layer"),)
    assert error.retry_after is None
    assert isinstance(error, ValueError)


def test_the_delay_before_a_retry_is_told(client: sidelight.Client, fake: FakeServer) -> None:
    info = error_details_pb2.ErrorInfo(domain="sidelight", reason="QUEUE_FULL", metadata={"limit": "64"})
    delay = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=1, nanos=500_000_000))
    fake.failures = [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "64 wait already", (info, delay))]

    with pytest.raises(sidelight.ResourceExhausted) as caught:
        client.models()

    assert caught.value.retry_after == 1.5


async def test_the_asyncio_client_raises_the_same(fake: FakeServer) -> None:
    fake.failures = [Failure(grpc.StatusCode.INVALID_ARGUMENT, "no layer conv1", (UNKNOWN_LAYER, BAD_REQUEST))]

    async with sidelight.connect_async(fake.address) as client:
        with pytest.raises(sidelight.InvalidArgument) as caught:
            await client.model("digits")

    assert caught.value.reason == "UNKNOWN_LAYER"
    assert caught.value.field_violations[0].field == "parameters.layers.names[0]"


def test_unknown_details_are_skipped(client: sidelight.Client, fake: FakeServer) -> None:
    foreign = error_details_pb2.DebugInfo(detail="stack")
    fake.failures = [Failure(grpc.StatusCode.NOT_FOUND, "no", (foreign, UNKNOWN_LAYER))]

    with pytest.raises(sidelight.NotFound) as caught:
        client.model("digits")

    assert caught.value.reason == "UNKNOWN_LAYER"


def test_broken_details_do_not_hide_the_error() -> None:
    assert decode_status_details(b"\xff\xff\xff") == StatusDetails()


def test_an_unavailable_server_is_asked_again_and_then_answers(client: sidelight.Client, fake: FakeServer) -> None:
    fake.failures = [Failure(grpc.StatusCode.UNAVAILABLE, "the worker was lost")] * 2

    result = client.linearity("digits", np.zeros((1, 200_000)), feature_range=(0, 1))

    assert result.instance_count == 1
    assert len(fake.requests) == 3


def test_other_failures_are_not_repeated(client: sidelight.Client, fake: FakeServer) -> None:
    fake.failures = [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")]

    with pytest.raises(sidelight.ResourceExhausted):
        client.models()

    assert len(fake.requests) == 1


def test_a_server_that_is_not_there_is_named() -> None:
    with (
        sidelight.connect("localhost:1") as client,
        pytest.raises(sidelight.Unavailable, match=r"no answer .* localhost:1: .*check that it runs") as caught,
    ):
        client.models(timeout=10)
    assert isinstance(caught.value, ConnectionError)


def test_an_error_can_cross_processes() -> None:
    error = sidelight.NotFound("no", reason="MODEL_NOT_FOUND", metadata={"model": "m"}, retry_after=2.0)

    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), copy.__dict__) == (sidelight.NotFound, "no", error.__dict__)


def test_the_client_brings_in_nothing_of_the_server_and_no_common_protos() -> None:
    heavy = ["sidelight_service", "sidelight_engines", "google.rpc", "grpc_status", "pydantic", "tensorflow", "onnx"]
    program = f"import sys, sidelight; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
