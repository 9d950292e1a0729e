"""What is known of small tensors before a graph runs: counters, lengths, limits.

Values are arrays that hold an `int` or `bool`, or None for an element that is not known, such as the number of
instances in a shape. Exporters compare counters as floating-point numbers too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sidelight_engines.runtime.runtime import Array

# What has more elements is data.
_LARGEST = 1024

_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "AddV2": lambda a, b: a + b,
    "Equal": lambda a, b: a == b,
    "FloorDiv": lambda a, b: a // b,
    "FloorMod": lambda a, b: a % b,
    "Greater": lambda a, b: a > b,
    "GreaterEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessEqual": lambda a, b: a <= b,
    "LogicalAnd": lambda a, b: a and b,
    "LogicalNot": lambda a: not a,
    "LogicalOr": lambda a, b: a or b,
    "Maximum": max,
    "Minimum": min,
    "Mul": lambda a, b: a * b,
    "Neg": lambda a: -a,
    "Sub": lambda a, b: a - b,
}

_REDUCTIONS: dict[str, Callable[..., Any]] = {"All": all, "Any": any, "Max": max, "Min": min, "Sum": sum}

_SAME = frozenset({"EnsureShape", "Identity", "PreventGradient", "StopGradient"})


class StaticValues:
    """Computes the values of tensors of one graph, each once."""

    def __init__(self) -> None:
        self._known: dict[str, Array | None] = {}

    def whole(self, tensor: Any) -> Array | None:
        """A tensor's value if all of it is known."""
        found = self.partial(tensor)
        return None if found is None or any(element is None for element in found.ravel()) else found

    def partial(self, tensor: Any) -> Array | None:
        """What is known of a tensor; None if nothing is."""
        # Counters count on what they were a step before, so the way back is short at every step.
        if tensor.name not in self._known:
            self._known[tensor.name] = self._found(tensor)
        return self._known[tensor.name]

    def _found(self, tensor: Any) -> Array | None:
        import tensorflow as tf

        op = tensor.op
        if op.type == "Const":
            if not _is_number(tensor) or tensor.shape.num_elements() > _LARGEST:
                return None
            return np.asarray(tf.get_static_value(tensor)).astype(object)
        if op.type == "Shape":
            shape = op.inputs[0].shape
            return None if shape.rank is None else np.array(shape.as_list(), object)
        if op.type == "Rank":
            return np.array(op.inputs[0].shape.rank, object)
        if op.type in _SAME:
            return self.partial(op.inputs[0])
        if op.type == "Cast":
            # What is cut off by a cast is not needed to count.
            found = self.partial(op.inputs[0])
            return found if op.inputs[0].dtype.is_integer or op.inputs[0].dtype == tensor.dtype else None
        if op.type not in _HANDLED:
            return None
        values = [self.partial(source) for source in op.inputs]
        if any(value is None for value in values):
            return None
        return _computed(op, [value for value in values if value is not None])


def _is_number(tensor: Any) -> bool:
    return bool(tensor.dtype.is_integer or tensor.dtype.is_bool or tensor.dtype.is_floating)


def _computed(op: Any, values: list[Array]) -> Array | None:
    if op.type in _ELEMENTWISE:
        return _each(_ELEMENTWISE[op.type], values)
    if op.type in _REDUCTIONS:
        if any(element is None for element in values[0].ravel()) or op.get_attr("keep_dims"):
            return None
        # Over all axes, which is all that counters and limits need.
        axes = {int(axis) % max(values[0].ndim, 1) for axis in values[1].ravel()}
        return np.array(_REDUCTIONS[op.type](values[0].ravel()), object) if len(axes) >= values[0].ndim else None
    match op.type:
        case "Pack":
            return np.stack(values, axis=op.get_attr("axis"))
        case "ConcatV2":
            return np.concatenate(values[:-1], axis=int(values[-1]))
        case "ExpandDims":
            return np.expand_dims(values[0], int(values[1]))
        case "Squeeze":
            return values[0].squeeze(tuple(op.get_attr("squeeze_dims")) or None)
        case "Reshape":
            return None if None in values[1] else values[0].reshape(values[1].astype(int))
        case "Range":
            ends = [value.item() for value in values]
            return None if None in ends else np.array(range(*map(int, ends)), object)
        case "GatherV2":
            known = [element is not None for element in values[1].ravel()]
            return values[0].take(values[1].astype(int), int(values[2])) if all(known) else None
        case "StridedSlice":
            return _sliced(op, values)
    return None


def _each(function: Callable[..., Any], values: list[Array]) -> Array:
    spread = np.broadcast_arrays(*values)
    flat = zip(*(value.ravel() for value in spread), strict=True)
    made = [None if any(element is None for element in row) else function(*row) for row in flat]
    return np.array(made, object).reshape(spread[0].shape)


def _sliced(op: Any, values: list[Array]) -> Array | None:
    value, begin, end, strides = values
    masks = {name: op.get_attr(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")}
    if masks["ellipsis"] or masks["new_axis"] or value.ndim != len(begin):
        return None
    cut: list[Any] = []
    for place in range(len(begin)):
        bit = 1 << place
        if masks["shrink_axis"] & bit:
            cut.append(int(begin[place]))
            continue
        first = None if masks["begin"] & bit else int(begin[place])
        last = None if masks["end"] & bit else int(end[place])
        cut.append(slice(first, last, int(strides[place])))
    return np.asarray(value[tuple(cut)], dtype=object)


_HANDLED = frozenset(
    {*_ELEMENTWISE, *_REDUCTIONS, "ConcatV2", "ExpandDims", "GatherV2", "Pack", "Range", "Reshape", "Squeeze"}
    | {"StridedSlice"}
)
