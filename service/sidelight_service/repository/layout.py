"""What lies in a model repository: `<name>/<version>/model.onnx` or `<name>/<version>/saved_model.pb`.

Only looked at, never written to.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

from sidelight_engines.errors import ModelFilesIncomplete, ModelInvalid
from sidelight_engines.graph.graph import ModelFormat

ONNX_FILE = "model.onnx"
SAVED_MODEL_FILE = "saved_model.pb"

_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})$")
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class VersionFolder:
    """A folder of the repository that is named like a version.

    Attributes:
        model: the name of the model.
        version: the number of the version.
        path: the folder.
    """

    model: str
    version: int
    path: Path

    @property
    def name(self) -> str:
        """``model/version``, for messages."""
        return f"{self.model}/{self.version}"


@dataclass(frozen=True)
class FileState:
    """One file as it was when it was looked at."""

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Snapshot:
    """The files of a version as they were when they were looked at."""

    files: tuple[FileState, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size for file in self.files)

    @property
    def newest_age_seconds(self) -> float:
        """How long ago the newest file was written."""
        newest = max((file.modified_ns for file in self.files), default=0)
        return (time.time_ns() - newest) / 1e9


def find_versions(repository: Path) -> list[VersionFolder]:
    """All version folders, by model and number. Hidden folders and other names are not looked at."""
    found = []
    for model in _folders(repository):
        for version in _folders(model):
            if version.name.isdecimal() and int(version.name) > 0:
                found.append(VersionFolder(model.name, int(version.name), version))
    return sorted(found, key=lambda folder: (folder.model, folder.version))


def _folders(parent: Path) -> list[Path]:
    try:
        return [child for child in parent.iterdir() if child.is_dir() and not child.name.startswith(".")]
    except FileNotFoundError:  # removed while we looked
        return []


def take_snapshot(folder: VersionFolder) -> Snapshot:
    """Looks at the files of a version.

    Raises:
        ModelFilesIncomplete: a file went away meanwhile.
    """
    try:
        files = tuple(
            FileState(str(path.relative_to(folder.path)), path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(folder.path.rglob("*"))
            if path.is_file()
        )
    except FileNotFoundError as error:
        raise ModelFilesIncomplete(f"{folder.name}: {error.filename} went away while it was read; try again") from error
    return Snapshot(files)


def format_of(folder: VersionFolder, snapshot: Snapshot) -> ModelFormat:
    """Which format a version has.

    Raises:
        ModelFilesIncomplete: it has neither model.onnx nor saved_model.pb, or a SavedModel lacks shards of
            its variables.
        ModelInvalid: it has both.
    """
    names = {file.path for file in snapshot.files}
    has_onnx, has_saved_model = ONNX_FILE in names, SAVED_MODEL_FILE in names
    if has_onnx and has_saved_model:
        raise ModelInvalid(f"{folder.name} holds both {ONNX_FILE} and {SAVED_MODEL_FILE}; keep one")
    if not has_onnx and not has_saved_model:
        raise ModelFilesIncomplete(f"{folder.name} holds neither {ONNX_FILE} nor {SAVED_MODEL_FILE}; copy it in whole")
    if has_onnx:
        return ModelFormat.ONNX
    _check_shards(folder, names)
    return ModelFormat.SAVED_MODEL


def _check_shards(folder: VersionFolder, names: set[str]) -> None:
    """Demands every shard that the name of any shard, or an index, announces."""
    shards = {match.groups() for name in names if (match := _SHARD.search(name))}
    has_index = "variables/variables.index" in names
    if has_index and not shards:
        raise ModelFilesIncomplete(f"{folder.name} has variables/variables.index and no variables.data; copy it whole")
    if shards and not has_index:
        raise ModelFilesIncomplete(f"{folder.name} has variables.data and no variables.index; copy it whole")
    for total in {total for _, total in shards}:
        present = sum(1 for _, of in shards if of == total)
        if present != int(total):
            raise ModelFilesIncomplete(
                f"{folder.name} has {present} of {int(total)} variables.data files; copy it whole"
            )


def check_settled(folder: VersionFolder, before: Snapshot) -> None:
    """Demands that the files are still what they were.

    Raises:
        ModelFilesIncomplete: they are not: somebody is writing them.
    """
    if take_snapshot(folder) != before:
        raise ModelFilesIncomplete(f"{folder.name} is still being written; try again when the copy is done")


def digest_of(folder: VersionFolder, snapshot: Snapshot) -> str:
    """SHA-256 over the names and contents of the files: ``sha256:`` and 64 hexadecimal digits.

    Raises:
        ModelFilesIncomplete: a file went away meanwhile.
    """
    total = hashlib.sha256()
    for file in snapshot.files:
        content = hashlib.sha256()
        try:
            with (folder.path / file.path).open("rb") as stream:
                while block := stream.read(_READ_BYTES):
                    content.update(block)
        except FileNotFoundError as error:
            raise ModelFilesIncomplete(f"{folder.name}: {file.path} went away while it was read; try again") from error
        total.update(f"{file.path}\0{content.hexdigest()}\n".encode())
    return f"sha256:{total.hexdigest()}"
