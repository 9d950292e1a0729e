"""Holds what a request explains: a model version, or none where the method can do without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sidelight.v1 import model_pb2

from sidelight_service.methods.names import MODEL_OPTIONAL
from sidelight_service.repository.catalogue import Catalogue


@dataclass(frozen=True)
class Lease:
    """A model version held in service.

    Attributes:
        key: of the model in the workers; empty for none.
        version: of the model; 0 for none.
        digest: of its files; empty for none.
    """

    key: str = ""
    version: int = 0
    digest: str = ""


@contextmanager
def leased_model(
    catalogue: Catalogue, method: str, request: Any, selector: model_pb2.ModelSelector | None = None
) -> Iterator[Lease]:
    """Holds the model that a request names.

    Args:
        catalogue: has the models.
        method: the name of the RPC.
        request: of that method.
        selector: which version to hold in place of the request's own choice.

    Raises:
        InvalidField, ModelNotFound, VersionNotFound, ModelNotLoaded, ModelChanged: there is nothing to hold.
    """
    chosen = request.model if selector is None else selector
    # A request that names a model means it, needed or not.
    if chosen == model_pb2.ModelSelector() and method in MODEL_OPTIONAL and MODEL_OPTIONAL[method](request):
        yield Lease()
        return
    with catalogue.lease(chosen) as (record, serving):
        yield Lease(serving.key, record.folder.version, serving.digest)
