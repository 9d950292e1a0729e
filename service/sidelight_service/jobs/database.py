"""The database of jobs: one file, one connection, one thread, and one server at a time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sidelight_service.errors import StorageFull

_T = TypeVar("_T")

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    idempotency_key TEXT UNIQUE,
    state INTEGER NOT NULL,
    field TEXT NOT NULL,
    outline BLOB NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0,
    digest TEXT NOT NULL DEFAULT '',
    create_time INTEGER NOT NULL,
    start_time INTEGER NOT NULL DEFAULT 0,
    end_time INTEGER NOT NULL DEFAULT 0,
    expire_time INTEGER NOT NULL DEFAULT 0,
    error BLOB NOT NULL DEFAULT x''
);
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE INDEX jobs_by_expiry ON jobs (expire_time) WHERE expire_time > 0;
CREATE TABLE requests (
    number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    message BLOB NOT NULL
);
CREATE TABLE slices (
    number INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    first INTEGER NOT NULL,
    units INTEGER NOT NULL,
    message BLOB NOT NULL,
    PRIMARY KEY (number, first)
);
CREATE TABLE results (
    number INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    message BLOB NOT NULL
);
"""


class Database:
    """An SQLite database that an event loop can wait for."""

    def __init__(self, folder: Path) -> None:
        """Opens the database, or makes it.

        Args:
            folder: the server's data directory; made if it is not there.

        Raises:
            OSError: it can not be written, another server uses it, or a newer server made it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        # The kernel lets go of the lock however this process ends.
        self._lock = (folder / "jobs.lock").open("w")
        # One thread: what it is told is done in order and never at the same time.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs")
        try:
            _lock(self._lock.fileno(), folder)
            self._connection = _open(folder / "jobs.sqlite")
        except OSError:
            self._lock.close()
            raise

    async def close(self) -> None:
        """Closes the database, after what was asked before."""
        await self.do(self._connection.close)
        self._thread.shutdown()
        self._lock.close()

    async def do(self, action: Callable[..., _T], *arguments: Any) -> _T:
        """Runs an action on the database in its thread.

        Raises:
            StorageFull: there is no space for what it writes.
        """
        loop = asyncio.get_running_loop()
        try:
            # Shielded, because a change that was begun is made in any case.
            return await asyncio.shield(loop.run_in_executor(self._thread, lambda: action(*arguments)))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            needed = sum(len(argument) for argument in arguments if isinstance(argument, bytes))
            raise StorageFull(needed, shutil.disk_usage(self._folder).free) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing of what is done within; for actions only. Within another it is a part of that."""
        if self._connection.in_transaction:
            yield self._connection
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled it back already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def give_space_back(self) -> None:
        """Gives the space of what was deleted back to the disk; for actions only, outside of transactions."""
        if self.rows("PRAGMA freelist_count")[0][0]:
            # As a script, because a single statement without rows is run for one page only.
            self._connection.executescript("PRAGMA incremental_vacuum")
            # The file becomes smaller only when what the log holds is written to it.
            self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def rows(self, query: str, *values: Any) -> list[Any]:
        """The rows of a query; for actions only."""
        return self._connection.execute(query, values).fetchall()


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OSError(f"{folder} is in use by another server; give each server a data directory") from error


def _open(path: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # Before there are tables: later it would need the whole file to be written anew.
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        # After a large request the log would keep its size for good.
        database.execute("PRAGMA journal_size_limit = 16777216")
        database.execute("PRAGMA foreign_keys = ON")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except sqlite3.Error as error:
        raise OSError(f"{path} can not be used as the database of jobs: {error}") from error
    if version not in (0, SCHEMA_VERSION):
        database.close()
        raise OSError(f"{path} has schema version {version} and this server knows {SCHEMA_VERSION}; use a newer server")
    return database
