"""The few operations on files that sets are made of. Everything durable goes through here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sidelight_service.errors import StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def full_disk_reported(folder: Path, needed_bytes: int) -> Iterator[None]:
    """Turns the operating system's "no space left" into an error that callers get.

    Args:
        folder: on the file system that is written to.
        needed_bytes: about what was to be written.

    Raises:
        StorageFull: there is no space, or the quota is used up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageFull(needed_bytes, free_bytes(folder)) from error


def free_bytes(folder: Path) -> int:
    """The space that is left where a folder is."""
    return shutil.disk_usage(folder).free


def make_folder(path: Path) -> int:
    """Makes a folder and locks it for as long as the returned descriptor is open.

    The lock tells a server that starts on the same data which folders a living server is working on.
    """
    path.mkdir()
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def is_abandoned(path: Path) -> bool:
    """Whether no living server works on a folder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def create_file(path: Path) -> int:
    """Makes a file that must not exist; its descriptor."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)


def write(descriptor: int, data: memoryview | bytes) -> None:
    """Writes all of some bytes where the file stands."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Writes all of some bytes at a place of a file."""
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def sync(descriptor: int) -> None:
    """Waits until a file is on the disk."""
    os.fsync(descriptor)


def sync_folder(path: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_folder(source: Path, target: Path) -> None:
    """Renames a folder in one step.

    Raises:
        FileExistsError: the target is a folder that holds something.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(f"{target} exists") from error
        raise


def remove_folder(path: Path) -> None:
    """Removes a folder and what it holds, as far as possible: what stays is swept at the next start."""
    shutil.rmtree(path, ignore_errors=True)
