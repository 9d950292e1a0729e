"""Reductions over axes, and the positions of extremes."""

from __future__ import annotations

from collections.abc import Callable

from sidelight_engines.ops.context import LoweringContext, Tensor
from sidelight_engines.ops.normalization import root
from sidelight_engines.ops.registry import register

Reduce = Callable[[LoweringContext, Tensor, object, bool], Tensor]


def _plain(name: str) -> Reduce:
    return lambda op, x, axes, keep: getattr(op.tf, name)(x, axis=axes, keepdims=keep)


def _l1(op: LoweringContext, x: Tensor, axes: object, keep: bool) -> Tensor:
    return op.tf.reduce_sum(op.tf.abs(x), axis=axes, keepdims=keep)


def _l2(op: LoweringContext, x: Tensor, axes: object, keep: bool) -> Tensor:
    if x.dtype.is_integer:
        wide = op.tf.cast(x, "float64")
        return op.tf.cast(op.tf.sqrt(op.tf.reduce_sum(op.tf.square(wide), axis=axes, keepdims=keep)), x.dtype)
    return root(op, op.tf.reduce_sum(op.tf.square(x), axis=axes, keepdims=keep))


def _sum_square(op: LoweringContext, x: Tensor, axes: object, keep: bool) -> Tensor:
    return op.tf.reduce_sum(op.tf.square(x), axis=axes, keepdims=keep)


def _log_sum(op: LoweringContext, x: Tensor, axes: object, keep: bool) -> Tensor:
    return op.tf.math.log(op.tf.reduce_sum(x, axis=axes, keepdims=keep))


def _bool_or(plain: str, logical: str) -> Reduce:
    def reduce(op: LoweringContext, x: Tensor, axes: object, keep: bool) -> Tensor:
        return getattr(op.tf, logical if x.dtype.is_bool else plain)(x, axis=axes, keepdims=keep)

    return reduce


# ONNX op -> (how it reduces, the opset from which the axes are an input).
_REDUCTIONS: dict[str, tuple[Reduce, int]] = {
    "ReduceL1": (_l1, 18),
    "ReduceL2": (_l2, 18),
    "ReduceLogSum": (_log_sum, 18),
    "ReduceLogSumExp": (_plain("reduce_logsumexp"), 18),
    "ReduceMax": (_bool_or("reduce_max", "reduce_any"), 18),
    "ReduceMean": (_plain("reduce_mean"), 18),
    "ReduceMin": (_bool_or("reduce_min", "reduce_all"), 18),
    "ReduceProd": (_plain("reduce_prod"), 18),
    "ReduceSum": (_plain("reduce_sum"), 13),
    "ReduceSumSquare": (_sum_square, 18),
}


def _by_attribute(reduce: Reduce) -> Callable[[LoweringContext], Tensor]:
    def lower(op: LoweringContext) -> Tensor:
        return reduce(op, op.input(0), op.attribute("axes"), bool(op.attribute("keepdims", 1)))

    return lower


def _by_input(reduce: Reduce) -> Callable[[LoweringContext], Tensor]:
    def lower(op: LoweringContext) -> Tensor:
        axes = None
        if op.optional(1) is not None:
            known = op.value(1)
            axes = op.input(1) if known is None else [int(axis) for axis in known.ravel()] or None
        if axes is None and op.attribute("noop_with_empty_axes", 0):
            # No axes: each element is reduced by itself.
            axes = []
        return reduce(op, op.input(0), axes, bool(op.attribute("keepdims", 1)))

    return lower


def _register_reductions() -> None:
    for name, (reduce, by_input_since) in _REDUCTIONS.items():
        register(name, since=1)(_by_attribute(reduce))
        register(name, since=by_input_since)(_by_input(reduce))


_register_reductions()


def _position(op: LoweringContext, function: Callable[..., Tensor]) -> Tensor:
    tf, x = op.tf, op.input(0)
    axis = op.axis(op.attribute("axis", 0), op.rank())
    if op.attribute("select_last_index", 0):
        # The first in the reversed order is the last.
        length = tf.cast(op.lengths(x)[axis], "int64")
        found = length - 1 - function(tf.reverse(x, [axis]), axis)
    else:
        found = function(x, axis)
    return tf.expand_dims(found, axis) if op.attribute("keepdims", 1) else found


@register("ArgMax", since=1)
def arg_max(op: LoweringContext) -> Tensor:
    """Position of the largest element along an axis; the first, or the last if asked for."""
    return _position(op, op.tf.argmax)


@register("ArgMin", since=1)
def arg_min(op: LoweringContext) -> Tensor:
    """Position of the smallest element along an axis; the first, or the last if asked for."""
    return _position(op, op.tf.argmin)


@register("CumSum", since=11)
def cumulative_sum(op: LoweringContext) -> Tensor:
    """Sum of the elements up to each position along an axis."""
    axis = int(op.known(1, "axis").ravel()[0])
    return op.tf.cumsum(
        op.input(0), axis, exclusive=bool(op.attribute("exclusive", 0)), reverse=bool(op.attribute("reverse", 0))
    )
