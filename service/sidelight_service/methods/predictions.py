"""What a model predicts for many examples, in passes of bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, MemoryLimitExceeded, NonFiniteOutput
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.model import Model

from sidelight_service.references.arrays import Array
from sidelight_service.references.selecting import SelectedExamples

# More rows per pass make small models no faster and large ones hungry.
_MOST_ROWS = 128
_ACTIVATIONS_PER_INPUT = 16
"""How much more than its input a row is taken to need on its way through the model."""


def predicted_classes(
    model: Model, examples: SelectedExamples, field: str, control: Control, chunk_bytes: int
) -> Array:
    """Evaluates the default output of a model and takes the class of each example.

    Args:
        model: the model.
        examples: at least one.
        field: the path of what asks for it in the request, for errors.
        control: asked for a stop before every forward pass.
        chunk_bytes: about what one forward pass may take.

    Returns:
        int64, (examples,): the position of the greatest output; for a single output, whether it is at least 0.5.

    Raises:
        InvalidField: the set does not fit the model, or the output is no list of classes.
        NonFiniteOutput: the model gave NaN or infinity.
        Stopped: `control` asked for it.
    """
    graph = model.graph
    output = graph.outputs[0]
    classes = np.empty(len(examples), np.int64)
    for first, count, values in _passes(model, output, examples.inputs(graph.inputs), control, chunk_bytes):
        if values.ndim == 1:
            values = values.reshape(-1, 1)
        single = values.ndim == 2 and values.shape[1] == 1
        if values.ndim != 2 or len(values) != count or (single and output.name not in graph.head_ops):
            raise InvalidField(
                field,
                f"output {output.name!r} of shape {list(values.shape)} does not tell classes",
                "filter by the labels of the set, or by indices",
            )
        _require_finite(values, output.name, examples.positions[first : first + count])
        classes[first : first + count] = values[:, 0] >= 0.5 if single else values.argmax(axis=1)
    return classes


def predicted_outputs(
    model: Model, inputs: Mapping[str, Array], output: TensorSpec, control: Control, chunk_bytes: int, limit_bytes: int
) -> Array:
    """Evaluates an output of a model.

    Args:
        model: the model.
        inputs: input name -> (examples, ...), in the inputs' types, at least one example.
        output: which.
        control: asked for a stop before every forward pass.
        chunk_bytes: about what one forward pass may take.
        limit_bytes: what all predictions may take.

    Returns:
        (examples,) or (examples, labels), as the model gives them.

    Raises:
        InvalidField: the output has other axes than these.
        MemoryLimitExceeded: the predictions would take more than the limit.
        NonFiniteOutput: the model gave NaN or infinity.
        Stopped: `control` asked for it.
    """
    total = len(next(iter(inputs.values())))
    found: list[Array] = []
    for first, count, values in _passes(model, output, inputs, control, chunk_bytes):
        if values.ndim not in (1, 2) or len(values) != count:
            raise InvalidField(
                "parameters.output",
                f"output {output.name!r} has shape {list(values.shape)} for {count} examples",
                "name one of shape [n] or [n, labels], or give predictions",
            )
        _require_finite(values, output.name, np.arange(first, first + count))
        if not found:
            needed = total * values.nbytes // count
            if needed > limit_bytes:
                raise MemoryLimitExceeded(needed, limit_bytes, "give fewer examples, or an output of fewer labels")
        found.append(values)
    return np.concatenate(found)


def _passes(
    model: Model, output: TensorSpec, inputs: Mapping[str, Array], control: Control, chunk_bytes: int
) -> Iterator[tuple[int, int, Array]]:
    """The position of the first of consecutive rows, how many they are, and the output's values for them."""
    row_bytes = sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in inputs.values())
    rows = max(1, min(_MOST_ROWS, chunk_bytes // max(1, row_bytes * _ACTIVATIONS_PER_INPUT)))
    forward = model.runtime().forward([output.tensor])
    for first in range(0, len(next(iter(inputs.values()))), rows):
        control.checkpoint()
        part = {name: array[first : first + rows] for name, array in inputs.items()}
        (values,) = forward(part)
        yield first, len(next(iter(part.values()))), values


def _require_finite(values: Array, output: str, positions: Array) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        raise NonFiniteOutput(output, int(positions[int(np.argmin(finite))]))
