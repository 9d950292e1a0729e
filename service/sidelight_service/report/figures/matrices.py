"""Matrices: as tables of coloured cells where numbers can be read, as images where there are too many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight_service.report.figures.images import coloured_png
from sidelight_service.report.figures.macros import macro, number

_MOST_CELLS = 24
_ROW_PIXELS = 22
_LEAST_UNIT_PIXELS = 4
_MOST_WIDTH = 6000
_MOST_COLUMNS = 4096


def matrix(values: NDArray[np.float64], names: Sequence[str], *, title: str, scale: str, words: str) -> Markup:
    """Draws a square matrix from 0 to its greatest value.

    Args:
        values: (n, n), at least 0.
        names: of rows and columns.
        title: what it shows.
        scale: what pale and deep mean.
        words: its text alternative.
    """
    top = float(values.max(initial=0.0)) or 1.0
    if len(names) > _MOST_CELLS:
        return raster(values, names, words=words, low="0", high=number(top), columns=f"columns are {title}", top=top)
    rows = [
        {"name": name, "cells": [{"tone": round(value / top, 4), "text": _short(value)} for value in row.tolist()]}
        for name, row in zip(names, values, strict=True)
    ]
    return macro("matrix", rows, names, title, scale)


def raster(
    values: NDArray[np.float64],
    names: Sequence[str],
    *,
    words: str,
    low: str,
    high: str,
    columns: str,
    top: float = 1.0,
) -> Markup:
    """Draws a matrix as an image, a pixel per cell, a row per name.

    Args:
        values: (rows, columns), 0 to `top`.
        names: of the rows.
        words: its text alternative.
        low: what the dark end means.
        high: what the bright end means.
        columns: what the columns are.
        top: the bright end.
    """
    together = -(-values.shape[1] // _MOST_COLUMNS)
    if together > 1:
        edges = np.arange(0, values.shape[1], together)
        values = np.add.reduceat(values, edges, axis=1) / np.diff(np.append(edges, values.shape[1]))
        columns = f"{columns}, {together} of them together as their mean"
    pixels = _ROW_PIXELS if len(names) <= _MOST_CELLS else max(2, 500 // len(names))
    width = min(_MOST_WIDTH, values.shape[1] * _LEAST_UNIT_PIXELS)
    shown = names if pixels >= _ROW_PIXELS else [""] * len(names)
    return macro("raster", coloured_png(values / top), words, shown, pixels, low, high, columns, width)


def _short(value: float) -> str:
    return "0" if value == 0 else f"{value:.2f}".removeprefix("0") if value < 1 else f"{value:.1f}"
