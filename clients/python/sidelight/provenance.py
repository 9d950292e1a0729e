"""What every explanation carries beside its numbers: where it comes from, and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ResultWarning:
    """Something a reader of a result should know before trusting it.

    Attributes:
        code: a stable name in capitals, such as ``FEATURE_RANGE_EMPTY``.
        message: for a person.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Provenance:
    """What was explained, by what, and at what cost.

    Where instances were split over several calls, times and rows are sums.

    Attributes:
        model: the name of the model.
        version: the version that was used.
        digest: the digest of that version's files.
        runtime: what evaluated the model: ``onnx-runtime`` or ``tensorflow``.
        server_version: the version of the Sidelight server.
        queue_seconds: time spent waiting for the worker.
        compute_seconds: time spent computing.
        forward_rows: the number of rows that were sent through the model.
        warnings: what a reader should know before trusting the result.
    """

    model: str
    version: int
    digest: str
    runtime: str
    server_version: str
    queue_seconds: float
    compute_seconds: float
    forward_rows: int
    warnings: tuple[ResultWarning, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture of a result.

    Attributes:
        name: what it shows, such as ``linearity-by-layer``.
        format: ``png`` or ``svg``.
        data: the file.
        width_pixels: its width.
        height_pixels: its height.
        alternative_text: what it shows, in words.
    """

    name: str
    format: str
    data: bytes
    width_pixels: int
    height_pixels: int
    alternative_text: str

    def save(self, path: str | Path) -> None:
        """Writes the picture to a file."""
        Path(path).write_bytes(self.data)


def total_provenance(parts: list[Provenance]) -> Provenance:
    """The provenance of a result that took several calls: costs are added up, warnings are said once."""
    first = parts[0]
    return Provenance(
        model=first.model,
        version=first.version,
        digest=first.digest,
        runtime=first.runtime,
        server_version=first.server_version,
        queue_seconds=sum(part.queue_seconds for part in parts),
        compute_seconds=sum(part.compute_seconds for part in parts),
        forward_rows=sum(part.forward_rows for part in parts),
        warnings=tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
    )
