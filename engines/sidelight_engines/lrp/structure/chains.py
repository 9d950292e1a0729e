"""Linear operations together with the constants that follow them: canonization at the level of operations.

A convolution or matrix product is followed by a bias, by what is left of batch normalisation (a product and a sum per
channel), and by transposes and reshapes that leave the channels where they are. All of it is one affine map

    y = k (L(x, W) + ...) + b = L(x, k W) + b

as long as nothing else reads what is in between, and a rule is applied to that map: folding batch normalisation into
the weights, as canonizers do, but by what the graph computes and not by the order or class of layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sidelight_engines.lrp.maps.linear_map import LinearMap
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.runtime.runtime import Array

_NOTHING = frozenset({"CheckNumerics", "EnsureShape", "Identity", "PreventGradient", "StopGradient"})


@dataclass(frozen=True)
class Chain:
    """A linear operation and what was folded into it.

    Attributes:
        map: the linear operation.
        links: the operations that follow it, in order; the last is the chain's end.
        moves: those of them that only move values.
        scale: k, of u's rank with length 1 on all axes but the map's channel axes; None for 1.
        bias: b, likewise; None for 0.
    """

    map: LinearMap
    links: tuple[Any, ...] = ()
    moves: tuple[Any, ...] = ()
    scale: Array | None = None
    bias: Array | None = None

    @property
    def end(self) -> Any:
        """The last operation."""
        return self.links[-1] if self.links else self.map.op


@dataclass
class _State:
    """A chain while it is being followed.

    Attributes:
        places: where each channel axis of u is by now.
        rank: how many axes there are by now.
        split: the lengths of the axes that the one channel axis was split into, such as heads; empty if it was not.
    """

    places: list[int]
    rank: int
    shape: list[int | None]
    scale: Array | None = None
    bias: Array | None = None
    split: tuple[int, ...] = ()
    links: list[Any] = field(default_factory=list)
    moves: list[Any] = field(default_factory=list)


def find_chain(linear: LinearMap, view: GraphView) -> Chain:
    """Follows a linear operation as far as it stays one affine map.

    Args:
        linear: the operation.
        view: the graph.
    """
    rank = linear.u.shape.rank
    state = _State(list(linear.channel_axes), rank, linear.u.shape.as_list())
    best = Chain(linear)
    tensor = linear.u
    while tensor.name != view.target.name:
        readers = view.readers(tensor)
        if len(readers) != 1:
            break
        op = readers[0]
        if _move(op, state, view):
            state.moves.append(op)
        elif op.type not in _NOTHING:
            step = _affine(op, tensor, view)
            held = None if step is None else [_held(value, state, linear) for value in step]
            if held is None or any(value is None for value in held):
                break
            _fold(state, *held)  # type: ignore[arg-type]
        state.links.append(op)
        tensor = op.outputs[0]
        if op not in state.moves:
            bias = None if state.bias is None or not state.bias.any() else state.bias
            best = Chain(linear, tuple(state.links), tuple(state.moves), state.scale, bias)
    return best


def _fold(state: _State, scale: Array, bias: Array) -> None:
    if np.any(scale != 1):
        state.scale = scale if state.scale is None else state.scale * scale
        state.bias = None if state.bias is None else state.bias * scale
    state.bias = bias if state.bias is None else state.bias + bias


def _move(op: Any, state: _State, view: GraphView) -> bool:
    """Follows the channels through an operation that moves values; False if they can not be followed."""
    last = state.rank - 1
    if op.type == "Transpose":
        order = view.constant(op.inputs[1])
        if order is None:
            return False
        state.places = [order.tolist().index(place) for place in state.places]
    elif op.type == "Reshape":
        length = state.shape[last]
        made = op.outputs[0].shape
        if state.places != [last] or length is None or made.rank is None:
            return False
        parts = _parts(made.as_list(), length)
        if not parts:
            return False
        state.places = list(range(made.rank - len(parts), made.rank))
        state.split = tuple(parts) if len(parts) > 1 else ()
    elif op.type == "ExpandDims":
        axis = view.constant(op.inputs[1])
        if axis is None:
            return False
        place = int(axis) % (state.rank + 1)
        state.places = [held + (place <= held) for held in state.places]
    elif op.type == "Squeeze":
        gone = [axis % state.rank for axis in op.get_attr("squeeze_dims")]
        if not gone or set(gone) & set(state.places):
            return False
        state.places = [held - sum(axis < held for axis in gone) for held in state.places]
    elif op.type in ("Slice", "StridedSlice"):
        made = op.outputs[0].shape
        # What is cut off behind a transposed convolution has no relevance.
        if state.places != [last] or made.rank != state.rank or made[last] != state.shape[last] or made[last] is None:
            return False
        if op.type == "StridedSlice" and (op.get_attr("shrink_axis_mask") or op.get_attr("new_axis_mask")):
            return False
    elif op.type != "BatchToSpaceND" or state.places != [last]:
        return False
    state.rank = op.outputs[0].shape.rank
    state.shape = op.outputs[0].shape.as_list()
    return True


def _parts(lengths: list[int | None], whole: int) -> list[int]:
    """The last axes, as few as hold `whole` positions together; empty if none do."""
    parts: list[int] = []
    for length in reversed(lengths):
        if length is None or math.prod(parts) == whole:
            break
        parts.insert(0, length)
    return parts if math.prod(parts) == whole and whole > 1 else []


def _affine(op: Any, tensor: Any, view: GraphView) -> tuple[Array, Array] | None:
    """The factor and the addend of an operation that is affine in a tensor; None if it is not, or not by constants."""
    one, zero = np.ones((), np.float64), np.zeros((), np.float64)
    if op.type == "FusedBatchNormV3":
        return _batch_norm(op, tensor, view)
    if len(op.inputs) != 2 or op.type not in ("Add", "AddV2", "BiasAdd", "Div", "Mul", "RealDiv", "Sub"):
        return None
    first = op.inputs[0] is tensor
    other = view.constant(op.inputs[1] if first else op.inputs[0])
    if other is None or view.depends(op.inputs[1] if first else op.inputs[0]):
        return None
    value = other.astype(np.float64)
    if op.type == "BiasAdd":
        rank = tensor.shape.rank
        channel = 1 if op.get_attr("data_format") == b"NCHW" else rank - 1
        return one, value.reshape([-1 if axis == channel else 1 for axis in range(rank)])
    if op.type in ("Add", "AddV2"):
        return one, value
    if op.type == "Mul":
        return value, zero
    if op.type == "Sub":
        return (one, -value) if first else (-one, value)
    # One over what is 0 is no map at all.
    return (1 / value, zero) if first and value.all() else None


def _batch_norm(op: Any, tensor: Any, view: GraphView) -> tuple[Array, Array] | None:
    if op.get_attr("is_training") or op.inputs[0] is not tensor:
        return None
    values = [view.constant(source) for source in op.inputs[1:5]]
    if any(value is None for value in values):
        return None
    scale, offset, mean, variance = (np.asarray(value, np.float64) for value in values)
    factor = scale / np.sqrt(variance + op.get_attr("epsilon"))
    rank = tensor.shape.rank
    channel = 1 if op.get_attr("data_format").startswith(b"NC") else rank - 1
    shape = [-1 if axis == channel else 1 for axis in range(rank)]
    return factor.reshape(shape), (offset - mean * factor).reshape(shape)


def _held(value: Array, state: _State, linear: LinearMap) -> Array | None:
    """A constant in terms of u's axes; None if it differs along others than the channels."""
    if value.ndim > state.rank:
        return None
    full = value.reshape([1] * (state.rank - value.ndim) + list(value.shape))
    if any(length != 1 for axis, length in enumerate(full.shape) if axis not in state.places):
        return None
    shape = [1] * linear.u.shape.rank
    turned = full.transpose([*state.places, *(axis for axis in range(state.rank) if axis not in state.places)])
    if state.split:
        (axis,) = linear.channel_axes
        shape[axis] = -1
        return np.broadcast_to(turned.reshape(turned.shape[: len(state.split)]), state.split).reshape(shape)
    for index, axis in enumerate(linear.channel_axes):
        shape[axis] = turned.shape[index]
    # Channel axes are in the order of u's axes, so the values need no other order.
    return turned.reshape(shape)


def scale_for(chain: Chain, axes: dict[int, int]) -> Array | None:
    """The chain's factor with all channel axes at their full length, as `LinearMap.scaled` wants it."""
    if chain.scale is None:
        return None
    shape = [axes.get(axis, 1) for axis in range(chain.scale.ndim)]
    return np.broadcast_to(chain.scale, shape)
