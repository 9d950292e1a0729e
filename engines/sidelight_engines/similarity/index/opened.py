"""Opens an index, and makes sure that it is whole and meant for the model at hand."""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sidelight_engines.errors import IndexDamaged, IndexStale
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.extraction import Task
from sidelight_engines.similarity.gradients.rows import GradientRows
from sidelight_engines.similarity.index.header import HEADER, FileForm, IndexHeader, read_header
from sidelight_engines.similarity.parameters import LayerSelection

_CHECKING_THREADS = 4


@dataclass(frozen=True)
class GradientIndex:
    """The gradients of a reference set, memory-mapped.

    Attributes:
        folder: where it is.
        header: what it says of itself.
        rows: the gradients.
        size_bytes: of its files.
    """

    folder: Path
    header: IndexHeader
    rows: GradientRows
    size_bytes: int

    def __len__(self) -> int:
        return self.header.count

    def check_task(self, task: Task) -> None:
        """Makes sure that it holds the gradients that are wanted.

        Raises:
            IndexStale: it was built for another loss or output, or without some of the layers.
        """
        built, wanted = self.header.options, task.options
        if built.loss is not wanted.loss:
            raise IndexStale("the loss", built.loss.name, wanted.loss.name)
        if built.output != wanted.output:
            raise IndexStale("the output", repr(built.output), repr(wanted.output))
        if built.layers.names and built.layers != wanted.layers:
            named = wanted.layers.names or tuple(layer.name for layer in task.model.graph.layers)
            missing = [name for name in named if task.model.graph.layer(name).name not in self.rows.layout.layers]
            if missing or not wanted.layers.names:
                raise IndexStale("the layers", ", ".join(built.layers.names), _layers(wanted.layers))


def _layers(selection: LayerSelection) -> str:
    return ", ".join(selection.names) or "all"


def open_index(folder: Path, model_digest: str, *, verify: bool = True) -> GradientIndex:
    """Opens an index.

    Args:
        folder: where it is.
        model_digest: of the model that it is to be used with.
        verify: whether every checksum is verified, which reads all of it once.

    Raises:
        IndexStale: it was built for another model.
        IndexDamaged: a file is missing or is not as it was written.
    """
    header = read_header(folder / HEADER)
    if header.model_digest != model_digest:
        raise IndexStale("the model", header.model_digest, model_digest)
    arrays = [_map(folder, form, header) for form in header.files]
    if verify:
        _verify(folder, header)
    fields = len(header.layout.field_widths)
    scales, norms, labels, predictions = arrays[fields:]
    rows = GradientRows(header.layout, tuple(arrays[:fields]), scales, norms, labels, predictions)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return GradientIndex(folder, header, rows, size)


def _map(folder: Path, form: FileForm, header: IndexHeader) -> Array:
    path = folder / form.name
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IndexDamaged(f"{path} can not be read: {error}; build the index anew") from error
    if array.shape != form.shape(header.count) or array.dtype != np.dtype(form.dtype):
        raise IndexDamaged(f"{path} holds {array.dtype} {array.shape}; build the index anew")
    # A plain array over the map: slices of it cost less than slices of np.memmap.
    return np.asarray(array)


def _verify(folder: Path, header: IndexHeader) -> None:
    """Reads every file once, past the memory maps: they would keep all of it in memory."""
    jobs = [(form, start) for form in header.files for start in range(0, header.count, header.chunk_rows)]

    def check(job: tuple[FileForm, int]) -> None:
        form, start = job
        path = folder / form.name
        rows = min(header.chunk_rows, header.count - start)
        with path.open("rb") as file:
            # The rows end where the file does.
            file.seek((start - header.count) * form.row_bytes, os.SEEK_END)
            found = zlib.crc32(file.read(rows * form.row_bytes))
        sums = header.checksums.get(form.name, ())
        position = start // header.chunk_rows
        if position >= len(sums) or sums[position] != found:
            raise IndexDamaged(f"rows {start} to {start + rows - 1} of {path} are not as written; build the index anew")

    with ThreadPoolExecutor(_CHECKING_THREADS) as pool:
        for _ in pool.map(check, jobs):
            pass
