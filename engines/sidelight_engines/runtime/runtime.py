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


def as_input(array: Array, dtype: str) -> Array:
    """The array as a runtime wants it: row-major and of the input's dtype."""
    return np.ascontiguousarray(array, dtype=np.dtype(dtype))
