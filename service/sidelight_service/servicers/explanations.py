"""ExplainService: finds the model and hands the request, as it came, to a compute worker.

All its methods are served by one piece of code, so a new method needs nothing here.
"""

from __future__ import annotations

import time
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from sidelight.v1 import explain_service_pb2

from sidelight_service.calls import current_call
from sidelight_service.references.resolving import leased
from sidelight_service.references.store import ReferenceStore
from sidelight_service.repository.catalogue import Catalogue
from sidelight_service.repository.leasing import leased_model
from sidelight_service.repository.resolving import leased_models
from sidelight_service.worker.pool import WorkerPool

Context = grpc.aio.ServicerContext[Any, Any]

_SERVICE = explain_service_pb2.DESCRIPTOR.services_by_name["ExplainService"]


class Explanations:
    """ExplainService over the workers."""

    def __init__(
        self, catalogue: Catalogue, references: ReferenceStore, pool: WorkerPool, max_call_seconds: float
    ) -> None:
        self._catalogue = catalogue
        self._references = references
        self._pool = pool
        self._max_call_seconds = max_call_seconds

    def handler(self) -> grpc.GenericRpcHandler:
        """What serves the methods."""
        methods = {method.name: self._handler_of(method) for method in _SERVICE.methods}
        return grpc.method_handlers_generic_handler(_SERVICE.full_name, methods)

    def _handler_of(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        async def explain(request: Any, context: Context) -> bytes:
            return await self._explain(method.name, request, context)

        return grpc.unary_unary_rpc_method_handler(
            explain, request_deserializer=GetMessageClass(method.input_type).FromString
        )

    async def _explain(self, method: str, request: Any, context: Context) -> bytes:
        call = current_call.get()
        call.fields["model"] = request.model.name
        remaining = context.time_remaining()
        allowed = self._max_call_seconds if remaining is None else min(remaining, self._max_call_seconds)
        with leased_model(self._catalogue, method, request) as lease:
            call.fields.update(version=lease.version, digest=lease.digest)
            deadline = time.monotonic() + allowed
            with leased_models(self._catalogue, request) as models:
                async with leased(self._references, request) as locations:
                    return await self._pool.run(method, lease.key, call.raw, deadline, locations, models)
