"""Shape arithmetic: the integer tensors of an ONNX model that are known before it runs.

Exporters compute the shape of a Reshape from the Shape of something, by Gather, Slice, Concat and a little
arithmetic. Done here on what is known of each element, only the batch stays unknown, and the Reshape keeps its
other lengths. Values are arrays of rank 0 or 1 that hold an `int`, or None for an element that is not known.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from sidelight_engines.ops.registry import NodeForm
from sidelight_engines.runtime.runtime import Array

# What is longer than any list of axes is data.
_LONGEST = 64
_INTEGER_DTYPES = {6, 7, 12, 13}

_ELEMENTWISE: dict[str, Callable[[int, int], int]] = {
    "Add": operator.add,
    "Max": max,
    "Min": min,
    "Mul": operator.mul,
    "Sub": operator.sub,
}


def as_shape_value(value: Array) -> Array | None:
    """A constant as a value of shape arithmetic; None if it is not one."""
    if value.ndim > 1 or value.size > _LONGEST or value.dtype.kind not in "iu":
        return None
    return _array(value.tolist())


def propagate(form: NodeForm, values: Sequence[Array | None], lengths: Sequence[int | None] | None) -> Array | None:
    """What is known of a node's first output.

    Args:
        form: the node.
        values: what is known of its inputs.
        lengths: of the axes of its first input; None if not even their number is known.

    Returns:
        The value, or None if nothing is known.
    """
    match form.op:
        case "Shape" if lengths is not None:
            return _array(list(lengths)[form.attributes.get("start", 0) : form.attributes.get("end")])
        case "Size" if lengths is not None and None not in lengths:
            return _array(math.prod(length for length in lengths if length is not None))
    first = values[0] if values else None
    if first is None:
        return None
    rest = [values[index] if form.has_input(index) else None for index in range(1, len(values))]
    match form.op:
        case "Identity":
            return first
        case "Cast" if form.attributes.get("to") in _INTEGER_DTYPES:
            return first
        case "Squeeze" | "Reshape" | "Unsqueeze":
            return _rearranged(form, first, rest)
        case "Gather":
            return _gathered(first, rest[0])
        case "Slice":
            return _sliced(form, first, rest)
        case "Concat" if all(value is not None and value.ndim == 1 for value in values):
            return _array([element for value in values if value is not None for element in value])
        case "ReduceProd":
            return _product(form, first)
        case "Div" if len(rest) == 1:
            return _elementwise(_truncated_quotient, first, rest[0])
        case op if op in _ELEMENTWISE and len(rest) == 1:
            return _elementwise(_ELEMENTWISE[op], first, rest[0])
    return None


def _array(elements: object) -> Array:
    return np.array(elements, dtype=object)


def _known(value: Array | None) -> list[int] | None:
    if value is None or any(element is None for element in value.ravel()):
        return None
    return [int(element) for element in value.ravel()]


def _rearranged(form: NodeForm, first: Array, rest: Sequence[Array | None]) -> Array | None:
    """To rank 0 or 1, which is all that a value can be."""
    if form.op == "Reshape":
        shape = _known(rest[0]) if rest else None
        if shape is None or len(shape) > 1 or 0 in shape:
            return None
        rank = len(shape)
    else:
        rank = first.ndim + (1 if form.op == "Unsqueeze" else -1)
    if rank not in (0, 1) or (rank == 0 and first.size != 1):
        # Squeezing a vector of several elements leaves it as it is.
        return first if form.op == "Squeeze" and first.size != 1 else None
    return first.reshape([-1] if rank else [])


def _gathered(first: Array, indices: Array | None) -> Array | None:
    at = _known(indices)
    if indices is None or at is None or first.ndim != 1 or any(not -len(first) <= i < len(first) for i in at):
        return None
    return _array([first[i] for i in at]).reshape(indices.shape)


def _sliced(form: NodeForm, first: Array, rest: Sequence[Array | None]) -> Array | None:
    if first.ndim != 1:
        return None
    if rest:
        starts, ends = _known(rest[0]), _known(rest[1])
        steps: list[int] | None = [1]
        if form.has_input(4):
            steps = _known(rest[3])
    else:
        starts, ends, steps = form.attributes["starts"], form.attributes["ends"], [1]
    if starts is None or ends is None or steps is None:
        return None
    return first[starts[0] : ends[0] : steps[0]]


def _product(form: NodeForm, first: Array) -> Array | None:
    elements = _known(first)
    if elements is None:
        return None
    product = _array(math.prod(elements))
    return product.reshape([1]) if form.attributes.get("keepdims", 1) and first.ndim else product


def _elementwise(function: Callable[[int, int], int], a: Array, b: Array | None) -> Array | None:
    if b is None:
        return None
    a, b = np.broadcast_arrays(a, b)
    elements = [
        None if x is None or y is None else function(int(x), int(y)) for x, y in zip(a.ravel(), b.ravel(), strict=True)
    ]
    return _array(elements).reshape(a.shape)


def _truncated_quotient(a: int, b: int) -> int:
    return int(a / b) if b else 0
