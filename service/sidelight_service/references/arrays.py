"""Arrays that grow on disk: `.npy` files that are appended to, hashed and measured on the way."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sidelight_service.references import files

Array = npt.NDArray[Any]

_HEADER_BYTES = 512


class GrowingArray:
    """An array on disk whose first axis grows.

    Attributes:
        path: the `.npy` file.
        dtype: of the elements.
        shape: of one row.
        rows: how many there are.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """Makes the file, which must not exist."""
        self.path = path
        self.dtype = dtype.newbyteorder("<")
        self.shape = shape
        self.rows = 0
        self._content = hashlib.sha256()
        self._descriptor: int | None = files.create_file(path)
        files.write(self._descriptor, self._npy_header())

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return _HEADER_BYTES + self.rows * self.row_bytes

    @property
    def row_bytes(self) -> int:
        """What a row takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def append(self, rows: Array) -> None:
        """Adds rows of this type and shape."""
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        little = np.ascontiguousarray(rows, dtype=self.dtype)
        data = little.reshape(-1).view(np.uint8).data
        files.write(self._descriptor, data)
        self._content.update(data)
        self.rows += len(rows)

    def finish(self) -> str:
        """Completes the file and waits until it is on the disk; the SHA-256 of its elements."""
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        files.write_at(self._descriptor, self._npy_header(), 0)
        files.sync(self._descriptor)
        self.close()
        return self._content.hexdigest()

    def close(self) -> None:
        """Closes the file as it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _npy_header(self) -> bytes:
        """The `.npy` header, version 1.0, padded to one length whatever the number of rows.

        See `numpy.lib.format`: magic, version, length of the rest, a Python literal, spaces, a line feed.
        """
        text = repr({"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.shape)})
        out = io.BytesIO()
        out.write(b"\x93NUMPY\x01\x00")
        out.write((_HEADER_BYTES - 10).to_bytes(2, "little"))
        out.write(text.encode("latin1").ljust(_HEADER_BYTES - 11) + b"\n")
        header = out.getvalue()
        if len(header) != _HEADER_BYTES:
            raise ValueError(f"an array of {len(self.shape)} axes has no room in its header")
        return header


def map_array(path: Path, dtype: str, shape: tuple[int, ...]) -> Array:
    """Maps a `.npy` file into memory, read-only.

    Args:
        path: the file.
        dtype: the type that it must have.
        shape: the shape that it must have.

    Raises:
        ValueError: it is another array, or cut short.
        OSError: it can not be read.
    """
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if mapped.dtype != np.dtype(dtype).newbyteorder("<") or mapped.shape != shape:
        raise ValueError(f"{path.name} holds {mapped.dtype} {mapped.shape} in place of {dtype} {shape}")
    return np.asarray(mapped)
