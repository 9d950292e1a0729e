"""The indexes as a worker sees them: found, opened once, noted as used; built under a lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sidelight_engines.control import Control
from sidelight_engines.errors import IndexDamaged, IndexStale
from sidelight_engines.similarity import GradientIndex, IndexHeader, Precision, Task, open_index
from sidelight_engines.similarity.index.header import read_header

from sidelight_service.errors import NotAllowed, StorageFull
from sidelight_service.indexes.places import HEADER, LOCK, IndexKey, index_folder, is_index, model_folder, size_on_disk
from sidelight_service.references import files

# Opened indexes are maps of files: they cost address space, and keep a removed index on the disk.
_MOST_OPENED = 8
_POLL_SECONDS = 0.05
_NOTE_SECONDS = 60.0


@dataclass(frozen=True)
class Owner:
    """The model version that an index is for.

    Attributes:
        model: its name.
        version: its number.
        digest: of its files.
    """

    model: str
    version: int
    digest: str


class IndexShelf:
    """The indexes that a worker reads and builds. Used by one thread at a time."""

    def __init__(self, root: Path | None, limit_bytes: int) -> None:
        """Prepares an empty shelf.

        Args:
            root: the folder of all indexes; None for a server that keeps nothing.
            limit_bytes: what all of them may take.
        """
        self._root = root
        self._limit_bytes = limit_bytes
        self._opened: OrderedDict[Path, tuple[int, GradientIndex]] = OrderedDict()

    def find(self, owner: Owner, reference_digest: str, task: Task, *, predicted: bool) -> GradientIndex | None:
        """The index that fits; the more exact of two.

        Args:
            owner: the model version.
            reference_digest: of the reference set.
            task: which gradients.
            predicted: whether the model's own predictions are to be the labels of the references.

        Raises:
            IndexDamaged: there is one, and its files are not as they were written.
        """
        if self._root is None:
            return None
        self._let_go_of_removed()
        versions = model_folder(self._root, owner.model, owner.version)
        key = _key(owner, reference_digest, task, predicted)
        for precision in (Precision.FLOAT32, Precision.FLOAT16):
            folder = index_folder(versions, key, precision.value)
            if is_index(folder):
                return self._open(folder, owner)
        return None

    def require_none_stale(self, owner: Owner, reference_digest: str, task: Task) -> None:
        """Says so if there is an index of an earlier content of the model, where one is needed.

        Raises:
            IndexStale: there is.
        """
        if self._root is None:
            return
        for header in _headers(model_folder(self._root, owner.model, owner.version)):
            if _is_earlier(header, owner, reference_digest) and header.options.loss is task.loss:
                raise IndexStale("the model", header.model_digest, owner.digest)

    def place(self, owner: Owner, reference_digest: str, task: Task, precision: Precision, *, predicted: bool) -> Path:
        """Where an index is to be built; its parent is made.

        Raises:
            NotAllowed: the server keeps none.
        """
        if self._root is None:
            raise NotAllowed("data", "this server keeps no gradient indexes: it has no data directory; set `data`")
        versions = model_folder(self._root, owner.model, owner.version)
        versions.mkdir(parents=True, exist_ok=True)
        return index_folder(versions, _key(owner, reference_digest, task, predicted), precision.value)

    def require_room(self, place: Path, size_bytes: int) -> None:
        """Refuses to begin what would not fit.

        Args:
            place: where the index is to be built.
            size_bytes: what it will take.

        Raises:
            StorageFull: the disk has no such space, or indexes may not take it.
        """
        if self._root is None or is_index(place):
            return
        partial = size_on_disk(place.with_name(f"{place.name}.partial"))
        left = self._limit_bytes - (size_on_disk(self._root) - partial)
        free = min(left, files.free_bytes(self._root) + partial)
        if size_bytes > free:
            raise StorageFull(size_bytes, max(0, free))

    @contextlib.contextmanager
    def locked(self, place: Path, control: Control) -> Iterator[None]:
        """Keeps others, also other workers, from building at a place.

        Raises:
            Stopped: `control` asked for it while another built there.
        """
        # Appending, so that the file of another is not emptied; the kernel lets go however this process ends.
        with place.with_name(f"{place.name}{LOCK}").open("a") as file:
            while True:
                control.checkpoint()
                try:
                    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                        raise
                time.sleep(_POLL_SECONDS)
            yield

    def supersede(self, place: Path, owner: Owner, reference_digest: str) -> None:
        """Removes indexes of earlier contents of the model that an index takes the place of."""
        for folder in place.parent.iterdir():
            if folder == place or not is_index(folder):
                continue
            with contextlib.suppress(IndexDamaged):
                if _is_earlier(read_header(folder / HEADER), owner, reference_digest):
                    files.remove_folder(folder)

    def _open(self, folder: Path, owner: Owner) -> GradientIndex | None:
        try:
            identity = (folder / HEADER).stat().st_ino
        except FileNotFoundError:
            return None
        known = self._opened.get(folder)
        if known is None or known[0] != identity:
            # Verified once: reading all of it for every request would take longer than the request.
            known = self._opened[folder] = (identity, open_index(folder, owner.digest))
            if len(self._opened) > _MOST_OPENED:
                self._opened.popitem(last=False)
        self._opened.move_to_end(folder)
        _note_use(folder)
        return known[1]

    def _let_go_of_removed(self) -> None:
        for folder in [folder for folder in self._opened if not is_index(folder)]:
            del self._opened[folder]


def _key(owner: Owner, reference_digest: str, task: Task, predicted: bool) -> IndexKey:
    return IndexKey(owner.digest, reference_digest, task.loss.value, task.options.output, predicted)


def _headers(versions: Path) -> Iterator[IndexHeader]:
    if not versions.is_dir():
        return
    for folder in sorted(versions.iterdir()):
        if is_index(folder):
            with contextlib.suppress(IndexDamaged):
                yield read_header(folder / HEADER)


def _is_earlier(header: IndexHeader, owner: Owner, reference_digest: str) -> bool:
    return header.reference_digest == reference_digest and header.model_digest != owner.digest


def _note_use(folder: Path) -> None:
    """Keeps the time of the last use as the folder's, by which the front process tells what nobody uses."""
    with contextlib.suppress(OSError):  # removed this moment, or a disk that is only read
        if time.time() - folder.stat().st_mtime > _NOTE_SECONDS:
            os.utime(folder)
