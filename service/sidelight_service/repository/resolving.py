"""Finds the model versions that a request names beside its own, and holds them in service while it runs.

Works on any message, by its descriptor, as `references.resolving` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from google.protobuf.message import Message
from sidelight.v1 import model_pb2
from sidelight_engines.errors import InvalidField

from sidelight_service.repository.catalogue import Catalogue

_OWN = "model"


def selectors_in(message: Message, path: str = "") -> Iterator[tuple[str, model_pb2.ModelSelector]]:
    """Every model selector in a request but its own, with its path.

    Args:
        message: any message.
        path: of the message; empty for a request.
    """
    if isinstance(message, model_pb2.ModelSelector):
        if path != _OWN:
            yield path, message
        return
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        where = f"{path}.{field.name}" if path else field.name
        if field.is_repeated:
            for position, item in enumerate(value):
                yield from selectors_in(item, f"{where}[{position}]")
        else:
            yield from selectors_in(value, where)


@contextlib.contextmanager
def leased_models(catalogue: Catalogue, request: Message) -> Iterator[dict[str, str]]:
    """Holds every model version that a request names beside its own; what the workers call each, by path.

    Raises:
        InvalidField, ModelNotFound, VersionNotFound, ModelNotLoaded: there is nothing to hold.
        ModelChanged: it is not the content that the selector asks for.
    """
    with contextlib.ExitStack() as stack:
        keys = {}
        for path, selector in selectors_in(request):
            try:
                _, serving = stack.enter_context(catalogue.lease(selector))
            except InvalidField as error:
                raise InvalidField(
                    f"{path}.{error.field.removeprefix('model.')}", error.problem, error.remedy
                ) from error
            keys[path] = serving.key
        yield keys


def pin_models(catalogue: Catalogue, request: Message) -> None:
    """Writes into a request the contents that the model versions it names beside its own have now.

    Raises:
        InvalidField, ModelNotFound, VersionNotFound, ModelNotLoaded, ModelChanged: see `leased_models`.
    """
    with leased_models(catalogue, request):
        for _, selector in selectors_in(request):
            with catalogue.lease(selector) as (record, serving):
                selector.version, selector.digest = record.folder.version, serving.digest
