"""Convolutions as linear maps: plain, in groups, of each channel by itself, and transposed; channels last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sidelight_engines.lrp.maps.linear_map import LinearMap
from sidelight_engines.lrp.presets import LayerKind
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.runtime.runtime import Array

# From which on going back by phases was measured to be faster than the transpose.
_LARGE_WINDOW = 16
_FEW_CHANNELS = 6


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

    @property
    def input_axis(self) -> int | None:
        """See LinearMap."""
        return -2 if self._groups == 1 else None

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
            return self._back_by_phases(s, weights) if self._leaps(weights) else self._back(s, weights)
        parts = zip(tf.split(s, self._groups, -1), tf.split(weights, self._groups, -1), strict=True)
        return tf.concat([self._back(part, kernel) for part, kernel in parts], -1)

    def transposed_sum(self, terms: Sequence[tuple[float, Any, Any]]) -> Any:
        """See LinearMap."""
        step = self._strides[1]
        if self._planar and self._groups == 1 and step == self._strides[2]:
            *window, inner, outer = terms[0][2].shape.as_list()
            taps = math.prod(window)
            if taps == 1 and step > 1:
                return self._back_between_gaps(terms)
            if taps > 1 and taps * inner <= outer / 2:
                return self._back_by_taps(terms)
        return super().transposed_sum(terms)

    def _back(self, s: Any, kernel: Any) -> Any:
        import tensorflow as tf

        shape = self._input_sizes(s, kernel.shape[-2])
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

    def _back_between_gaps(self, terms: Sequence[tuple[float, Any, Any]]) -> Any:
        """The transposes of a kernel of one tap that goes in steps: what it steps over gets nothing.

        So everything is computed and added up where there is something, and put in place once.
        """
        import tensorflow as tf

        *_, inner, outer = terms[0][2].shape.as_list()
        whole = None
        for factor, s, weights in terms:
            product = tf.matmul(tf.reshape(s, [-1, outer]), tf.reshape(weights, [inner, outer]), transpose_b=True)
            part = product if factor == 1 else factor * product
            whole = part if whole is None else whole + part
        taken = tf.reshape(whole, [*tf.unstack(tf.shape(s))[:-1], inner])
        return self._in_place(taken, tf.ones([1, 1, inner, 1], taken.dtype))

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
        *window, inner, _ = shape
        # Each tap's number is moved as a channel by itself; then each channel of x sums its taps.
        where = np.eye(taps).reshape(*shape[:-1], taps).sum(2)[..., None]
        placed = self._in_place(taken, tf.constant(where, taken.dtype))
        own = tf.constant(np.tile(np.eye(inner), [math.prod(window), 1]), taken.dtype)
        return tf.reshape(tf.matmul(tf.reshape(placed, [-1, taps]), own), self._input_sizes(s, inner))

    def _in_place(self, taken: Any, kernels: Any) -> Any:
        """The transpose of a kernel of its own for each channel."""
        import tensorflow as tf

        return tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
            input_sizes=self._input_sizes(taken, taken.shape[-1]),
            filter=kernels,
            out_backprop=taken,
            strides=self._strides,
            padding=self._padding,
            explicit_paddings=[side for pad in self._pads or [] for side in pad],
        )

    def _leaps(self, weights: Any) -> bool:
        """Whether a large window goes in steps over few channels of known positions, as in many first layers."""
        *window, inner, _ = weights.shape.as_list()
        step = self._strides[1]
        known = None not in self.x.shape.as_list()[1:] and None not in self.u.shape.as_list()[1:]
        plain = self._planar and step == self._strides[2] and set(self._dilations) == {1}
        return bool(plain and known and step > 1 and math.prod(window) >= _LARGE_WINDOW and inner <= _FEW_CHANNELS)

    def _back_by_phases(self, s: Any, weights: Any) -> Any:
        """The transpose as a convolution of s that makes each position's neighbours within a step as channels.

        With x at t a + p, for p < t: R = sum_b s(a - b) w(t b + p). The kernels for CPU take half as long as for
        the transpose itself.
        """
        import tensorflow as tf

        step = self._strides[1]
        *window, inner, outer = weights.shape.as_list()
        taps = [-(-length // step) for length in window]
        fill = [[0, count * step - length] for count, length in zip(taps, window, strict=True)]
        full = tf.reshape(tf.pad(weights, [*fill, [0, 0], [0, 0]]), [taps[0], step, taps[1], step, inner, outer])
        kernel = tf.reshape(
            tf.transpose(tf.reverse(full, [0, 2]), [0, 2, 5, 1, 3, 4]), [*taps, outer, step * step * inner]
        )
        around = [[count - 1, count - 1] for count in taps]
        made = tf.nn.depth_to_space(tf.nn.conv2d(s, kernel, 1, [[0, 0], *around, [0, 0]]), step)
        lengths, before = self.x.shape.as_list()[1:3], self._padded_before(window)
        missing = [
            max(0, start + length - step * (count + taps[axis] - 1))
            for axis, (start, length, count) in enumerate(
                zip(before, lengths, self.u.shape.as_list()[1:3], strict=True)
            )
        ]
        if any(missing):
            made = tf.pad(made, [[0, 0], *([0, more] for more in missing), [0, 0]])
        return made[:, before[0] : before[0] + lengths[0], before[1] : before[1] + lengths[1]]

    def _padded_before(self, window: Sequence[int]) -> list[int]:
        if self._pads is not None:
            return [pad[0] for pad in self._pads[1:3]]
        if self._padding == "VALID":
            return [0, 0]
        lengths, made = self.x.shape.as_list()[1:3], self.u.shape.as_list()[1:3]
        return [
            max((count - 1) * self._strides[1] + size - length, 0) // 2
            for length, count, size in zip(lengths, made, window, strict=True)
        ]

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

        lengths = self.u.shape.as_list()[1:]
        # Lengths that are known are no tensors of the graph, which can not be read outside its function.
        known = lengths if None not in lengths else tf.cast(self.op.inputs[0], tf.int32)[1:]
        shape = tf.concat([tf.shape(x)[:1], known], 0)
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
