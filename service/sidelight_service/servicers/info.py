"""ServerService: the server's version, methods and limits."""

from __future__ import annotations

from typing import Any

import grpc.aio
from google.protobuf import duration_pb2
from sidelight.v1 import server_service_pb2, server_service_pb2_grpc

from sidelight_service import __version__
from sidelight_service.methods.names import METHOD_OF_RPC
from sidelight_service.settings import Settings


class InfoServicer(server_service_pb2_grpc.ServerServiceServicer):
    """ServerService over the settings."""

    def __init__(self, settings: Settings) -> None:
        longest = duration_pb2.Duration()
        longest.FromNanoseconds(int(settings.max_call_seconds * 1e9))
        self._info = server_service_pb2.GetServerInfoResponse(
            version=__version__,
            methods=sorted(METHOD_OF_RPC.values()),
            max_message_bytes=settings.max_message_bytes,
            max_call_duration=longest,
            queue_limit=settings.queue_limit,
        )

    async def GetServerInfo(  # noqa: N802 - the contract's name
        self, request: server_service_pb2.GetServerInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> server_service_pb2.GetServerInfoResponse:
        """Tells the server's version, methods and limits."""
        return self._info
