"""Arrays from files that a user names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_inputs(path: Path, *, mapped: bool = False) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Reads the instances of a file.

    Args:
        path: a .npy file, or a .npz file with one array per model input.
        mapped: whether a .npy file is mapped into memory rather than read.

    Returns:
        The array, if there is one; else the arrays by name.

    Raises:
        typer.BadParameter: the file is neither, or holds Python objects.
    """
    import zipfile

    import numpy as np

    try:
        # Files come from anywhere, and unpickling runs code.
        content = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            return np.asarray(content)
        with content:
            arrays = {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise typer.BadParameter(
            f"{path} can not be read as arrays of numbers ({error}); save it with numpy.save or numpy.savez"
        ) from error
    if not arrays:
        raise typer.BadParameter(f"{path} holds no array; save one array per model input with numpy.savez")
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def read_array(path: Path) -> NDArray[Any]:
    """Reads a file that must hold a single array.

    Raises:
        typer.BadParameter: it does not.
    """
    content = read_inputs(path)
    if isinstance(content, dict):
        raise typer.BadParameter(f"{path} holds {len(content)} arrays ({', '.join(content)}); give a file with one")
    return content


def parse_range(text: str) -> tuple[float, float]:
    """Reads ``MIN,MAX``.

    Raises:
        typer.BadParameter: the text is not that.
    """
    parts = text.split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a range; write MIN,MAX, such as 0,1") from error
    return low, high
