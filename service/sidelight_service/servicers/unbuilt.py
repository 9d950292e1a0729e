"""RPCs that the contract has and this server does not: each answers UNIMPLEMENTED with an ErrorInfo."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from sidelight_service.errors import NotBuiltYet


def unbuilt_service(service: ServiceDescriptor) -> grpc.GenericRpcHandler:
    """A service none of whose methods is built."""
    methods = {method.name: unbuilt_method(method) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def unbuilt_method(method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
    """A method that is not built."""

    def refuse(request: object, context: object) -> Any:
        raise NotBuiltYet(method.name, "the change log says which methods each release has")

    parse = GetMessageClass(method.input_type).FromString
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse, request_deserializer=parse)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse, request_deserializer=parse)
    return grpc.unary_unary_rpc_method_handler(refuse, request_deserializer=parse)
