"""Tensors: protobuf to NumPy and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from sidelight.v1 import tensor_pb2
from sidelight_engines.errors import InvalidField

Array = npt.NDArray[Any]

_NUMPY = {
    tensor_pb2.DATA_TYPE_BOOL: "bool",
    tensor_pb2.DATA_TYPE_UINT8: "uint8",
    tensor_pb2.DATA_TYPE_UINT16: "uint16",
    tensor_pb2.DATA_TYPE_UINT32: "uint32",
    tensor_pb2.DATA_TYPE_UINT64: "uint64",
    tensor_pb2.DATA_TYPE_INT8: "int8",
    tensor_pb2.DATA_TYPE_INT16: "int16",
    tensor_pb2.DATA_TYPE_INT32: "int32",
    tensor_pb2.DATA_TYPE_INT64: "int64",
    tensor_pb2.DATA_TYPE_FLOAT16: "float16",
    tensor_pb2.DATA_TYPE_FLOAT32: "float32",
    tensor_pb2.DATA_TYPE_FLOAT64: "float64",
}
_PROTO = {name: wire for wire, name in _NUMPY.items()}


def tensor_to_array(tensor: tensor_pb2.Tensor, field: str, default_dtype: str) -> Array:
    """Reads a tensor.

    Args:
        tensor: the wire form.
        field: its path in the request, for errors.
        default_dtype: the NumPy type name that a tensor of typed values has if it states none.

    Returns:
        An array of the stated type and shape. With raw bytes it is a read-only view of the message.

    Raises:
        InvalidField: type, shape and content do not go together.
    """
    shape = tuple(tensor.shape)
    if any(length < 0 for length in shape):
        raise InvalidField(f"{field}.shape", f"{list(shape)} has a negative length", "give the length of every axis")
    count = math.prod(shape)
    content = tensor.WhichOneof("content")
    if content is None:
        raise InvalidField(field, "has no content", "set raw, double_values or int64_values")
    dtype = _dtype_of(tensor, field, content, default_dtype)
    if content == "raw":
        return _from_raw(tensor.raw, dtype, shape, count, field)
    values = tensor.double_values.values if content == "double_values" else tensor.int64_values.values
    if len(values) != count:
        raise InvalidField(
            f"{field}.{content}", f"has {len(values)} values where shape {list(shape)} needs {count}", "make them agree"
        )
    wide = np.array(values, dtype=np.float64 if content == "double_values" else np.int64).reshape(shape)
    return convert_values(wide, dtype, f"{field}.{content}")


def _dtype_of(tensor: tensor_pb2.Tensor, field: str, content: str, default: str) -> np.dtype[Any]:
    if tensor.data_type == tensor_pb2.DATA_TYPE_UNSPECIFIED:
        if content == "raw":
            raise InvalidField(f"{field}.data_type", "is not set", "raw bytes need a data type")
        return np.dtype(default)
    name = _NUMPY.get(tensor.data_type)
    if name is None:
        raise InvalidField(
            f"{field}.data_type", f"{_type_name(tensor.data_type)} may not be sent", "send numbers, such as FLOAT32"
        )
    return np.dtype(name)


def _type_name(data_type: int) -> str:
    known = tensor_pb2.DataType.DESCRIPTOR.values_by_number.get(data_type)
    return known.name.removeprefix("DATA_TYPE_") if known else str(data_type)


def _from_raw(raw: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], count: int, field: str) -> Array:
    needed = count * dtype.itemsize
    if len(raw) != needed:
        raise InvalidField(
            f"{field}.raw", f"has {len(raw)} bytes where {dtype.name} {list(shape)} needs {needed}", "make them agree"
        )
    flat = np.frombuffer(raw, dtype=dtype.newbyteorder("<"))
    if dtype == np.bool_ and raw.strip(b"\x00\x01"):
        raise InvalidField(f"{field}.raw", "has bytes other than 0 and 1", "BOOL takes one byte, 0 or 1, per element")
    return flat.astype(dtype, copy=False).reshape(shape)


def convert_values(array: Array, dtype: np.dtype[Any], field: str) -> Array:
    """Converts numbers to another type.

    For floating-point types they are rounded to the nearest; for the others they are converted exactly or not at all.

    Raises:
        InvalidField: a value is not whole, or out of range.
    """
    if array.dtype == dtype:
        return array
    if dtype.kind == "f":
        return array.astype(dtype)
    if dtype.kind == "b":
        low, high = 0, 1
    else:
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if array.dtype.kind == "f" and not bool(np.all(np.isfinite(array) & (array == np.floor(array)))):
        raise InvalidField(field, f"has values that {dtype.name} can not hold", "send whole numbers")
    if array.size and (int(array.min()) < low or int(array.max()) > high):
        raise InvalidField(field, f"has values outside {low} to {high}", f"send what {dtype.name} can hold")
    return array.astype(dtype)


def array_to_tensor(array: Array) -> tensor_pb2.Tensor:
    """Writes a tensor as raw little-endian bytes."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return tensor_pb2.Tensor(data_type=_PROTO[array.dtype.name], shape=array.shape, raw=little.tobytes())
