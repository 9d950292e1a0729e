"""What happens around every call: parsing, size limits, errors to statuses, one log line.

One interceptor does it for unary and streaming calls alike, so that no servicer has to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2

from sidelight_service.errors import CallCancelled, MalformedMessage, MessageTooLarge, NotAvailable
from sidelight_service.status import incident_of, to_status

logger = structlog.get_logger(__name__)

OURS = "/sidelight.v1."
STATUS_DETAILS = "grpc-status-details-bin"


@dataclass
class CallRecord:
    """What is known of the call that runs in this task.

    Attributes:
        raw: the bytes of its (unary) request.
        fields: what its log line says beside method, code and duration.
    """

    raw: bytes = b""
    fields: dict[str, Any] = field(default_factory=dict)


current_call: ContextVar[CallRecord] = ContextVar("current_call")
"""The call that runs in this task."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of the sidelight.v1 services; health and reflection are left as they are."""

    def __init__(self, max_message_bytes: int) -> None:
        self._limit = max_message_bytes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Finds the handler of a method and wraps it."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None:
            return grpc.unary_unary_rpc_method_handler(self._unknown(method))
        if not method.startswith(OURS):
            return handler
        name = method.rpartition("/")[2]
        wrapped = _WrappedMethod(name, handler, self._limit)
        # Parsing and serializing are ours, so that their faults get statuses like all others.
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(wrapped.stream_unary)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(wrapped.unary_stream)
        return grpc.unary_unary_rpc_method_handler(wrapped.unary_unary)

    @staticmethod
    def _unknown(method: str) -> Callable[[bytes, grpc.aio.ServicerContext[Any, Any]], Awaitable[bytes]]:
        async def answer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            await abort(
                context, to_status(NotAvailable(method, "the server has no such method; list them by reflection"))
            )

        return answer


class _WrappedMethod:
    def __init__(self, name: str, handler: grpc.RpcMethodHandler[Any, Any], limit: int) -> None:
        self._name = name
        self._handler: Any = handler
        self._limit = limit

    async def unary_unary(self, raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        async with _CallScope(self._name, context) as record:
            record.raw = raw
            response = await self._handler.unary_unary(self._parse(raw), context)
            return self._serialize(response, record)

    async def stream_unary(self, stream: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        async with _CallScope(self._name, context) as record:
            return self._serialize(await self._handler.stream_unary(self._parsed(stream), context), record)

    async def unary_stream(self, raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        async with _CallScope(self._name, context) as record:
            record.raw = raw
            async for response in self._handler.unary_stream(self._parse(raw), context):
                yield self._serialize(response, record)

    async def _parsed(self, stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for raw in stream:
            yield self._parse(raw)

    def _parse(self, raw: bytes) -> Any:
        if len(raw) > self._limit:
            remedy = "send fewer instances per call, or raise the server's max_message_mebibytes"
            raise MessageTooLarge("request", len(raw), self._limit, remedy)
        try:
            return self._handler.request_deserializer(raw)
        except DecodeError as error:
            raise MalformedMessage(
                f"the request is no {self._name}Request: {error}; check the client's stubs"
            ) from error

    def _serialize(self, response: Any, record: CallRecord) -> bytes:
        raw: bytes = response if isinstance(response, bytes) else self._handler.response_serializer(response)
        if len(raw) > self._limit:
            remedy = "ask for fewer instances or layers per call, or raise the server's max_message_mebibytes"
            raise MessageTooLarge("response", len(raw), self._limit, remedy)
        record.fields["response_bytes"] = record.fields.get("response_bytes", 0) + len(raw)
        return raw


class _CallScope:
    """Turns what a call raises into its status, and writes its log line."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._method = method
        self._context = context
        self._record = CallRecord()
        self._started = time.monotonic()

    async def __aenter__(self) -> CallRecord:
        current_call.set(self._record)
        return self._record

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._log("OK")
            return
        if isinstance(error, GeneratorExit):
            self._log("CANCELLED")
            return
        if isinstance(error, asyncio.CancelledError):
            # gRPC has already told the caller; the status is for the log.
            remaining = self._context.time_remaining()
            self._log("CANCELLED" if remaining is None or remaining > 0 else "DEADLINE_EXCEEDED")
            return
        status = to_status(error)
        incident = incident_of(status)
        if incident is not None:
            logger.error("incident", incident=incident, method=self._method, exc_info=error)
        self._log(code_pb2.Code.Name(status.code), message=status.message)
        await abort(self._context, status)

    def _log(self, code: str, **more: Any) -> None:
        fields = self._record.fields
        if self._record.raw:
            fields["request_bytes"] = len(self._record.raw)
        seconds = round(time.monotonic() - self._started, 6)
        logger.info("call", method=self._method, code=code, seconds=seconds, **fields, **more)


_CODES = {code.value[0]: code for code in grpc.StatusCode}


async def abort(context: grpc.aio.ServicerContext[Any, Any], status: status_pb2.Status) -> NoReturn:
    """Ends a call with a status and its details."""
    trailing = ((STATUS_DETAILS, status.SerializeToString()),)
    await context.abort(_CODES[status.code], status.message, trailing_metadata=trailing)
    raise CallCancelled("unreachable: abort always raises")
