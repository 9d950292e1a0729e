"""The least and greatest value of each feature of a set: kept while it is written, stored beside its arrays."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from sidelight_service.references import files
from sidelight_service.references.arrays import Array, map_array


class FeatureRange:
    """The range of each feature over the rows so far.

    Attributes:
        least: of the type and shape of one row; None before the first.
        greatest: likewise.
    """

    def __init__(self) -> None:
        self.least: Array | None = None
        self.greatest: Array | None = None

    def widen(self, rows: Array) -> None:
        """Takes some more rows into account; finite, at least one."""
        least, greatest = rows.min(axis=0), rows.max(axis=0)
        self.least = least if self.least is None else np.minimum(self.least, least)
        self.greatest = greatest if self.greatest is None else np.maximum(self.greatest, greatest)

    def write(self, path: Path, dtype: np.dtype[Any]) -> int:
        """Writes a `.npy` file of both, stacked, and waits until it is on the disk; its size in bytes."""
        out = io.BytesIO()
        np.save(out, np.stack([np.asarray(self.least), np.asarray(self.greatest)]).astype(dtype), allow_pickle=False)
        descriptor = files.create_file(path)
        try:
            files.write(descriptor, out.getbuffer())
            files.sync(descriptor)
        finally:
            os.close(descriptor)
        return out.tell()


def read_feature_range(path: Path, dtype: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The least and the greatest values, each of the shape of one example.

    Raises:
        ValueError: the file holds something else.
        OSError: it can not be read.
    """
    both = map_array(path, dtype, (2, *shape))
    return both[0], both[1]
