"""Where an index lies below the data directory.

``indexes/<model>/<version>/<key>``, the key being a digest of all that makes an index what it is: contents of the
model and of the reference set, loss, output, labels, precision. So an index is never replaced by another one, and
one that does not fit is never found. What the engine writes on the way is beside it (`sidelight_engines.similarity.
index`), and so is the lock of those who build it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

HEADER = "header.json"
"""Says what an index is; a folder that has it is whole."""

PARTIAL = ".partial"
"""Ends the name of the folder in which an index grows."""
REPLACED = ".old"
"""Ends the name of a folder that the engine has put aside."""
DOOMED = ".doomed"
"""Ends the name of a folder that is being removed."""
LOCK = ".lock"
"""Ends the name of the file that those lock who build."""


@dataclass(frozen=True)
class IndexKey:
    """What an index is of.

    Attributes:
        model_digest: of the model version.
        reference_digest: of the reference set.
        loss: by its name in the engines, resolved.
        output: the output that the loss reads, resolved.
        predicted_labels: whether the model's own predictions were taken for labels.
    """

    model_digest: str
    reference_digest: str
    loss: str
    output: str
    predicted_labels: bool


def model_folder(root: Path, model: str, version: int) -> Path:
    """Where the indexes of a model version are."""
    return root / model / str(version)


def index_folder(versions: Path, key: IndexKey, precision: str) -> Path:
    """Where an index is, or would be.

    Args:
        versions: the `model_folder`.
        key: what it is of.
        precision: how gradients are stored, by its name in the engines.
    """
    text = json.dumps([*vars(key).values(), precision])
    return versions / hashlib.sha256(text.encode()).hexdigest()[:32]


def is_index(folder: Path) -> bool:
    """Whether a folder is a whole index rather than a part, or on its way out."""
    return "." not in folder.name and (folder / HEADER).is_file()


def size_on_disk(root: Path) -> int:
    """What all files below a folder take, in bytes."""
    size = 0
    for path in root.rglob("*"):
        try:
            size += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # removed meanwhile
            continue
    return size
