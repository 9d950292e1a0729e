"""The server's settings: read once at start-up, from the command line and the environment."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class ModelMode(Enum):
    """When models are loaded."""

    ALL = "all"
    """Every model of the repository at start-up; more by LoadModel."""
    EXPLICIT = "explicit"
    """None but those of `load` at start-up; the rest by LoadModel."""
    POLL = "poll"
    """As ALL, and the repository is looked at again every `poll_seconds`."""


class LogFormat(Enum):
    """How log lines are written."""

    JSON = "json"
    CONSOLE = "console"


class VersionPolicyKind(Enum):
    """Which versions of a model are served."""

    LATEST = "latest"
    ALL = "all"
    SPECIFIC = "specific"


class VersionPolicy:
    """Which versions of a model are served.

    Written as ``latest``, ``latest:N``, ``all`` or ``specific:1,3``.

    Attributes:
        kind: which rule.
        count: for LATEST, how many of the highest versions.
        versions: for SPECIFIC, which.
    """

    def __init__(self, kind: VersionPolicyKind, count: int = 1, versions: tuple[int, ...] = ()) -> None:
        self.kind = kind
        self.count = count
        self.versions = versions

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the written form.

        Raises:
            ValueError: the text is none of the forms.
        """
        kind, _, detail = text.partition(":")
        if kind == "all" and not detail:
            return cls(VersionPolicyKind.ALL)
        if kind == "latest" and (not detail or (detail.isdecimal() and int(detail) > 0)):
            return cls(VersionPolicyKind.LATEST, count=int(detail or 1))
        numbers = detail.split(",")
        if kind == "specific" and all(n.isdecimal() and int(n) > 0 for n in numbers):
            return cls(VersionPolicyKind.SPECIFIC, versions=tuple(sorted({int(n) for n in numbers})))
        raise ValueError(f"{text!r} is not a version policy; write 'latest', 'latest:N', 'all' or 'specific:1,3'")

    def __str__(self) -> str:
        if self.kind is VersionPolicyKind.LATEST:
            return f"latest:{self.count}"
        if self.kind is VersionPolicyKind.SPECIFIC:
            return "specific:" + ",".join(map(str, self.versions))
        return "all"


MEBIBYTE = 1024 * 1024


class Settings(BaseSettings):
    """Every setting of the server.

    The environment variable of each is its name in capitals with the prefix ``SIDELIGHT_``; lists are written with
    commas, maps as JSON.
    """

    model_config = SettingsConfigDict(
        env_prefix="SIDELIGHT_", frozen=True, extra="forbid", arbitrary_types_allowed=True
    )

    models: Path
    """The model repository: `<name>/<version>/model.onnx` or `saved_model.pb`. Only read."""
    data: Path | None = None
    """Where reference sets, indices and jobs are kept. None: nothing is kept."""
    import_directory: Path | None = None
    """Where ImportReference finds files. Only read. None: nothing can be imported."""
    addresses: Annotated[tuple[str, ...], NoDecode] = ("0.0.0.0:8461",)
    """Where to listen: ``host:port`` or ``unix:/path``. Port 0 takes any free port."""
    mode: ModelMode = ModelMode.ALL
    """When models are loaded."""
    load: Annotated[tuple[str, ...], NoDecode] = ()
    """With mode EXPLICIT: models to load at start-up, by name."""
    poll_seconds: PositiveFloat = 15.0
    """With mode POLL: the time between looks, in seconds."""
    version_policy: str = "latest"
    """Which versions are served: 'latest', 'latest:N', 'all' or 'specific:1,3'."""
    version_policies: dict[str, str] = Field(default_factory=dict)
    """Model name -> policy, for models that differ from `version_policy`."""
    version_labels: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Model name -> label -> version: ``{"digits": {"stable": 1, "canary": 2}}``."""
    settle_seconds: NonNegativeFloat = 1.0
    """Files of a version younger than this are looked at twice, this far apart, and must not have
    changed: a version that is being copied is not loaded."""
    workers: PositiveInt = 1
    """Compute worker processes. Each holds every loaded model."""
    threads: PositiveInt | None = None
    """Threads that a worker's runtime uses for one request. None: one per processor."""
    queue_limit: PositiveInt = 64
    """Requests of one method that may wait for a worker; more are refused at once."""
    job_queue_limit: PositiveInt = 100
    """Jobs that may wait; more are refused at once."""
    job_retention_hours: PositiveFloat = 168.0
    """How long a job that has ended, and its result, are kept, in hours."""
    unindexed_mebibytes: PositiveInt = 256
    """What the gradients of references without an index may take in one ExplainSimilarity, in MiB: more references
    need a BuildGradientIndex job first."""
    index_mebibytes: PositiveInt = 32 * 1024
    """What all gradient indexes together may take on the disk, in MiB; a job that would exceed it is refused."""
    index_retention_hours: PositiveFloat = 168.0
    """How long a gradient index is kept without being used once its model version is gone or changed, in hours."""
    max_message_mebibytes: PositiveInt = 64
    """The largest request or response, in MiB."""
    max_call_seconds: PositiveFloat = 3600.0
    """The longest a call may run, also without a deadline of its own, in seconds."""
    chunk_mebibytes: PositiveInt = 512
    """Memory that one request's chunk of activations may take in a worker, in MiB."""
    drain_seconds: NonNegativeFloat = 20.0
    """On SIGTERM: how long calls under way may take to end, in seconds."""
    reflection: bool = True
    """Whether server reflection is offered."""
    channelz: bool = False
    """Whether channelz is offered."""
    log_format: LogFormat = LogFormat.JSON
    """How log lines are written."""
    log_level: str = "info"
    """The least severe lines that are written: debug, info, warning or error."""

    @field_validator("addresses", "load", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in {"debug", "info", "warning", "error"}:
            raise ValueError(f"{value!r} is not a log level; write debug, info, warning or error")
        return value.lower()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.addresses:
            raise ValueError("addresses: give at least one address")
        if not self.models.is_dir():
            raise ValueError(f"models: {self.models} is not a directory; give the model repository")
        if self.import_directory is not None and not self.import_directory.is_dir():
            raise ValueError(f"import_directory: {self.import_directory} is not a directory; name one that exists")
        if self.load and self.mode is not ModelMode.EXPLICIT:
            raise ValueError("load: goes with mode 'explicit'; the other modes load everything")
        for policy in (self.version_policy, *self.version_policies.values()):
            VersionPolicy.parse(policy)
        return self

    @property
    def max_message_bytes(self) -> int:
        """The largest request or response, in bytes."""
        return self.max_message_mebibytes * MEBIBYTE

    @property
    def indexes(self) -> Path | None:
        """The folder of all gradient indexes; None if nothing is kept."""
        return None if self.data is None else self.data.resolve() / "indexes"

    def policy_of(self, model: str) -> VersionPolicy:
        """The version policy of a model."""
        return VersionPolicy.parse(self.version_policies.get(model, self.version_policy))
