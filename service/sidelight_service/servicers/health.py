"""grpc.health.v1: the state of the server, of each service and of each model.

Names: ``""`` and ``liveness`` serve as soon as the front process is up; ``readiness`` once start-up has tried to
load all models and a worker is up; ``sidelight.v1.X`` for each service; ``models/NAME`` for each model.
"""

from __future__ import annotations

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from sidelight_service.repository.catalogue import Catalogue
from sidelight_service.worker.pool import WorkerPool

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

FRONT_SERVICES = (
    "sidelight.v1.ServerService",
    "",
    "liveness",
    "sidelight.v1.ModelService",
    "sidelight.v1.ReferenceService",
    "sidelight.v1.JobService",
)
"""What the front process serves by itself."""
EXPLAIN_SERVICE = "sidelight.v1.ExplainService"
READINESS = "readiness"


def model_service_name(model: str) -> str:
    """The health service name of a model."""
    return f"models/{model}"


class Health:
    """Keeps the health servicer in line with workers and models."""

    def __init__(self) -> None:
        self.servicer = health_aio.HealthServicer()
        self._models: set[str] = set()
        self._stopped = False

    async def start(self) -> None:
        """Says that the front process is up."""
        for name in FRONT_SERVICES:
            await self.servicer.set(name, _SERVING)

    async def update(self, catalogue: Catalogue, pool: WorkerPool) -> None:
        """Brings every name in line with the workers and the catalogue."""
        if self._stopped:
            return
        await self.servicer.set(EXPLAIN_SERVICE, _SERVING if pool.ready else _NOT_SERVING)
        ready = pool.ready and catalogue.settled.is_set()
        await self.servicer.set(READINESS, _SERVING if ready else _NOT_SERVING)
        self._models |= set(catalogue.names())
        for model in self._models:
            serving = pool.ready and catalogue.is_available(model)
            await self.servicer.set(model_service_name(model), _SERVING if serving else _NOT_SERVING)

    async def stop(self) -> None:
        """Says NOT_SERVING for every name from now on."""
        self._stopped = True
        await self.servicer.enter_graceful_shutdown()
