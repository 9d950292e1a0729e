"""What a reference set says of itself: `header.json`, and the rules for names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sidelight_engines.errors import InvalidField

HEADER_FILE = "header.json"
_FORMAT = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class LabelKind(StrEnum):
    """What labels are."""

    CLASSES = "classes"
    """One class index per example, int64."""
    TARGETS = "targets"
    """Floating-point numbers, for regression."""


@dataclass(frozen=True)
class InputInfo:
    """One input of the examples.

    Attributes:
        name: of the model input that it feeds; empty where there is one input.
        file: the file in the folder of the set.
        dtype: a NumPy type name.
        shape: of one example.
        minimum: the least value over all examples and features.
        maximum: the greatest.
        range_file: the file with both of each feature; see `feature_ranges`.
    """

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    range_file: str


@dataclass(frozen=True)
class LabelInfo:
    """The labels of the examples.

    Attributes:
        kind: what they are.
        file: the file in the folder of the set.
        dtype: a NumPy type name.
        shape: of the label of one example; empty for classes.
    """

    kind: LabelKind
    file: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """A reference set.

    Attributes:
        name: what callers call it.
        digest: ``sha256:`` and 64 hexadecimal digits, over inputs and labels; see `digests`.
        count: the number of examples.
        inputs: at least one.
        labels: None without labels.
        class_counts: class -> number of examples, by class; empty unless labels are classes.
        size_bytes: of the arrays on disk.
        created: when, with a time zone.
    """

    name: str
    digest: str
    count: int
    inputs: tuple[InputInfo, ...]
    labels: LabelInfo | None
    size_bytes: int
    created: datetime
    class_counts: Mapping[int, int] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The header as it is stored."""
        plain = asdict(self) | {"format": _FORMAT, "created": self.created.isoformat()}
        return json.dumps(plain, indent=1, allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Header:
        """Reads a stored header.

        Raises:
            ValueError: it is not one.
        """
        try:
            plain: dict[str, Any] = json.loads(data)
            if plain.pop("format") != _FORMAT:
                raise ValueError("it was written by a newer server")
            labels = plain.pop("labels")
            return cls(
                inputs=tuple(InputInfo(**(i | {"shape": tuple(i["shape"])})) for i in plain.pop("inputs")),
                labels=None
                if labels is None
                else LabelInfo(**(labels | {"kind": LabelKind(labels["kind"]), "shape": tuple(labels["shape"])})),
                class_counts={int(label): count for label, count in plain.pop("class_counts").items()},
                created=datetime.fromisoformat(plain.pop("created")),
                **plain,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{HEADER_FILE} is not the header of a reference set ({error})") from error


def read_header(folder: Path) -> Header:
    """Reads the header of a set's folder.

    Raises:
        ValueError: it is not one, or is another set's.
        OSError: it can not be read.
    """
    header = Header.from_json((folder / HEADER_FILE).read_bytes())
    if header.name != folder.name:
        raise ValueError(f"{HEADER_FILE} is that of {header.name!r}")
    return header


def check_name(name: str, field_path: str) -> None:
    """Checks that a set may have a name.

    Raises:
        InvalidField: it may not.
    """
    if not _NAME.fullmatch(name):
        raise InvalidField(
            field_path,
            f"{name!r} is not a name",
            "give 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit",
        )
