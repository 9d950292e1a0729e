"""Checks of arrays that become part of a set."""

from __future__ import annotations

import math

import numpy as np
from sidelight_engines.errors import InvalidField

from sidelight_service.references.arrays import Array

ELEMENT_TYPES = frozenset(
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64".split()  # noqa: SIM905
)
"""The NumPy types that a set may hold, as in the contract's DataType."""


def check_element_type(array: Array, field: str, what: str) -> None:
    """Checks that an array holds numbers.

    Raises:
        InvalidField: it does not.
    """
    if array.dtype.name not in ELEMENT_TYPES:
        raise InvalidField(field, f"{what} hold {array.dtype}", "give numbers, such as float32")


def finite_range(rows: Array, first_row: int, field: str, what: str) -> tuple[float, float]:
    """The least and greatest value of rows.

    Args:
        rows: at least one row of at least one number.
        first_row: the position of the first in the set.
        field: their path in the request.
        what: what they are, for the message.

    Raises:
        InvalidField: one is NaN or infinite; the error names the row.
    """
    # Minimum and maximum pass NaN on, so that one look at the values is enough where all is well.
    least, greatest = float(rows.min()), float(rows.max())
    if not (math.isfinite(least) and math.isfinite(greatest)):
        check_finite_rows(rows, first_row, field, what)
    return least, greatest


def check_finite_rows(rows: Array, first_row: int, field: str, what: str) -> None:
    """Checks that all numbers are finite.

    Raises:
        InvalidField: one is not; the error names the row, counted over the whole set.
    """
    if rows.dtype.kind != "f":
        return
    finite = np.isfinite(rows).reshape(len(rows), -1)
    if finite.all():
        return
    row = int(np.argmin(finite.all(axis=1)))
    value = rows[row].reshape(-1)[int(np.argmin(finite[row]))]
    name = "NaN" if np.isnan(value) else "infinity"
    raise InvalidField(field, f"{what} hold {name} at row {first_row + row}", "give finite numbers")
