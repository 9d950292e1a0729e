"""What a page is made of, before it is written as HTML."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from markupsafe import Markup

Cell = str | int | float | None


MOST_ROWS = 50_000
"""Of one figure: a page is to stay small enough to open on a phone."""


@dataclass(frozen=True)
class Data:
    """The numbers of a figure.

    Attributes:
        columns: their names.
        rows: of as many cells; the first `MOST_ROWS` of them.
        total: how many rows there would be.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    total: int

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[Sequence[Cell]], total: int | None = None) -> Self:
        """The numbers of a figure.

        Args:
            columns: their names.
            rows: any number; no more than fit are made.
            total: how many there are; may be left out where they are counted easily.
        """
        first = list(itertools.islice(rows, MOST_ROWS + 1))
        return cls(columns, first[:MOST_ROWS], len(first) if total is None else total)

    @property
    def cut(self) -> str:
        """What of the rows there is, in words; empty if all."""
        if self.total <= len(self.rows):
            return ""
        return f"the first {len(self.rows):,} of {self.total:,} rows; the family's own command writes all with --out"

    def as_csv(self) -> str:
        """The same as comma-separated values (RFC 4180), numbers in full."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\r\n")
        lines.writerow(self.columns)
        lines.writerows([["" if cell is None else _guarded(cell) for cell in row] for row in self.rows])
        return text.getvalue()


def _guarded(cell: Cell) -> Cell:
    # Spreadsheets run what begins so; names of layers come from model files.
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t")) else cell


@dataclass(frozen=True)
class Figure:
    """A figure of a section.

    Attributes:
        title: what it shows.
        body: the drawing, as HTML.
        words: what it shows, in words: its text alternative.
        data: its numbers.
    """

    title: str
    body: Markup
    words: str
    data: Data

    @cached_property
    def file_name(self) -> str:
        """What its numbers are called when they are downloaded."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") + ".csv"

    @cached_property
    def download(self) -> str:
        """Its numbers as a link target."""
        encoded = base64.b64encode(("\ufeff" + self.data.as_csv()).encode()).decode()
        return f"data:text/csv;charset=utf-8;base64,{encoded}"


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
        id: of its heading, for links.
        title: its heading.
        question: what it answers.
        reading: one plain sentence on how to read it.
        figures: in order.
        settings: (name, value), what was asked for and what the server used.
        trust: how far to trust it, a sentence each.
        unavailable: why there is nothing to show; empty where there is.
        remedy: what would make it available; may be empty.
    """

    id: str
    title: str
    question: str
    reading: str
    figures: Sequence[Figure] = ()
    settings: Sequence[tuple[str, str]] = ()
    trust: Sequence[str] = ()
    unavailable: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: of the page.
        subtitle: what was explained, by what.
        made: when, for people.
        sections: in order.
        notes: what a reader should know of the whole.
    """

    title: str
    subtitle: str
    made: str
    sections: Sequence[Section]
    notes: Sequence[str] = field(default_factory=tuple)
