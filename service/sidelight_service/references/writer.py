"""Writes a set, chunk by chunk, into a staging folder."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import TensorSpec

from sidelight_service.errors import StorageFull, UploadIncomplete
from sidelight_service.references import files
from sidelight_service.references.arrays import Array, GrowingArray
from sidelight_service.references.checks import check_element_type, finite_range
from sidelight_service.references.digests import Part, digest_of
from sidelight_service.references.feature_ranges import FeatureRange
from sidelight_service.references.fit import Fit
from sidelight_service.references.header import HEADER_FILE, Header, InputInfo
from sidelight_service.references.labels import LabelWriter


@dataclass(frozen=True)
class Chunk:
    """Some consecutive examples.

    Attributes:
        inputs: input name -> array, axis 0 counts the examples.
        labels: of the same examples; None for none.
        fields: input name -> path of the array in the request, for errors.
        labels_field: the path of the labels in the request.
        field: the path of the chunk as a whole.
    """

    inputs: Mapping[str, Array]
    labels: Array | None
    fields: Mapping[str, str]
    labels_field: str = "chunk.labels"
    field: str = "chunk"


@dataclass
class _Input:
    name: str
    array: GrowingArray
    spec: TensorSpec | None
    minimum: float = field(default=float("inf"))
    maximum: float = field(default=float("-inf"))
    ranges: FeatureRange = field(default_factory=FeatureRange)
    range_bytes: int = 0


class SetWriter:
    """A set in the making. Its methods block; each waits for the one before, also from other threads.

    Attributes:
        name: of the set to be.
        folder: the staging folder.
        rows: how many examples were written.
    """

    def __init__(self, name: str, folder: Path, fit: Fit | None, announced: int) -> None:
        """Prepares; the folder is made with the first chunk.

        Args:
            name: of the set to be.
            folder: must not exist.
            fit: what the examples must fit; None for anything.
            announced: how many examples are to come; 0 if it is not known.
        """
        self.name = name
        self.folder = folder
        self.rows = 0
        self._fit = fit
        self._announced = announced
        self._inputs: dict[str, _Input] = {}
        self._labels: LabelWriter | None = None
        self._labels_field = ""
        self._working = threading.Lock()
        self._lock: int | None = None
        self._given_up = False

    def append(self, chunk: Chunk) -> None:
        """Checks and writes some examples.

        Raises:
            InvalidField: they are not like those before, do not fit the model, or hold what no set may hold.
            StorageFull: there is no space for them.
        """
        with self._working:
            self._check_going_on()
            rows = _length(chunk)
            needed = sum(array.nbytes for array in chunk.inputs.values())
            with files.full_disk_reported(self.folder.parent, needed):
                if not self._inputs:
                    self._begin(chunk, rows)
                self._check_alike(chunk)
                if self._announced and self.rows + rows > self._announced:
                    raise InvalidField(
                        "header.count", f"is {self._announced} and more examples arrive", "announce the true number"
                    )
                for name, array in chunk.inputs.items():
                    self._append_input(self._inputs[name], array, chunk.fields[name])
                if self._labels is not None and chunk.labels is not None:
                    self._labels.append(chunk.labels, self.rows, chunk.labels_field)
            self.rows += rows

    def finish(self) -> Header:
        """Completes the files and waits until they are on the disk; what the set is.

        Raises:
            UploadIncomplete: fewer examples than announced were written.
            InvalidField: there are no examples, or the labels do not go with the model.
            StorageFull: there is no space.
        """
        with self._working, files.full_disk_reported(self.folder.parent, self._size_bytes()):
            self._check_going_on()
            if self._announced and self.rows < self._announced:
                raise UploadIncomplete(
                    f"{self._announced} examples were announced and {self.rows} arrived; send the set again"
                )
            if not self.rows:
                raise InvalidField("chunk", "the set has no examples", "send at least one")
            return self._finish()

    def discard(self) -> None:
        """Removes what is left of the folder, once what another thread is writing has been written."""
        with self._working:
            self._given_up = True
            self._close()
            files.remove_folder(self.folder)

    def release(self) -> None:
        """Lets go of the folder, which has become a set."""
        with self._working:
            self._close()

    def _check_going_on(self) -> None:
        if self._given_up:
            raise UploadIncomplete("the upload was given up")

    def _begin(self, chunk: Chunk, rows: int) -> None:
        if self._lock is None:
            self._lock = files.make_folder(self.folder)
        names = list(chunk.inputs)
        row_bytes = 0
        for position, (name, array) in enumerate(chunk.inputs.items()):
            check_element_type(array, chunk.fields[name], "the examples")
            spec = None if self._fit is None else self._fit.spec(name, names, chunk.fields[name])
            grown = GrowingArray(self.folder / f"input_{position}.npy", array.dtype, array.shape[1:])
            self._inputs[name] = _Input(name, grown, spec)
            row_bytes += grown.row_bytes
        if chunk.labels is not None:
            check_element_type(chunk.labels, chunk.labels_field, "the labels")
            self._labels = LabelWriter(self.folder, chunk.labels, self._fit, chunk.labels_field)
            self._labels_field = chunk.labels_field
        # Better now than after hours of uploading.
        needed, free = row_bytes * max(self._announced, rows), files.free_bytes(self.folder)
        if needed > free:
            raise StorageFull(needed, free)

    def _check_alike(self, chunk: Chunk) -> None:
        if chunk.inputs.keys() != self._inputs.keys():
            raise InvalidField(
                f"{chunk.field}.inputs",
                f"are {sorted(chunk.inputs)} where those before were {sorted(self._inputs)}",
                "send the same inputs in every chunk",
            )
        for name, array in chunk.inputs.items():
            known = self._inputs[name].array
            if array.dtype.newbyteorder("<") != known.dtype or array.shape[1:] != known.shape:
                raise InvalidField(
                    chunk.fields[name],
                    f"holds examples of {array.dtype} {list(array.shape[1:])} where those before were "
                    f"{known.dtype.name} {list(known.shape)}",
                    "send the same type and shape in every chunk",
                )
        if (chunk.labels is None) != (self._labels is None):
            missing = "are missing here, and came" if chunk.labels is None else "are here, and were missing"
            raise InvalidField(chunk.labels_field, f"{missing} with earlier chunks", "send them in every chunk or none")

    def _append_input(self, target: _Input, array: Array, field_path: str) -> None:
        least, greatest = finite_range(array, self.rows, field_path, "the examples")
        if target.spec is not None and self._fit is not None:
            self._fit.check_rows(array, target.spec, field_path)
        target.minimum, target.maximum = min(target.minimum, least), max(target.maximum, greatest)
        target.ranges.widen(array)
        target.array.append(array)

    def _finish(self) -> Header:
        inputs, parts = [], []
        for item in self._inputs.values():
            array = item.array
            content = array.finish()
            dtype = array.dtype.name
            range_file = array.path.with_name(f"{array.path.stem}_range.npy")
            item.range_bytes = item.ranges.write(range_file, array.dtype)
            inputs.append(
                InputInfo(
                    name=item.name,
                    file=array.path.name,
                    dtype=dtype,
                    shape=array.shape,
                    minimum=item.minimum,
                    maximum=item.maximum,
                    range_file=range_file.name,
                )
            )
            parts.append(Part("input", item.name, dtype, (array.rows, *array.shape), content))
        labels = None
        if self._labels is not None:
            labels, part = self._labels.finish(self._labels_field)
            parts.append(part)
        header = Header(
            name=self.name,
            digest=digest_of(parts),
            count=self.rows,
            inputs=tuple(inputs),
            labels=labels,
            size_bytes=self._size_bytes(),
            created=datetime.now(UTC),
            class_counts={} if self._labels is None else dict(sorted(self._labels.class_counts.items())),
        )
        descriptor = files.create_file(self.folder / HEADER_FILE)
        try:
            files.write(descriptor, header.to_json())
            files.sync(descriptor)
        finally:
            os.close(descriptor)
        files.sync_folder(self.folder)
        return header

    def _size_bytes(self) -> int:
        labels = 0 if self._labels is None else self._labels.size_bytes
        return labels + sum(item.array.size_bytes + item.range_bytes for item in self._inputs.values())

    def _close(self) -> None:
        for item in self._inputs.values():
            item.array.close()
        if self._labels is not None:
            self._labels.close()
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.close(self._lock)
            self._lock = None


def _length(chunk: Chunk) -> int:
    """The number of examples in a chunk.

    Raises:
        InvalidField: it has none, or the arrays disagree.
    """
    if not chunk.inputs:
        raise InvalidField(f"{chunk.field}.inputs", "is empty", "give one tensor per input")
    rows = -1
    for name, array in chunk.inputs.items():
        field_path = chunk.fields[name]
        if array.ndim == 0 or array.size == 0:
            raise InvalidField(
                field_path, f"of shape {list(array.shape)} holds no example", "give examples along the first axis"
            )
        if rows not in (-1, len(array)):
            raise InvalidField(field_path, f"has {len(array)} examples where others have {rows}", "make them agree")
        rows = len(array)
    if chunk.labels is not None and (chunk.labels.ndim == 0 or len(chunk.labels) != rows):
        raise InvalidField(
            chunk.labels_field, f"of shape {list(chunk.labels.shape)} are not for {rows} examples", "give one for each"
        )
    return rows
