"""What a family of explanations is to a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sidelight_service.report.page import Section
from sidelight_service.report.subject import Subject

if TYPE_CHECKING:
    from sidelight import Provenance


@dataclass(frozen=True)
class Family:
    """A family of explanations.

    Attributes:
        method: its name in the support that a model has for methods.
        id: of its section.
        title: of its section.
        question: what it answers.
        reading: how to read it, in one sentence.
        fill: makes the section from one that has all of these.
    """

    method: str
    id: str
    title: str
    question: str
    reading: str
    fill: Callable[[Subject, Section], Section]

    def _empty(self) -> Section:
        return Section(self.id, self.title, self.question, self.reading)

    def explain(self, subject: Subject) -> Section:
        """The section.

        Raises:
            SidelightError: the server refused.
        """
        return self.fill(subject, self._empty())

    def missing(self, reason: str) -> Section:
        """The section where there is nothing to show."""
        return replace(self._empty(), unavailable=reason)


def cost(provenances: Sequence[Provenance]) -> list[tuple[str, str]]:
    """The settings that every family has: what evaluated the model, and what it took."""
    seconds = sum(provenance.compute_seconds for provenance in provenances)
    rows = sum(provenance.forward_rows for provenance in provenances)
    return [
        ("evaluated by", provenances[0].runtime),
        ("took", f"{seconds:.2f} s of computing, {rows:,} rows through the model"),
    ]


def warnings(provenances: Sequence[Provenance]) -> list[str]:
    """What the server said, each once."""
    said = {warning.message: warning.code for provenance in provenances for warning in provenance.warnings}
    return [f"{code}: {message}." for message, code in said.items()]
