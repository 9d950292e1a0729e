"""Runs one job on the workers: in slices where its method has them, so that no call waits long behind it."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from sidelight.v1 import error_pb2, job_pb2, model_pb2
from sidelight_engines.errors import SidelightError

from sidelight_service.errors import CallCancelled, MessageTooLarge, WorkerLost
from sidelight_service.jobs.progress import Meter, SlicePace
from sidelight_service.jobs.records import JobRecord
from sidelight_service.jobs.slices import SLICERS, Slicer
from sidelight_service.jobs.store import JobStore
from sidelight_service.jobs.work import Work, result_of, work_of
from sidelight_service.references.resolving import leased
from sidelight_service.references.store import Location, ReferenceStore
from sidelight_service.repository.catalogue import Catalogue
from sidelight_service.repository.leasing import leased_model
from sidelight_service.repository.resolving import leased_models
from sidelight_service.status import Failure, error_info, reason_name
from sidelight_service.worker.pool import WorkerPool

logger = structlog.get_logger(__name__)

_SLICE_SECONDS = 1.0
_MOST_ATTEMPTS = 3
_RETRY_SECONDS = 0.5
_ENVELOPE_BYTES = 64
_NEXT_LOOK = 1.25


@dataclass(frozen=True)
class Running:
    """A job while it runs.

    Attributes:
        record: as it was when it began to run.
        meter: its progress.
        on_change: called when progress was made.
    """

    record: JobRecord
    meter: Meter
    on_change: Callable[[], None] = field(compare=False)


@dataclass(frozen=True)
class _Explained:
    """What a job explains, held while it runs.

    Attributes:
        key: of the model in the workers.
        references: where the reference sets are that its request names, by name.
        models: the models that it names beside its own, by path.
    """

    key: str
    references: Mapping[str, Location]
    models: Mapping[str, str]


class JobRunner:
    """Runs jobs, each to its result or error."""

    def __init__(
        self,
        store: JobStore,
        catalogue: Catalogue,
        references: ReferenceStore,
        pool: WorkerPool,
        max_message_bytes: int,
    ) -> None:
        """Takes what jobs are run with.

        Args:
            store: keeps finished slices.
            catalogue: has the models.
            references: has the reference sets.
            pool: the workers.
            max_message_bytes: a result that is larger could not be read.
        """
        self._store = store
        self._catalogue = catalogue
        self._references = references
        self._pool = pool
        self._max_message_bytes = max_message_bytes

    async def run(self, job: Running) -> bytes:
        """Runs a job from where it stands.

        Returns:
            The serialized JobResult.

        Raises:
            SidelightError, Failure: why it failed.
        """
        record = job.record
        if (await self._store.get(record.id)).ended:
            raise CallCancelled("the job was cancelled before it ran")
        if record.attempts > _MOST_ATTEMPTS:
            raise WorkerLost(
                f"the server ended {_MOST_ATTEMPTS} times while it worked on the part behind unit {record.done}; "
                "look for its reason, such as memory, before you create the job again"
            )
        work = work_of(job_pb2.JobRequest.FromString(await self._store.request(record.id)))
        # Held to the end: a new version of the model does not disturb a job that runs.
        pinned = self._pinned(work.request.model, record)
        with leased_model(self._catalogue, work.method, work.request, pinned) as lease:
            done = await self._store.bind(record, lease.version, lease.digest)
            if done < record.done:
                logger.warning("job starts over: its model has changed", job=record.id, digest=lease.digest)
            slicer = SLICERS.get(work.method)
            async with contextlib.AsyncExitStack() as stack:
                models = stack.enter_context(leased_models(self._catalogue, work.request))
                locations = await stack.enter_async_context(leased(self._references, work.request))
                model = _Explained(lease.key, locations, models)
                if slicer is None or not (slicer.needs_resolving(work.request) or slicer.count(work.request)):
                    response = await self._call(job, model, work.method, work.request.SerializeToString(), 0)
                else:
                    response = await self._in_slices(job, work, slicer, model, done)
        self._require_size(len(response))
        return await asyncio.to_thread(result_of, work.field, response)

    async def _in_slices(self, job: Running, work: Work, slicer: Slicer, model: _Explained, done: int) -> bytes:
        request = work.request
        if not done or slicer.needs_resolving(request):
            answer = await self._call(job, model, slicer.check_method, request.SerializeToString(), 0)
            request = slicer.resolved(request, answer)
        total = slicer.count(request) or 0
        job.meter.advance(done, total)
        pace = SlicePace(_SLICE_SECONDS, slicer.smallest(request))
        size, bound = await self._store.slice_bytes(job.record), float(self._max_message_bytes)
        while done < total:
            units = min(pace.size, total - done)
            try:
                # Large messages are made in a thread: the front has health checks to answer.
                part = await asyncio.to_thread(slicer.part, request, done, units)
                response = await self._call(job, model, work.method, part, done)
            except Failure as error:
                raise slicer.relocate(error, done) from error
            await self._store.save_slice(job.record, done, units, total, response)
            pace.took(units, slicer.seconds(response))
            done += units
            size += len(response)
            if size > bound:  # names and provenance, which slices repeat, count once
                self._require_size(len(await self._merged(job, slicer, request)))
                bound = size * _NEXT_LOOK
            job.meter.advance(done, total)
            job.on_change()
        merged = await self._merged(job, slicer, request)
        order = await asyncio.to_thread(slicer.finishing, request, merged)
        return merged if order is None else await self._call(job, model, slicer.finish_method, order, done)

    async def _merged(self, job: Running, slicer: Slicer, request: Any) -> bytes:
        return await asyncio.to_thread(slicer.merge, request, await self._store.slices(job.record))

    async def _call(self, job: Running, model: _Explained, method: str, request: bytes, first: int) -> bytes:
        """Has a worker run a method, and again if it dies over it."""

        def on_progress(done: int, total: int) -> None:
            job.meter.advance(first + done, job.meter.total or total)
            job.on_change()

        while True:
            try:
                return await self._pool.run(
                    method,
                    model.key,
                    request,
                    math.inf,
                    model.references,
                    model.models,
                    low_priority=True,
                    on_progress=on_progress,
                )
            except (WorkerLost, Failure) as error:
                if not _is_lost_worker(error):
                    raise
                attempts = await self._store.count_attempt(job.record)
                logger.warning("job lost its worker", job=job.record.id, method=method, attempts=attempts - 1)
                if attempts > _MOST_ATTEMPTS:
                    raise WorkerLost(
                        f"the compute worker died {_MOST_ATTEMPTS} times over the part behind unit {first}; "
                        "look for its reason in the server's log, such as memory, before you create the job again"
                    ) from error
            await asyncio.sleep(_RETRY_SECONDS)

    def _pinned(self, selector: model_pb2.ModelSelector, record: JobRecord) -> model_pb2.ModelSelector:
        """The version that the finished slices were made with, if it still serves that content."""
        if record.digest:
            pinned = model_pb2.ModelSelector(name=selector.name, version=record.version)
            with contextlib.suppress(SidelightError), self._catalogue.lease(pinned) as (_, serving):
                if serving.digest == record.digest:
                    return pinned
        return selector

    def _require_size(self, size: int) -> None:
        """Refuses to go on with a result that no message has room for, rather than after hours."""
        if size + _ENVELOPE_BYTES > self._max_message_bytes:
            remedy = "split the work into several jobs, or raise the server's max_message_mebibytes"
            raise MessageTooLarge("result", size, self._max_message_bytes, remedy)


def _is_lost_worker(error: WorkerLost | Failure) -> bool:
    if isinstance(error, WorkerLost):
        return True
    info = error_info(error.status)
    return info is not None and info.reason == reason_name(error_pb2.ERROR_REASON_WORKER_LOST)
