"""Finds the reference sets that a request names and keeps them from being deleted while it runs.

Works on any message, by its descriptor, so that a method with a selection in a new place needs nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from google.protobuf.message import Message
from sidelight.v1 import job_pb2, reference_pb2
from sidelight_engines.errors import InvalidField

from sidelight_service.errors import ReferenceNotFound
from sidelight_service.references.selecting import check_digest
from sidelight_service.references.store import Location, ReferenceStore


def selections_in(message: Message, path: str = "") -> Iterator[tuple[str, reference_pb2.ReferenceSelection]]:
    """Every selection in a message, with its path.

    Args:
        message: any message.
        path: of the message; empty for a request.
    """
    if isinstance(message, reference_pb2.ReferenceSelection):
        yield path, message
        return
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        where = f"{path}.{field.name}" if path else field.name
        if field.is_repeated:
            for position, item in enumerate(value):
                yield from selections_in(item, f"{where}[{position}]")
        else:
            yield from selections_in(value, where)


def _named_sets(request: Message) -> Iterator[tuple[str, str, reference_pb2.ReferenceSelection]]:
    """Every set that a request names: the path of what names it, the path of the name in it, and the selection."""
    if isinstance(request, job_pb2.BuildGradientIndexRequest):
        # The one request that means a set as a whole, and says so by its name alone.
        yield "reference", "reference", reference_pb2.ReferenceSelection(reference=request.reference)
    for field, selection in selections_in(request):
        yield field, f"{field}.reference", selection


@contextlib.asynccontextmanager
async def leased(store: ReferenceStore, request: Message) -> AsyncIterator[dict[str, Location]]:
    """Holds every reference set that a request names; where they are, by name.

    Raises:
        InvalidField: a selection names no set, or means another content.
        ReferenceNotFound: there is no set of that name.
        NotAllowed: the server keeps no sets.
    """
    with contextlib.ExitStack() as leases:
        locations: dict[str, Location] = {}
        for field, name_field, selection in _named_sets(request):
            name = selection.reference
            if not name:
                raise InvalidField(name_field, "is empty", "name a reference set; ListReferences lists them")
            if name not in locations:
                try:
                    locations[name] = leases.enter_context(store.lease(name))
                except ReferenceNotFound:
                    # It may have been put on the disk by another hand since the last look.
                    await asyncio.to_thread(store.refresh)
                    locations[name] = leases.enter_context(_lease(store, name, name_field))
            check_digest(selection, locations[name].digest, field)
        yield locations


@contextlib.contextmanager
def _lease(store: ReferenceStore, name: str, name_field: str) -> Iterator[Location]:
    with contextlib.ExitStack() as stack:
        try:
            location = stack.enter_context(store.lease(name))
        except ReferenceNotFound as error:
            raise ReferenceNotFound(name, f"{name_field}: {error}") from error
        yield location
