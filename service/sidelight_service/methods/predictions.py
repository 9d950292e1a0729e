"""The classes that a model predicts for examples of a reference set."""

from __future__ import annotations

import math

import numpy as np
from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, NonFiniteOutput
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
    inputs = examples.inputs(graph.inputs)
    row_bytes = sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in inputs.values())
    rows = max(1, min(_MOST_ROWS, chunk_bytes // max(1, row_bytes * _ACTIVATIONS_PER_INPUT)))
    forward = model.runtime().forward([output.tensor])
    classes = np.empty(len(examples), np.int64)
    for first in range(0, len(examples), rows):
        control.checkpoint()
        part = {name: array[first : first + rows] for name, array in inputs.items()}
        count = len(next(iter(part.values())))
        (values,) = forward(part)
        if values.ndim == 1:
            values = values.reshape(-1, 1)
        single = values.ndim == 2 and values.shape[1] == 1
        if values.ndim != 2 or len(values) != count or (single and output.name not in graph.head_ops):
            raise InvalidField(
                field,
                f"output {output.name!r} of shape {list(values.shape)} does not tell classes",
                "filter by the labels of the set, or by indices",
            )
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise NonFiniteOutput(output.name, int(examples.positions[first + int(np.argmin(finite))]))
        classes[first : first + count] = values[:, 0] >= 0.5 if single else values.argmax(axis=1)
    return classes
