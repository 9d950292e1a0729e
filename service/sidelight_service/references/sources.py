"""Examples from files below the import directory, read in blocks: no file is held in memory whole, or mapped."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from sidelight_engines.errors import InvalidField

from sidelight_service.references.arrays import Array
from sidelight_service.references.writer import Chunk

NO_LABELS = "-"
_DEFAULT_INPUTS = "x"
_DEFAULT_LABELS = "y"
_BLOCK_BYTES = 8 << 20
_INPUTS_FIELD = "inputs_key"
_LABELS_FIELD = "labels_key"


@dataclass(frozen=True)
class Order:
    """What to read.

    Attributes:
        directory: the import directory.
        path: of the file, relative to it.
        inputs_key: which array or column holds the examples; empty for the default.
        labels_key: which holds the labels, `NO_LABELS` for none, empty for the default; for `.npy` a second file.
    """

    directory: Path
    path: str
    inputs_key: str
    labels_key: str


def read_examples(order: Order) -> Generator[Chunk, None, None]:
    """Reads the examples of a file, a block at a time.

    Raises:
        InvalidField: there is no such file or array, or it can not be read as examples.
        NotAvailable: what reads the format is not installed.
    """
    path = resolve(order.directory, order.path, "path")
    if path.suffix == ".npz":
        return _read_npz(path, order)
    if path.suffix == ".npy":
        return _read_npy(path, order)
    if path.suffix == ".parquet":
        from sidelight_service.references.parquet import read_parquet

        labels = order.labels_key or _DEFAULT_LABELS
        return read_parquet(
            path,
            order.inputs_key or _DEFAULT_INPUTS,
            None if labels == NO_LABELS else labels,
            labels_required=bool(order.labels_key),
        )
    raise InvalidField("path", f"{order.path!r} is of no known kind", "name a .npz, .npy or .parquet file")


def resolve(directory: Path, relative: str, field: str) -> Path:
    """The file of that name below a directory, whatever links lie between.

    Raises:
        InvalidField: there is none, or it lies elsewhere.
    """
    root = directory.resolve()
    try:
        path = (root / relative).resolve()
        inside = path.is_relative_to(root) and not Path(relative).is_absolute()
        if inside and relative and path.is_file():
            return path
    except (ValueError, OSError):  # a NUL in the name, a loop of links, a name too long
        inside = True
    if not inside:
        raise InvalidField(field, f"{relative!r} lies outside the import directory", "name a file inside it")
    raise InvalidField(field, f"there is no file {relative!r} in the import directory", "give the path of a file")


def _read_npz(path: Path, order: Order) -> Generator[Chunk, None, None]:
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except (zipfile.BadZipFile, OSError) as error:
            raise _unreadable(order.path, "path", error) from error
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        inputs = order.inputs_key or _DEFAULT_INPUTS
        labels: str | None = order.labels_key or (_DEFAULT_LABELS if _DEFAULT_LABELS in names else NO_LABELS)
        if labels == NO_LABELS:
            labels = None

        def opened(key: str, field: str) -> _Stream:
            if key not in names:
                raise InvalidField(
                    field, f"{order.path!r} has no array {key!r}", f"it has {', '.join(names) or 'none'}"
                )
            return _Stream(stack.enter_context(archive.open(f"{key}.npy")), f"array {key!r} of {order.path!r}", field)

        yield from _blocks(opened(inputs, _INPUTS_FIELD), None if labels is None else opened(labels, _LABELS_FIELD))


def _read_npy(path: Path, order: Order) -> Generator[Chunk, None, None]:
    if order.inputs_key:
        raise InvalidField(_INPUTS_FIELD, "is given, and a .npy file holds a single array", "leave it out")
    with contextlib.ExitStack() as stack:
        inputs = _Stream(stack.enter_context(path.open("rb")), repr(order.path), "path")
        labels = None
        if order.labels_key not in ("", NO_LABELS):
            beside = resolve(order.directory, order.labels_key, _LABELS_FIELD)
            labels = _Stream(stack.enter_context(beside.open("rb")), repr(order.labels_key), _LABELS_FIELD)
        yield from _blocks(inputs, labels)


class _Stream:
    """A `.npy` file as a stream of rows."""

    def __init__(self, stream: IO[bytes], what: str, field: str) -> None:
        self.field = field
        self._stream = stream
        self._what = what
        try:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_column, self._dtype = read(stream)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise _unreadable(what, field, error) from error
        if self._dtype.hasobject:
            raise InvalidField(field, f"{what} holds Python objects", "save arrays of numbers")
        if by_column and len(shape) > 1:
            raise InvalidField(
                field, f"{what} is stored column by column", "save it as numpy.ascontiguousarray of itself"
            )
        if not shape or 0 in shape:
            raise InvalidField(field, f"{what} of shape {list(shape)} holds no row", "give at least one row")
        self.rows, self._row_shape = shape[0], shape[1:]

    @property
    def row_bytes(self) -> int:
        """What a row takes."""
        return int(np.prod(self._row_shape, dtype=np.int64)) * self._dtype.itemsize

    def read(self, rows: int) -> Array:
        """Reads the next rows."""
        needed = rows * self.row_bytes
        try:
            data = self._stream.read(needed)
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            raise _unreadable(self._what, self.field, error) from error
        if len(data) < needed:
            raise InvalidField(self.field, f"{self._what} ends before its last row", "copy the file again")
        array: Array = np.frombuffer(data, self._dtype).reshape(rows, *self._row_shape)
        return array.astype(self._dtype.newbyteorder("="), copy=False)


def _blocks(inputs: _Stream, labels: _Stream | None) -> Generator[Chunk, None, None]:
    if labels is not None and labels.rows != inputs.rows:
        raise InvalidField(
            labels.field, f"there are {labels.rows} labels for {inputs.rows} examples", "give one for each"
        )
    size = max(1, _BLOCK_BYTES // max(1, inputs.row_bytes + (labels.row_bytes if labels else 0)))
    for first in range(0, inputs.rows, size):
        rows = min(size, inputs.rows - first)
        yield Chunk(
            {"": inputs.read(rows)},
            None if labels is None else labels.read(rows),
            {"": inputs.field},
            labels_field=_LABELS_FIELD if labels is None else labels.field,
            field="path",
        )


def _unreadable(what: str, field: str, error: Any) -> InvalidField:
    return InvalidField(field, f"{what} can not be read ({error})", "check the file, and copy it again")
