"""What the model says and what is so, as the metrics take them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sidelight_engines.errors import InvalidField
from sidelight_engines.influence.parameters import Metric, Rows
from sidelight_engines.runtime.runtime import Array

_THRESHOLD = 0.5
# Probabilities may be off by the rounding of a float32 softmax.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions and labels.

    Attributes:
        predictions: (examples, labels) float64.
        predicted: (examples,) int64, the class of each: the greatest, of a single output whether it is at least 0.5.
        classes: (examples,) int64, the true classes; empty if no metric needs them.
        targets: (examples, labels) float64; empty if no metric needs them.
        epsilon: the machine epsilon of the predictions' type.
    """

    predictions: Array
    predicted: Array
    classes: Array
    targets: Array
    epsilon: float

    @property
    def scored_classes(self) -> range:
        """The classes that precision and its like are averaged over: with one or two outputs class 1."""
        return range(1, 2) if self.predictions.shape[1] <= 2 else range(self.predictions.shape[1])

    @property
    def label_probability(self) -> Array:
        """(examples,), the probability that is given to the true class."""
        if self.predictions.shape[1] == 1:
            return np.where(self.classes == 1, self.predictions[:, 0], 1 - self.predictions[:, 0])
        return self.predictions[np.arange(len(self.classes)), self.classes]

    def scores(self, label: int) -> Array:
        """(examples,), how much each is taken for a class."""
        return self.predictions[:, 0 if self.predictions.shape[1] == 1 else label]


def read_predictions(given: Rows, count: int) -> Array:
    """Checks predictions.

    Args:
        given: (examples,) or (examples, labels).
        count: how many examples there are.

    Returns:
        (examples, labels) float64.

    Raises:
        InvalidField: they are not that, or not finite.
    """
    values = np.asarray(given.values)
    if values.dtype.kind not in "fiub" or values.ndim not in (1, 2) or 0 in values.shape[1:]:
        raise InvalidField(
            given.field,
            f"are {values.dtype} of shape {list(values.shape)}",
            "give [n] or [n, labels] numbers, one row for each example",
        )
    if len(values) != count:
        raise InvalidField(
            given.field, f"has {len(values)} rows where there are {count} examples", "give one for each example"
        )
    predictions = values.reshape(count, -1).astype(np.float64)
    finite = np.isfinite(predictions).all(axis=1)
    if not finite.all():
        raise InvalidField(
            given.field, f"holds NaN or infinity, first in row {int(np.argmin(finite))}", "give finite numbers"
        )
    return predictions


def check_labels(labels: Rows | None, metrics: tuple[Metric, ...], count: int) -> None:
    """Checks what can be said of labels without predictions.

    Raises:
        InvalidField: metrics need labels and there are none, or not one for each example.
    """
    if labels is None:
        if metrics:
            raise InvalidField(
                "parameters.labels", "is not set, and metrics need labels", "give them, or a reference set with labels"
            )
        return
    length = len(labels.values) if labels.values.ndim else 0
    if length != count:
        raise InvalidField(
            labels.field, f"has {length} rows where there are {count} examples", "give one for each example"
        )


def read_answers(given: Rows, labels: Rows | None, metrics: tuple[Metric, ...], count: int) -> Answers:
    """Checks predictions, and labels as far as metrics need them.

    Args:
        given: the predictions.
        labels: (examples,) class indices, one-hot rows, or targets of the predictions' shape.
        metrics: those asked for.
        count: how many examples there are.

    Raises:
        InvalidField: they are missing, do not go together, or are not what a metric is of.
    """
    predictions = read_predictions(given, count)
    width = predictions.shape[1]
    predicted = predictions.argmax(axis=1) if width > 1 else (predictions[:, 0] >= _THRESHOLD).astype(np.int64)
    kind = np.asarray(given.values).dtype
    epsilon = float(np.finfo(kind if kind.kind == "f" else np.float64).eps)
    classes, targets = np.empty(0, np.int64), np.empty((0, width))
    for place, metric in enumerate(metrics):
        if metric.of_probabilities and not ((predictions > -_ROUNDING) & (predictions < 1 + _ROUNDING)).all():
            raise InvalidField(
                f"parameters.metrics[{place}]",
                f"{metric.name} is of probabilities, and predictions lie outside 0 to 1",
                "ask for another metric, or give probabilities",
            )
    check_labels(labels, metrics, count)
    if labels is not None:
        if any(metric.of_classes for metric in metrics):
            classes = _read_classes(labels, max(2, width))
        if not all(metric.of_classes for metric in metrics):
            targets = _read_targets(labels, width)
    return Answers(predictions, predicted, classes, targets, epsilon)


def _read_classes(labels: Rows, count: int) -> Array:
    values = np.asarray(labels.values)
    if values.ndim == 2 and values.shape[1] == count and ((values == 0) | (values == 1)).all():
        if not (values.sum(axis=1) == 1).all():
            raise InvalidField(
                labels.field, "has rows that are not one-hot", "give one 1 in each row, or class indices"
            )
        return np.asarray(values.argmax(axis=1), np.int64)
    if values.ndim == 0 or values.size != len(values) or values.dtype.kind not in "fiub":
        raise InvalidField(
            labels.field,
            f"are {values.dtype} of shape {list(values.shape)} where metrics need classes",
            f"give [n] class indices from 0 to {count - 1}, or [n, {count}] one-hot rows",
        )
    flat = values.reshape(-1)
    wrong = ~((flat >= 0) & (flat < count) & (flat == np.floor(flat)))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InvalidField(labels.field, f"holds {flat[row]} in row {row}", f"give class indices from 0 to {count - 1}")
    return flat.astype(np.int64)


def _read_targets(labels: Rows, width: int) -> Array:
    values = np.asarray(labels.values)
    if values.dtype.kind not in "fiub" or values.size != len(values) * width:
        raise InvalidField(
            labels.field,
            f"are {values.dtype} of shape {list(values.shape)} where errors need a target for each prediction",
            f"give [n, {width}] targets" if width > 1 else "give [n] targets",
        )
    targets = values.reshape(len(values), width).astype(np.float64)
    finite = np.isfinite(targets).all(axis=1)
    if not finite.all():
        raise InvalidField(
            labels.field, f"holds NaN or infinity, first in row {int(np.argmin(finite))}", "give finite numbers"
        )
    return targets


def read_groups(groups: Rows, count: int, most: int) -> tuple[Array, tuple[Array, ...]]:
    """Checks groups.

    Args:
        groups: (examples,) whole numbers.
        count: how many examples there are.
        most: groups that may be.

    Returns:
        The groups, ascending int64; and for each the examples of it, bool.

    Raises:
        InvalidField: they are not that.
    """
    values = np.asarray(groups.values)
    if values.shape not in ((count,), (count, 1)) or values.dtype.kind not in "fiub":
        raise InvalidField(
            groups.field,
            f"are {values.dtype} of shape {list(values.shape)} where there are {count} examples",
            "give a whole number for each example",
        )
    flat = values.reshape(-1)
    if flat.dtype.kind == "f" and not (np.isfinite(flat) & (flat == np.floor(flat))).all():
        raise InvalidField(groups.field, "are not whole numbers", "number the groups")
    found = np.unique(flat.astype(np.int64))
    if len(found) > most:
        raise InvalidField(groups.field, f"are {len(found)} different ones", f"give at most {most}")
    return found, tuple(flat.astype(np.int64) == group for group in found)
