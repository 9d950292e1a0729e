"""Examples from Parquet files, read by a process of their own.

The reader is large native code that reads files from anywhere: neither its memory nor its faults belong into
the process that answers every call. The child writes `.npy` arrays to its standard output, inputs and labels in
turn, and what went wrong to its standard error as JSON.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from sidelight_engines.errors import InvalidField

from sidelight_service.errors import NotAvailable
from sidelight_service.references.arrays import Array
from sidelight_service.references.writer import Chunk

_INPUTS_FIELD = "inputs_key"
_LABELS_FIELD = "labels_key"
_REFUSED = 3
_MISSING = 4
_BLOCK_BYTES = 8 << 20
_MOST_BLOCK_ROWS = 65_536


def read_parquet(path: Path, inputs: str, labels: str | None, *, labels_required: bool) -> Generator[Chunk, None, None]:
    """Reads the examples of a Parquet file, a block at a time.

    Args:
        path: the file.
        inputs: the column of the examples: numbers, or lists of one length in all rows, also nested.
        labels: the column of the labels; None for none.
        labels_required: whether it is an error if there is no such column.

    Raises:
        InvalidField: a column is missing, or is not one of numbers.
        NotAvailable: pyarrow is not installed.
    """
    order = {"path": str(path), "inputs": inputs, "labels": labels, "labels_required": labels_required}
    child = subprocess.Popen(  # noqa: S603 - our own module, and arguments that it parses as JSON
        [sys.executable, "-m", "sidelight_service.references.parquet", json.dumps(order)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield from _chunks(child)
    finally:
        child.kill()
        child.communicate()


def _chunks(child: subprocess.Popen[bytes]) -> Generator[Chunk, None, None]:
    if child.stdout is None or child.stderr is None:
        raise RuntimeError("the child was started without pipes")
    # One byte before each block tells whether labels come with it.
    while mark := child.stdout.read(1):
        try:
            x = _read_array(child.stdout)
            y = _read_array(child.stdout) if mark == b"L" else None
        except ValueError:
            break  # it died while it wrote; below its status says so
        yield Chunk({"": x}, y, {"": _INPUTS_FIELD}, labels_field=_LABELS_FIELD, field="path")
    said = child.stderr.read()
    status = child.wait()
    if status == 0:
        return
    if status == _MISSING:
        raise NotAvailable("importing Parquet", "install it on the server with: pip install 'sidelight[parquet]'")
    if status == _REFUSED:
        raise InvalidField(*json.loads(said))
    raise InvalidField("path", "the reader of Parquet files died over it", "check the file, and copy it again")


def _read_array(pipe: IO[bytes]) -> Array:
    # NumPy takes whatever has a file number for a file that it can seek in, which a pipe is not.
    length = int.from_bytes(pipe.read(8), "little")
    array: Array = np.lib.format.read_array(io.BytesIO(pipe.read(length)), allow_pickle=False)
    return array


def _write_array(pipe: IO[bytes], array: Array) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    pipe.write(buffer.tell().to_bytes(8, "little"))
    pipe.write(buffer.getbuffer())


class _Refused(Exception):
    """What a column or file was refused for: field, problem and remedy."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(field, problem, remedy)


def main(order: dict[str, Any], out: IO[bytes]) -> NoReturn:
    """Reads a file, in the child process; ends it."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        sys.exit(_MISSING)
    from pyarrow import ArrowException

    try:
        try:
            file = pq.ParquetFile(order["path"])
            _write_blocks(file, order, out)
        except (ArrowException, OSError) as error:
            raise _Refused("path", f"the file can not be read ({error})", "check it, and copy it again") from error
    except _Refused as refused:
        sys.stderr.write(json.dumps(refused.args))
        sys.exit(_REFUSED)
    out.flush()
    sys.exit(0)


def _write_blocks(file: Any, order: dict[str, Any], out: IO[bytes]) -> None:
    names = file.schema_arrow.names
    inputs, labels = order["inputs"], order["labels"]
    if labels not in names and not order["labels_required"]:
        labels = None
    for name, field in ((inputs, _INPUTS_FIELD), (labels, _LABELS_FIELD)):
        if name is not None and name not in names:
            raise _Refused(field, f"the file has no column {name!r}", f"it has {', '.join(names)}")
    first = 0
    shapes: dict[str, tuple[int, ...]] = {}
    columns = list(dict.fromkeys(filter(None, (inputs, labels))))
    for batch in file.iter_batches(_block_rows(file, columns), columns=columns):
        out.write(b"x" if labels is None else b"L")
        for name, field in ((inputs, _INPUTS_FIELD), (labels, _LABELS_FIELD)):
            if name is None:
                continue
            array = to_array(batch.column(name), name, field, first)
            if shapes.setdefault(field, array.shape[1:]) != array.shape[1:]:
                raise _uneven(name, field)
            _write_array(out, array)
        first += len(batch)


def _block_rows(file: Any, columns: list[str]) -> int:
    """How many rows make a block: the file's own sizes are of encoded values, so the first row tells."""
    for batch in file.iter_batches(1, columns=columns):
        row_bytes: int = batch.nbytes
        return max(1, min(_MOST_BLOCK_ROWS, _BLOCK_BYTES // max(1, row_bytes)))
    return 1


def to_array(column: Any, name: str, field: str, first_row: int) -> Array:
    """Makes one array of a column: lists of one length become axes.

    Args:
        column: a pyarrow Array.
        name: of the column, for messages.
        field: the path of its name in the request.
        first_row: the position of its first row in the file.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    shape = [len(column)]
    fixed_shape = getattr(column.type, "shape", None)  # of the extension type arrow.fixed_shape_tensor
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    _check_no_nulls(column, name, field, first_row, shape)
    while _is_list(column.type):
        lengths = pc.list_value_length(column).unique().to_pylist()
        if len(lengths) != 1:
            raise _uneven(name, field)
        shape.append(lengths[0])
        column = column.flatten()
        _check_no_nulls(column, name, field, first_row, shape)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise _Refused(field, f"column {name!r} holds {column.type}", "give numbers, or lists of numbers")
    array: Array = column.to_numpy(zero_copy_only=False)
    if fixed_shape is not None:
        return array.reshape(shape[0], *fixed_shape)
    return array.reshape(shape)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _check_no_nulls(column: Any, name: str, field: str, first_row: int, shape: Sequence[int]) -> None:
    if column.null_count:
        position = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        row = first_row + position // math.prod(shape[1:])
        raise _Refused(field, f"column {name!r} has no value at row {row}", "fill it, or leave the row out")


def _uneven(name: str, field: str) -> _Refused:
    return _Refused(field, f"column {name!r} holds lists of different lengths", "give lists of one length")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.stdout.buffer)
