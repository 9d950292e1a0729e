"""Has what no index needs any more cleared away: now and then, and when a reference set was deleted."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import structlog
from sidelight_engines.errors import SidelightError

from sidelight_service.indexes.store import IndexStore
from sidelight_service.jobs.jobs import Jobs
from sidelight_service.references.store import ReferenceStore
from sidelight_service.repository.catalogue import Catalogue
from sidelight_service.settings import Settings

logger = structlog.get_logger(__name__)

_SWEEP_SECONDS = 60.0


class IndexKeeper:
    """Keeps the folder of indexes tidy. `prepare`, then `run` in one event loop."""

    def __init__(self, settings: Settings, catalogue: Catalogue, references: ReferenceStore, jobs: Jobs) -> None:
        """Takes what says whether an index can be used.

        Args:
            settings: the server's, with a data directory.
            catalogue: has the models.
            references: has the reference sets.
            jobs: has those that build.
        """
        if settings.indexes is None:
            raise ValueError("indexes are kept in a data directory, and there is none")
        self._store = IndexStore(settings.indexes, settings.index_retention_hours * 3600)
        self._catalogue = catalogue
        self._references = references
        self._jobs = jobs
        self._asked = asyncio.Event()

    def prepare(self) -> None:
        """Makes the folder.

        Raises:
            OSError: the data directory can not be written to.
        """
        self._store.prepare()

    async def run(self) -> None:
        """Sweeps until it is cancelled."""
        # Before, models would look as if they were gone.
        await self._catalogue.settled.wait()
        loop = asyncio.get_running_loop()

        def ask() -> None:
            loop.call_soon_threadsafe(self._asked.set)

        self._references.add_deletion_listener(ask)
        while True:
            self._asked.clear()
            await self._sweep()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._asked.wait()

    async def _sweep(self) -> None:
        try:
            # In this order: a job that is created later builds for a set that is here, and its part is young.
            building = await self._jobs.any_active("build_gradient_index")
            contents = {
                (model.name, version.version): version.digest
                for model in self._catalogue.to_protos()
                for version in model.versions
            }
            headers = await asyncio.to_thread(self._references.headers)
            digests = {header.digest for header in headers}
            await asyncio.to_thread(self._store.sweep, contents, digests, building=building)
        except (OSError, sqlite3.Error, SidelightError) as error:
            logger.error("gradient indexes can not be swept", error=str(error))
