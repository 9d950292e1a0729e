"""Terms of convolutions over one to three spatial axes, depthwise, in groups, dilated, transposed.

With U the patches of the input that the kernel slides over, (positions, kernel * channels), and D the gradient by
the output, (positions, outputs), the gradient by the kernel is G = U' D. A transposed convolution is the
gradient of a plain one by its input, so there the patches are of the gradient by the (larger) output, and D is
the input. Patches are taken by one strided slice per kernel element, which goes for any stride, padding and
dilation.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sidelight_engines.similarity.gradients.terms import (
    Factors,
    NotFactorableError,
    Product,
    Whole,
    examples_first,
)


@dataclass(frozen=True)
class Window:
    """How a kernel slides.

    Attributes:
        kernel: its length along each spatial axis.
        strides: per spatial axis.
        dilations: per spatial axis.
        padding: ``SAME``, ``VALID``, or the zeros before each spatial axis and behind it.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ConvolutionTerm:
    """A convolution, channels last.

    Attributes:
        data: the name of its input.
        made: the name of its output.
        window: how its kernel slides.
        inner: channels of the kernel's next-to-last axis.
        outer: channels of the kernel's last axis.
        groups: groups of channels; 1 for a plain convolution.
        depthwise: whether each input channel has kernels of its own, `outer` of them.
        transposed: whether it is the transposed one.
        positions_lead: see `examples_first`.
    """

    data: str
    made: str
    window: Window
    inner: int
    outer: int
    groups: int
    depthwise: bool
    transposed: bool
    positions_lead: bool

    @property
    def operands(self) -> tuple[str, ...]:
        """See `Term`."""
        return (self.data,)

    def factors(self, operands: list[Any], gradient: Any, batch: Any) -> Factors:
        """See `Term`."""
        import tensorflow as tf

        wide, narrow = (gradient, operands[0]) if self.transposed else (operands[0], gradient)
        slices = take_patches(wide, narrow, self.window)
        n = len(self.window.kernel)
        channels = wide.shape[-1]
        patches = [self._positions(patch, batch, channels) for patch in slices]
        right = self._positions(narrow, batch, narrow.shape[-1])
        if self.depthwise:
            split = tf.reshape(right, [batch, -1, channels, self.outer])
            each = [tf.einsum("btc,btcm->bcm", patch, split) for patch in patches]
            return Whole(tf.reshape(tf.stack(each, axis=1), [batch, *self.window.kernel, channels, self.outer]))
        if self.groups > 1:
            split = tf.reshape(right, [batch, -1, self.groups, self.outer // self.groups])
            each = [
                tf.einsum("btgc,btgo->bcgo", tf.reshape(patch, [batch, -1, self.groups, self.inner]), split)
                for patch in patches
            ]
            return Whole(tf.reshape(tf.stack(each, axis=1), [batch, *self.window.kernel, self.inner, self.outer]))
        left = patches[0] if len(patches) == 1 else tf.concat(patches, axis=-1)
        return Product(left, right, (*self.window.kernel, self.inner, self.outer), tuple(range(n + 2)))

    def _positions(self, tensor: Any, batch: Any, channels: int) -> Any:
        """(batch * k, spatial axes, channels) as (batch, positions, channels)."""
        import tensorflow as tf

        if self.positions_lead:
            tensor = examples_first(tensor, batch, positions_lead=True)
        return tf.reshape(tensor, [batch, -1, channels])


def take_patches(wide: Any, narrow: Any, window: Window) -> list[Any]:
    """What each kernel element meets at each position.

    Args:
        wide: (batch, spatial axes, channels), what the kernel slides over.
        narrow: (batch, spatial axes, ...), what has a value per position.
        window: how the kernel slides.

    Returns:
        One tensor per kernel element, (batch, narrow's spatial axes, channels), the last axis fastest.
    """
    import tensorflow as tf

    lengths, counts = _lengths(wide), _lengths(narrow)
    pads = [
        _pads(window, axis, length, count) for axis, (length, count) in enumerate(zip(lengths, counts, strict=True))
    ]
    padded = wide
    if not all(isinstance(pad, int) and pad == 0 for pair in pads for pad in pair):
        padded = tf.pad(wide, [(0, 0), *pads, (0, 0)])
    patches = []
    for element in itertools.product(*map(range, window.kernel)):
        spans = [slice(None)]
        for index, dilation, stride, count in zip(element, window.dilations, window.strides, counts, strict=True):
            start = index * dilation
            spans.append(slice(start, start + (count - 1) * stride + 1, stride))
        patches.append(padded[tuple(spans)])
    return patches


def _lengths(tensor: Any) -> list[Any]:
    import tensorflow as tf

    static = tensor.shape.as_list()[1:-1]
    return [tf.shape(tensor)[i + 1] if length is None else length for i, length in enumerate(static)]


def _pads(window: Window, axis: int, length: Any, count: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    if not isinstance(window.padding, str):
        return window.padding[axis]
    if window.padding == "VALID":
        return 0, 0
    reach = (count - 1) * window.strides[axis] + (window.kernel[axis] - 1) * window.dilations[axis] + 1
    known = isinstance(length, int) and isinstance(count, int)
    total = max(reach - length, 0) if known else tf.maximum(reach - length, 0)
    return total // 2, total - total // 2


_SPATIAL = {
    "Conv2D": 2,
    "Conv3D": 3,
    "DepthwiseConv2dNative": 2,
    "Conv2DBackpropInput": 2,
    "Conv3DBackpropInputV2": 3,
}


def convolution_term(op: Any, position: int, *, positions_lead: bool) -> ConvolutionTerm:
    """The term of a convolution.

    Raises:
        NotFactorableError: the parameter is not its kernel, or channels come first.
    """
    transposed = op.type.endswith(("BackpropInput", "BackpropInputV2"))
    n = _SPATIAL[op.type]
    data_format = op.get_attr("data_format").decode()
    if position != 1 or not data_format.endswith("C"):
        raise NotFactorableError(f"{op.type} of {data_format} data, input {position}")
    data = op.inputs[2 if transposed else 0]
    *kernel, inner, outer = op.inputs[1].shape.as_list()
    wide, narrow = (op.outputs[0], data) if transposed else (data, op.outputs[0])
    channels = wide.shape[-1] if wide.shape.rank is not None else None
    if channels is None or narrow.shape[-1] is None:
        if channels is None and transposed:
            # The output's shape is computed; the kernel tells its channels.
            channels = inner
        else:
            raise NotFactorableError(f"{op.type} whose channels the graph does not tell")
    depthwise = op.type == "DepthwiseConv2dNative"
    return ConvolutionTerm(
        data.name,
        op.outputs[0].name,
        Window(
            tuple(kernel),
            _spatial(op, "strides", n),
            _spatial(op, "dilations", n),
            _padding(op, n),
        ),
        inner,
        outer,
        1 if depthwise else channels // inner,
        depthwise,
        transposed,
        positions_lead,
    )


def _spatial(op: Any, name: str, n: int) -> tuple[int, ...]:
    values: Sequence[int] = op.get_attr(name)
    return tuple(int(value) for value in values[1 : n + 1])


def _padding(op: Any, n: int) -> str | tuple[tuple[int, int], ...]:
    name: str = op.get_attr("padding").decode()
    if name != "EXPLICIT":
        return name
    flat = [int(value) for value in op.get_attr("explicit_paddings")]
    return tuple((flat[2 * axis], flat[2 * axis + 1]) for axis in range(1, n + 1))
