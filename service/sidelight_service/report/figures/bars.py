"""Bars and boxes, one line each, that keep to the width of a phone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight_service.report.figures.macros import macro, number, percent


@dataclass(frozen=True)
class Bar:
    """A bar.

    Attributes:
        name: what it stands for.
        value: its length, at least 0.
        low: lower end of its whisker; None for no whisker.
        high: upper end.
        note: behind its number.
        accent: whether it stands out.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    accent: bool = False


def bars(rows: Sequence[Bar], unit: str, write: Callable[[float], str] = number) -> Markup:
    """Draws bars from 0 on one scale.

    Args:
        rows: the bars.
        unit: what their lengths are.
        write: writes a length.
    """
    top = max([row.value for row in rows] + [row.high for row in rows if row.high is not None] + [0.0])
    drawn = [
        {
            "name": row.name,
            "width": percent(row.value, top),
            "low": None if row.low is None or row.high is None else percent(row.low, top),
            "high": None if row.low is None or row.high is None else percent(row.high, top),
            "text": write(row.value),
            "note": row.note,
            "accent": row.accent,
        }
        for row in rows
    ]
    return macro("bars", drawn, unit)


def boxes(groups: Sequence[tuple[str, NDArray[np.float64]]], unit: str) -> Markup:
    """Draws the distribution of each group on one scale: least, quartiles, greatest."""
    top = max(float(values.max()) for _, values in groups)
    drawn = []
    for name, values in groups:
        least, low, median, high, most = (float(q) for q in np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))
        shares = {"least": least, "low": low, "median": median, "high": high, "most": most}
        drawn.append(
            {"name": name, "text": number(median)} | {part: percent(value, top) for part, value in shares.items()}
        )
    return macro("boxes", drawn, unit)
