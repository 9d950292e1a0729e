"""Element types and shapes of the tensors in an ONNX model, as far as they can be told without running it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference

from sidelight_engines.graph.step import TensorType

logger = logging.getLogger(__name__)

# Above this many elements a constant is data, not shape arithmetic: shape inference need not carry it.
_SHAPE_CONSTANT_ELEMENTS = 1024


def infer_types(proto: onnx.ModelProto) -> dict[str, TensorType]:
    """Finds what declaration and shape inference tell.

    Args:
        proto: a checked model.

    Returns:
        Tensor name -> type, of the tensors of which anything is known.
    """
    light = _without_data(proto)
    told: dict[str, TensorType] = {}
    while True:
        types = _infer(light) | told
        # ONNX infers nothing for the scikit-learn operations; what is known of theirs may let it go on.
        found = {
            name: kind
            for name, kind in _ml_types(light.graph, types)
            if name not in told and types.get(name, kind).shape in (None, kind.shape)
        }
        if not found:
            break
        told |= found
        outputs = {value.name for value in light.graph.output}
        for name, kind in found.items():
            element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind.dtype))
            if name not in outputs:
                light.graph.value_info.append(onnx.helper.make_tensor_value_info(name, element, kind.shape))
    for initializer in proto.graph.initializer:
        types[initializer.name] = TensorType(_dtype(initializer.data_type), tuple(initializer.dims))
    return types


def _infer(proto: onnx.ModelProto) -> dict[str, TensorType]:
    graph = proto.graph
    try:
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        # Shapes are a help, not a need: both runtimes find them while they run.
        logger.warning("shapes could not be inferred: %s", str(error).partition("\n")[0])
    return declared_types((*graph.value_info, *graph.input, *graph.output))


def declared_types(values: Iterable[onnx.ValueInfoProto]) -> dict[str, TensorType]:
    """The types that a file declares: tensor name -> type, of those that are tensors of a known element type."""
    return {
        value.name: _tensor_type(value.type.tensor_type)
        for value in values
        if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type
    }


def _ml_types(graph: onnx.GraphProto, types: Mapping[str, TensorType]) -> Iterator[tuple[str, TensorType]]:
    """What the operations of ai.onnx.ml make out of inputs of a known type."""
    for node in graph.node:
        kind = types.get(node.input[0]) if node.domain == "ai.onnx.ml" and node.input else None
        if kind is None or kind.shape is None:
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        rows = kind.shape[0] if len(kind.shape) > 1 else 1
        match node.op_type:
            case "Normalizer" | "Scaler" | "Imputer":
                yield node.output[0], TensorType("float32", kind.shape)
            case "LinearRegressor":
                targets = attributes["targets"].i if "targets" in attributes else 1
                yield node.output[0], TensorType("float32", (rows, targets))
            case "LinearClassifier":
                strings = "classlabels_strings" in attributes
                if not strings:
                    yield node.output[0], TensorType("int64", (rows,))
                labels = attributes.get("classlabels_strings" if strings else "classlabels_ints")
                classes = None if labels is None else len(labels.strings) + len(labels.ints)
                yield node.output[1], TensorType("float32", (rows, classes))


def _without_data(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large constants have shape and type but no data, so that inference copies little."""
    light = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    graph = light.graph
    graph.name = proto.graph.name
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, field).extend(getattr(proto.graph, field))
    for initializer in proto.graph.initializer:
        if np.prod(initializer.dims, dtype=np.int64) <= _SHAPE_CONSTANT_ELEMENTS:
            graph.initializer.append(initializer)
        else:
            graph.initializer.add(name=initializer.name, data_type=initializer.data_type, dims=initializer.dims)
    return light


def _tensor_type(tensor: onnx.TypeProto.Tensor) -> TensorType:
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return TensorType(_dtype(tensor.elem_type), shape)


def _dtype(element: int) -> str:
    match element:
        case onnx.TensorProto.UNDEFINED:
            return ""
        case onnx.TensorProto.STRING:
            return "string"
        case _:
            return onnx.helper.tensor_dtype_to_np_dtype(element).name
