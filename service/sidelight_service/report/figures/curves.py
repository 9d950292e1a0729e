"""Lines over one axis, with bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sidelight_service.report.figures.macros import macro, number

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 24, 44
_TICKS = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A line.

    Attributes:
        name: what it stands for.
        values: (points,), finite or NaN, where the line is broken.
        errors: (points,), half the height of its band; None for no band.
    """

    name: str
    values: Floats
    errors: Floats | None = None


def curves(places: Floats, lines: Sequence[Curve], *, x_name: str, y_name: str, words: str) -> Markup:
    """Draws lines over the same points.

    Args:
        places: (points,), ascending.
        lines: at least one.
        x_name: what the points are.
        y_name: what the values are.
        words: its text alternative.
    """
    low, high = _limits(lines)
    x = _LEFT + (places - places[0]) / max(float(places[-1] - places[0]), 1e-12) * (_WIDTH - _LEFT - _RIGHT)

    def y(values: Floats) -> Floats:
        return np.asarray(_TOP + (high - values) / (high - low) * (_HEIGHT - _TOP - _BOTTOM))

    ticks = _round_numbers(low, high)
    marks = np.linspace(places[0], places[-1], _TICKS)
    across = np.linspace(_LEFT, _WIDTH - _RIGHT, _TICKS)
    drawn = []
    for line in lines:
        band = ""
        if line.errors is not None:
            upper, lower = y(line.values + line.errors), y(line.values - line.errors)
            known = np.isfinite(upper)
            if known.any():
                edge = [
                    *zip(x[known], upper[known], strict=True),
                    *zip(x[known][::-1], lower[known][::-1], strict=True),
                ]
                band = _path(edge) + "Z"
        pieces = [
            _path(list(zip(x[part], y(line.values[part]), strict=True))) for part in _unbroken(np.isfinite(line.values))
        ]
        drawn.append({"name": line.name, "path": "".join(pieces), "band": band})
    return macro(
        "curves",
        drawn,
        _WIDTH,
        _HEIGHT,
        _LEFT,
        _BOTTOM,
        [{"at": round(float(at), 1), "text": number(float(value))} for at, value in zip(y(ticks), ticks, strict=True)],
        [{"at": round(float(at), 1), "text": number(float(value))} for at, value in zip(across, marks, strict=True)],
        x_name,
        y_name,
        words,
    )


def _round_numbers(low: float, high: float) -> Floats:
    """About five numbers within, at steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * next(times for times in (1, 2, 5, 10) if times * power >= rough * 0.999)
    return np.asarray(np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step)


def _limits(lines: Sequence[Curve]) -> tuple[float, float]:
    values = np.concatenate([line.values for line in lines])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = (high - low) * 0.05 or max(abs(high), 1.0) * 0.05
    return low - room, high + room


def _unbroken(known: NDArray[np.bool_]) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]])))
    return [slice(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f},{min(max(y, -1e4), 1e4):.1f}" for x, y in points)
