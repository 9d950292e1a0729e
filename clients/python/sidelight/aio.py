"""The asyncio client: the calls of `sidelight.client.Client`, awaited."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc
import grpc.aio
from google.protobuf.message import Message
from numpy.typing import ArrayLike

from sidelight.activation_pattern import ActivationPatternExplanation, decode_activation_pattern
from sidelight.activation_pattern_options import (
    ActivationPatternOptions,
    activation_pattern_request,
    shows_activation_pattern_options,
)
from sidelight.aio_job import AsyncJob
from sidelight.arrays import Inputs
from sidelight.channel import DEFAULT_MAX_MESSAGE_BYTES, Option, channel_options
from sidelight.client import Progress
from sidelight.decode import decode_model, decode_model_detail, decode_server_info
from sidelight.errors import from_rpc_error
from sidelight.influence import InfluenceExplanation
from sidelight.influence_decode import decode_influence
from sidelight.influence_options import InfluenceOptions, check_size, influence_request, shows_influence_options
from sidelight.jobs import create_request, decode_job, list_request, unknown_job
from sidelight.linearity import LinearityExplanation
from sidelight.linearity_options import LinearityOptions, instances, linearity_request, shows_linearity_options
from sidelight.linearity_run import LinearityRun
from sidelight.lrp import LrpExplanation
from sidelight.lrp_options import LrpOptions, lrp_request, shows_lrp_options
from sidelight.lrp_run import LrpRun
from sidelight.models import Model, ModelDetail, ServerInfo
from sidelight.pace import Deadline
from sidelight.references import ReferenceSet, decode_reference
from sidelight.selection import ReferenceSelection, parse_model
from sidelight.similarity_calls import AsyncSimilarityCalls
from sidelight.upload import Examples, Upload
from sidelight.v1 import (
    explain_service_pb2_grpc,
    job_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    reference_service_pb2,
    reference_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
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


class AsyncClient(AsyncSimilarityCalls):
    """A connection to a Sidelight server, for asyncio. Use it with ``async with``, or `close` it."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        options: Sequence[Option] = (),
    ) -> None:
        """See `sidelight.connect`."""
        self.target = target
        self._max_message_bytes = max_message_bytes
        all_options = channel_options(max_message_bytes, options)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, all_options)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, all_options)
        self._server = server_service_pb2_grpc.ServerServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._references = reference_service_pb2_grpc.ReferenceServiceStub(self._channel)
        self._explain = explain_service_pb2_grpc.ExplainServiceStub(self._channel)
        self._jobs = job_service_pb2_grpc.JobServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls under way are cancelled."""
        await self._channel.close()

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

    @shows_linearity_options
    async def linearity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        instances_per_call: int | None = None,
        **options: Unpack[LinearityOptions],
    ) -> LinearityExplanation:
        """See `sidelight.Client.linearity`."""
        deadline = Deadline(timeout)
        run = LinearityRun(
            model,
            x,
            options,
            instances_per_call=instances_per_call,
            paced=progress is not None,
            max_message_bytes=self._max_message_bytes,
        )
        while (request := run.next_request()) is not None:
            started = time.monotonic()
            response = await self._call(self._explain.ExplainLinearity, request, deadline)
            run.accept(response, time.monotonic() - started)
            if progress is not None:
                progress(run.done, run.total)
        return run.result()

    @shows_linearity_options
    async def submit_linearity(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[LinearityOptions],
    ) -> AsyncJob[LinearityExplanation]:
        """See `sidelight.Client.submit_linearity`."""
        request = linearity_request(model, options)
        request.instances.CopyFrom(instances(x, "x"))
        return await self._submit(request, idempotency_key, timeout)

    @shows_activation_pattern_options
    async def activation_pattern(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        timeout: float | None = None,
        **options: Unpack[ActivationPatternOptions],
    ) -> ActivationPatternExplanation:
        """See `sidelight.Client.activation_pattern`."""
        request = activation_pattern_request(model, x, options, self._max_message_bytes)
        answer = await self._call(self._explain.ExplainActivationPattern, request, Deadline(timeout))
        return decode_activation_pattern(answer)

    @shows_activation_pattern_options
    async def submit_activation_pattern(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[ActivationPatternOptions],
    ) -> AsyncJob[ActivationPatternExplanation]:
        """See `sidelight.Client.submit_activation_pattern`."""
        request = activation_pattern_request(model, x, options, self._max_message_bytes)
        return await self._submit(request, idempotency_key, timeout)

    @shows_influence_options
    async def influence(
        self,
        model: str | None = None,
        x: Inputs | ReferenceSelection | None = None,
        *,
        reference: str | ReferenceSelection | None = None,
        timeout: float | None = None,
        **options: Unpack[InfluenceOptions],
    ) -> InfluenceExplanation:
        """See `sidelight.Client.influence`."""
        request = influence_request(model, x, reference, options)
        check_size(request, self._max_message_bytes)
        return decode_influence(await self._call(self._explain.ExplainInfluence, request, Deadline(timeout)))

    @shows_influence_options
    async def submit_influence(
        self,
        model: str | None = None,
        x: Inputs | ReferenceSelection | None = None,
        *,
        reference: str | ReferenceSelection | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[InfluenceOptions],
    ) -> AsyncJob[InfluenceExplanation]:
        """See `sidelight.Client.submit_influence`."""
        request = influence_request(model, x, reference, options)
        return await self._submit(request, idempotency_key, timeout)

    @shows_lrp_options
    async def lrp(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
        instances_per_call: int | None = None,
        **options: Unpack[LrpOptions],
    ) -> LrpExplanation:
        """See `sidelight.Client.lrp`."""
        deadline = Deadline(timeout)
        run = LrpRun(
            model,
            x,
            options,
            instances_per_call=instances_per_call,
            paced=progress is not None,
            max_message_bytes=self._max_message_bytes,
        )
        while (request := run.next_request()) is not None:
            started = time.monotonic()
            response = await self._call(self._explain.ExplainLrp, request, deadline)
            run.accept(response, time.monotonic() - started)
            if progress is not None:
                progress(run.done, run.total)
        return run.result()

    @shows_lrp_options
    async def submit_lrp(
        self,
        model: str,
        x: Inputs | ReferenceSelection,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[LrpOptions],
    ) -> AsyncJob[LrpExplanation]:
        """See `sidelight.Client.submit_lrp`."""
        request = lrp_request(model, options)
        request.instances.CopyFrom(instances(x, "x"))
        create = create_request(request, idempotency_key, self._max_message_bytes)
        answer = await self._call(self._jobs.CreateJob, create, Deadline(timeout))
        return AsyncJob(decode_job(answer.job), self, self._jobs)

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

    async def _submit(self, request: Message, idempotency_key: str | None, timeout: float | None) -> AsyncJob[Any]:
        create = create_request(request, idempotency_key, self._max_message_bytes)
        answer = await self._call(self._jobs.CreateJob, create, Deadline(timeout))
        return AsyncJob(decode_job(answer.job), self, self._jobs)

    async def _call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response], request: _Request, deadline: Deadline
    ) -> _Response:
        remaining = deadline.remaining()
        try:
            return await method(request, timeout=remaining)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self.target) from error
