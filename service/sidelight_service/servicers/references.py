"""ReferenceService: uploads, imports, lists and deletes reference sets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc.aio
from sidelight.v1 import reference_service_pb2, reference_service_pb2_grpc
from sidelight_engines.errors import InvalidField

from sidelight_service.calls import current_call
from sidelight_service.convert.references import (
    add_feature_ranges,
    chunk_from_proto,
    header_to_proto,
    model_from_text,
)
from sidelight_service.errors import CallTimedOut, NotAllowed, UploadIncomplete
from sidelight_service.references.fit import Fit
from sidelight_service.references.header import Header
from sidelight_service.references.intake import Intake
from sidelight_service.references.sources import Order
from sidelight_service.references.store import ReferenceStore
from sidelight_service.references.writer import SetWriter
from sidelight_service.repository.catalogue import Catalogue
from sidelight_service.settings import Settings

_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000

Context = grpc.aio.ServicerContext[Any, Any]


class ReferenceServicer(reference_service_pb2_grpc.ReferenceServiceServicer):
    """ReferenceService over the store. What blocks is done in threads."""

    def __init__(self, store: ReferenceStore, catalogue: Catalogue, settings: Settings) -> None:
        self._store = store
        self._catalogue = catalogue
        self._settings = settings

    async def CreateReference(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[reference_service_pb2.CreateReferenceRequest], context: Context
    ) -> reference_service_pb2.CreateReferenceResponse:
        """Takes an upload. Memory holds one chunk at a time, and nothing is kept of an upload that fails."""
        with self._time_limit() as limit:
            async with limit:
                header = await self._upload(request_iterator)
        return reference_service_pb2.CreateReferenceResponse(reference=header_to_proto(header))

    async def ImportReference(  # noqa: N802 - the contract's name
        self, request: reference_service_pb2.ImportReferenceRequest, context: Context
    ) -> reference_service_pb2.ImportReferenceResponse:
        """Makes a set of a file, a block at a time."""
        directory = self._settings.import_directory
        if directory is None:
            raise NotAllowed(
                "import_directory", "this server imports no files: it has no import directory; set `import_directory`"
            )
        order = Order(directory, request.path, request.inputs_key, request.labels_key)
        fit = self._fit(request.model, "model")
        with self._time_limit() as limit:
            async with limit:
                intake = Intake(await self._begin(request.name, "name", fit, 0), order)
                try:
                    while await asyncio.to_thread(intake.step):
                        pass
                    header = await asyncio.to_thread(self._store.commit, intake.writer)
                finally:
                    await _finish_anyway(intake.discard)
        _note(header)
        return reference_service_pb2.ImportReferenceResponse(reference=header_to_proto(header))

    async def GetReference(  # noqa: N802 - the contract's name
        self, request: reference_service_pb2.GetReferenceRequest, context: Context
    ) -> reference_service_pb2.GetReferenceResponse:
        """Describes a set."""
        header = await asyncio.to_thread(self._store.header, request.name)
        _note(header)
        wire = header_to_proto(header)
        if request.feature_ranges:
            add_feature_ranges(wire, await asyncio.to_thread(self._store.feature_ranges, request.name))
        return reference_service_pb2.GetReferenceResponse(reference=wire)

    async def ListReferences(  # noqa: N802 - the contract's name
        self, request: reference_service_pb2.ListReferencesRequest, context: Context
    ) -> reference_service_pb2.ListReferencesResponse:
        """Lists the sets, a page at a time; the token is the name of the last set of a page."""
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            raise InvalidField(
                "page_size", f"{request.page_size} is outside 0 to {_LARGEST_PAGE}", "give a size within, or none"
            )
        headers = await asyncio.to_thread(self._store.headers)
        rest = [header for header in headers if header.name > request.page_token]
        page = rest[: request.page_size or _DEFAULT_PAGE]
        return reference_service_pb2.ListReferencesResponse(
            references=[header_to_proto(header) for header in page],
            next_page_token=page[-1].name if len(page) < len(rest) else "",
        )

    async def DeleteReference(  # noqa: N802 - the contract's name
        self, request: reference_service_pb2.DeleteReferenceRequest, context: Context
    ) -> reference_service_pb2.DeleteReferenceResponse:
        """Deletes a set that nothing uses."""
        current_call.get().fields["reference"] = request.name
        await asyncio.to_thread(self._store.delete, request.name)
        return reference_service_pb2.DeleteReferenceResponse()

    async def _upload(self, parts: AsyncIterator[reference_service_pb2.CreateReferenceRequest]) -> Header:
        announced = await _announcement(parts)
        fit = self._fit(announced.model, "header.model")
        writer = await self._begin(announced.name, "header.name", fit, announced.count)
        try:
            await self._take_chunks(parts, writer, fit)
            header = await asyncio.to_thread(self._store.commit, writer)
        finally:
            await _finish_anyway(writer.discard)
        _note(header)
        return header

    async def _take_chunks(
        self,
        parts: AsyncIterator[reference_service_pb2.CreateReferenceRequest],
        writer: SetWriter,
        fit: Fit | None,
    ) -> None:
        """Writes the chunks of an upload, up to its trailer."""
        async for part in parts:
            kind = part.WhichOneof("part")
            if kind == "chunk":
                await asyncio.to_thread(_write_chunk, writer, part.chunk, fit)
            elif kind == "trailer":
                if part.trailer.count != writer.rows:
                    raise UploadIncomplete(
                        f"the trailer says {part.trailer.count} examples and {writer.rows} arrived; send the set again"
                    )
                return
            else:
                raise InvalidField("part", "is not set" if kind is None else "is a second header", "send a chunk")
        raise UploadIncomplete(f"the upload ended after {writer.rows} examples without its trailer; send it again")

    async def _begin(self, name: str, field: str, fit: Fit | None, announced: int) -> SetWriter:
        current_call.get().fields["reference"] = name
        return await asyncio.to_thread(self._store.begin, name, field, fit, announced)

    def _fit(self, model: str, field: str) -> Fit | None:
        if not model:
            return None
        with self._catalogue.lease(model_from_text(model, field)) as (record, serving):
            return Fit.of(serving.detail, record.folder.model)

    @contextlib.contextmanager
    def _time_limit(self) -> Iterator[asyncio.Timeout]:
        """Ends an upload that its caller has forgotten."""
        try:
            yield asyncio.timeout(self._settings.max_call_seconds)
        except TimeoutError as error:
            raise CallTimedOut(
                "the server's limit on calls (max_call_seconds) passed before all had arrived; send it faster"
            ) from error


async def _announcement(
    parts: AsyncIterator[reference_service_pb2.CreateReferenceRequest],
) -> reference_service_pb2.ReferenceHeader:
    async for part in parts:
        if part.WhichOneof("part") != "header":
            raise InvalidField("header", "is not the first message", "begin an upload with its header")
        if part.header.count < 0:
            raise InvalidField("header.count", f"is {part.header.count}", "give the number of examples, or none")
        return part.header
    raise UploadIncomplete("the upload ended before its header; send it again")


def _write_chunk(writer: SetWriter, chunk: reference_service_pb2.ReferenceChunk, fit: Fit | None) -> None:
    writer.append(chunk_from_proto(chunk, fit))


async def _finish_anyway(action: Callable[[], None]) -> None:
    """Runs what must be run in a thread, also if this task is cancelled meanwhile."""
    work = asyncio.ensure_future(asyncio.to_thread(action))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await work
        raise


def _note(header: Header) -> None:
    current_call.get().fields.update(reference=header.name, reference_digest=header.digest, count=header.count)
