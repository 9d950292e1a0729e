"""The asyncio client: the calls of `sidelight.client.Client`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
from numpy.typing import ArrayLike

from sidelight.activation_pattern_calls import AsyncActivationPatternCalls
from sidelight.aio_job import AsyncJob
from sidelight.channel import DEFAULT_MAX_MESSAGE_BYTES, Option
from sidelight.connection import Progress
from sidelight.decode import decode_model, decode_model_detail, decode_server_info
from sidelight.errors import from_rpc_error
from sidelight.influence_calls import AsyncInfluenceCalls
from sidelight.jobs import decode_job, list_request, unknown_job
from sidelight.linearity_calls import AsyncLinearityCalls
from sidelight.lrp_calls import AsyncLrpCalls
from sidelight.models import Model, ModelDetail, ServerInfo
from sidelight.pace import Deadline
from sidelight.references import ReferenceSet, decode_reference
from sidelight.selection import parse_model
from sidelight.similarity_calls import AsyncSimilarityCalls
from sidelight.upload import Examples, Upload
from sidelight.v1 import (
    model_service_pb2,
    reference_service_pb2,
    server_service_pb2,
)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


def connect_async(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    options: Sequence[Option] = (),
) -> AsyncClient:
    """Makes an asyncio client of a server; call it where the event loop runs. See `sidelight.connect`."""
    return AsyncClient(target, credentials=credentials, max_message_bytes=max_message_bytes, options=options)


class AsyncClient(
    AsyncLinearityCalls, AsyncSimilarityCalls, AsyncLrpCalls, AsyncActivationPatternCalls, AsyncInfluenceCalls
):
    """A connection to a Sidelight server, for asyncio. Use it with ``async with``, or `close` it."""

    async def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """See `sidelight.Client.server_info`."""
        request = server_service_pb2.GetServerInfoRequest()
        return decode_server_info(await self._call(self._server.GetServerInfo, request, Deadline(timeout)))

    async def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """See `sidelight.Client.models`."""
        deadline = Deadline(timeout)
        found: list[Model] = []
        request = model_service_pb2.ListModelsRequest()
        while True:
            response = await self._call(self._models.ListModels, request, deadline)
            found.extend(decode_model(model) for model in response.models)
            if not response.next_page_token:
                return tuple(found)
            request = model_service_pb2.ListModelsRequest(page_token=response.next_page_token)

    async def model(self, model: str, *, timeout: float | None = None) -> ModelDetail:
        """See `sidelight.Client.model`."""
        request = model_service_pb2.GetModelRequest(model=parse_model(model))
        return decode_model_detail((await self._call(self._models.GetModel, request, Deadline(timeout))).model)

    async def load(self, model: str, *, check_gradients: bool = False, timeout: float | None = None) -> ModelDetail:
        """See `sidelight.Client.load`."""
        request = model_service_pb2.LoadModelRequest(model=parse_model(model), check_gradients=check_gradients)
        return decode_model_detail((await self._call(self._models.LoadModel, request, Deadline(timeout))).model)

    async def unload(self, model: str, *, timeout: float | None = None) -> Model:
        """See `sidelight.Client.unload`."""
        request = model_service_pb2.UnloadModelRequest(model=parse_model(model))
        return decode_model((await self._call(self._models.UnloadModel, request, Deadline(timeout))).model)

    async def references(self, *, timeout: float | None = None) -> tuple[ReferenceSet, ...]:
        """See `sidelight.Client.references`."""
        deadline = Deadline(timeout)
        found: list[ReferenceSet] = []
        request = reference_service_pb2.ListReferencesRequest()
        while True:
            response = await self._call(self._references.ListReferences, request, deadline)
            found.extend(decode_reference(reference) for reference in response.references)
            if not response.next_page_token:
                return tuple(found)
            request = reference_service_pb2.ListReferencesRequest(page_token=response.next_page_token)

    async def reference(self, name: str, *, feature_ranges: bool = False, timeout: float | None = None) -> ReferenceSet:
        """See `sidelight.Client.reference`."""
        request = reference_service_pb2.GetReferenceRequest(name=name, feature_ranges=feature_ranges)
        return decode_reference((await self._call(self._references.GetReference, request, Deadline(timeout))).reference)

    async def create_reference(
        self,
        name: str,
        x: Examples | AsyncIterator[Any],
        labels: ArrayLike | None = None,
        *,
        model: str | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> ReferenceSet:
        """See `sidelight.Client.create_reference`. An iterator of chunks may be asynchronous."""
        remaining = Deadline(timeout).remaining()
        upload = Upload(name, x, labels, model or "", progress, self._max_message_bytes)
        try:
            response = await self._references.CreateReference(upload.messages_async(), timeout=remaining)
        except grpc.RpcError as error:
            if upload.failure is not None:
                raise upload.failure from error
            raise from_rpc_error(error, self.target) from error
        return decode_reference(response.reference)

    async def import_reference(
        self,
        name: str,
        path: str,
        *,
        inputs_key: str | None = None,
        labels_key: str | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> ReferenceSet:
        """See `sidelight.Client.import_reference`."""
        request = reference_service_pb2.ImportReferenceRequest(
            name=name, path=path, inputs_key=inputs_key or "", labels_key=labels_key or "", model=model or ""
        )
        return decode_reference(
            (await self._call(self._references.ImportReference, request, Deadline(timeout))).reference
        )

    async def delete_reference(self, name: str, *, timeout: float | None = None) -> None:
        """See `sidelight.Client.delete_reference`."""
        request = reference_service_pb2.DeleteReferenceRequest(name=name)
        await self._call(self._references.DeleteReference, request, Deadline(timeout))

    async def jobs(self, *, states: Sequence[str] = (), timeout: float | None = None) -> tuple[AsyncJob[Any], ...]:
        """See `sidelight.Client.jobs`."""
        deadline = Deadline(timeout)
        found: list[AsyncJob[Any]] = []
        request = list_request(states)
        while True:
            response = await self._call(self._jobs.ListJobs, request, deadline)
            found.extend(AsyncJob(decode_job(job), self, self._jobs) for job in response.jobs)
            if not response.next_page_token:
                return tuple(found)
            request.page_token = response.next_page_token

    async def job(self, job: str, *, timeout: float | None = None) -> AsyncJob[Any]:
        """See `sidelight.Client.job`."""
        return await AsyncJob(unknown_job(job), self, self._jobs).refresh(timeout=timeout)
