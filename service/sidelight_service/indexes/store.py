"""The indexes as the front process sees them: it removes those that nothing can use any more.

An index goes with the last reference set of its content, at once. One whose model version is gone from the
repository, or has other content, goes when nobody has used it for a while: a repository may be empty for an hour.
Parts of an index stay as long as a job that builds waits or runs.

Methods block on the disk; callers on an event loop use `asyncio.to_thread`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import structlog

from sidelight_service.indexes.places import DOOMED, HEADER, LOCK, PARTIAL, REPLACED, is_index
from sidelight_service.references import files

logger = structlog.get_logger(__name__)

# A part without a job, or a folder with nothing but a lock, may be of a job that was created this moment.
_PARTIAL_SECONDS = 60.0


class IndexStore:
    """The indexes below a data directory."""

    def __init__(self, root: Path, retention_seconds: float) -> None:
        """Prepares a store; touches nothing.

        Args:
            root: the folder of all indexes.
            retention_seconds: how long an index of a model that is gone is kept unused.
        """
        self.root = root
        self._retention_seconds = retention_seconds

    def prepare(self) -> None:
        """Makes the folder, and ends the removals that a killed server had begun.

        Raises:
            OSError: the data directory can not be written to.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        for _, folder in self._folders():
            if folder.suffix in (DOOMED, REPLACED):
                files.remove_folder(folder)

    def sweep(
        self, contents: Mapping[tuple[str, int], str], references: Collection[str], *, building: bool
    ) -> list[Path]:
        """Removes what nothing can use.

        Args:
            contents: (model, version) -> digest, for all that are in the repository; empty where it is not known.
            references: the digests of all reference sets.
            building: whether a job that builds an index waits or runs.

        Returns:
            What was removed.
        """
        now, removed = time.time(), []
        for (model, version), folder in list(self._folders()):
            if folder.suffix == PARTIAL:
                if not building and now - _last_touched(folder) > _PARTIAL_SECONDS:
                    removed += self._remove(folder, "no job builds it any more")
                continue
            digests = _digests(folder) if is_index(folder) else None
            if digests is None:
                continue
            of_model, of_reference = digests
            if of_reference not in references:
                removed += self._remove(folder, "its reference set was deleted")
            elif contents.get((model, version)) not in (of_model, ""):
                unused = now - folder.stat().st_mtime
                if unused > self._retention_seconds:
                    removed += self._remove(folder, "its model version is gone, and nobody used it")
        if not building:  # who builds has a lock there before there is anything else
            self._tidy()
        return removed

    def _folders(self) -> Iterator[tuple[tuple[str, int], Path]]:
        """Every index, part or rest, with model and version."""
        for folder in self.root.glob("*/*/*"):
            if folder.is_dir() and folder.parent.name.isdecimal():
                yield (folder.parent.parent.name, int(folder.parent.name)), folder

    def _remove(self, folder: Path, why: str) -> list[Path]:
        # Renamed first: what bears its name is whole.
        doomed = folder.with_name(f"{folder.name}{DOOMED}")
        try:
            files.move_folder(folder, doomed)
        except FileExistsError:
            files.remove_folder(doomed)
            return []  # the next sweep takes it
        except FileNotFoundError:
            return []
        files.remove_folder(doomed)
        logger.info("gradient index removed", index=str(folder.relative_to(self.root)), why=why)
        return [folder]

    def _tidy(self) -> None:
        """Removes folders, and locks of nothing, that are left over."""
        for versions in self.root.glob("*/*"):
            if not versions.is_dir() or time.time() - versions.stat().st_mtime < _PARTIAL_SECONDS:
                continue
            if all(path.suffix == LOCK for path in versions.iterdir()):
                files.remove_folder(versions)
        for model in self.root.iterdir():
            if model.is_dir() and not any(model.iterdir()):
                files.remove_folder(model)


def _last_touched(folder: Path) -> float:
    try:
        return max((path.stat().st_mtime for path in folder.iterdir()), default=folder.stat().st_mtime)
    except FileNotFoundError:  # somebody works on it this moment
        return time.time()


def _digests(folder: Path) -> tuple[str, str] | None:
    """The digests of the model and the set of an index; None if it can not be read, which its users will say."""
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
        return str(header["model_digest"]), str(header["reference_digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
