"""Models: engine's dataclasses to protobuf."""

from __future__ import annotations

from sidelight.v1 import model_pb2, tensor_pb2
from sidelight_engines.errors import OpProblem
from sidelight_engines.graph.graph import Layer, ModelFormat, TensorSpec
from sidelight_engines.runtime.runtime import RuntimeKind

_FORMATS = {
    None: model_pb2.MODEL_FORMAT_UNSPECIFIED,
    ModelFormat.ONNX: model_pb2.MODEL_FORMAT_ONNX,
    ModelFormat.SAVED_MODEL: model_pb2.MODEL_FORMAT_SAVED_MODEL,
}
_RUNTIMES = {
    RuntimeKind.ONNX_RUNTIME: model_pb2.RUNTIME_ONNX_RUNTIME,
    RuntimeKind.TENSORFLOW: model_pb2.RUNTIME_TENSORFLOW,
}


def format_to_proto(model_format: ModelFormat | None) -> model_pb2.ModelFormat.ValueType:
    """The wire form of a file format; None is unspecified."""
    return _FORMATS[model_format]


def runtime_to_proto(runtime: RuntimeKind) -> model_pb2.Runtime.ValueType:
    """The wire form of a runtime."""
    return _RUNTIMES[runtime]


def op_problem_to_proto(problem: OpProblem) -> model_pb2.UnsupportedOp:
    """The wire form of an operation that is not covered."""
    return model_pb2.UnsupportedOp(
        node=problem.node, op=problem.op, domain=problem.domain, opset=problem.opset, reason=problem.reason
    )


def dtype_to_proto(dtype: str) -> tensor_pb2.DataType.ValueType:
    """The wire form of a NumPy type name; names that the contract does not have are unspecified."""
    name = f"DATA_TYPE_{dtype.upper()}"
    value = tensor_pb2.DataType.DESCRIPTOR.values_by_name.get(name)
    return tensor_pb2.DATA_TYPE_UNSPECIFIED if value is None else tensor_pb2.DataType.ValueType(value.number)


def spec_to_proto(spec: TensorSpec) -> model_pb2.TensorSpec:
    """The wire form of an input or output; free axes are -1."""
    return model_pb2.TensorSpec(name=spec.name, data_type=dtype_to_proto(spec.dtype), shape=_shape(spec.shape))


def layer_to_proto(layer: Layer, *, is_output: bool, lrp_supported: bool) -> model_pb2.Layer:
    """The wire form of a layer."""
    return model_pb2.Layer(
        name=layer.name,
        op=layer.op,
        data_type=dtype_to_proto(layer.dtype),
        shape=_shape(layer.shape or ()),
        shape_known=layer.shape is not None,
        parameter_count=layer.parameter_count,
        affine=layer.affine,
        tensor=layer.tensor,
        output=is_output,
        lrp_supported=lrp_supported,
    )


def _shape(shape: tuple[int | None, ...]) -> list[int]:
    return [-1 if length is None else length for length in shape]
