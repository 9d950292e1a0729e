"""The tensors to measure, and the scale on which each is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sidelight_engines.errors import InvalidField, MethodNotSupported
from sidelight_engines.linearity.rounding import norms
from sidelight_engines.runtime.runtime import Array

# Rows up to this size are widened to float64, which costs next to nothing there.
SMALL = 1024


@dataclass(frozen=True)
class Values:
    """What a target evaluates to for some rows.

    Attributes:
        numbers: what is measured, float32 or float64, (rows, size).
        hidden: the size of what was rounded on the way but can no longer be seen in the numbers, (rows,).
    """

    numbers: Array
    hidden: Array

    def sizes(self, rows: slice) -> Array:
        """The size of what was rounded in each of some rows; NaN or infinity if a number is."""
        return norms(self.numbers[rows]) + self.hidden[rows]


class Scale(Protocol):
    """Turns the fetched tensors of a target into the numbers that are measured."""

    def __call__(self, fetched: list[Array]) -> Values:
        """Turns fetched tensors, (rows, ...) each, into numbers."""
        ...


@dataclass(frozen=True)
class Target:
    """A tensor to measure.

    Attributes:
        name: of the output or layer.
        is_output: whether it is the explained output.
        tensors: what to fetch for it.
        scale: turns the fetched tensors into numbers.
        affine: whether it is affine in the input by structure, on the scale on which it is measured.
        field: the request field that asked for it.
        required: whether it was named, so that leaving it out is an error.
    """

    name: str
    is_output: bool
    tensors: tuple[str, ...]
    scale: Scale
    affine: bool
    field: str
    required: bool


def flat_rows(values: Array) -> Array:
    """The values of each row in a line, float32 or float64, (rows, size)."""
    flat = values.reshape(len(values), -1)
    if flat.dtype == np.float64 or (flat.dtype == np.float32 and flat.shape[1] > SMALL):
        return flat
    if flat.dtype == np.float32 or flat.dtype.kind in "iub":
        return flat.astype(np.float64)
    return flat.astype(np.float32 if flat.shape[1] > SMALL else np.float64)


def as_is(fetched: list[Array]) -> Values:
    """The scale of regressors and hidden layers: the numbers themselves."""
    values = flat_rows(fetched[0])
    return Values(values, np.zeros(len(values)))


class LogProbability:
    """log(p + floor).

    A softmax in floating point rounds its argument by eps |z| and p itself by eps p, so log p is off by about
    eps (|log p| + 1) for each class: the norm grows by sqrt(classes).

    Args:
        floor: what is added to a probability.
    """

    def __init__(self, floor: float) -> None:
        self._floor = floor

    def __call__(self, fetched: list[Array]) -> Values:
        """See `Scale`."""
        values = flat_rows(fetched[0]) + self._floor
        # NaN is left to whoever looks for it, with the number of the instance at hand.
        if np.any(values <= 0):
            least = float(np.min(values)) - self._floor
            if least < 0:
                raise InvalidField(
                    "parameters.model_type",
                    f"the output holds {least:g}, which is no probability",
                    "ask for a regressor",
                )
            raise InvalidField(
                "parameters.probability_floor",
                f"{self._floor:g} is too little for a probability of 0, which the output holds",
                "give a floor above 0, such as 1e-10, or measure EXACT_LOG_PROBABILITY",
            )
        np.log(values, out=values)
        return Values(values, np.full(len(values), np.sqrt(values.shape[1])))


class ExactLogProbability:
    """The log-probability from the logits z: z - logsumexp(z), or log-sigmoid(z).

    The axis that a softmax runs along is not part of a graph's description, so it is found by comparing
    with the probabilities, once.

    Args:
        head: ``Softmax`` or ``Sigmoid``.
        output: the name of the output, for the error.
    """

    def __init__(self, head: str, output: str) -> None:
        self._head = head
        self._output = output
        self._axes: tuple[int, ...] | None = None

    def __call__(self, fetched: list[Array]) -> Values:
        """See `Scale`. The fetched tensors are the logits and the probabilities."""
        logits = np.asarray(fetched[0], np.float64)
        probabilities = fetched[1]
        if self._axes is None:
            self._axes = self._find_axes(logits, probabilities)
        values = self._log(logits, self._axes)
        return Values(flat_rows(values), norms(flat_rows(logits)))

    def _log(self, logits: Array, axes: tuple[int, ...]) -> Array:
        if self._head == "Sigmoid":
            return -np.logaddexp(0.0, -logits)
        # NaN and infinity are looked for later, with the number of the instance at hand.
        with np.errstate(invalid="ignore"):
            shifted = logits - logits.max(axis=axes, keepdims=True)
            return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axes, keepdims=True)))

    def _find_axes(self, logits: Array, probabilities: Array) -> tuple[int, ...]:
        last = logits.ndim - 1
        # The last axis first, since it nearly always is; then each other, then the flattening of early ONNX.
        candidates = [
            (last,),
            *((axis,) for axis in range(1, last)),
            *(tuple(range(a, last + 1)) for a in range(1, last)),
        ]
        if logits.shape == probabilities.shape:
            for axes in candidates:
                difference = np.abs(np.exp(self._log(logits, axes)) - probabilities)
                # Loose enough for float16, and NaN is looked for later.
                if not np.any(difference > 1e-2):
                    return axes
        raise MethodNotSupported(
            "linearity on the scale EXACT_LOG_PROBABILITY",
            f"output {self._output!r} is not the {self._head.lower()} of its logits alone; measure LOG_PROBABILITY",
        )
