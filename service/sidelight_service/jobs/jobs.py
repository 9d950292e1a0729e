"""All jobs of a server: created, run in the order of their creation, followed, ended, expired."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import structlog
from sidelight.v1 import job_pb2
from sidelight_engines.errors import InvalidField, SidelightError

from sidelight_service.errors import ShuttingDown, StorageFull
from sidelight_service.jobs.outline import outline_of
from sidelight_service.jobs.progress import Meter
from sidelight_service.jobs.records import CANCELLED, ENDED, FAILED, QUEUED, RUNNING, SUCCEEDED, JobRecord, state_name
from sidelight_service.jobs.runner import JobRunner, Running
from sidelight_service.jobs.slices import SLICERS
from sidelight_service.jobs.store import JobStore, NewJob
from sidelight_service.jobs.work import job_error, work_of
from sidelight_service.references.resolving import leased, selections_in
from sidelight_service.references.store import ReferenceStore
from sidelight_service.repository.catalogue import Catalogue
from sidelight_service.repository.leasing import leased_model
from sidelight_service.repository.resolving import pin_models
from sidelight_service.settings import Settings
from sidelight_service.worker.pool import WorkerPool

_T = TypeVar("_T")

logger = structlog.get_logger(__name__)

_WATCH_SECONDS = 10.0
_MOST_SWEEP_SECONDS = 60.0
_LEAST_SWEEP_SECONDS = 0.5
_DISK_SECONDS = 5.0


class Jobs:
    """The jobs of one data directory. `start`, then `stop`, then `close`; all from one event loop."""

    def __init__(
        self, data: Path, settings: Settings, catalogue: Catalogue, references: ReferenceStore, pool: WorkerPool
    ) -> None:
        """Opens the jobs on disk.

        Args:
            data: the data directory.
            settings: the server's.
            catalogue: has the models.
            references: has the reference sets.
            pool: the workers.

        Raises:
            OSError: the directory can not be used, or another server uses it.
        """
        self._settings = settings
        self._catalogue = catalogue
        self._references = references
        self._store = JobStore(data)
        self._runner = JobRunner(self._store, catalogue, references, pool, settings.max_message_bytes)
        self._keep_seconds = settings.job_retention_hours * 3600
        self._running: dict[str, tuple[Running, asyncio.Task[bytes]]] = {}
        self._holds: dict[str, contextlib.AsyncExitStack] = {}
        self._watchers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._waiting = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Takes up what an earlier server left, and runs jobs from then on."""
        for job in await self._store.requeue(in_order=False):
            logger.info("job", job=job, state=state_name(QUEUED), why="the server was ended while it ran")
        for record in await self._store.page({QUEUED}, None, self._settings.job_queue_limit + self._settings.workers):
            with contextlib.suppress(SidelightError):  # the job will fail with the same, where it can be read
                await self._hold(record)
        # As many at a time as there are workers: more would only wait for one another.
        self._tasks = [asyncio.create_task(self._take_jobs()) for _ in range(self._settings.workers)]
        self._tasks.append(asyncio.create_task(self._sweep()))

    async def stop(self) -> None:
        """Stops what runs within a chunk; it goes on from its last slice when a server starts again.

        Those who follow a job are told. Jobs can still be asked for, until `close`.
        """
        self._stopping = True
        for events in self._watchers.values():
            for event in events:
                event.set()
        tasks = [*self._tasks, *(task for _, task in self._running.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in await self._store.requeue(in_order=True):
            logger.info("job", job=job, state=state_name(QUEUED), why="the server stops")

    async def close(self) -> None:
        """Closes the jobs on disk; no call may come any more."""
        for job in list(self._holds):
            await self._let_go(job)
        await self._store.close()

    async def create(self, request: job_pb2.JobRequest, key: str | None) -> job_pb2.ExplainJob:
        """Puts work in the queue.

        Args:
            request: the work.
            key: the caller's own name for this call; a second one of the same name gives the job of the first.

        Raises:
            InvalidField, ModelNotFound, VersionNotFound, ModelNotLoaded: it could not be run.
            QueueFull: too many jobs wait already.
            StorageFull: there is no space for it.
        """
        work = work_of(request)
        try:
            with leased_model(self._catalogue, work.method, work.request):
                # From here on the job means these contents, as it does the examples below.
                pin_models(self._catalogue, work.request)
        except InvalidField as error:
            raise _within(work.field, error) from error
        async with contextlib.AsyncExitStack() as stack:
            try:
                locations = await stack.enter_async_context(leased(self._references, work.request))
            except InvalidField as error:
                raise _within(work.field, error) from error
            for _, selection in selections_in(work.request):
                # From here on the job means these examples, and not what may take their name.
                selection.digest = locations[selection.reference].digest
            slicer = SLICERS.get(work.method)
            new = NewJob(
                id=secrets.token_hex(8),
                key=key,
                field=work.field,
                outline=outline_of(request).SerializeToString(),
                total=0 if slicer is None else slicer.count(work.request) or 0,
            )
            record, is_new = await self._store.create(new, request.SerializeToString(), self._settings.job_queue_limit)
            if is_new:
                # Before another task can run the job to its end.
                self._holds[record.id] = stack.pop_all()
        if is_new:
            logger.info("job", job=record.id, state=state_name(record.state), method=work.method)
            self._waiting.set()
        return self._shown(record)

    async def get(self, job: str) -> job_pb2.ExplainJob:
        """One job, its request without tensors.

        Raises:
            JobNotFound: there is none of that id.
        """
        return self._shown(await self._store.get(job))

    async def get_whole(self, job: str) -> job_pb2.ExplainJob:
        """One job with its request, as far as a message has room for its tensors.

        Raises:
            JobNotFound: there is none of that id.
        """
        shown = await self.get(job)
        request = await self._store.request(job)
        if shown.ByteSize() + len(request) < self._settings.max_message_bytes:
            shown.request.CopyFrom(job_pb2.JobRequest.FromString(request))
        return shown

    async def page(
        self, states: Collection[int], before: int | None, size: int
    ) -> tuple[list[job_pb2.ExplainJob], int | None]:
        """Jobs, newest first, their requests without tensors.

        Args:
            states: those wanted; empty for all.
            before: `before` for the next page, as the page before gave it; None for the first.
            size: the most jobs to return.

        Returns:
            The jobs, and `before` for the next page; None if this is the last.
        """
        records = await self._store.page(states, before, size + 1)
        shown = [self._shown(record) for record in records[:size]]
        return shown, records[size - 1].number if len(records) > size else None

    async def any_active(self, field: str) -> bool:
        """Whether a job waits or runs whose request is that field of JobRequest."""
        return await self._store.any_active(field)

    async def result(self, job: str) -> bytes:
        """The serialized JobResult of a job that succeeded.

        Raises:
            JobNotFound: there is none of that id.
            WrongJobState: it did not succeed, or not yet.
        """
        return await self._store.result(job)

    async def watch(self, job: str) -> AsyncIterator[job_pb2.ExplainJob]:
        """A job now, at every change and at least every 10 seconds, until it has ended.

        Raises:
            JobNotFound: there is none of that id.
            ShuttingDown: the server stops; the job goes on when it starts again.
        """
        with self._changes_of(job) as changed:
            while True:
                changed.clear()
                record = await self._store.get(job)
                yield self._shown(record)
                if record.ended:
                    return
                if self._stopping:
                    raise ShuttingDown("the server is shutting down; the job goes on when it is started again")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_WATCH_SECONDS):
                        await changed.wait()

    async def cancel(self, job: str) -> job_pb2.ExplainJob:
        """Ends a job; its worker stops within a chunk. One that has ended stays as it is.

        Raises:
            JobNotFound: there is none of that id.
        """
        if await self._store.end(job, CANCELLED, keep_seconds=self._keep_seconds):
            running = self._running.get(job)
            if running is not None:
                running[1].cancel()
            await self._tell(job, CANCELLED)
        return await self.get(job)

    async def delete(self, job: str) -> None:
        """Deletes a job that has ended.

        Raises:
            JobNotFound: there is none of that id.
            WrongJobState: it has not ended.
        """
        await self._store.delete(job)
        logger.info("job", job=job, state="DELETED")

    def _shown(self, record: JobRecord) -> job_pb2.ExplainJob:
        job = record.to_proto()
        running = self._running.get(record.id)
        if running is not None and record.state == RUNNING:
            job.progress.CopyFrom(running[0].meter.to_proto())
        return job

    @contextlib.contextmanager
    def _changes_of(self, job: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._watchers[job].add(event)
        try:
            yield event
        finally:
            self._watchers[job].discard(event)
            if not self._watchers[job]:
                del self._watchers[job]

    def _wake_watchers(self, job: str) -> None:
        for event in self._watchers.get(job, ()):
            event.set()

    async def _tell(self, job: str, state: int, **more: object) -> None:
        logger.info("job", job=job, state=state_name(state), **more)
        self._wake_watchers(job)
        if state in ENDED:
            await self._let_go(job)

    async def _hold(self, record: JobRecord) -> None:
        """Keeps the reference sets that a job names from being deleted until it has ended."""
        async with contextlib.AsyncExitStack() as stack:
            request = work_of(job_pb2.JobRequest.FromString(record.outline)).request
            await stack.enter_async_context(leased(self._references, request))
            self._holds[record.id] = stack.pop_all()

    async def _let_go(self, job: str) -> None:
        hold = self._holds.pop(job, None)
        if hold is not None:
            await hold.aclose()

    async def _take_jobs(self) -> None:
        """Runs one job after the other."""
        # Before, a job would fail because its model is not loaded yet.
        await self._catalogue.settled.wait()
        while True:
            self._waiting.clear()
            record = await _insist(self._store.begin)
            if record is None:
                await self._waiting.wait()
                continue
            await self._run(record)

    async def _run(self, record: JobRecord) -> None:
        job = record.id
        running = Running(record, Meter(record.done, record.total), lambda: self._wake_watchers(job))
        task = asyncio.create_task(self._runner.run(running))
        self._running[job] = (running, task)
        await self._tell(job, RUNNING, done=record.done, total=record.total)
        try:
            await asyncio.wait({task})
        finally:
            del self._running[job]
        if task.cancelled():  # by `cancel`, which has noted it; `stop` cancels us too
            return
        error = task.exception()
        if error is None:
            await self._succeed(job, task.result(), running.meter.total)
        else:
            await self._fail(job, error)

    async def _succeed(self, job: str, result: bytes, total: int) -> None:
        try:
            if await self._store.end(job, SUCCEEDED, keep_seconds=self._keep_seconds, result=result, total=total):
                await self._tell(job, SUCCEEDED, result_bytes=len(result))
        except (StorageFull, sqlite3.Error) as error:
            await self._fail(job, error)

    async def _fail(self, job: str, error: BaseException) -> None:
        reason = job_error(error)
        if "incident" in reason.metadata:
            logger.error("incident", incident=reason.metadata["incident"], job=job, exc_info=error)
        kept = reason.SerializeToString()
        if await _insist(lambda: self._store.end(job, FAILED, keep_seconds=self._keep_seconds, error=kept)):
            await self._tell(job, FAILED, reason=reason.reason, message=reason.message)

    async def _sweep(self) -> None:
        """Deletes jobs whose time is up."""
        pause = min(_MOST_SWEEP_SECONDS, max(_LEAST_SWEEP_SECONDS, self._keep_seconds / 10))
        while True:
            for job in await _insist(self._store.expire):
                logger.info("job", job=job, state="DELETED", why="its time was up")
            await asyncio.sleep(pause)


def _within(field: str, error: InvalidField) -> InvalidField:
    """The error of an inner request in terms of CreateJobRequest."""
    return InvalidField(f"request.{field}.{error.field}", error.problem, error.remedy)


async def _insist(action: Callable[[], Awaitable[_T]]) -> _T:
    """Does what the server can not go on without, again until the disk lets it."""
    while True:
        try:
            return await action()
        except (StorageFull, sqlite3.Error) as error:
            logger.error("jobs can not be written", message=str(error))
        await asyncio.sleep(_DISK_SECONDS)
