"""ModelService: what is in the repository, and loading and unloading it."""

from __future__ import annotations

from typing import Any

import grpc.aio
from sidelight.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from sidelight_engines.errors import InvalidField

from sidelight_service.calls import current_call
from sidelight_service.repository.catalogue import Catalogue

_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """ModelService over the catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def ListModels(  # noqa: N802 - the contract's name
        self, request: model_service_pb2.ListModelsRequest, context: Context
    ) -> model_service_pb2.ListModelsResponse:
        """Lists every model, a page at a time; the token is the name of the last model of a page."""
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            raise InvalidField(
                "page_size", f"{request.page_size} is outside 0 to {_LARGEST_PAGE}", "give a size within, or none"
            )
        rest = [model for model in self._catalogue.to_protos() if model.name > request.page_token]
        page = rest[: request.page_size or _DEFAULT_PAGE]
        more = page[-1].name if len(page) < len(rest) else ""
        return model_service_pb2.ListModelsResponse(models=page, next_page_token=more)

    async def GetModel(  # noqa: N802 - the contract's name
        self, request: model_service_pb2.GetModelRequest, context: Context
    ) -> model_service_pb2.GetModelResponse:
        """Describes one loaded version."""
        detail = await self._catalogue.describe(request.model, check_gradients=False)
        _note(detail)
        return model_service_pb2.GetModelResponse(model=detail)

    async def LoadModel(  # noqa: N802 - the contract's name
        self, request: model_service_pb2.LoadModelRequest, context: Context
    ) -> model_service_pb2.LoadModelResponse:
        """Loads a version and answers when it serves."""
        record = await self._catalogue.load(request.model)
        loaded = model_pb2.ModelSelector(name=record.folder.model, version=record.folder.version)
        detail = await self._catalogue.describe(loaded, check_gradients=request.check_gradients)
        _note(detail)
        return model_service_pb2.LoadModelResponse(model=detail)

    async def UnloadModel(  # noqa: N802 - the contract's name
        self, request: model_service_pb2.UnloadModelRequest, context: Context
    ) -> model_service_pb2.UnloadModelResponse:
        """Takes a version, or all, out of service and answers when the memory is free."""
        await self._catalogue.unload(request.model)
        return model_service_pb2.UnloadModelResponse(model=self._catalogue.to_proto(request.model.name))


def _note(detail: model_pb2.ModelDetail) -> None:
    current_call.get().fields.update(model=detail.name, version=detail.version, digest=detail.status.digest)
