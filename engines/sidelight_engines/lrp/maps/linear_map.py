"""Linear operations with constant weights: forward with any weights, and back by the transpose.

Products are in `products`, convolutions in `convolutions`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from sidelight_engines.lrp.presets import LayerKind
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.runtime.runtime import Array


class LinearMap(ABC):
    """u = L(x, W), linear in x and in W.

    Attributes:
        op: the operation.
        position: which of its inputs is x.
        weight_position: which of its inputs is W; None if it has none, such as an average.
        kind: what it is.
    """

    kind: LayerKind | None = LayerKind.DENSE

    def __init__(self, op: Any, position: int, weight_position: int | None) -> None:
        self.op = op
        self.position = position
        self.weight_position = weight_position

    @property
    def x(self) -> Any:
        """The tensor x."""
        return self.op.inputs[self.position]

    def weight(self, view: GraphView) -> Any:
        """W: an array if its value is known, else the tensor; None if the map has none."""
        if self.weight_position is None:
            return None
        tensor = self.op.inputs[self.weight_position]
        value = view.constant(tensor)
        return tensor if value is None else value

    @property
    def weight_tensor(self) -> Any:
        """The tensor that holds W as it is; None if none does."""
        return None if self.weight_position is None else self.op.inputs[self.weight_position]

    @property
    def u(self) -> Any:
        """The tensor u."""
        return self.op.outputs[0]

    @property
    def channel_axes(self) -> tuple[int, ...]:
        """The axes of u that are axes of W."""
        return (self.u.shape.rank - 1,)

    @property
    def summed(self) -> int | None:
        """How many numbers each position of u sums at most; None if that is not known."""
        if self.weight_position is None:
            return None
        lengths = self.op.inputs[self.weight_position].shape.as_list()
        channels = [self.u.shape[axis] for axis in self.channel_axes]
        return None if None in lengths or None in channels else math.prod(lengths) // max(1, math.prod(channels))

    @property
    def input_axis(self) -> int | None:
        """The axis of W that the last axis of x is summed with, where both may as well be longer; None if not."""
        return None

    @abstractmethod
    def forward(self, x: Any, weights: Any) -> Any:
        """L(x, weights), for an x of any batch length."""

    @abstractmethod
    def transposed(self, s: Any, weights: Any) -> Any:
        """The transpose of L(., weights) on an s of any batch length: what tf.gradients would give."""

    def transposed_sum(self, terms: Sequence[tuple[float, Any, Any]]) -> Any:
        """The sum of factor * transposed(s, weights) over (factor, s, weights)."""
        whole = None
        scaled_before = self._makes_less_than_it_reads()
        for factor, s, weights in terms:
            # A factor of -1 is a subtraction, unless there is nothing yet to subtract from.
            times = 1.0 if factor == -1 and whole is not None else factor
            if times == 1:
                part = self.transposed(s, weights)
            else:
                part = self.transposed(times * s, weights) if scaled_before else times * self.transposed(s, weights)
            whole = part if whole is None else whole - part if times != factor else whole + part
        return whole

    def _makes_less_than_it_reads(self) -> bool:
        """Whether an instance has fewer positions in u than in x, as far as lengths are known."""
        made, read = (math.prod(length or 1 for length in tensor.shape.as_list()) for tensor in (self.u, self.x))
        return bool(made < read)

    def scaled(self, weights: Any, scale: Array) -> Any:
        """Weights whose map is `scale` times that of `weights`.

        Args:
            weights: array or tensor.
            scale: of u's rank, with length 1 on all axes but `channel_axes`.
        """
        return weights * scale.reshape([scale.shape[axis] for axis in self.channel_axes])


class Average(LinearMap):
    """Sums and averages over windows or axes: the weights are one number, 1."""

    kind = None

    def __init__(self, op: Any, run: Any, back: Any) -> None:
        super().__init__(op, 0, None)
        self._run = run
        self._back = back

    @property
    def channel_axes(self) -> tuple[int, ...]:
        """See LinearMap."""
        return ()

    def forward(self, x: Any, weights: Any) -> Any:
        """See LinearMap."""
        return self._run(x) * weights

    def transposed(self, s: Any, weights: Any) -> Any:
        """See LinearMap."""
        return self._back(s) * weights


def ones_like_one(tensor: Any, axis: int) -> Any:
    """Ones in the shape of a tensor with length 1 on one axis."""
    import tensorflow as tf

    shape: Sequence[Any] = tensor.shape.as_list()
    dynamic = tf.shape(tensor)
    lengths = [1 if i == axis else (dynamic[i] if length is None else length) for i, length in enumerate(shape)]
    return tf.ones(lengths, tensor.dtype)
