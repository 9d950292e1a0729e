"""What slices of all methods share: rows of tensors, and sums of what parts cost."""

from __future__ import annotations

import math

from sidelight.v1 import explanation_pb2, reference_pb2, tensor_pb2


def row_count(tensor: tensor_pb2.Tensor) -> int | None:
    """The length of axis 0; None where shape and content do not go together, which is the worker's to say."""
    shape = tuple(tensor.shape)
    if not shape or any(length < 1 for length in shape):
        return None
    values = math.prod(shape)
    content = tensor.WhichOneof("content")
    if content == "raw":
        return shape[0] if tensor.raw and len(tensor.raw) % values == 0 else None
    if content is None:
        return None
    return shape[0] if len(getattr(tensor, content).values) == values else None


def tensor_rows(whole: tensor_pb2.Tensor, first: int, units: int) -> tensor_pb2.Tensor:
    """Consecutive rows of a tensor whose shape and content go together."""
    shape = tuple(whole.shape)
    part = tensor_pb2.Tensor(data_type=whole.data_type, shape=(units, *shape[1:]))
    content = whole.WhichOneof("content")
    if content == "raw":
        size = len(whole.raw) // shape[0]
        part.raw = whole.raw[first * size : (first + units) * size]
    elif content is not None:
        size = math.prod(shape[1:])
        getattr(part, content).values.extend(getattr(whole, content).values[first * size : (first + units) * size])
    return part


def inline_rows(whole: reference_pb2.InlineInstances, first: int, units: int) -> reference_pb2.Instances:
    """Consecutive ones of the instances that a request carries."""
    inputs = [
        tensor_pb2.NamedTensor(name=named.name, tensor=tensor_rows(named.tensor, first, units))
        for named in whole.inputs
    ]
    return reference_pb2.Instances(inline=reference_pb2.InlineInstances(inputs=inputs))


def total_provenance(parts: list[explanation_pb2.Provenance]) -> explanation_pb2.Provenance:
    """The provenance of the whole: costs are added up, warnings are said once."""
    total = explanation_pb2.Provenance()
    total.CopyFrom(parts[0])
    total.forward_rows = sum(part.forward_rows for part in parts)
    for name in ("queue_time", "compute_time"):
        getattr(total, name).FromNanoseconds(sum(getattr(part, name).ToNanoseconds() for part in parts))
    del total.warnings[:]
    # What concerns parameters or features every slice says alike.
    said = {(warning.code, warning.message): warning for part in parts for warning in part.warnings}
    total.warnings.extend(said.values())
    return total
