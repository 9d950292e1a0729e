"""Where the instances of a batch are in each tensor of a graph.

Relevance for several targets travels as one tensor, in which the axis of the instances is as many times as long as
there are targets, and the ledger is kept per instance; so it must be known which axis that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True)
class BatchAxis:
    """The place of the instances in a tensor.

    The length of `axis` is ``outer * instances * inner``: `outer` is what space-to-batch puts before the instances,
    ``inner`` what a reshape of (instances, tokens, ...) to rows puts behind them.

    Attributes:
        axis: the axis.
        outer: positions before the instances.
    """

    axis: int
    outer: int = 1


Found = BatchAxis | list[BatchAxis | None] | None


def batch_axis_of(
    op: Any,
    inputs: Sequence[BatchAxis | None],
    depends: Callable[[Any], bool],
    constant: Callable[[Any], Array | None],
) -> Found:
    """Finds the instances in what an operation makes.

    Args:
        op: the operation.
        inputs: where they are in each of its inputs; None for those without.
        depends: whether a tensor depends on the model's inputs.
        constant: the value of a constant tensor, if it is known.

    Returns:
        One place for all outputs, or one for each; None if it is not known.
    """
    sources = [
        (tensor, where)
        for tensor, where in zip(op.inputs, inputs, strict=True)
        if depends(tensor) and where is not None
    ]
    if not sources:
        return None
    # Of broadcast operands the one of highest rank decides.
    tensor, where = max(sources, key=lambda source: source[0].shape.rank or 0)
    rule = _MOVES.get(op.type)
    return where if rule is None else rule(op, tensor, where, constant)


Constant = Callable[[Any], Array | None]


def _transpose(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    order = constant(op.inputs[1])
    return None if order is None else BatchAxis(order.tolist().index(where.axis), where.outer)


def _reshape(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    """By the number of positions before the instances, which a reshape keeps."""
    lengths, made = tensor.shape.as_list(), op.outputs[0].shape.as_list() if op.outputs[0].shape.rank else []
    before = lengths[: where.axis]
    free = [axis for axis, length in enumerate(made) if length is None]
    if len(free) == 1 and None not in before:
        outer, left = math.prod(before) * where.outer, math.prod(made[: free[0]])
        return BatchAxis(free[0], outer // left) if left and outer % left == 0 else None
    if where.axis == 0:
        return where
    return where if before == made[: where.axis] and None not in before else None


def _expand(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    axis = constant(op.inputs[1])
    if axis is None:
        return None
    place = int(axis) % (tensor.shape.rank + 1)
    return BatchAxis(where.axis + (place <= where.axis), where.outer)


def _squeeze(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis:
    named = [axis % tensor.shape.rank for axis in op.get_attr("squeeze_dims")]
    gone = named or [axis for axis, length in enumerate(tensor.shape.as_list()) if length == 1]
    return BatchAxis(where.axis - sum(axis < where.axis for axis in gone), where.outer)


def _reduce(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    axes = constant(op.inputs[1])
    if axes is None or op.get_attr("keep_dims"):
        return where
    gone = {int(axis) % tensor.shape.rank for axis in axes.ravel()}
    return None if where.axis in gone else BatchAxis(where.axis - sum(axis < where.axis for axis in gone), where.outer)


def _pack(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis:
    place = op.get_attr("axis") % (tensor.shape.rank + 1)
    return BatchAxis(where.axis + (place <= where.axis), where.outer)


def _unpack(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    place = op.get_attr("axis") % tensor.shape.rank
    return None if place == where.axis else BatchAxis(where.axis - (place < where.axis), where.outer)


def _strided_slice(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    begin = constant(op.inputs[1])
    if begin is None and op.inputs[1].shape.rank != 1:
        return None
    count = op.inputs[1].shape[0] if begin is None else len(begin)
    source = target = 0
    for position in range(count):
        bit = 1 << position
        if op.get_attr("ellipsis_mask") & bit:
            after = range(position + 1, count)
            fed = sum(not op.get_attr("new_axis_mask") & (1 << later) for later in after)
            skip = tensor.shape.rank - fed - source
            if source <= where.axis < source + skip:
                return BatchAxis(target + where.axis - source, where.outer)
            source, target = source + skip, target + skip
        elif op.get_attr("new_axis_mask") & bit:
            target += 1
        else:
            shrunk = bool(op.get_attr("shrink_axis_mask") & bit)
            if source == where.axis:
                return None if shrunk else BatchAxis(target, where.outer)
            source, target = source + 1, target + (not shrunk)
    return BatchAxis(target + where.axis - source, where.outer)


def _space_to_batch(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    block = constant(op.inputs[1])
    return None if block is None else BatchAxis(0, where.outer * int(block.prod()))


def _batch_to_space(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    block = constant(op.inputs[1])
    return None if block is None else BatchAxis(0, where.outer // int(block.prod()))


def _gather(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    axis = constant(op.inputs[2])
    params, indices = op.inputs[0], op.inputs[1]
    if axis is None or op.get_attr("batch_dims"):
        return where
    place = int(axis) % params.shape.rank
    if tensor is indices:
        return BatchAxis(place + where.axis, where.outer)
    if place == where.axis:
        return None
    return BatchAxis(where.axis + (indices.shape.rank - 1 if place < where.axis else 0), where.outer)


def _einsum(op: Any, tensor: Any, where: BatchAxis, constant: Constant) -> BatchAxis | None:
    equation = op.get_attr("equation").decode().replace(" ", "")
    terms, _, made = equation.partition("->")
    term = terms.split(",")[[t is tensor for t in op.inputs].index(True)]
    if "..." in equation:
        return where if where.axis == 0 and term.startswith("...") and made.startswith("...") else None
    label = term[where.axis]
    return BatchAxis(made.index(label), where.outer) if label in made else None


_MOVES: dict[str, Callable[[Any, Any, BatchAxis, Constant], Found]] = {
    "All": _reduce,
    "Any": _reduce,
    "BatchToSpaceND": _batch_to_space,
    "Einsum": _einsum,
    "ExpandDims": _expand,
    "GatherV2": _gather,
    "Max": _reduce,
    "Mean": _reduce,
    "Min": _reduce,
    "Pack": _pack,
    "Prod": _reduce,
    "Reshape": _reshape,
    "SpaceToBatchND": _space_to_batch,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Sum": _reduce,
    "Transpose": _transpose,
    "Unpack": _unpack,
}
