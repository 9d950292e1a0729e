"""Arrays on the wire: raw little-endian bytes under their true type, nothing cast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sidelight.errors import InvalidArgument
from sidelight.v1 import reference_pb2, tensor_pb2

Inputs = ArrayLike | Mapping[str, ArrayLike]

_DATA_TYPES: dict[str, tensor_pb2.DataType.ValueType] = {
    "bool": tensor_pb2.DATA_TYPE_BOOL,
    "uint8": tensor_pb2.DATA_TYPE_UINT8,
    "uint16": tensor_pb2.DATA_TYPE_UINT16,
    "uint32": tensor_pb2.DATA_TYPE_UINT32,
    "uint64": tensor_pb2.DATA_TYPE_UINT64,
    "int8": tensor_pb2.DATA_TYPE_INT8,
    "int16": tensor_pb2.DATA_TYPE_INT16,
    "int32": tensor_pb2.DATA_TYPE_INT32,
    "int64": tensor_pb2.DATA_TYPE_INT64,
    "float16": tensor_pb2.DATA_TYPE_FLOAT16,
    "float32": tensor_pb2.DATA_TYPE_FLOAT32,
    "float64": tensor_pb2.DATA_TYPE_FLOAT64,
}


def to_tensor(array: NDArray[Any], what: str) -> tensor_pb2.Tensor:
    """Writes an array as a tensor.

    Args:
        array: of any shape, memory order and byte order; of a boolean, integer or floating type.
        what: what the caller calls it, for the error.

    Raises:
        InvalidArgument: requests can not carry its type.
    """
    data_type = _DATA_TYPES.get(array.dtype.name)
    if data_type is None:
        raise InvalidArgument(
            f"{what} has the element type {array.dtype}, which requests can not carry; convert it, "
            f"for instance with .astype('float32'), to one of {', '.join(_DATA_TYPES)}"
        )
    little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return tensor_pb2.Tensor(data_type=data_type, shape=array.shape, raw=little.tobytes())


def from_tensor(tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """Reads a tensor that the server has written, as raw bytes."""
    name = next(name for name, value in _DATA_TYPES.items() if value == tensor.data_type)
    flat = np.frombuffer(tensor.raw, np.dtype(name).newbyteorder("<"))
    return flat.astype(name, copy=False).reshape(tuple(tensor.shape))


def to_arrays(inputs: Inputs, what: str) -> dict[str, NDArray[Any]]:
    """Names the arrays that a caller gave for the inputs of a model.

    Args:
        inputs: one array (or nested lists), or several by input name; axis 0 is the batch.
        what: what the caller calls it, for the errors.

    Returns:
        Arrays of one length, at least 1, by input name; the name is empty for a single array.

    Raises:
        InvalidArgument: there is no array, one has no batch axis, or their lengths differ.
    """
    given = inputs if isinstance(inputs, Mapping) else {"": inputs}
    arrays = {name: to_array(value, f"{what}[{name!r}]" if name else what) for name, value in given.items()}
    if not arrays:
        raise InvalidArgument(f"{what} is an empty dict; give an array per model input")
    for name, array in arrays.items():
        if array.ndim == 0:
            raise InvalidArgument(f"{what} is a single number; give an array whose first axis is the batch")
        if len(array) == 0:
            raise InvalidArgument(f"{what} {f'[{name!r}] ' if name else ''}holds no instance; give at least one")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidArgument(f"the inputs in {what} differ in length: {lengths}; give as many instances for each")
    return arrays


def to_array(value: ArrayLike, what: str) -> NDArray[Any]:
    """Makes one array of what a caller gave, without casting.

    Raises:
        InvalidArgument: nested lists of unequal length.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InvalidArgument(f"{what} can not be read as an array: {error}; give rows of equal length") from error


def to_instances(arrays: Mapping[str, NDArray[Any]], what: str) -> reference_pb2.Instances:
    """Writes arrays by input name as inline instances."""
    named = [tensor_pb2.NamedTensor(name=name, tensor=to_tensor(array, what)) for name, array in arrays.items()]
    return reference_pb2.Instances(inline=reference_pb2.InlineInstances(inputs=named))
