"""Writes the files of an index so that a crash at any point leaves what can be gone on with.

A chunk of rows is written to every file and flushed to the disk before the journal, replaced as a whole, tells
of it. What lies behind the last row that the journal tells of is cut off when writing goes on. Files are written
through the file system rather than through memory maps: on a full disk a write fails, where a map would kill the
process.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sidelight_engines.errors import IndexDamaged
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.index.header import HEADER, FileForm, IndexHeader, header_to_json, read_header

JOURNAL = "journal.json"


def write_durably(path: Path, content: dict[str, Any]) -> None:
    """Replaces a JSON file so that it holds either its old content or the new, whatever happens."""
    beside = path.with_name(f"{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class IndexWriter:
    """Writes an index chunk by chunk.

    Args:
        folder: where it grows; made if it is not there. What it holds of the same index is gone on with.
        header: without checksums; its layout is replaced by that of what is gone on with.

    Attributes:
        header: with the checksums of the chunks so far.
        rows: the rows written so far.
    """

    def __init__(self, folder: Path, header: IndexHeader) -> None:
        self._folder = folder
        self.header = header
        self.rows = 0
        journal = folder / JOURNAL
        if journal.exists():
            try:
                found = read_header(journal)
                if found.is_for_the_same(header):
                    self.header = found
                    chunks = min((len(sums) for sums in found.checksums.values()), default=0)
                    self.rows = min(chunks * header.chunk_rows, header.count)
            except IndexDamaged:
                self.rows = 0
        if self.rows == 0:
            _clear(folder)
            folder.mkdir(parents=True, exist_ok=True)
            self.header = replace(header, checksums={form.name: () for form in header.files})
        self._files = {form.name: self._open(form) for form in self.header.files}
        write_durably(journal, header_to_json(self.header))

    def _open(self, form: FileForm) -> Any:
        path = self._folder / form.name
        file = path.open("r+b" if path.exists() else "w+b")
        start = _npy_header(file, form, self.header.count)
        file.truncate(start + self.rows * form.row_bytes)
        file.seek(0, os.SEEK_END)
        return file

    def write(self, arrays: list[Array]) -> None:
        """Writes the next chunk: `chunk_rows` rows for every file, fewer at the end, in the order of the files.

        Raises:
            OSError: the disk is full, or broken.
        """
        sums = dict(self.header.checksums)
        for form, array in zip(self.header.files, arrays, strict=True):
            data = np.ascontiguousarray(array, dtype=form.dtype)
            file = self._files[form.name]
            content = data.tobytes()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            sums[form.name] = (*sums[form.name], zlib.crc32(content))
        self.header = replace(self.header, checksums=sums)
        write_durably(self._folder / JOURNAL, header_to_json(self.header))
        self.rows = min(self.rows + self.header.chunk_rows, self.header.count)

    def finish(self, final: Path) -> None:
        """Gives the complete index its place; an index that is there makes room."""
        self.close()
        write_durably(self._folder / HEADER, header_to_json(self.header))
        old = final.with_name(f"{final.name}.old")
        if final.exists():
            _clear(old)
            final.rename(old)
        self._folder.rename(final)
        sync_folder(final.parent)
        (final / JOURNAL).unlink(missing_ok=True)
        _clear(old)

    def close(self) -> None:
        """Closes the files."""
        for file in self._files.values():
            file.close()


def _npy_header(file: Any, form: FileForm, rows: int) -> int:
    """Writes the head of a .npy file; its length. It is the same whenever it is written."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": form.dtype, "fortran_order": False, "shape": form.shape(rows)})
    length: int = file.tell()
    return length


def _clear(folder: Path) -> None:
    """Deletes a folder of an index, and nothing else that may be in it."""
    if not folder.exists():
        return
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
