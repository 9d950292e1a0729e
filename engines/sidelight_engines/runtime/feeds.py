"""Checks what a caller feeds to a runtime, and feeds any number of rows to a model of fixed batch length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sidelight_engines.errors import InvalidField
from sidelight_engines.runtime.runtime import Array, as_input

Shape = tuple[int | None, ...]


def checked_feed(
    inputs: Mapping[str, Array], dtypes: Mapping[str, str], shapes: Mapping[str, Shape | None]
) -> dict[str, Array]:
    """The arrays as the model wants them.

    Args:
        inputs: input name -> array, axis 0 the batch.
        dtypes: input name -> NumPy type name, for every input of the model.
        shapes: input name -> length of each axis, None where it is free; None if nothing is known. The
            length of axis 0 is not checked.

    Raises:
        InvalidField: an array is missing or has the wrong shape, the arrays differ in length, or they
            hold no row.
    """
    feed = {}
    for name, dtype in dtypes.items():
        array = inputs.get(name)
        if array is None:
            raise InvalidField(f"inputs.{name}", "it is missing", "give an array for every input of the model")
        _check_shape(name, array.shape, shapes[name])
        feed[name] = array.astype(object) if dtype == "string" else as_input(array, dtype)
    lengths = {name: len(array) for name, array in feed.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        raise InvalidField("inputs", f"they differ in length: {lengths}", "give the same number of instances in all")
    if 0 in lengths.values():
        raise InvalidField("inputs", "they hold no instance", "give at least one")
    return feed


def _check_shape(name: str, shape: tuple[int, ...], wanted: Shape | None) -> None:
    if wanted is None:
        return
    if len(shape) != len(wanted) or any(
        length is not None and length != given for length, given in zip(wanted[1:], shape[1:], strict=True)
    ):
        text = ", ".join("any" if length is None else str(length) for length in (None, *wanted[1:]))
        raise InvalidField(f"inputs.{name}", f"its shape is {shape}", f"give an array of shape ({text})")


def run_in_chunks(
    run: Callable[[Mapping[str, Array]], list[Array]], feed: Mapping[str, Array], batch: int
) -> list[Array]:
    """Runs a model that takes `batch` rows and no other number on any number of rows.

    Args:
        run: evaluates the model on `batch` rows.
        feed: input name -> array, axis 0 the batch, the same length in all.
        batch: rows per chunk. The last chunk is filled up with copies of its last row.

    Returns:
        The fetched tensors, joined, without the rows that were filled in.
    """
    rows = min((len(array) for array in feed.values() if array.ndim), default=batch)
    if rows == batch:
        return run(feed)
    chunks = []
    for start in range(0, rows, batch):
        part = {name: array[start : start + batch] for name, array in feed.items()}
        short = batch - min(batch, rows - start)
        if short:
            part = {name: np.concatenate([array, array[-1:].repeat(short, axis=0)]) for name, array in part.items()}
        chunks.append(run(part))
    return [_join(parts, rows, batch) for parts in zip(*chunks, strict=True)]


def _join(parts: Sequence[Array], rows: int, batch: int) -> Array:
    first = parts[0]
    # A tensor whose axis 0 is not the batch or a multiple of it (a shape, a mask) is the same in every chunk.
    if first.ndim == 0 or first.shape[0] == 0 or first.shape[0] % batch:
        return first
    joined: Array = np.concatenate(parts)[: rows * (first.shape[0] // batch)]
    return joined
