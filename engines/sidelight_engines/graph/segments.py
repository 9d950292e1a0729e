"""Which of some tensors follow from others by an affine function, told from the structure of the graph alone.

A weighted sum over rows passes through an affine function. So where a weighted sum over rows of a convolution's
output is wanted, that of its input will do: the convolution of the sum is the sum of the convolutions, but for
the constant term.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from sidelight_engines.graph.affinity import Affinity, cut_affinities, depends_on_values
from sidelight_engines.graph.graph import Graph
from sidelight_engines.graph.step import Step, TensorType

# What leaves the numbers of a row as they are, or moves them within it.
_MOVES = frozenset(
    {"CheckNumerics", "Dropout", "EnsureShape", "ExpandDims", "Flatten", "Identity", "PreventGradient", "Reshape"}
    | {"Snapshot", "Squeeze", "StopGradient", "Transpose", "Unsqueeze"}
)
_FLOATS = ("float32", "float64")


@dataclass(frozen=True)
class Segments:
    """How tensors follow from others.

    Attributes:
        moved: tensor -> another one of those asked for, which holds the same numbers in each row, perhaps in another
            order.
        affine: tensor -> what it is an affine function of: the model's inputs, and those asked for that are neither
            in here nor in `moved`. Some may be there for their shape alone.
    """

    moved: Mapping[str, str]
    affine: Mapping[str, frozenset[str]]


def find_segments(graph: Graph, tensors: Collection[str]) -> Segments:
    """Finds out which of some tensors need not be evaluated for each row to be summed up over rows.

    Each row of a tensor must follow from the same row of the inputs alone.

    Args:
        graph: the model.
        tensors: names of tensors with a row per instance.
    """
    inputs = frozenset(spec.tensor for spec in graph.inputs)
    if any(spec.shape[:1] != (None,) or spec.dtype not in _FLOATS for spec in graph.inputs):
        # A batch of fixed length may stand in constants.
        return Segments({}, {})
    kinds, roots = cut_affinities(graph.steps, inputs, tensors)
    makers = {name: step for step in graph.steps for name in step.outputs}
    moved: dict[str, str] = {}
    affine: dict[str, frozenset[str]] = {}
    for tensor in tensors:
        if tensor in inputs or tensor not in makers or _type(makers, tensor).dtype not in _FLOATS:
            continue
        source = _before_moves(tensor, makers, tensors)
        if source is not None:
            moved[tensor] = source
        elif tensor not in roots and kinds.get(tensor) is Affinity.AFFINE:
            ends = _ends(tensor, makers, kinds, roots | inputs)
            if ends is not None:
                affine[tensor] = ends
    return Segments(moved, affine)


def _type(makers: Mapping[str, Step], tensor: str) -> TensorType:
    maker = makers.get(tensor)
    return TensorType() if maker is None else maker.types.get(tensor, TensorType())


def _before_moves(tensor: str, makers: Mapping[str, Step], tensors: Collection[str]) -> str | None:
    """The nearest of `tensors` that holds the same numbers per row; None if there is none."""
    wanted = _row_size(_type(makers, tensor))
    reached = tensor
    while wanted is not None and (maker := makers.get(reached)) is not None:
        # A third operand of Dropout may turn it on.
        if maker.op not in _MOVES or maker.outputs[0] != reached or len(maker.inputs) > 2:
            return None
        reached = maker.inputs[0]
        if reached in tensors:
            kind = _type(makers, reached)
            same = _row_size(kind) == wanted and kind.dtype == _type(makers, tensor).dtype
            return reached if same else None
    return None


def _row_size(kind: TensorType) -> int | None:
    """How many numbers a row holds; None if that is not known, or the first axis does not count rows."""
    if not kind.shape or kind.shape[0] is not None:
        return None
    lengths: Sequence[int | None] = kind.shape[1:]
    known = [length for length in lengths if length is not None]
    return prod(known) if len(known) == len(lengths) else None


def _ends(
    tensor: str, makers: Mapping[str, Step], kinds: Mapping[str, Affinity], ends: Collection[str]
) -> frozenset[str] | None:
    """Those of `ends` that a tensor is made from; None if a nonlinear tensor, or an untyped one, is in between.

    Nonlinear ones that matter for their shape alone may be: those would be evaluated for nothing.
    """
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [tensor]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        maker = makers.get(name)
        if name in ends:
            if maker is not None and _type(makers, name).dtype not in _FLOATS:
                return None
            found.add(name)
        elif maker is not None:
            if depends_on_values(kinds, name) and kinds[name] is Affinity.NONLINEAR:
                return None
            waiting.extend(operand for operand in maker.inputs if operand)
    return frozenset(found)
