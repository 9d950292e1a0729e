"""What a method is given beside its request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf import duration_pb2
from sidelight.v1 import explanation_pb2, model_pb2
from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField
from sidelight_engines.model import Model

from sidelight_service import __version__
from sidelight_service.indexes.shelf import IndexShelf, Owner
from sidelight_service.methods.predictions import predicted_classes
from sidelight_service.references.selecting import Selector
from sidelight_service.references.store import Location

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Version:
    """A model version that a request names beside its own.

    Attributes:
        model: the model.
        owner: its name, version and digest.
    """

    model: Model
    owner: Owner


@dataclass(frozen=True)
class Limits:
    """What one request may take.

    Attributes:
        message_bytes: a response.
        unindexed_bytes: gradients of references without an index.
    """

    message_bytes: int = 64 * MEBIBYTE
    unindexed_bytes: int = 256 * MEBIBYTE


@dataclass(frozen=True)
class MethodContext:
    """What a method is given beside its request.

    Attributes:
        opened: the model; None for a request that names none.
        name: its name in the repository.
        version: its version.
        digest: of its files.
        control: progress and stopping.
        chunk_bytes: what one chunk of activations may take, in bytes.
        queue_seconds: how long the call waited.
        references: where the reference sets are that the request names, by name.
        versions: the model versions that the request names beside its own, by their paths in it.
        indexes: the gradient indexes.
        limits: what a request may take.
        threads: that a runtime uses for one request; None for one per processor.
        started: on the clock of time.monotonic().
    """

    opened: Model | None
    name: str
    version: int
    digest: str
    control: Control
    chunk_bytes: int
    queue_seconds: float
    references: Mapping[str, Location] = field(default_factory=dict)
    versions: Mapping[str, Version] = field(default_factory=dict)
    indexes: IndexShelf = field(default_factory=lambda: IndexShelf(None, 0))
    limits: Limits = field(default_factory=Limits)
    threads: int | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def model(self) -> Model:
        """The model.

        Raises:
            InvalidField: the request names none.
        """
        if self.opened is None:
            raise InvalidField("model.name", "is empty, and the request needs the model", "name a model")
        return self.opened

    @property
    def owner(self) -> Owner:
        """The model version, as what belongs to it knows it."""
        return Owner(self.name, self.version, self.digest)

    def selector(self) -> Selector:
        """What resolves the selections of reference sets in the request."""
        return Selector(
            self.references,
            lambda examples, field: predicted_classes(self.model, examples, field, self.control, self.chunk_bytes),
        )

    def provenance(
        self, runtime: model_pb2.Runtime.ValueType, forward_rows: int, warnings: list[explanation_pb2.Warning]
    ) -> explanation_pb2.Provenance:
        """The provenance of a result, at the end of the work."""
        return explanation_pb2.Provenance(
            model=self.name,
            version=self.version,
            digest=self.digest,
            runtime=runtime,
            server_version=__version__,
            queue_time=_duration(self.queue_seconds),
            compute_time=_duration(time.monotonic() - self.started),
            forward_rows=forward_rows,
            warnings=warnings,
        )


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromNanoseconds(max(0, int(seconds * 1e9)))
    return duration
