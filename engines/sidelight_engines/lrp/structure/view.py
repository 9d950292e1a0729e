"""What relevance propagation must know of an imported graph before it walks it backwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from sidelight_engines.lrp.structure.batch_axis import BatchAxis, batch_axis_of
from sidelight_engines.runtime.runtime import Array

# What reads only the shape of a tensor.
_SHAPE_ONLY = frozenset({"OnesLike", "Rank", "Shape", "ShapeN", "Size", "ZerosLike"})

# Whose results are at least 0 whatever they read.
_NONNEGATIVE = frozenset(
    {"Abs", "Exp", "Relu", "Relu6", "Sigmoid", "Softmax", "Softplus", "Square", "SquaredDifference"}
)

# Whose results are at least 0 if what they read is: they move, choose, or average.
_KEEPS_SIGN = frozenset(
    {"AvgPool", "AvgPool3D", "BatchToSpaceND", "BroadcastTo", "Cast", "ConcatV2", "DepthToSpace", "ExpandDims"}
    | {"GatherV2", "Identity", "Max", "MaxPool", "MaxPool3D", "Mean", "MirrorPad", "Pack", "Pad", "Reshape"}
    | {"ResizeBilinear", "ResizeNearestNeighbor", "Slice", "SpaceToBatchND", "SpaceToDepth", "Split", "SplitV"}
    | {"Squeeze", "StopGradient", "StridedSlice", "Sum", "Tile", "Transpose", "Unpack"}
)
_SIGN_OF_ALL = frozenset({"Add", "AddN", "AddV2", "ConcatV2", "Maximum", "Minimum", "Mul", "Pack"})


class GraphView:
    """The operations that lead from the inputs to what is explained.

    Args:
        inputs: input name -> the tensor that is read in its place.
        target: the tensor that relevance starts at.
        layer_of: name of an operation -> name of its layer; empty for one that belongs to none.
        nonnegative: names of the inputs that hold no negative number.
        constants: name -> value, of tensors that stand for constants.

    Attributes:
        order: the operations that the target needs, each after those that it reads from.
        inputs: input name -> tensor.
        target: the tensor that relevance starts at.
        layer_of: name of an operation -> name of its layer; empty for one that belongs to none.
        place: name of an operation -> its position in `order`.
    """

    def __init__(
        self,
        inputs: Mapping[str, Any],
        target: Any,
        layer_of: Callable[[str], str],
        nonnegative: Collection[str] = (),
        constants: Mapping[str, Array] | None = None,
    ) -> None:
        self.inputs = dict(inputs)
        self.target = target
        self.layer_of = layer_of
        roots = {tensor.name for tensor in inputs.values()}
        self.order = _order(target.op, {tensor.op.name for tensor in inputs.values()})
        self.place = {op.name: index for index, op in enumerate(self.order)}
        self._dependent = set(roots)
        self._readers: dict[str, list[Any]] = {}
        self._axes: dict[str, BatchAxis | None] = dict.fromkeys(roots, BatchAxis(0))
        self._constants: dict[str, Array | None] = dict(constants or {})
        self._nonnegative = {inputs[name].name for name in nonnegative}
        for op in self.order:
            self._look_at(op)

    def _look_at(self, op: Any) -> None:
        for tensor in op.inputs:
            if op.type not in _SHAPE_ONLY:
                self._readers.setdefault(tensor.name, []).append(op)
        if op.type in _SHAPE_ONLY or not any(self.depends(tensor) for tensor in op.inputs):
            return
        axes = batch_axis_of(op, [self._axes.get(tensor.name) for tensor in op.inputs], self.depends, self.constant)
        for index, tensor in enumerate(op.outputs):
            self._dependent.add(tensor.name)
            self._axes[tensor.name] = axes[index] if isinstance(axes, list) else axes
            if self._is_nonnegative(op):
                self._nonnegative.add(tensor.name)

    def depends(self, tensor: Any) -> bool:
        """Whether a tensor's values, not its shape alone, depend on the inputs."""
        return tensor.name in self._dependent

    def carries(self, tensor: Any) -> bool:
        """Whether a tensor can carry relevance: numbers that depend on the inputs."""
        return tensor.name in self._dependent and (tensor.dtype.is_floating or tensor.dtype.is_integer)

    def readers(self, tensor: Any) -> list[Any]:
        """The operations that read a tensor's values on the way to the target."""
        return self._readers.get(tensor.name, [])

    def batch_axis(self, tensor: Any) -> BatchAxis | None:
        """Where the instances are in a tensor; None if that is not known."""
        return self._axes.get(tensor.name)

    def nonnegative(self, tensor: Any) -> bool:
        """Whether a tensor's values are at least 0 by the structure of the graph."""
        return tensor.name in self._nonnegative

    def constant(self, tensor: Any) -> Array | None:
        """The value of a tensor that depends on no input, if the graph holds it."""
        if tensor.name not in self._constants:
            import tensorflow as tf

            known = None if self.depends(tensor) else tf.get_static_value(tensor)
            self._constants[tensor.name] = None if known is None else np.asarray(known)
        return self._constants[tensor.name]

    def _is_nonnegative(self, op: Any) -> bool:
        if op.type in _NONNEGATIVE:
            return True
        carried = [tensor for tensor in op.inputs if self.depends(tensor)]
        if op.type in _KEEPS_SIGN and len(carried) == len(op.inputs):
            return all(self.nonnegative(tensor) for tensor in carried)
        if op.type in _KEEPS_SIGN and op.type not in _SIGN_OF_ALL:
            # The rest are axes, shapes and indices. What Pad and MirrorPad fill in is 0 or copied.
            return all(self.nonnegative(tensor) for tensor in carried)
        if op.type in _SIGN_OF_ALL:
            rest = [self.constant(tensor) for tensor in op.inputs if not self.depends(tensor)]
            known = all(value is not None and bool(np.all(value >= 0)) for value in rest)
            return known and all(self.nonnegative(tensor) for tensor in carried)
        return False


def _order(last: Any, stop: set[str]) -> list[Any]:
    """The operations behind `last`, inputs first."""
    found: dict[str, Any] = {}
    waiting: list[tuple[Any, bool]] = [(last, False)]
    while waiting:
        op, ready = waiting.pop()
        if op.name in found:
            continue
        if ready:
            found[op.name] = op
            continue
        waiting.append((op, True))
        if op.name not in stop:
            waiting.extend((tensor.op, False) for tensor in op.inputs if tensor.op.name not in found)
    return list(found.values())
