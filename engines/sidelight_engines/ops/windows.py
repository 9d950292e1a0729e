"""What convolution and pooling share: windows and their padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sidelight_engines.ops.context import LoweringContext, RefusedFormError, Tensor


@dataclass(frozen=True)
class Windows:
    """How windows slide over the spatial axes. Every tuple has one entry per spatial axis.

    Attributes:
        kernel: lengths of a window, in elements that it reads.
        strides: steps between windows.
        dilations: steps between the elements of a window.
        pads: (before, after) in elements; before ONNX's `auto_pad` is applied if that is a tuple of zeros.
        auto_pad: ``NOTSET``, ``VALID``, ``SAME_UPPER`` or ``SAME_LOWER``.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    auto_pad: str

    @property
    def extent(self) -> tuple[int, ...]:
        """Lengths of a window including the gaps of its dilation."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def windows_of(op: LoweringContext, kernel: Sequence[int]) -> Windows:
    """Reads the window attributes of a node."""
    n = len(kernel)
    pads = op.attribute("pads") or [0] * (2 * n)
    return Windows(
        tuple(int(k) for k in kernel),
        tuple(op.attribute("strides") or [1] * n),
        tuple(op.attribute("dilations") or [1] * n),
        tuple(zip(pads[:n], pads[n:], strict=True)),
        op.attribute("auto_pad", "NOTSET"),
    )


def same_pads(length: int, extent: int, stride: int, lower: bool) -> tuple[int, int]:
    """The padding with which a window axis gives ceil(length / stride) windows.

    Args:
        length: of the input's axis.
        extent: of the window.
        stride: between windows.
        lower: whether an odd element goes before rather than after.
    """
    total = max((-(-length // stride) - 1) * stride + extent - length, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def resolve_pads(windows: Windows, lengths: Sequence[int | None]) -> tuple[tuple[int, int], ...]:
    """The padding in elements, `auto_pad` applied.

    Args:
        windows: the windows.
        lengths: of the spatial axes, None where not known.

    Raises:
        RefusedFormError: it depends on a length that is not known.
    """
    if windows.auto_pad == "NOTSET":
        return windows.pads
    if windows.auto_pad == "VALID":
        return tuple((0, 0) for _ in windows.kernel)
    pads = []
    for length, extent, stride in zip(lengths, windows.extent, windows.strides, strict=True):
        if length is None and stride > 1:
            raise RefusedFormError("automatic padding needs spatial axes of fixed length")
        pads.append(same_pads(length or extent, extent, stride, windows.auto_pad == "SAME_LOWER"))
    return tuple(pads)


def padding_name(windows: Windows, pads: Sequence[tuple[int, int]], lengths: Sequence[int | None]) -> str | None:
    """TensorFlow's name for a padding: ``VALID``, ``SAME``, or None if it has none."""
    if not any(map(any, pads)):
        return "VALID"
    for pad, length, extent, stride in zip(pads, lengths, windows.extent, windows.strides, strict=True):
        if length is None and stride > 1:
            return "SAME" if windows.auto_pad == "SAME_UPPER" else None
        if tuple(pad) != same_pads(length or extent, extent, stride, lower=False):
            return None
    return "SAME"


def pad_spatial(op: LoweringContext, x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Pads the spatial axes of a channels-last tensor."""
    if not any(map(any, pads)):
        return x
    return op.tf.pad(x, [(0, 0), *pads, (0, 0)], constant_values=op.number(value, x))


def stretch(op: LoweringContext, kernel: Tensor, dilations: Sequence[int]) -> Tensor:
    """Writes the gaps of a dilated kernel as zeros, for kernels that TensorFlow can not dilate on CPU.

    Args:
        op: the node.
        kernel: K1 .. Kn followed by two more axes.
        dilations: one per axis K.
    """
    for axis, dilation in enumerate(dilations):
        length = kernel.shape[axis]
        if dilation == 1 or length == 1:
            continue
        shape = kernel.shape.as_list()
        gaps = [(0, 0)] * (len(shape) + 1)
        gaps[axis + 1] = (0, dilation - 1)
        spread = op.tf.pad(op.tf.expand_dims(kernel, axis + 1), gaps)
        whole = op.tf.reshape(spread, [*shape[:axis], length * dilation, *shape[axis + 1 :]])
        kernel = op.tf.gather(whole, np.arange((length - 1) * dilation + 1), axis=axis)
    return kernel
