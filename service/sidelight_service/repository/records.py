"""What the server knows of each model version: a table in memory, and how it looks on the wire."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from google.protobuf import timestamp_pb2
from sidelight.v1 import model_pb2
from sidelight_engines.graph.graph import ModelFormat

from sidelight_service.convert.models import format_to_proto

if TYPE_CHECKING:
    from sidelight_service.repository.layout import VersionFolder


class State(Enum):
    """Where a version is in its life; the names are those of ModelVersionState without its prefix."""

    UNLOADED = "UNLOADED"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    DRAINING = "DRAINING"
    FAILED = "FAILED"


@dataclass(eq=False)
class Serving:
    """One loaded content of a version, and who uses it.

    Attributes:
        key: what the workers call it.
        digest: of the files it was loaded from.
        detail: what a worker found out about it.
        users: calls under way.
    """

    key: str
    digest: str
    size_bytes: int
    format: ModelFormat
    detail: model_pb2.ModelDetail
    available_since: datetime
    users: int = 0


@dataclass(frozen=True)
class LoadError:
    """Why a version could not be loaded."""

    reason: str
    message: str


@dataclass(eq=False)
class Record:
    """What is known of one version.

    Attributes:
        folder: where it is.
        state: where it is in its life.
        serving: what serves, if anything; while a reload is under way or has failed, the old content.
        error: why the newest attempt to load it failed.
    """

    folder: VersionFolder
    state: State = State.UNLOADED
    serving: Serving | None = None
    format: ModelFormat | None = None
    digest: str = ""
    size_bytes: int = 0
    error: LoadError | None = None
    labels: list[str] = field(default_factory=list)

    def to_proto(self) -> model_pb2.ModelVersion:
        """As ListModels shows it."""
        version = model_pb2.ModelVersion(
            version=self.folder.version,
            state=model_pb2.ModelVersionState.Value(f"MODEL_VERSION_STATE_{self.state.value}"),
            labels=self.labels,
            format=format_to_proto(self.format),
            digest=self.serving.digest if self.serving else self.digest,
            size_bytes=self.serving.size_bytes if self.serving else self.size_bytes,
        )
        if self.serving is not None:
            stamp = timestamp_pb2.Timestamp()
            stamp.FromDatetime(self.serving.available_since)
            version.available_time.CopyFrom(stamp)
        if self.error is not None:
            version.error.CopyFrom(model_pb2.ModelError(reason=self.error.reason, message=self.error.message))
        return version


def model_to_proto(name: str, records: Iterable[Record]) -> model_pb2.Model:
    """A model with its versions, ascending."""
    ordered = sorted(records, key=lambda record: record.folder.version)
    return model_pb2.Model(name=name, versions=[record.to_proto() for record in ordered])
