"""A set as a worker sees it: memory-mapped, read-only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidelight_service.errors import ReferenceNotFound
from sidelight_service.references.arrays import Array, map_array
from sidelight_service.references.header import Header, LabelKind, read_header
from sidelight_service.references.store import Location


@dataclass(frozen=True, eq=False)
class OpenedSet:
    """A reference set.

    Attributes:
        header: what it is.
        inputs: input name -> (examples, ...); the name is empty where there is one input.
        labels: int64 (examples,) for classes, floating-point (examples, ...) for targets; None without labels.
    """

    header: Header
    inputs: dict[str, Array]
    labels: Array | None

    @property
    def classes(self) -> Array | None:
        """The class of each example, int64; None if the set does not have them."""
        info = self.header.labels
        return self.labels if info is not None and info.kind is LabelKind.CLASSES else None


def open_set(location: Location) -> OpenedSet:
    """Maps a set into memory.

    Raises:
        ReferenceNotFound: it is gone, is another one now, or its files are damaged.
    """
    folder = Path(location.path)
    try:
        header = read_header(folder)
        inputs = {
            item.name: map_array(folder / item.file, item.dtype, (header.count, *item.shape)) for item in header.inputs
        }
        labels = None
        if header.labels is not None:
            labels = map_array(folder / header.labels.file, header.labels.dtype, (header.count, *header.labels.shape))
    except FileNotFoundError as error:
        raise ReferenceNotFound(folder.name, f"reference set {folder.name!r} was deleted meanwhile") from error
    except (OSError, ValueError) as error:
        raise ReferenceNotFound(
            folder.name, f"reference set {folder.name!r} is damaged ({error}); delete it and create it again"
        ) from error
    if header.digest != location.digest:
        raise ReferenceNotFound(
            folder.name, f"reference set {folder.name!r} was replaced meanwhile: its digest is {header.digest} now"
        )
    return OpenedSet(header, inputs, labels)
