"""Labels as a loss wants them, and classes as a reader does."""

from __future__ import annotations

import numpy as np

from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import Graph, TensorSpec
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.gradients.rows import NO_CLASS
from sidelight_engines.similarity.parameters import Labels, Loss

_HEAD_LOSSES = {"Softmax": Loss.CATEGORICAL_CROSS_ENTROPY, "Sigmoid": Loss.BINARY_CROSS_ENTROPY}


def resolve_output(model: Graph, name: str) -> TensorSpec:
    """The output that a loss reads.

    Raises:
        InvalidField: the model has no output of that name.
    """
    if not name:
        return model.outputs[0]
    for spec in model.outputs:
        if spec.name == name:
            return spec
    known = ", ".join(repr(spec.name) for spec in model.outputs)
    raise InvalidField("parameters.output", f"the model has no output {name!r}", f"name one of {known}")


def resolve_loss(model: Graph, output: TensorSpec, loss: Loss) -> Loss:
    """The loss, by the output's head if none is named."""
    if loss is not Loss.BY_GRAPH:
        return loss
    return _HEAD_LOSSES.get(model.head_ops.get(output.name, ""), Loss.SQUARED_ERROR)


def predicted_classes(loss: Loss, output: Array) -> Array:
    """The class that an output tells, (n,) int64; NO_CLASS where it tells none.

    Args:
        loss: resolved.
        output: (n, ...).
    """
    rows = len(output)
    if output.ndim == 2 and (loss.categorical or (loss.binary and output.shape[1] > 1)):
        return np.asarray(output.argmax(axis=1), np.int64)
    if loss.binary and output.size == rows:
        threshold = 0.0 if loss is Loss.BINARY_CROSS_ENTROPY_FROM_LOGITS else 0.5
        return (output.reshape(rows) >= threshold).astype(np.int64)
    return np.full(rows, NO_CLASS, np.int64)


def label_classes(loss: Loss, labels: Array) -> Array:
    """The class that each label names, (n,) int64; NO_CLASS where it names none."""
    if not (loss.categorical or loss.binary):
        return np.full(len(labels), NO_CLASS, np.int64)
    if labels.ndim == 1 or labels.size == len(labels):
        return labels.reshape(len(labels)).astype(np.int64)
    if labels.ndim == 2:
        return np.asarray(labels.argmax(axis=1), np.int64)
    return np.full(len(labels), NO_CLASS, np.int64)


def make_targets(loss: Loss, labels: Labels, shape: tuple[int | None, ...], first: int = 0) -> Array:
    """Labels in the output's shape.

    Args:
        loss: resolved.
        labels: for n examples.
        shape: of the output; axis 0 is the batch.
        first: the position of the first of them in a longer list, for errors.

    Returns:
        (n, ...) float32.

    Raises:
        InvalidField: they do not go with the output.
    """
    values = np.asarray(labels.values)
    if values.dtype.kind not in "fiub" or values.ndim == 0:
        raise InvalidField(labels.field, f"are {values.dtype} of shape {values.shape}", "give numbers, one row each")
    last = shape[-1] if len(shape) > 1 else 1
    # Whole numbers are classes also where the loss is not of classes: a squared error of probabilities, say.
    are_classes = loss.categorical or (values.dtype.kind in "iu" and last is not None and last > 1)
    if are_classes and values.ndim == len(shape) - 1:
        return _one_hot(labels.field, values, last, first)
    targets = values.astype(np.float32)
    if targets.ndim == len(shape) - 1 and last == 1:
        targets = targets[..., None]
    wanted = tuple("any" if length is None else length for length in shape[1:])
    fits = targets.ndim == len(shape) and all(
        length is None or length == given for length, given in zip(shape[1:], targets.shape[1:], strict=True)
    )
    if not fits:
        kinds = "class indices, one-hot rows" if loss.categorical else "targets"
        raise InvalidField(
            labels.field,
            f"have shape {values.shape}, but the output is shaped {wanted} for each example",
            f"give {kinds} to go with it",
        )
    finite = np.isfinite(targets.reshape(len(targets), -1)).all(axis=1)
    if not finite.all():
        raise InvalidField(
            labels.field, f"hold NaN or infinity, first in row {first + int(np.argmin(finite))}", "give numbers"
        )
    if loss.binary or loss.categorical:
        outside = ((targets < 0) | (targets > 1)).reshape(len(targets), -1).any(axis=1)
        if outside.any():
            row = first + int(np.argmax(outside))
            raise InvalidField(labels.field, f"are not between 0 and 1, first in row {row}", "give shares of classes")
    return targets


def _one_hot(field: str, values: Array, classes: int | None, first: int) -> Array:
    if classes is None:
        raise InvalidField(field, "are class indices, but the model does not tell its classes", "give one-hot rows")
    flat = values.reshape(-1)
    wrong = (flat < 0) | (flat >= classes) | (flat != np.floor(flat))
    if wrong.any():
        row = first + int(np.argmax(wrong)) // max(1, flat.size // len(values))
        raise InvalidField(
            field, f"hold {flat[int(np.argmax(wrong))]} in row {row}", f"give class indices from 0 to {classes - 1}"
        )
    hot = np.zeros((flat.size, classes), np.float32)
    hot[np.arange(flat.size), flat.astype(np.int64)] = 1
    return hot.reshape(*values.shape, classes)
