"""What a lowering works with: the node's attributes and its inputs as TensorFlow tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from sidelight_engines.ops.registry import NodeForm
from sidelight_engines.runtime.runtime import Array

# A TensorFlow tensor; TensorFlow is published without types, and is imported only on use.
Tensor = Any


class RefusedFormError(Exception):
    """A lowering met a form that it does not cover, and that could not be told before."""


@dataclass(frozen=True)
class LoweringContext:
    """One node on its way into a TensorFlow graph.

    Attributes:
        tf: the `tensorflow` module.
        form: the node.
        tensors: its inputs as tensors; None where an optional one is left out.
        values: its inputs as far as they are known: an array of the whole value, None otherwise.
        partials: its integer inputs of rank 0 or 1 as far as they are known: per element the number or
            None; None where nothing is known.
        body: lowers a graph that the node holds.
    """

    tf: Any
    form: NodeForm
    tensors: tuple[Tensor | None, ...]
    values: tuple[Array | None, ...]
    partials: tuple[Array | None, ...]
    body: Callable[[onnx.GraphProto, Mapping[str, Tensor]], list[Tensor]]

    def run_body(self, graph: onnx.GraphProto, given: Mapping[str, Tensor]) -> list[Tensor]:
        """Lowers a graph that the node holds, where it is called.

        Args:
            graph: the graph.
            given: name of its input -> tensor.

        Returns:
            Its outputs.
        """
        return self.body(graph, given)

    def input(self, index: int) -> Tensor:
        """An input that must be there."""
        tensor = self.optional(index)
        if tensor is None:
            raise RefusedFormError(f"input {index} is left out")
        return tensor

    def inputs(self) -> list[Tensor]:
        """All inputs, of an operation that takes any number."""
        return [self.input(index) for index in range(len(self.tensors))]

    def optional(self, index: int) -> Tensor | None:
        """An input that may be left out."""
        return self.tensors[index] if index < len(self.tensors) else None

    def value(self, index: int) -> Array | None:
        """The value of an input if it is known now."""
        return self.values[index] if index < len(self.values) else None

    def partial(self, index: int) -> Array | None:
        """The elements of an integer input that are known now, None for each that is not."""
        return self.partials[index] if index < len(self.partials) else None

    def known(self, index: int, meaning: str) -> Array:
        """The value of an input that must be known now.

        Args:
            index: which input.
            meaning: what it holds, for the refusal.
        """
        value = self.value(index)
        if value is None:
            raise RefusedFormError(f"the {meaning} is computed; only constants are covered")
        return value

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.form.attributes.get(name, default)

    def number(self, value: float, like: Tensor) -> Tensor:
        """A scalar constant of another tensor's dtype."""
        return self.tf.constant(value, like.dtype)

    def rank(self, index: int = 0) -> int:
        """The rank of an input."""
        tensor = self.input(index)
        if tensor.shape.rank is None:
            raise RefusedFormError(f"the rank of {self.form.inputs[index]!r} is not known before the model runs")
        rank: int = tensor.shape.rank
        return rank

    def axis(self, value: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= value < rank:
            raise RefusedFormError(f"axis {value} is not one of a tensor of rank {rank}")
        return value % rank

    def lengths(self, tensor: Tensor) -> list[Any]:
        """The length of each axis: a number where it is known now, a scalar tensor otherwise."""
        static = tensor.shape.as_list()
        if None not in static:
            return list(static)
        dynamic = self.tf.shape(tensor)
        return [dynamic[axis] if length is None else length for axis, length in enumerate(static)]

    def reshape(self, tensor: Tensor, lengths: Sequence[Any]) -> Tensor:
        """Reshapes to lengths of which some may be tensors.

        A single unknown length is written as -1: the shape is then a constant, and shape inference keeps
        the lengths that are known.
        """
        unknown = [not isinstance(length, int | np.integer) for length in lengths]
        if sum(unknown) == 1 and -1 not in [n for n, u in zip(lengths, unknown, strict=True) if not u]:
            lengths = [-1 if u else int(n) for n, u in zip(lengths, unknown, strict=True)]
        return self.tf.reshape(tensor, self.tf.stack(lengths) if lengths else [])
