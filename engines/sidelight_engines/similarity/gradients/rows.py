"""The gradients of a number of examples, in factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.gradients.layout import Layout

NO_CLASS = -1
"""Stands for the class of an example that has none."""


@dataclass(frozen=True)
class GradientRows:
    """The gradients of n examples. Arrays may be memory-mapped.

    Attributes:
        layout: what the fields hold.
        fields: per field, (n, width): float32 or float16 divided by the row's scale, or int32 for whole numbers.
            Examples of a batch may be wider than the layout says where positions are not fixed.
        scales: (n, fields) float32, what a row of a field is to be multiplied by.
        norms: (n, parameters) float64, the squared norm of the gradient by each parameter.
        labels: (n,) int64, the class an example is labelled with; NO_CLASS if none.
        predictions: (n,) int64, the class that the model predicts; NO_CLASS if none.
    """

    layout: Layout
    fields: tuple[Array, ...]
    scales: Array
    norms: Array
    labels: Array
    predictions: Array

    def __len__(self) -> int:
        return len(self.scales)

    def take(self, rows: Array | slice) -> GradientRows:
        """Some of the examples, by position."""
        return GradientRows(
            self.layout,
            tuple(field[rows] for field in self.fields),
            self.scales[rows],
            self.norms[rows],
            self.labels[rows],
            self.predictions[rows],
        )


def join_rows(parts: Sequence[GradientRows]) -> GradientRows:
    """Several groups of examples of one layout as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return GradientRows(
        first.layout,
        tuple(np.concatenate(fields) for fields in zip(*(part.fields for part in parts), strict=True)),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.norms for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.predictions for part in parts]),
    )


def layer_norms(rows: GradientRows) -> Array:
    """The squared norms by layer, (n, layers) float64."""
    layout = rows.layout
    sums = np.zeros((len(rows), len(layout.layers)))
    for parameter, layer in enumerate(layout.layer_of):
        sums[:, layer] += rows.norms[:, parameter]
    return sums
