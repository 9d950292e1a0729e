"""Loading one version: its files are checked, then the workers load them, then the files are checked again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from sidelight.v1 import model_pb2
from sidelight_engines.errors import SidelightError
from sidelight_engines.graph.graph import ModelFormat

from sidelight_service.repository.layout import (
    Snapshot,
    VersionFolder,
    check_settled,
    digest_of,
    format_of,
    take_snapshot,
)
from sidelight_service.repository.records import Serving
from sidelight_service.worker.pool import LoadOrder, WorkerPool


@dataclass(frozen=True)
class Prepared:
    """A version whose files were found whole and settled."""

    snapshot: Snapshot
    format: ModelFormat
    digest: str


async def prepare(folder: VersionFolder, settle_seconds: float) -> Prepared:
    """Checks the files of a version and takes their digest.

    Args:
        folder: the version.
        settle_seconds: files younger than this are looked at twice, this far apart.

    Raises:
        ModelFilesIncomplete: some are missing, or somebody is writing them.
        ModelInvalid: it can not be told which of them is the model.
    """
    snapshot = await asyncio.to_thread(take_snapshot, folder)
    model_format = format_of(folder, snapshot)
    if snapshot.newest_age_seconds < settle_seconds:
        await asyncio.sleep(settle_seconds)
        check_settled(folder, snapshot)
    digest = await asyncio.to_thread(digest_of, folder, snapshot)
    check_settled(folder, snapshot)
    return Prepared(snapshot, model_format, digest)


async def bring_up(folder: VersionFolder, prepared: Prepared, workers: WorkerPool, generation: int) -> Serving:
    """Loads a version in all workers.

    Args:
        folder: the version.
        prepared: its files.
        workers: the workers.
        generation: a number that no other loading has, so that old and new content can be held side by side.

    Raises:
        Failure: a worker could not load it.
        ModelFilesIncomplete: the files changed meanwhile, so that the digest would not be that of what was loaded.
    """
    key = f"{folder.name}#{generation}"
    order = LoadOrder(key, folder.model, folder.version, str(folder.path), prepared.format.value, prepared.digest)
    detail = model_pb2.ModelDetail.FromString(await workers.load(order))
    try:
        check_settled(folder, prepared.snapshot)
    except SidelightError:
        await workers.unload(key)
        raise
    size = prepared.snapshot.size_bytes
    return Serving(key, prepared.digest, size, prepared.format, detail, datetime.now(UTC))
