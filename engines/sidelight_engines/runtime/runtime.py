"""What a runtime is to the explainers: a forward pass with taps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class RuntimeKind(Enum):
    """What evaluates a model."""

    ONNX_RUNTIME = "onnx_runtime"
    TENSORFLOW = "tensorflow"


class ForwardPass(Protocol):
    """A forward pass through one model, compiled for one list of tensors to fetch."""

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Evaluates the model.

        Args:
            inputs: input name -> array of the input's dtype, axis 0 the batch, the same length in all.

        Returns:
            One array per fetched tensor, in the order in which they were asked for; axis 0 is the batch.
        """
        ...


class SummingPass(Protocol):
    """A forward pass that keeps weighted sums over rows of some tensors, and all rows of others."""

    def __call__(self, inputs: Mapping[str, Array], weights: Array) -> tuple[list[Array], list[Array]]:
        """Evaluates the model.

        Args:
            inputs: as of `ForwardPass`; the rows of each sum follow each other.
            weights: float64, one per row of a sum. Their number divides that of the rows.

        Returns:
            For each summed tensor the sums, (sums, ...), in the tensor's own type, in which they may leave its range;
            and the fetched tensors.
        """
        ...


@dataclass(frozen=True)
class Lanes:
    """Forward passes that run side by side.

    Passes over small batches, one per processor, take less time than one pass after another over all processors:
    the threads of one pass wait for each other at every operation.

    Attributes:
        forward: may be called from several threads at once.
        count: how many calls at a time fill the processors.
    """

    forward: ForwardPass
    count: int


class Runtime(Protocol):
    """Evaluates one model. Safe to call from several threads."""

    @property
    def kind(self) -> RuntimeKind:
        """What evaluates the model."""
        ...

    @property
    def pooled_axis(self) -> int:
        """The axis that counts the channels of the tensors, of four axes, whose greatest values it fetches."""
        ...

    def forward(self, tensors: Sequence[str]) -> ForwardPass:
        """Prepares a forward pass that fetches these tensors; cached, so asking again is cheap.

        Args:
            tensors: tensor names of the graph: outputs, layers' tensors, logits.
        """
        ...

    def lanes(self, tensors: Sequence[str], greatest: Sequence[str] = ()) -> Lanes:
        """Prepares forward passes that fetch these tensors and run side by side; cached likewise.

        Args:
            tensors: as of `forward`.
            greatest: tensors of float32 with four axes, whose channels `pooled_axis` counts. Each is fetched, after
                `tensors`, as (rows, channels), the greatest value over positions; where one of the values may be
                NaN or infinite, that is NaN.
        """
        ...

    def summing(self, summed: Sequence[str], fetched: Sequence[str], *, side_by_side: bool) -> SummingPass:
        """Prepares a forward pass that sums up; cached likewise.

        Args:
            summed: tensors of which weighted sums over rows are wanted: float32 or float64, a row per instance.
            fetched: tensors of which every row is wanted.
            side_by_side: whether it will be called by as many threads at a time as there are `lanes`.
        """
        ...

    def segment(self, given: Sequence[str], tensors: Sequence[str], *, side_by_side: bool) -> ForwardPass:
        """Prepares the part of the model between some tensors and others; cached likewise.

        Args:
            given: tensors that stand for inputs: all that the rest follows from. They are fed by these names, and
                the length of their first axis is free.
            tensors: what is fetched.
            side_by_side: as of `summing`.
        """
        ...


def sum_up(forward: ForwardPass, count: int) -> SummingPass:
    """A pass that sums up what a forward pass fetches.

    Args:
        forward: fetches what is summed, then what is not.
        count: how many tensors are summed.
    """

    def run(inputs: Mapping[str, Array], weights: Array) -> tuple[list[Array], list[Array]]:
        values = forward(inputs)
        return [weighted_sums(rows, weights) for rows in values[:count]], values[count:]

    return run


def weighted_sums(rows: Array, weights: Array) -> Array:
    """Weighted sums over consecutive rows.

    Args:
        rows: (sums * len(weights), ...), float32 or float64.
        weights: float64.

    Returns:
        (sums, ...) of the same type. They may hold infinity where a finite sum passes it on the way.
    """
    grouped = rows.reshape(-1, len(weights), *rows.shape[1:])
    kind = rows.dtype.type
    # Not by a matrix product: that would wake threads of its own, which spin and contend with the runtime's.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.all(weights == weights[0]):
            return np.asarray(np.add.reduce(grouped, axis=1) * kind(weights[0]))
        return np.asarray(np.einsum("is...,s->i...", grouped, weights.astype(rows.dtype)))


def as_input(array: Array, dtype: str) -> Array:
    """The array as a runtime wants it: row-major and of the input's dtype."""
    return np.ascontiguousarray(array, dtype=np.dtype(dtype))
