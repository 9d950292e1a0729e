"""Convolution and transposed convolution over one to three spatial axes.

TensorFlow's kernels for CPU can neither differentiate a grouped nor a dilated convolution. A depthwise one has
a kernel of its own; other groups are convolved one by one; dilation moves the phases of the input into the
batch (SpaceToBatchND), convolves without gaps, and moves them back.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidelight_engines.ops.context import LoweringContext, RefusedFormError, Tensor
from sidelight_engines.ops.layout import channels_first, channels_last
from sidelight_engines.ops.registry import NodeForm, register
from sidelight_engines.ops.windows import (
    Windows,
    pad_spatial,
    padding_name,
    resolve_pads,
    stretch,
    windows_of,
)


def _weight_shape(form: NodeForm) -> tuple[int | None, ...] | None:
    return form.type(1).shape


def _covered_rank(form: NodeForm) -> str | None:
    shape = _weight_shape(form)
    if shape is not None and not 3 <= len(shape) <= 5:
        return f"one to three spatial axes are covered, not {len(shape) - 2}"
    if form.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        return f"auto_pad {form.attributes['auto_pad']!r} is not one of ONNX's"
    return None


@register("Conv", since=1, check=_covered_rank)
def conv(op: LoweringContext) -> Tensor:
    """Convolution of N C D1 .. Dn with kernels M C/group K1 .. Kn, and a bias for each of M."""
    x, weight = op.input(0), op.input(1)
    if weight.shape.rank is None or None in weight.shape.as_list()[1:]:
        raise RefusedFormError("the shape of the kernel is not known before the model runs")
    windows = windows_of(op, weight.shape.as_list()[2:])
    lengths = x.shape.as_list()[2:] if x.shape.rank is not None else [None] * len(windows.kernel)
    pads = resolve_pads(windows, lengths)
    n = len(windows.kernel)
    # M C/g K1 .. Kn -> K1 .. Kn C/g M
    kernel = op.tf.transpose(weight, [*range(2, n + 2), 1, 0])
    y = channels_last(op, x)
    if n == 1:
        y, kernel, windows, pads, lengths = _as_plane(op, y, kernel, windows, pads, lengths)
    y = _convolve(op, y, kernel, op.optional(2), windows, pads, lengths)
    if n == 1:
        y = op.tf.squeeze(y, 1)
    return channels_first(op, y)


def _as_plane(
    op: LoweringContext,
    x: Tensor,
    kernel: Tensor,
    windows: Windows,
    pads: Sequence[tuple[int, int]],
    lengths: Sequence[int | None],
) -> tuple[Tensor, Tensor, Windows, tuple[tuple[int, int], ...], list[int | None]]:
    """One spatial axis as two, of which the first has length 1."""
    plane = Windows(
        (1, *windows.kernel), (1, *windows.strides), (1, *windows.dilations), ((0, 0), *windows.pads), windows.auto_pad
    )
    return op.tf.expand_dims(x, 1), op.tf.expand_dims(kernel, 0), plane, ((0, 0), *pads), [1, *lengths]


def _convolve(
    op: LoweringContext,
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    windows: Windows,
    pads: Sequence[tuple[int, int]],
    lengths: Sequence[int | None],
) -> Tensor:
    """Channels-last convolution over two or three spatial axes.

    The bias follows each convolution at once, also within a group or a phase: whoever reads the graph finds it there.
    """
    group = int(op.attribute("group", 1))
    if any(dilation > 1 for dilation in windows.dilations):
        return _convolve_dilated(op, x, kernel, bias, windows, pads, group)
    name = padding_name(windows, pads, lengths)
    return _convolve_groups(op, x, kernel, bias, windows.strides, pads, name, group)


def _convolve_dilated(
    op: LoweringContext,
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    windows: Windows,
    pads: Sequence[tuple[int, int]],
    group: int,
) -> Tensor:
    tf = op.tf
    n = len(windows.kernel)
    static = x.shape.as_list()[1:-1]
    spatial = tf.shape(x)[1:-1] if None in static else static
    paddings, crops = tf.required_space_to_batch_paddings(spatial, windows.dilations, [list(pad) for pad in pads])
    phases = tf.space_to_batch(x, windows.dilations, paddings)
    y = _convolve_groups(op, phases, kernel, bias, (1,) * n, ((0, 0),) * n, "VALID", group)
    y = tf.batch_to_space(y, windows.dilations, crops)
    if all(stride == 1 for stride in windows.strides):
        return y
    return y[(slice(None), *(slice(None, None, stride) for stride in windows.strides))]


def _convolve_groups(
    op: LoweringContext,
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    name: str | None,
    group: int,
) -> Tensor:
    tf = op.tf

    def biased(y: Tensor, its_bias: Tensor | None) -> Tensor:
        return y if its_bias is None else tf.nn.bias_add(y, its_bias)

    *window, inner, outer = kernel.shape.as_list()
    planar = len(window) == 2
    if name is None and not planar:
        # The kernels for three axes know no explicit padding.
        x, name = pad_spatial(op, x, pads), "VALID"
    padding = name or [[0, 0], *map(list, pads), [0, 0]]
    steps = [1, *strides, 1]
    if group == 1:
        return biased((tf.nn.conv2d if planar else tf.nn.conv3d)(x, kernel, steps, padding), bias)
    if outer is None or outer % group:
        raise RefusedFormError(f"{outer} kernels can not be split into {group} groups")
    if inner == 1 and planar:
        # One input channel per group: K1 K2 1 (C m) -> K1 K2 C m.
        separate = tf.reshape(kernel, [*window, group, outer // group])
        if strides[0] == strides[1]:
            return biased(tf.nn.depthwise_conv2d(x, separate, steps, padding), bias)
        # The depthwise kernel steps alike along both axes; a stride leaves windows out.
        explicit = pad_spatial(op, x, pads)
        dense = biased(tf.nn.depthwise_conv2d(explicit, separate, [1, 1, 1, 1], "VALID"), bias)
        return dense[:, :: strides[0], :: strides[1]]
    convolve = tf.nn.conv2d if planar else tf.nn.conv3d
    biases = [None] * group if bias is None else tf.split(bias, group)
    parts = zip(tf.split(x, group, axis=-1), tf.split(kernel, group, axis=-1), biases, strict=True)
    return tf.concat(
        [biased(convolve(part, its_kernel, steps, padding), its_bias) for part, its_kernel, its_bias in parts], axis=-1
    )


@register("ConvTranspose", since=1, check=_covered_rank)
def conv_transpose(op: LoweringContext) -> Tensor:
    """The transpose of a convolution, with kernels C M/group K1 .. Kn.

    It is computed unpadded, where output element s i + d k gathers input i through kernel element k; the
    pads are what is then cut off.
    """
    tf, x, weight = op.tf, op.input(0), op.input(1)
    if None in weight.shape.as_list():
        raise RefusedFormError("the shape of the kernel is not known before the model runs")
    windows = windows_of(op, weight.shape.as_list()[2:])
    n = len(windows.kernel)
    group = int(op.attribute("group", 1))
    # C M/g K1 .. Kn -> K1 .. Kn M/g C
    kernel = stretch(op, tf.transpose(weight, [*range(2, n + 2), 1, 0]), windows.dilations)
    y = channels_last(op, x)
    lengths = op.lengths(y)
    extra = tuple(op.attribute("output_padding") or [0] * n)
    full = [
        (length - 1) * stride + extent + more
        for length, stride, extent, more in zip(lengths[1:-1], windows.strides, windows.extent, extra, strict=True)
    ]
    full, cuts = _cuts(op, windows, lengths[1:-1], full)
    strides = windows.strides
    if n == 1:
        y, kernel = tf.expand_dims(y, 1), tf.expand_dims(kernel, 0)
        full, strides, cuts = [1, *full], (1, *strides), [(0, 1), *cuts]
    y = _spread(op, y, kernel, op.optional(2), lengths[0], full, strides, group)
    y = y[(slice(None), *(slice(start, stop) for start, stop in cuts))]
    if n == 1:
        y = tf.squeeze(y, 1)
    return channels_first(op, y)


def _cuts(
    op: LoweringContext, windows: Windows, lengths: Sequence[Tensor], full: Sequence[Tensor]
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Where the output of each spatial axis starts and stops in the unpadded one, and how long that must be."""
    wanted = op.attribute("output_shape")
    if wanted is None and not windows.auto_pad.startswith("SAME"):
        pads = resolve_pads(windows, [None] * len(full))
        return list(full), [(before, whole - after) for whole, (before, after) in zip(full, pads, strict=True)]
    if wanted is None:
        wanted = [length * stride for length, stride in zip(lengths, windows.strides, strict=True)]
    longer, cuts = [], []
    for whole, target in zip(full, wanted[-len(full) :], strict=True):
        total = op.tf.maximum(whole - target, 0) if op.tf.is_tensor(whole) else max(whole - target, 0)
        before = total // 2 if windows.auto_pad == "SAME_UPPER" else total - total // 2
        cuts.append((before, before + target))
        longer.append(op.tf.maximum(whole, target) if op.tf.is_tensor(whole) else max(whole, target))
    return longer, cuts


def _spread(
    op: LoweringContext,
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    full: Sequence[Tensor],
    strides: Sequence[int],
    group: int,
) -> Tensor:
    tf = op.tf
    transpose = tf.nn.conv2d_transpose if len(full) == 2 else tf.nn.conv3d_transpose
    outer = kernel.shape[-2]
    # A longer output than the windows reach is allowed up to the next stride; beyond it, zeros are added.
    extents = kernel.shape.as_list()[:-2]
    lengths = x.shape.as_list()[1:-1]
    reach, tail = [], []
    for whole, length, stride, extent in zip(full, lengths, strides, extents, strict=True):
        most = None if length is None else (length - 1) * stride + extent + stride - 1
        over = 0 if most is None or not isinstance(whole, int) else max(whole - most, 0)
        reach.append(whole - over)
        tail.append((0, over))
    shape = tf.stack([rows, *reach, outer])
    # The bias follows each convolution at once, unless zeros are added behind it, which get it too.
    tailed = any(after for _, after in tail)
    biases = [None] * group if bias is None or tailed else tf.split(bias, group) if group > 1 else [bias]
    inputs = [x] if group == 1 else tf.split(x, group, axis=-1)
    kernels = [kernel] if group == 1 else tf.split(kernel, group, axis=-1)
    parts = []
    for part, its_kernel, its_bias in zip(inputs, kernels, biases, strict=True):
        y = transpose(part, its_kernel, shape, [1, *strides, 1], "VALID")
        parts.append(y if its_bias is None else tf.nn.bias_add(y, its_bias))
    y = parts[0] if group == 1 else tf.concat(parts, axis=-1)
    y = pad_spatial(op, y, tail)
    return tf.nn.bias_add(y, bias) if tailed and bias is not None else y
