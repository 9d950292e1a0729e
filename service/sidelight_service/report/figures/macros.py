"""The macros of the figure templates."""

from __future__ import annotations

from functools import cache
from typing import Any

from markupsafe import Markup

from sidelight_service.report.rendering import environment


@cache
def _module() -> Any:
    return environment().get_template("figures.html.j2").module


def macro(name: str, *values: Any) -> Markup:
    """Calls a macro; what it writes is escaped."""
    return Markup(getattr(_module(), name)(*values))  # noqa: S704 - a template's own output


def percent(value: float, top: float) -> float:
    """A length as a share of the scale, in percent, at most 100."""
    return round(min(100.0, max(0.0, 100 * value / top)), 3) if top > 0 else 0.0


def number(value: float) -> str:
    """Three significant digits."""
    if value == 0:
        return "0"
    return f"{value:.3g}"
