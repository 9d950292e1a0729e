"""Linear operations with constant weights: forward with any weights, and back by the transpose."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from sidelight_engines.lrp.presets import LayerKind
from sidelight_engines.lrp.view import GraphView
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

    @abstractmethod
    def forward(self, x: Any, weights: Any) -> Any:
        """L(x, weights), for an x of any batch length."""

    @abstractmethod
    def transposed(self, s: Any, weights: Any) -> Any:
        """The transpose of L(., weights) on an s of any batch length: what tf.gradients would give."""

    def transposed_sum(self, terms: Sequence[tuple[float, Any, Any]]) -> Any:
        """The sum of factor * transposed(s, weights) over (factor, s, weights)."""
        whole = None
        for factor, s, weights in terms:
            part = self.transposed(s, weights)
            if whole is None:
                whole = part if factor == 1 else factor * part
            elif factor == -1:
                whole -= part
            else:
                whole += factor * part
        return whole

    def scaled(self, weights: Any, scale: Array) -> Any:
        """Weights whose map is `scale` times that of `weights`.

        Args:
            weights: array or tensor.
            scale: of u's rank, with length 1 on all axes but `channel_axes`.
        """
        return weights * scale.reshape([scale.shape[axis] for axis in self.channel_axes])


class MatMul(LinearMap):
    """Products of x, (rows, k) or (..., rows, k), with a matrix or a batch of matrices."""

    def __init__(self, op: Any, position: int) -> None:
        super().__init__(op, position, 1 - position)
        first, second = ("transpose_a", "transpose_b") if op.type == "MatMul" else ("adj_x", "adj_y")
        self._turned = (bool(op.get_attr(first)), bool(op.get_attr(second)))

    @property
    def channel_axes(self) -> tuple[int, ...]:
        """See LinearMap."""
        rank = self.u.shape.rank
        weight_rank = self.op.inputs[self.weight_position].shape.rank
        place = rank - 1 if self.position == 0 else rank - 2
        return (place,) if weight_rank == 2 else ()

    def forward(self, x: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        a, b = (x, weights) if self.position == 0 else (weights, x)
        return tf.matmul(a, b, transpose_a=self._turned[0], transpose_b=self._turned[1])

    def transposed(self, s: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        turned_a, turned_b = self._turned
        if self.position == 0:
            # u = a' w', so the transpose is s w''; turned over where a is read turned over.
            back = tf.matmul(s, weights, transpose_b=not turned_b)
            made = tf.linalg.matrix_transpose(back) if turned_a else back
        else:
            back = tf.matmul(weights, s, transpose_a=not turned_a)
            made = tf.linalg.matrix_transpose(back) if turned_b else back
        return _sum_to_rank(made, self.x.shape.rank)

    def scaled(self, weights: Any, scale: Array) -> Any:
        """See LinearMap."""
        vector = scale.ravel()
        out_last = self._turned[1] != (self.position == 0)
        return weights * (vector if out_last else vector[:, None])


def _sum_to_rank(tensor: Any, rank: int) -> Any:
    import tensorflow as tf

    extra = tensor.shape.rank - rank
    return tf.reduce_sum(tensor, axis=list(range(extra))) if extra > 0 else tensor


class Convolution(LinearMap):
    """Conv2D and Conv3D, grouped or not; channels last."""

    kind = LayerKind.CONVOLUTION

    def __init__(self, op: Any) -> None:
        super().__init__(op, 0, 1)
        self._planar = op.type == "Conv2D"
        self._strides = list(op.get_attr("strides"))
        self._padding = op.get_attr("padding").decode()
        explicit = list(op.get_attr("explicit_paddings")) if self._planar else []
        self._pads = [explicit[i : i + 2] for i in range(0, len(explicit), 2)] if self._padding == "EXPLICIT" else None
        self._dilations = list(op.get_attr("dilations"))
        inner = op.inputs[1].shape[-2]
        self._groups = (op.inputs[0].shape[-1] or inner) // inner

    def forward(self, x: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        weights = self._stretched(weights)
        if self._by_channel(weights):
            made = self._depthwise(weights)
            return tf.raw_ops.DepthwiseConv2dNative(input=x, **made)
        run = tf.nn.conv2d if self._planar else tf.nn.conv3d
        padding = self._pads or self._padding
        if self._groups == 1:
            return run(x, weights, self._strides, padding)
        parts = zip(tf.split(x, self._groups, -1), tf.split(weights, self._groups, -1), strict=True)
        return tf.concat([run(part, kernel, self._strides, padding) for part, kernel in parts], -1)

    def transposed(self, s: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        weights = self._stretched(weights)
        if self._by_channel(weights):
            made = self._depthwise(weights)
            return tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=self._input_sizes(s, self._groups), out_backprop=s, **made
            )
        if self._groups == 1:
            return self._back(s, weights, self.x.shape[-1])
        parts = zip(tf.split(s, self._groups, -1), tf.split(weights, self._groups, -1), strict=True)
        return tf.concat([self._back(part, kernel, kernel.shape[-2]) for part, kernel in parts], -1)

    def transposed_sum(self, terms: Sequence[tuple[float, Any, Any]]) -> Any:
        """See LinearMap."""
        shape = self.op.inputs[1].shape.as_list()
        if self._planar and self._groups == 1 and math.prod(shape[:-1]) <= shape[-1] / 2:
            return self._back_by_taps(terms)
        return super().transposed_sum(terms)

    def _back(self, s: Any, kernel: Any, channels: int) -> Any:
        import tensorflow as tf

        shape = self._input_sizes(s, channels)
        if self._planar:
            flat = [side for pad in self._pads or [] for side in pad]
            return tf.raw_ops.Conv2DBackpropInput(
                input_sizes=shape,
                filter=kernel,
                out_backprop=s,
                strides=self._strides,
                padding=self._padding,
                explicit_paddings=flat,
            )
        return tf.raw_ops.Conv3DBackpropInputV2(
            input_sizes=shape, filter=kernel, out_backprop=s, strides=self._strides, padding=self._padding
        )

    def _by_channel(self, weights: Any) -> bool:
        """Whether each group is one channel: one kernel does then what a convolution per group would do."""
        same = self._strides[1] == self._strides[2]
        return bool(self._planar and self._groups > 1 and weights.shape[-2] == 1 and same)

    def _depthwise(self, weights: Any) -> dict[str, Any]:
        import tensorflow as tf

        lengths = weights.shape.as_list()
        return {
            "filter": tf.reshape(weights, [*lengths[:2], self._groups, lengths[-1] // self._groups]),
            "strides": self._strides,
            "padding": self._padding,
            "explicit_paddings": [side for pad in self._pads or [] for side in pad],
        }

    def _input_sizes(self, s: Any, channels: int) -> Any:
        """The shape of x with the batch length of s."""
        import tensorflow as tf

        spatial = self.x.shape.as_list()[1:-1]
        lengths = tf.unstack(tf.shape(self.x)[1:-1]) if None in spatial else spatial
        return tf.stack([tf.shape(s)[0], *lengths, channels])

    def _back_by_taps(self, terms: Sequence[tuple[float, Any, Any]]) -> Any:
        """The transposes in two steps: products give what each tap of the kernel takes, then that is put in place.

        With few channels to go back to, as in the first layer, the kernels for CPU take twice as long in one step.
        """
        import tensorflow as tf

        parts = []
        for factor, s, weights in terms:
            kernel = self._stretched(weights)
            shape = kernel.shape.as_list()
            taps = math.prod(shape[:-1])
            matrix = tf.transpose(tf.reshape(factor * kernel, [taps, shape[-1]]))
            parts.append(tf.matmul(tf.reshape(s, [-1, shape[-1]]), matrix))
        taken = tf.reshape(tf.add_n(parts), [*tf.unstack(tf.shape(s))[:-1], taps])
        # Convolving with these copies each tap's number out of the image.
        places = np.eye(taps).reshape(*shape[:-1], taps)
        return self._back(taken, tf.constant(places, taken.dtype), shape[-2])

    def _stretched(self, weights: Any) -> Any:
        """The kernel with its dilation written out as zeros: the kernels for CPU can not step back over gaps."""
        import tensorflow as tf

        for axis, step in enumerate(self._dilations[1:-1]):
            if step > 1:
                shape = weights.shape.as_list()
                apart = tf.expand_dims(weights, axis + 1)
                wide = tf.pad(apart, [[0, step - 1 if i == axis + 1 else 0] for i in range(len(shape) + 1)])
                shape[axis] *= step
                weights = tf.reshape(wide, shape)
                keep = shape[axis] - step + 1
                weights = weights[tuple(slice(keep) if i == axis else slice(None) for i in range(len(shape)))]
        return weights


class SplitConvolution(Convolution):
    """A convolution in groups written as several: its input is split, each part convolved, the results joined.

    Args:
        joined: the operation that joins them.
        parts: the convolutions, in the order of the groups.
        source: what is split.
    """

    def __init__(self, joined: Any, parts: Sequence[Any], source: Any) -> None:
        super().__init__(parts[0])
        self.op = joined
        self.weight_position = None
        self._parts = tuple(parts)
        self._source = source
        self._groups = len(parts)

    @property
    def x(self) -> Any:
        """See LinearMap."""
        return self._source

    def weight(self, view: GraphView) -> Any:
        """See LinearMap; the kernels of all groups in one."""
        import tensorflow as tf

        values = [view.constant(part.inputs[1]) for part in self._parts]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            return np.concatenate(known, axis=-1)
        return tf.concat([part.inputs[1] for part in self._parts], -1)


class DepthwiseConvolution(LinearMap):
    """DepthwiseConv2dNative: kernels of their own for each channel; channels last."""

    kind = LayerKind.CONVOLUTION

    def __init__(self, op: Any) -> None:
        super().__init__(op, 0, 1)
        self._strides = list(op.get_attr("strides"))
        self._padding = op.get_attr("padding").decode()
        explicit = list(op.get_attr("explicit_paddings"))
        self._explicit = explicit if self._padding == "EXPLICIT" else []
        self._dilations = list(op.get_attr("dilations"))

    def forward(self, x: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        return tf.raw_ops.DepthwiseConv2dNative(
            input=x,
            filter=weights,
            strides=self._strides,
            padding=self._padding,
            explicit_paddings=self._explicit,
            dilations=self._dilations,
        )

    def transposed(self, s: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        spatial = self.x.shape.as_list()[1:-1]
        lengths = tf.unstack(tf.shape(self.x)[1:-1]) if None in spatial else spatial
        return tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
            input_sizes=tf.stack([tf.shape(s)[0], *lengths, self.x.shape[-1]]),
            filter=weights,
            out_backprop=s,
            strides=self._strides,
            padding=self._padding,
            explicit_paddings=self._explicit,
            dilations=self._dilations,
        )

    def scaled(self, weights: Any, scale: Array) -> Any:
        """See LinearMap."""
        return weights * scale.reshape(self.op.inputs[1].shape.as_list()[-2:])


class TransposedConvolution(LinearMap):
    """Conv2DBackpropInput and Conv3DBackpropInputV2 as layers of their own; channels last."""

    kind = LayerKind.CONVOLUTION

    def __init__(self, op: Any) -> None:
        super().__init__(op, 2, 1)
        self._planar = op.type == "Conv2DBackpropInput"
        self._strides = list(op.get_attr("strides"))
        self._padding = op.get_attr("padding").decode()
        explicit = list(op.get_attr("explicit_paddings")) if self._planar else []
        self._pads = [explicit[i : i + 2] for i in range(0, len(explicit), 2)] if self._padding == "EXPLICIT" else None

    def forward(self, x: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        shape = tf.concat([tf.shape(x)[:1], tf.cast(self.op.inputs[0], tf.int32)[1:]], 0)
        flat = [side for pad in self._pads or [] for side in pad]
        if self._planar:
            return tf.raw_ops.Conv2DBackpropInput(
                input_sizes=shape,
                filter=weights,
                out_backprop=x,
                strides=self._strides,
                padding=self._padding,
                explicit_paddings=flat,
            )
        return tf.raw_ops.Conv3DBackpropInputV2(
            input_sizes=shape, filter=weights, out_backprop=x, strides=self._strides, padding=self._padding
        )

    def transposed(self, s: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        run = tf.nn.conv2d if self._planar else tf.nn.conv3d
        return run(s, weights, self._strides, self._pads or self._padding)

    def scaled(self, weights: Any, scale: Array) -> Any:
        """See LinearMap."""
        return weights * scale.ravel()[:, None]


class Einsum(LinearMap):
    """A sum of products in index notation with one constant operand."""

    def __init__(self, op: Any, position: int) -> None:
        super().__init__(op, position, 1 - position)
        equation = op.get_attr("equation").decode().replace(" ", "")
        read, _, self._made = equation.partition("->")
        terms = read.split(",")
        self._x, self._w = terms[position], terms[1 - position]

    @staticmethod
    def problem(op: Any, position: int) -> str:
        """Why an equation is not covered; empty if it is."""
        equation = op.get_attr("equation").decode().replace(" ", "")
        read, arrow, made = equation.partition("->")
        terms = read.split(",")
        if not arrow or "." in equation:
            return f"the equation {equation!r} is not covered; write all axes out"
        lost = set(terms[position]) - set(terms[1 - position]) - set(made)
        if lost or any(len(set(term)) < len(term) for term in terms):
            return f"the equation {equation!r} sums or repeats an axis of one operand alone"
        return ""

    @property
    def channel_axes(self) -> tuple[int, ...]:
        """See LinearMap."""
        return tuple(axis for axis, label in enumerate(self._made) if label in self._w and label not in self._x)

    def forward(self, x: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        return tf.einsum(f"{self._x},{self._w}->{self._made}", x, weights)

    def transposed(self, s: Any, weights: Any) -> Any:
        """See LinearMap."""
        import tensorflow as tf

        return tf.einsum(f"{self._made},{self._w}->{self._x}", s, weights)

    def scaled(self, weights: Any, scale: Array) -> Any:
        """See LinearMap."""
        labels = [self._made[axis] for axis in self.channel_axes]
        kept = scale.reshape([scale.shape[axis] for axis in self.channel_axes])
        order = sorted(range(len(labels)), key=lambda i: self._w.index(labels[i]))
        turned = np.transpose(kept, order)
        shape = [1] * len(self._w)
        for i, length in zip(order, turned.shape, strict=True):
            shape[self._w.index(labels[i])] = length
        return weights * turned.reshape(shape)


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


def spatial_shape(tensor: Any, rows: Any) -> Any:
    """The shape of a tensor with another batch length."""
    import tensorflow as tf

    return tf.concat([[rows], tf.shape(tensor)[1:]], 0)


def ones_like_one(tensor: Any, axis: int) -> Any:
    """Ones in the shape of a tensor with length 1 on one axis."""
    import tensorflow as tf

    shape: Sequence[Any] = tensor.shape.as_list()
    dynamic = tf.shape(tensor)
    lengths = [1 if i == axis else (dynamic[i] if length is None else length) for i, length in enumerate(shape)]
    return tf.ones(lengths, tensor.dtype)
