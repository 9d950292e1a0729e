"""The front process: puts the parts together, listens, and ends in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any

import grpc.aio
import structlog
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from sidelight.v1 import (
    explain_service_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    reference_service_pb2,
    reference_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
)

from sidelight_service import __version__
from sidelight_service.calls import CallInterceptor
from sidelight_service.indexes.keeper import IndexKeeper
from sidelight_service.jobs.jobs import Jobs
from sidelight_service.logs import configure_logs
from sidelight_service.references.store import ReferenceStore
from sidelight_service.repository.catalogue import Catalogue
from sidelight_service.servicers.explanations import Explanations
from sidelight_service.servicers.health import Health
from sidelight_service.servicers.info import InfoServicer
from sidelight_service.servicers.jobs import JobServicer
from sidelight_service.servicers.models import ModelServicer
from sidelight_service.servicers.references import ReferenceServicer
from sidelight_service.servicers.reflection import add_reflection
from sidelight_service.settings import MEBIBYTE, Settings
from sidelight_service.worker.pool import WorkerPool

logger = structlog.get_logger(__name__)


class Server:
    """A Sidelight server. `start`, then `stop`; both in one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Prepares a server.

        Args:
            settings: its settings.

        Raises:
            OSError: the data directory can not be used.
        """
        self._settings = settings
        self._changed = asyncio.Event()
        self._health = Health()
        self.catalogue = Catalogue(settings, on_change=lambda model: self._changed.set())
        self.references = ReferenceStore(settings.data)
        self._pool = WorkerPool(
            settings.workers,
            {
                "threads": settings.threads,
                "chunk_bytes": settings.chunk_mebibytes * MEBIBYTE,
                "log_format": settings.log_format.value,
                "log_level": settings.log_level,
                "message_bytes": settings.max_message_bytes,
                "unindexed_bytes": settings.unindexed_mebibytes * MEBIBYTE,
                "indexes": None if settings.indexes is None else str(settings.indexes),
                "index_bytes": settings.index_mebibytes * MEBIBYTE,
            },
            settings.queue_limit,
            on_change=self._changed.set,
            on_model_lost=self.catalogue.lose,
        )
        data = settings.data
        self._jobs = None if data is None else Jobs(data, settings, self.catalogue, self.references, self._pool)
        self._indexes = (
            None if self._jobs is None else IndexKeeper(settings, self.catalogue, self.references, self._jobs)
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.addresses: tuple[str, ...] = ()
        """Where the server listens, once started, with the ports that were taken."""
        self._grpc = self._make_grpc_server()

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the compute workers."""
        return self._pool.pids

    @property
    def all_workers_ready(self) -> bool:
        """Whether every worker can take calls."""
        return self._pool.all_ready

    async def start(self) -> None:
        """Listens and starts loading models; returns as soon as calls are taken.

        Raises:
            OSError: an address can not be listened on, or the data directory not be written to.
        """
        await asyncio.to_thread(self.references.prepare)
        if self._indexes is not None:
            await asyncio.to_thread(self._indexes.prepare)
        self.addresses = tuple(self._listen(address) for address in self._settings.addresses)
        await self._health.start()
        await self._grpc.start()
        await self._pool.start()
        self._tasks = [
            asyncio.create_task(self.catalogue.run(self._pool)),
            asyncio.create_task(self._follow_changes()),
        ]
        if self._jobs is not None:
            await self._jobs.start()
        if self._indexes is not None:
            self._tasks.append(asyncio.create_task(self._indexes.run()))
        logger.info("serving", addresses=self.addresses, version=__version__, models=str(self._settings.models))

    async def stop(self) -> None:
        """Says NOT_SERVING, lets calls under way end, and ends the workers."""
        logger.info("stopping", drain_seconds=self._settings.drain_seconds)
        await self._health.stop()
        # First, because the calls under way need the workers, and followers would hold up the end.
        if self._jobs is not None:
            await self._jobs.stop()
        await self._grpc.stop(self._settings.drain_seconds)
        if self._jobs is not None:
            await self._jobs.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.stop()
        logger.info("stopped")

    async def _follow_changes(self) -> None:
        settled = asyncio.create_task(self.catalogue.settled.wait())
        settled.add_done_callback(lambda _: self._changed.set())
        while True:
            await self._health.update(self.catalogue, self._pool)
            await self._changed.wait()
            self._changed.clear()

    def _make_grpc_server(self) -> grpc.aio.Server:
        limit = self._settings.max_message_bytes
        options: list[tuple[str, Any]] = [
            # Between the limit and twice as much the interceptor refuses, with a full status; above, gRPC does.
            ("grpc.max_receive_message_length", 2 * limit),
            ("grpc.max_send_message_length", limit),
            # A second server on the port must fail to start, not share it.
            ("grpc.so_reuseport", 0),
            # Clients may ping an idle connection every 30 seconds (gRPC's keepalive guide).
            ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
        server = grpc.aio.server(interceptors=[CallInterceptor(limit)], options=options)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(self.catalogue), server)
        server_service_pb2_grpc.add_ServerServiceServicer_to_server(InfoServicer(self._settings), server)
        job_service_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(self._jobs), server)
        reference_service_pb2_grpc.add_ReferenceServiceServicer_to_server(
            ReferenceServicer(self.references, self.catalogue, self._settings), server
        )
        explanations = Explanations(self.catalogue, self.references, self._pool, self._settings.max_call_seconds)
        server.add_generic_rpc_handlers((explanations.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, server)
        if self._settings.channelz:
            channelz.add_channelz_servicer(server)
        if self._settings.reflection:
            add_reflection(server, (*_service_names(), HEALTH_SERVICE))
        return server

    def _listen(self, address: str) -> str:
        try:
            port = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"can not listen on {address}: it is taken, or not an address of this machine") from error
        if address.startswith("unix:"):
            return address
        return f"{address.rpartition(':')[0]}:{port}"


def _service_names() -> list[str]:
    files = (server_service_pb2, model_service_pb2, reference_service_pb2, explain_service_pb2, job_service_pb2)
    return [service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()]


async def serve(settings: Settings) -> int:
    """Runs a server until SIGTERM or SIGINT; the exit code.

    Args:
        settings: the server's.

    Raises:
        OSError: an address can not be listened on.
    """
    configure_logs(settings.log_format.value, settings.log_level, sys.stderr)
    began = time.monotonic()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(settings)
    await server.start()
    logger.info("ready for calls", seconds=round(time.monotonic() - began, 3), pid=os.getpid())
    await stop.wait()
    await server.stop()
    return 0
