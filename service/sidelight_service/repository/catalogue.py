"""The models of the repository through their lives: found, loaded, served, replaced, drained.

A new content is ready before the old one leaves; what fails to load leaves the old one in service and says
why in ListModels.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import structlog
from sidelight.v1 import model_pb2
from sidelight_engines.errors import InvalidField, SidelightError

from sidelight_service.errors import ModelChanged, ModelNotFound, ModelNotLoaded, NotAllowed, VersionNotFound
from sidelight_service.repository.layout import Snapshot, find_versions, take_snapshot
from sidelight_service.repository.loading import bring_up, prepare
from sidelight_service.repository.records import LoadError, Record, Serving, State, model_to_proto
from sidelight_service.settings import ModelMode, Settings, VersionPolicyKind
from sidelight_service.status import Failure, reason_and_message
from sidelight_service.worker.pool import WorkerPool

logger = structlog.get_logger(__name__)


class Catalogue:
    """All models, and the only place that changes their states. Used from one event loop."""

    def __init__(self, settings: Settings, on_change: Callable[[str], None]) -> None:
        """Prepares an empty catalogue.

        Args:
            settings: the server's.
            on_change: called with a model's name when what it serves has changed.
        """
        self._settings = settings
        self._on_change = on_change
        self._records: dict[str, dict[int, Record]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._failed_snapshots: dict[Path, Snapshot] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._pool: WorkerPool | None = None
        self._generations = itertools.count(1)
        self.settled = asyncio.Event()
        """Set once start-up has tried to load everything it should."""

    async def run(self, pool: WorkerPool) -> None:
        """Loads what the mode says and, with mode POLL, goes on looking."""
        self._pool = pool
        await self._sync(self._settings.load if self._settings.mode is ModelMode.EXPLICIT else None)
        self.settled.set()
        while self._settings.mode is ModelMode.POLL:
            await asyncio.sleep(self._settings.poll_seconds)
            await self._sync(None)

    # Reading

    def names(self) -> list[str]:
        """The names of all models."""
        return sorted(self._records)

    def to_protos(self) -> list[model_pb2.Model]:
        """Every model, by name. Looks at the repository, so that new folders show."""
        self._discover()
        return [model_to_proto(name, self._records[name].values()) for name in self.names()]

    def to_proto(self, name: str) -> model_pb2.Model:
        """One model."""
        return model_to_proto(name, self._records[name].values())

    def is_available(self, name: str) -> bool:
        """Whether a model has a version that serves."""
        return any(record.serving is not None for record in self._records.get(name, {}).values())

    @contextlib.contextmanager
    def lease(self, selector: model_pb2.ModelSelector) -> Iterator[tuple[Record, Serving]]:
        """Holds a version in service while a call uses it.

        Raises:
            InvalidField, ModelNotFound, VersionNotFound, ModelNotLoaded: there is nothing to hold.
            ModelChanged: it is not the content that the selector asks for.
        """
        record = self._serving_record(selector)
        serving = record.serving
        if serving is None:
            raise self._not_loaded(record)
        if selector.digest not in ("", serving.digest):
            raise ModelChanged(record.folder.model, record.folder.version, serving.digest)
        serving.users += 1
        try:
            yield record, serving
        finally:
            serving.users -= 1

    # Changing

    async def load(self, selector: model_pb2.ModelSelector) -> Record:
        """Loads a version, or loads it anew if its files have changed.

        Raises:
            ModelNotFound, VersionNotFound: it is not on disk.
            SidelightError, Failure: it can not be loaded; what served before still does.
        """
        self._discover()
        record = self._record_to_load(selector)
        async with self._lock(record.folder.model):
            await self._load(record)
            if selector.WhichOneof("choice") is None:
                await self._retire_beyond_policy(record.folder.model)
        return record

    async def unload(self, selector: model_pb2.ModelSelector) -> None:
        """Takes a version, or all versions of a model, out of service and waits until their calls are done.

        Raises:
            ModelNotFound, VersionNotFound: there is no such version.
            NotAllowed: mode POLL would load it again.
        """
        if self._settings.mode is ModelMode.POLL:
            raise NotAllowed(
                "mode", "with mode 'poll' the repository decides; remove the folder, or use mode 'explicit'"
            )
        records = self._records_of(selector)
        if selector.WhichOneof("choice") is not None:
            chosen = [self._chosen(selector, records)]
        else:
            chosen = list(records.values())
        async with self._lock(selector.name):
            await asyncio.gather(*(self._retire(record) for record in chosen))

    async def describe(self, selector: model_pb2.ModelSelector, *, check_gradients: bool) -> model_pb2.ModelDetail:
        """Asks a worker for the newest description of a loaded version.

        Args:
            selector: which version.
            check_gradients: whether the gradient check is made first.
        """
        with self.lease(selector) as (record, serving):
            answer = await self._workers.describe(serving.key, check_gradients=check_gradients)
            serving.detail = model_pb2.ModelDetail.FromString(answer)
            detail = model_pb2.ModelDetail()
            detail.CopyFrom(serving.detail)
            detail.name = record.folder.model
            detail.version = record.folder.version
            detail.status.CopyFrom(record.to_proto())
            return detail

    def lose(self, key: str, error: SidelightError | Failure) -> None:
        """Notes that a restarted worker could not load a model again."""
        for records in self._records.values():
            for record in records.values():
                if record.serving is not None and record.serving.key == key:
                    record.serving = None
                    self._fail(record, error)

    # Inside

    @property
    def _workers(self) -> WorkerPool:
        if self._pool is None:
            raise RuntimeError("run() comes first")
        return self._pool

    def _lock(self, model: str) -> asyncio.Lock:
        return self._locks.setdefault(model, asyncio.Lock())

    def _discover(self) -> None:
        """Takes up new folders, and lets go of removed ones that do not serve."""
        found = find_versions(self._settings.models)
        for folder in found:
            versions = self._records.setdefault(folder.model, {})
            if folder.version not in versions:
                versions[folder.version] = Record(folder)
        present = {folder.path for folder in found}
        for name, versions in list(self._records.items()):
            for number, record in list(versions.items()):
                if record.folder.path not in present and record.serving is None:
                    del versions[number]
            if not versions:
                del self._records[name]
        self._apply_labels()

    def _apply_labels(self) -> None:
        for name, versions in self._records.items():
            labels = self._settings.version_labels.get(name, {})
            for number, record in versions.items():
                record.labels = sorted(label for label, version in labels.items() if version == number)

    async def _sync(self, only: tuple[str, ...] | None) -> None:
        """Brings every model (or `only` some) in line with the repository and its version policy."""
        self._discover()
        for name in only or ():
            if name not in self._records:
                logger.error("model to load is not in the repository", model=name)
        for name in self.names() if only is None else [name for name in only if name in self._records]:
            async with self._lock(name):
                await self._sync_model(name)

    async def _sync_model(self, name: str) -> None:
        policy = self._settings.policy_of(name)
        versions = self._records.get(name, {})
        available = 0
        for number in sorted(versions, reverse=True):
            if policy.kind is VersionPolicyKind.SPECIFIC and number not in policy.versions:
                continue
            # A version that can not be loaded does not count: the next lower one takes its place.
            if policy.kind is VersionPolicyKind.LATEST and available >= policy.count:
                break
            record = versions[number]
            if not record.folder.path.is_dir():
                continue
            if not self._failed_before(record):
                # Recorded and logged by _load; the other versions are not to suffer from it.
                with contextlib.suppress(SidelightError, Failure):
                    await self._load(record)
            available += record.serving is not None
        await self._retire_beyond_policy(name)

    def _failed_before(self, record: Record) -> bool:
        """Whether the files are those that failed to load last time."""
        failed = self._failed_snapshots.get(record.folder.path)
        if failed is None or record.error is None:
            return False
        with contextlib.suppress(SidelightError):
            return take_snapshot(record.folder) == failed
        return False

    async def _retire_beyond_policy(self, name: str) -> None:
        policy = self._settings.policy_of(name)
        serving = {n: r for n, r in self._records.get(name, {}).items() if r.serving is not None}
        keep: set[int] = set(serving)
        if policy.kind is VersionPolicyKind.LATEST:
            keep = set(sorted(serving, reverse=True)[: policy.count])
        elif policy.kind is VersionPolicyKind.SPECIFIC:
            keep = set(policy.versions)
        for number, record in serving.items():
            gone = self._settings.mode is ModelMode.POLL and not record.folder.path.is_dir()
            if number not in keep or gone:
                self._in_background(self._retire(record))

    async def _load(self, record: Record) -> None:
        """Loads a version beside whatever serves, then puts it in its place.

        Raises:
            SidelightError, Failure: it can not be loaded; noted in the record.
        """
        if record.serving is None:
            record.state = State.LOADING
        try:
            prepared = await prepare(record.folder, self._settings.settle_seconds)
            if record.serving is not None and record.serving.digest == prepared.digest:
                record.error = None
                return
            serving = await bring_up(record.folder, prepared, self._workers, next(self._generations))
        except (SidelightError, Failure) as error:
            self._fail(record, error)
            raise
        except BaseException:
            if record.serving is None:
                record.state = State.UNLOADED
            raise
        old, record.serving = record.serving, serving
        record.state, record.error = State.AVAILABLE, None
        record.format, record.digest, record.size_bytes = serving.format, serving.digest, serving.size_bytes
        self._failed_snapshots.pop(record.folder.path, None)
        logger.info("model available", model=record.folder.model, version=record.folder.version, digest=serving.digest)
        self._on_change(record.folder.model)
        if old is not None:
            self._in_background(self._drain(old))

    def _fail(self, record: Record, error: SidelightError | Failure) -> None:
        record.state = State.AVAILABLE if record.serving is not None else State.FAILED
        record.error = LoadError(*reason_and_message(error))
        with contextlib.suppress(SidelightError):
            self._failed_snapshots[record.folder.path] = take_snapshot(record.folder)
        logger.error(
            "model failed to load",
            model=record.folder.model,
            version=record.folder.version,
            reason=record.error.reason,
            message=record.error.message,
        )
        self._on_change(record.folder.model)

    async def _retire(self, record: Record) -> None:
        serving = record.serving
        if serving is None:
            record.state = State.UNLOADED if record.error is None else State.FAILED
            return
        record.serving = None
        record.state = State.DRAINING
        self._on_change(record.folder.model)
        await self._drain(serving)
        if record.serving is None and record.state is State.DRAINING:
            record.state = State.UNLOADED
        logger.info("model unloaded", model=record.folder.model, version=record.folder.version)

    async def _drain(self, serving: Serving) -> None:
        """Waits for the calls that use a content, then frees its memory."""
        while serving.users:
            await asyncio.sleep(0.02)
        await self._workers.unload(serving.key)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    # Choosing

    def _records_of(self, selector: model_pb2.ModelSelector) -> dict[int, Record]:
        if not selector.name:
            raise InvalidField("model.name", "is empty", "name a model; ListModels lists them")
        records = self._records.get(selector.name)
        if records is None:
            self._discover()
            records = self._records.get(selector.name)
        if records is None:
            raise ModelNotFound(selector.name, tuple(self.names()))
        return records

    def _chosen(self, selector: model_pb2.ModelSelector, records: dict[int, Record]) -> Record:
        """The version that a selector names by number or label."""
        if selector.WhichOneof("choice") == "version":
            if selector.version < 1:
                raise InvalidField("model.version", f"{selector.version} is not a version", "give at least 1, or none")
            number, wanted = selector.version, f"version {selector.version}"
        else:
            labels = self._settings.version_labels.get(selector.name, {})
            number, wanted = labels.get(selector.label, -1), f"label {selector.label!r}"
        record = records.get(number)
        if record is None:
            known = ", ".join(str(n) for n in sorted(records)) or "none"
            raise VersionNotFound(selector.name, wanted, f"versions {known}")
        return record

    def _serving_record(self, selector: model_pb2.ModelSelector) -> Record:
        records = self._records_of(selector)
        if selector.WhichOneof("choice") is not None:
            return self._chosen(selector, records)
        serving = [number for number, record in records.items() if record.serving is not None]
        return records[max(serving) if serving else max(records)]

    def _record_to_load(self, selector: model_pb2.ModelSelector) -> Record:
        records = self._records_of(selector)
        if selector.WhichOneof("choice") is not None:
            return self._chosen(selector, records)
        policy = self._settings.policy_of(selector.name)
        numbers = [n for n in records if policy.kind is not VersionPolicyKind.SPECIFIC or n in policy.versions]
        if not numbers:
            raise VersionNotFound(selector.name, f"version that policy {policy} allows", f"versions {sorted(records)}")
        return records[max(numbers)]

    @staticmethod
    def _not_loaded(record: Record) -> ModelNotLoaded:
        if record.error is not None:
            detail = record.error.message
        elif record.state is State.LOADING:
            detail = "try again when it is AVAILABLE"
        else:
            detail = "load it with LoadModel"
        return ModelNotLoaded(record.folder.model, record.folder.version, record.state.value, detail)
