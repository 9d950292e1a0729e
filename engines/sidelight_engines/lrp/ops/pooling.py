"""Pooling, averages and sums over axes, and resizing by weights that are not learned."""

from __future__ import annotations

import math
from typing import Any

from sidelight_engines.lrp.maps.linear_map import Average, LinearMap
from sidelight_engines.lrp.ops.movement import by_gradient
from sidelight_engines.lrp.ops.registry import entry, linear_map
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.lrp.walk.node import Contributions, Node


@entry("MaxPool", "MaxPool3D", "MaxPoolV2")
def max_pool(node: Node) -> Contributions:
    """The winner takes all; of several, the first in the window."""
    node.apply("winner_takes_all")
    x, y = node.op.inputs[0], node.op.outputs[0]
    handed = by_gradient(node, 0)
    node.replicas.same_total(handed, node.where(x), node.relevance, node.where(y))
    return [(x, handed)]


@entry("Max", "Min")
def extreme(node: Node) -> Contributions:
    """The winner takes all; several share alike, as in the gradient."""
    node.apply("winner_takes_all")
    return [(node.op.inputs[0], by_gradient(node, 0))]


@linear_map("AvgPool", "AvgPool3D")
def average_pool(op: Any, view: GraphView) -> LinearMap | None:
    """A mean over windows; padding does not count."""
    import tensorflow as tf

    if op.get_attr("data_format") not in (b"NHWC", b"NDHWC"):
        return None
    attributes = {
        "ksize": list(op.get_attr("ksize")),
        "strides": list(op.get_attr("strides")),
        "padding": op.get_attr("padding").decode(),
    }
    planar = op.type == "AvgPool"

    def run(x: Any) -> Any:
        return tf.raw_ops.AvgPool(value=x, **attributes) if planar else tf.raw_ops.AvgPool3D(input=x, **attributes)

    def back(s: Any) -> Any:
        shape = tf.concat([tf.shape(s)[:1], tf.shape(op.inputs[0])[1:]], 0)
        step = tf.raw_ops.AvgPoolGrad if planar else tf.raw_ops.AvgPool3DGrad
        return step(orig_input_shape=shape, grad=s, **attributes)

    return Average(op, run, back)


@linear_map("Mean", "Sum")
def reduction(op: Any, view: GraphView) -> LinearMap | None:
    """A mean or a sum over axes other than that of the instances."""
    import tensorflow as tf

    axes = view.constant(op.inputs[1])
    x = op.inputs[0]
    if axes is None or view.batch_axis(op.outputs[0]) is None:
        return None
    kept = bool(op.get_attr("keep_dims"))
    places = sorted({int(axis) % x.shape.rank for axis in axes.ravel()})
    lengths = x.shape.as_list()
    known = [lengths[place] for place in places]

    def count() -> Any:
        if None not in known:
            return float(math.prod(known))
        return tf.cast(tf.reduce_prod(tf.gather(tf.shape(x), places)), tf.float32)

    def run(value: Any) -> Any:
        reduce = tf.reduce_mean if op.type == "Mean" else tf.reduce_sum
        return reduce(value, axis=places, keepdims=kept)

    def back(s: Any) -> Any:
        wide = s
        for place in [] if kept else places:
            wide = tf.expand_dims(wide, place)
        dynamic, own = tf.shape(x), tf.shape(wide)
        shape = [dynamic[axis] if axis in places else own[axis] for axis in range(len(lengths))]
        spread = tf.broadcast_to(wide, shape)
        spread.set_shape([length if axis in places else None for axis, length in enumerate(lengths)])
        return spread / tf.cast(count(), s.dtype) if op.type == "Mean" else spread

    return Average(op, run, back)


@linear_map("ResizeBicubic", "ResizeBilinear")
def resize(op: Any, view: GraphView) -> LinearMap | None:
    """Interpolation; bicubic weights may be negative, so that only epsilon is exact for them."""
    import tensorflow as tf

    attributes = {name: op.get_attr(name) for name in ("align_corners", "half_pixel_centers")}
    kernel = tf.raw_ops.ResizeBilinear if op.type == "ResizeBilinear" else tf.raw_ops.ResizeBicubic

    def run(x: Any) -> Any:
        return kernel(images=x, size=op.inputs[1], **attributes)

    def back(s: Any) -> Any:
        x = op.inputs[0]
        like = tf.zeros(tf.concat([tf.shape(s)[:1], tf.shape(x)[1:]], 0), x.dtype)
        step = tf.raw_ops.ResizeBilinearGrad if op.type == "ResizeBilinear" else tf.raw_ops.ResizeBicubicGrad
        return step(grads=s, original_image=like, **attributes)

    return Average(op, run, back)
