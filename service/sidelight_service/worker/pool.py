"""The compute workers: starting, restarting, handing out, and the bounded queue in front of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import structlog
from sidelight_engines.errors import SidelightError

from sidelight_service.errors import CallTimedOut, QueueFull, ShuttingDown, WorkerLost
from sidelight_service.references.store import Location
from sidelight_service.status import Failure
from sidelight_service.worker.link import ProgressListener, WorkerLink

logger = structlog.get_logger(__name__)

_RESTART_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Delays before the restarts of a worker that keeps dying; the last one repeats."""
_STABLE_SECONDS = 60.0
"""A worker that has lived this long starts again without delay."""


@dataclass(frozen=True)
class LoadOrder:
    """What a worker must know to load a model.

    Attributes:
        key: what the model is called from then on.
        name: of the model.
        version: of the model.
        path: the version's folder.
        format: the value of a ModelFormat.
        digest: of the version's files.
    """

    key: str
    name: str
    version: int
    path: str
    format: str
    digest: str


@dataclass(eq=False)
class _Slot:
    """A place for one worker process."""

    link: WorkerLink | None = None
    busy: bool = False
    ready: bool = False


class WorkerPool:
    """All workers. Every worker holds every loaded model."""

    def __init__(
        self,
        count: int,
        options: Mapping[str, Any],
        queue_limit: int,
        on_change: Callable[[], None],
        on_model_lost: Callable[[str, SidelightError | Failure], None],
    ) -> None:
        """Prepares the pool; `start` starts it.

        Args:
            count: how many processes.
            options: what each worker's Options take.
            queue_limit: requests of one method that may wait.
            on_change: called when a worker becomes ready or dies.
            on_model_lost: called with a model's key when a restarted worker could not load it again.
        """
        self._slots = [_Slot() for _ in range(count)]
        self._options = dict(options)
        self._queue_limit = queue_limit
        self._on_change = on_change
        self._on_model_lost = on_model_lost
        self._orders: dict[str, LoadOrder] = {}
        self._waiting: Counter[str] = Counter()
        self._waiters: deque[asyncio.Future[_Slot]] = deque()
        self._patient: deque[asyncio.Future[_Slot]] = deque()
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False
        self.restarts = 0

    async def start(self) -> None:
        """Starts all workers and keeps them running from then on."""
        self._keepers = [asyncio.create_task(self._keep(slot)) for slot in self._slots]

    async def stop(self) -> None:
        """Ends all workers; calls under way fail with WorkerLost."""
        self._stopping = True
        for waiter in (*self._waiters, *self._patient):
            if not waiter.done():
                waiter.set_exception(ShuttingDown("the server is shutting down; call another replica"))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(slot.link.stop() for slot in self._slots if slot.link is not None))

    @property
    def ready(self) -> bool:
        """Whether a worker can take calls."""
        return any(slot.ready for slot in self._slots)

    @property
    def all_ready(self) -> bool:
        """Whether every worker can take calls."""
        return all(slot.ready for slot in self._slots)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are up."""
        return [slot.link.pid for slot in self._slots if slot.link is not None]

    async def load(self, order: LoadOrder) -> bytes:
        """Loads a model in every worker.

        Returns:
            The serialized ModelDetail.

        Raises:
            Failure: a worker could not load it; no worker keeps it.
            WorkerLost: a worker died over it.
        """
        await self._until_ready()
        links = [slot.link for slot in self._slots if slot.ready and slot.link is not None]
        # From here on a worker that starts anew loads it too.
        self._orders[order.key] = order
        try:
            answers = await asyncio.gather(*(link.call("load", **vars(order)) for link in links))
        except BaseException:
            self._orders.pop(order.key, None)
            await self._forget(order.key)
            raise
        return answers[0]

    async def unload(self, key: str) -> None:
        """Drops a model from every worker and answers when its memory is free."""
        self._orders.pop(key, None)
        await self._forget(key)

    async def describe(self, key: str, *, check_gradients: bool) -> bytes:
        """Describes a model, if asked after making its gradient check; the serialized ModelDetail."""
        await self._until_ready()
        links = [slot.link for slot in self._slots if slot.ready and slot.link is not None]
        answers = await asyncio.gather(
            *(link.call("describe", key=key, check_gradients=check_gradients) for link in links)
        )
        return answers[0]

    async def run(
        self,
        method: str,
        key: str,
        request: bytes,
        deadline: float,
        references: Mapping[str, Location] = MappingProxyType({}),
        models: Mapping[str, str] = MappingProxyType({}),
        *,
        low_priority: bool = False,
        on_progress: ProgressListener | None = None,
    ) -> bytes:
        """Runs a method on a model in the next free worker.

        Args:
            method: the name of the RPC.
            key: the model.
            request: the serialized request.
            deadline: when to give up, on the clock of time.monotonic().
            references: where the reference sets are that the request names, by name; the caller holds leases.
            models: the models that the request names beside its own, by path in it; the caller holds leases.
            low_priority: takes a worker only when no other call waits for one, and waits as long as it takes.
            on_progress: told (units done, units in all) now and then.

        Returns:
            The serialized response.

        Raises:
            QueueFull: too many requests of this method wait already.
            CallTimedOut: the deadline passed; the worker stops within one chunk.
            WorkerLost: the worker died during the call.
            Failure: the worker answered with an error.
        """
        began = time.monotonic()
        slot = await (self._take_last() if low_priority else self._take(method, deadline))
        waited = time.monotonic() - began
        link = slot.link
        try:
            if link is None:
                raise WorkerLost("the compute worker is gone and being restarted; retry")
            call, answer = link.begin(
                "run",
                request,
                on_progress=on_progress,
                method=method,
                key=key,
                deadline=deadline,
                waited=waited,
                references={name: vars(location) for name, location in references.items()},
                models=dict(models),
            )
        except WorkerLost:
            self._give_back(slot)
            raise
        # The slot is free when the worker says so, also if we no longer wait for it.
        answer.add_done_callback(lambda done: self._finish(slot, done))
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            link.cancel(call)
            raise CallTimedOut("the deadline passed while the model was being explained; allow more time") from error
        except asyncio.CancelledError:
            link.cancel(call)
            raise

    def _finish(self, slot: _Slot, answer: asyncio.Future[bytes]) -> None:
        if not answer.cancelled():
            answer.exception()  # seen here, in case the caller has gone
        self._give_back(slot)

    async def _take(self, method: str, deadline: float) -> _Slot:
        if self._stopping:
            raise ShuttingDown("the server is shutting down; call another replica")
        free = self._free_slot()
        if free is not None:
            free.busy = True
            return free
        if self._waiting[method] >= self._queue_limit:
            raise QueueFull(method, self._queue_limit)
        waiter: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._waiting[method] += 1
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self._wait_in(self._waiters, waiter)
        except TimeoutError as error:
            raise CallTimedOut("the deadline passed while the request waited for a worker; allow more time") from error
        finally:
            self._waiting[method] -= 1

    async def _take_last(self) -> _Slot:
        """Takes a slot that no other call waits for."""
        if self._stopping:
            raise ShuttingDown("the server is shutting down; call another replica")
        free = None if self._patient else self._free_slot()
        if free is not None:
            free.busy = True
            return free
        waiter: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._patient.append(waiter)
        return await self._wait_in(self._patient, waiter)

    async def _wait_in(self, line: deque[asyncio.Future[_Slot]], waiter: asyncio.Future[_Slot]) -> _Slot:
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())
            raise
        finally:
            with contextlib.suppress(ValueError):  # it was handed out and is no longer in line
                line.remove(waiter)

    def _free_slot(self) -> _Slot | None:
        if self._waiters:  # first come, first served
            return None
        return next((slot for slot in self._slots if slot.ready and not slot.busy), None)

    def _give_back(self, slot: _Slot) -> None:
        slot.busy = False
        self._hand_out()

    def _hand_out(self) -> None:
        for slot in self._slots:
            while slot.ready and not slot.busy and (self._waiters or self._patient):
                waiter = (self._waiters or self._patient).popleft()
                if not waiter.done():
                    slot.busy = True
                    waiter.set_result(slot)

    async def _until_ready(self) -> None:
        while not self.ready:
            if self._stopping:
                raise ShuttingDown("the server is shutting down; call another replica")
            await asyncio.sleep(0.02)

    async def _forget(self, key: str) -> None:
        links = [slot.link for slot in self._slots if slot.link is not None and slot.link.alive]
        results = await asyncio.gather(*(link.call("unload", key=key) for link in links), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, WorkerLost):
                raise result

    async def _keep(self, slot: _Slot) -> None:
        """Keeps one worker running: starts it, loads its models, waits for its death, again."""
        failures = 0
        while True:
            await asyncio.sleep(_RESTART_SECONDS[min(failures, len(_RESTART_SECONDS) - 1)])
            started = time.monotonic()
            try:
                link = await WorkerLink.start(self._options)
            except OSError as error:
                failures += 1
                logger.error("worker can not be started", error=str(error))
                continue
            slot.link = link
            try:
                await self._equip(link)
                slot.ready = True
                logger.info("worker ready", pid=link.pid, seconds=round(time.monotonic() - started, 3))
                self._on_change()
                self._hand_out()
            except WorkerLost:
                pass  # it died while loading; below it is counted and started anew
            code = await link.wait_ended()
            slot.ready = False
            slot.link = None
            self.restarts += 1
            failures = 0 if time.monotonic() - started > _STABLE_SECONDS else failures + 1
            logger.error(
                "worker died",
                pid=link.pid,
                exit_code=code,
                restart_number=self.restarts,
                last_output=link.last_output,
            )
            self._on_change()

    async def _equip(self, link: WorkerLink) -> None:
        """Loads into a new worker every model that is loaded, also those that are being loaded meanwhile."""
        await link.call("ping")
        loaded: set[str] = set()
        while missing := [order for key, order in self._orders.items() if key not in loaded]:
            order = missing[0]
            loaded.add(order.key)
            try:
                await link.call("load", **vars(order))
            except Failure as error:
                if self._orders.pop(order.key, None) is not None:
                    self._on_model_lost(order.key, error)
            else:
                if order.key not in self._orders:  # dropped while it was being loaded
                    await link.call("unload", key=order.key)
