"""From messages to the dataclasses of this client, for what is common to all methods."""

from __future__ import annotations

from datetime import UTC

from google.protobuf.duration_pb2 import Duration

from sidelight import models
from sidelight.provenance import Picture, Provenance, ResultWarning
from sidelight.v1 import explanation_pb2, model_pb2, server_service_pb2, tensor_pb2
from sidelight.words import word


def data_type(value: int) -> str:
    """The name of an element type: ``float32``."""
    return word(tensor_pb2.DataType.DESCRIPTOR, value)


def runtime(value: int) -> str:
    """The name of a runtime: ``onnx-runtime`` or ``tensorflow``."""
    return word(model_pb2.Runtime.DESCRIPTOR, value)


def decode_server_info(message: server_service_pb2.GetServerInfoResponse) -> models.ServerInfo:
    """The server's version, methods and limits."""
    return models.ServerInfo(
        version=message.version,
        methods=tuple(word(model_pb2.Method.DESCRIPTOR, method) for method in message.methods),
        max_message_bytes=message.max_message_bytes,
        max_call_seconds=message.max_call_duration.ToNanoseconds() / 1e9,
        queue_limit=message.queue_limit,
    )


def decode_model(message: model_pb2.Model) -> models.Model:
    """A model with all its versions."""
    return models.Model(message.name, tuple(_version(version) for version in message.versions))


def decode_model_detail(message: model_pb2.ModelDetail) -> models.ModelDetail:
    """One loaded model version."""
    check = message.gradient_check
    return models.ModelDetail(
        name=message.name,
        version=message.version,
        status=_version(message.status),
        inputs=tuple(_spec(spec) for spec in message.inputs),
        outputs=tuple(_spec(spec) for spec in message.outputs),
        layers=tuple(_layer(layer) for layer in message.layers),
        parameter_count=message.parameter_count,
        methods=tuple(
            models.MethodSupport(
                method=word(model_pb2.Method.DESCRIPTOR, support.method),
                supported=support.supported,
                runtime=runtime(support.runtime),
                reason=support.reason,
                unsupported_ops=tuple(_op(op) for op in support.unsupported_ops),
            )
            for support in message.methods
        ),
        gradient_check=models.GradientCheck(
            state=word(model_pb2.GradientCheck.State.DESCRIPTOR, check.state),
            max_absolute_error=check.max_absolute_error,
            max_relative_error=check.max_relative_error,
            tolerance=check.tolerance,
            probe_rows=check.probe_rows,
            message=check.message,
        ),
        producer=message.producer,
        classifier=message.classifier,
    )


def decode_provenance(message: explanation_pb2.Provenance) -> Provenance:
    """Where a result comes from."""
    return Provenance(
        model=message.model,
        version=message.version,
        digest=message.digest,
        runtime=runtime(message.runtime),
        server_version=message.server_version,
        queue_seconds=_seconds(message.queue_time),
        compute_seconds=_seconds(message.compute_time),
        forward_rows=message.forward_rows,
        warnings=tuple(ResultWarning(warning.code, warning.message) for warning in message.warnings),
    )


def decode_picture(message: explanation_pb2.Picture) -> Picture:
    """A picture of a result."""
    return Picture(
        name=message.name,
        format=word(explanation_pb2.PictureFormat.DESCRIPTOR, message.format),
        data=message.data,
        width_pixels=message.width_pixels,
        height_pixels=message.height_pixels,
        alternative_text=message.alternative_text,
    )


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _version(message: model_pb2.ModelVersion) -> models.ModelVersion:
    has_time = message.HasField("available_time")
    return models.ModelVersion(
        version=message.version,
        state=word(model_pb2.ModelVersionState.DESCRIPTOR, message.state),
        labels=tuple(message.labels),
        format=word(model_pb2.ModelFormat.DESCRIPTOR, message.format),
        digest=message.digest,
        size_bytes=message.size_bytes,
        available_time=message.available_time.ToDatetime(UTC) if has_time else None,
        error=models.ModelError(message.error.reason, message.error.message) if message.HasField("error") else None,
    )


def _op(message: model_pb2.UnsupportedOp) -> models.UnsupportedOp:
    return models.UnsupportedOp(message.node, message.op, message.domain, message.opset, message.reason)


def _spec(message: model_pb2.TensorSpec) -> models.TensorSpec:
    return models.TensorSpec(message.name, data_type(message.data_type), tuple(message.shape))


def _layer(message: model_pb2.Layer) -> models.Layer:
    return models.Layer(
        name=message.name,
        op=message.op,
        data_type=data_type(message.data_type),
        shape=tuple(message.shape) if message.shape_known else None,
        parameter_count=message.parameter_count,
        affine=message.affine,
        tensor=message.tensor,
        is_output=message.output,
        lrp_supported=message.lrp_supported if message.HasField("lrp_supported") else None,
    )
