"""The reference sets of a server: made, listed, leased, deleted.

All methods may be called from any thread. Those that touch the disk block; callers on an event loop use
`asyncio.to_thread`.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from sidelight_service.errors import NotAllowed, ReferenceExists, ReferenceInUse, ReferenceNotFound
from sidelight_service.references import files
from sidelight_service.references.arrays import Array
from sidelight_service.references.feature_ranges import read_feature_range
from sidelight_service.references.fit import Fit
from sidelight_service.references.header import HEADER_FILE, Header, check_name, read_header
from sidelight_service.references.writer import SetWriter

logger = structlog.get_logger(__name__)

UserCheck = Callable[[str, str], str | None]
"""Told the name and digest of a set, names what uses it ("job 17"), or None. Called from any thread."""


@dataclass(frozen=True)
class Location:
    """Where a worker finds a set.

    Attributes:
        path: the folder.
        digest: that the set in it must have.
    """

    path: str
    digest: str


@dataclass(frozen=True)
class _Known:
    """A header as it was read, and the file that it was read from: a set may be replaced by its owner."""

    header: Header
    identity: tuple[int, int]


class ReferenceStore:
    """The sets below a data directory."""

    def __init__(self, data: Path | None) -> None:
        """Prepares a store; `prepare` must come before anything else.

        Args:
            data: the data directory; None for a server that keeps nothing.
        """
        self._root = None if data is None else data / "references"
        self._known: dict[str, _Known] = {}
        self._users: Counter[str] = Counter()
        self._checks: list[UserCheck] = []
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        # Held over a whole look at the disk, so that no look overwrites what a later one saw. Taken first.
        self._looking = threading.Lock()

    def prepare(self) -> None:
        """Makes the folders and sweeps what a killed server left behind.

        Raises:
            OSError: the data directory can not be written to.
        """
        if self._root is None:
            return
        self._sets.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(exist_ok=True)
        for leftover in self._staging.iterdir():
            if files.is_abandoned(leftover):
                files.remove_folder(leftover)
                logger.info("unfinished reference set removed", folder=leftover.name)
        self.refresh()

    def add_user_check(self, check: UserCheck) -> None:
        """Asks somebody before a set is deleted, from now on."""
        self._checks.append(check)

    def add_deletion_listener(self, listener: Callable[[], None]) -> None:
        """Tells somebody after a set was deleted, from now on. Called from any thread."""
        self._listeners.append(listener)

    # Reading

    def refresh(self) -> None:
        """Looks at the disk: sets may have been copied there, or taken away."""
        with self._looking:
            found: dict[str, _Known] = {}
            for folder in self._sets.iterdir():
                try:
                    found[folder.name] = self._look_at(folder)
                except (OSError, ValueError) as error:
                    logger.error("reference set can not be read", reference=folder.name, error=str(error))
            with self._lock:
                self._known = found

    def _look_at(self, folder: Path) -> _Known:
        status = (folder / HEADER_FILE).stat()
        identity = (status.st_ino, status.st_mtime_ns)
        known = self._known.get(folder.name)
        if known is not None and known.identity == identity:
            return known
        return _Known(read_header(folder), identity)

    def headers(self) -> list[Header]:
        """Every set that can be read, by name."""
        self.refresh()
        with self._lock:
            return [known.header for _, known in sorted(self._known.items())]

    def header(self, name: str) -> Header:
        """One set.

        Raises:
            ReferenceNotFound: there is none.
        """
        self.refresh()
        with self._lock:
            return self._find(name).header

    def feature_ranges(self, name: str) -> list[tuple[Array, Array]]:
        """The least and greatest value of each feature, of each input of a set.

        Raises:
            ReferenceNotFound: there is no such set, or it is damaged.
        """
        header = self.header(name)
        folder = self._sets / name
        try:
            return [read_feature_range(folder / item.range_file, item.dtype, item.shape) for item in header.inputs]
        except (OSError, ValueError) as error:
            raise ReferenceNotFound(
                name, f"reference set {name!r} is damaged ({error}); delete it and create it again"
            ) from error

    @contextlib.contextmanager
    def lease(self, name: str) -> Iterator[Location]:
        """Keeps a set from being deleted while it is used. Does not touch the disk.

        Raises:
            ReferenceNotFound: there is none.
        """
        folder = self._sets / name
        with self._lock:
            header = self._find(name).header
            self._users[name] += 1
        try:
            yield Location(str(folder), header.digest)
        finally:
            with self._lock:
                self._users[name] -= 1

    # Changing

    def begin(self, name: str, name_field: str, fit: Fit | None, announced: int) -> SetWriter:
        """Begins a new set.

        Args:
            name: of the set.
            name_field: the path of the name in the request.
            fit: what the examples must fit; None for anything.
            announced: how many examples are to come; 0 if it is not known.

        Raises:
            InvalidField: the name is none.
            ReferenceExists: there is one of that name.
        """
        sets = self._sets
        check_name(name, name_field)
        if (sets / name).exists():
            raise self._exists(name)
        return SetWriter(name, self._staging / uuid.uuid4().hex, fit, announced)

    def commit(self, writer: SetWriter) -> Header:
        """Completes a set and makes it visible.

        Raises:
            ReferenceExists: another of that name was completed meanwhile.
            InvalidField, UploadIncomplete, StorageFull: see `SetWriter.finish`.
        """
        header = writer.finish()
        target = self._sets / writer.name
        try:
            files.move_folder(writer.folder, target)
        except FileExistsError as error:
            raise self._exists(writer.name) from error
        writer.release()
        files.sync_folder(self._sets)
        self.refresh()
        logger.info("reference set created", reference=header.name, digest=header.digest, count=header.count)
        return header

    def delete(self, name: str) -> None:
        """Removes a set; also one that can not be read.

        Raises:
            ReferenceNotFound: there is none.
            ReferenceInUse: a request, job or index uses it.
        """
        sets = self._sets
        folder = sets / name
        doomed = self._staging / f"deleted-{uuid.uuid4().hex}"
        known_digest = self._digest(name)
        for check in self._checks:
            user = check(name, known_digest)
            if user is not None:
                raise ReferenceInUse(name, user)
        with self._looking, self._lock:
            if self._users[name] > 0:
                raise ReferenceInUse(name, "a request under way")
            try:
                files.move_folder(folder, doomed)
            except FileNotFoundError as error:
                raise self._not_found(name) from error
            self._known.pop(name, None)
        files.sync_folder(sets)
        files.remove_folder(doomed)
        logger.info("reference set deleted", reference=name)
        for listener in self._listeners:
            listener()

    # Inside

    @property
    def _sets(self) -> Path:
        return self._required / "sets"

    @property
    def _staging(self) -> Path:
        return self._required / "staging"

    @property
    def _required(self) -> Path:
        if self._root is None:
            raise NotAllowed("data", "this server keeps no reference sets: it has no data directory; set `data`")
        return self._root

    def _digest(self, name: str) -> str:
        """The digest of a set; empty for one that can not be read."""
        self.refresh()
        with self._lock:
            known = self._known.get(name)
            if known is not None:
                return known.header.digest
            if not _is_plain(name) or not (self._sets / name).is_dir():
                raise self._not_found(name)
            return ""

    def _find(self, name: str) -> _Known:
        known = self._known.get(name)
        if known is None:
            raise self._not_found(name)
        return known

    def _not_found(self, name: str) -> ReferenceNotFound:
        if _is_plain(name) and (self._sets / name).is_dir():
            problem = f"reference set {name!r} is damaged (the log says how); delete it and create it again"
            return ReferenceNotFound(name, problem)
        known = ", ".join(sorted(self._known)[:10]) or "none"
        return ReferenceNotFound(name, f"no reference set {name!r}; there are: {known}")

    def _exists(self, name: str) -> ReferenceExists:
        self.refresh()
        known = self._known.get(name)
        return ReferenceExists(name, "" if known is None else known.header.digest)


def _is_plain(name: str) -> bool:
    """Whether a name that came from outside is the name of one folder and no path."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
