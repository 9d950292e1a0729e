"""Labels as they arrive: class indices, one-hot rows or regression targets.

Integers are classes: [n], or [n, 1], indices; [n, k] one-hot. Floating-point numbers are targets, unless they are
[n, k] with k of at least 2 and every row of the whole set is one-hot. That is known at the end alone, so that it
does not depend on how a set was cut into chunks.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from sidelight_engines.errors import InvalidField

from sidelight_service.references.arrays import Array, GrowingArray, map_array
from sidelight_service.references.checks import check_finite_rows
from sidelight_service.references.digests import Part
from sidelight_service.references.fit import Fit
from sidelight_service.references.header import LabelInfo, LabelKind

LABELS_FILE = "labels.npy"
_TARGETS_FILE = "targets.npy"
_MOST_CLASSES = 65_536
_BLOCK_ROWS = 65_536


class LabelWriter:
    """Writes the labels of a set.

    Attributes:
        class_counts: class -> number of examples so far.
        greatest_class: so far; -1 for none.
        columns: of a one-hot matrix; None for indices and targets.
    """

    def __init__(self, folder: Path, first: Array, fit: Fit | None, field: str) -> None:
        """Decides by the first labels what kind of labels these are.

        Raises:
            InvalidField: they are no labels.
        """
        self.class_counts: Counter[int] = Counter()
        self.greatest_class = -1
        self.columns: int | None = None
        self._folder = folder
        self._fit = fit
        self._dtype = first.dtype
        self._row_shape = first.shape[1:]
        self._floating = first.dtype.kind == "f"
        if self._floating:
            self._maybe_one_hot = first.ndim == 2 and first.shape[1] >= 2
            self._array = GrowingArray(folder / _TARGETS_FILE, first.dtype, self._row_shape)
        else:
            self._maybe_one_hot = False
            if first.ndim == 2 and first.shape[1] >= 2:
                self.columns = first.shape[1]
            elif first.shape[1:] not in ((), (1,)):
                raise InvalidField(
                    field, f"are integers of shape {list(first.shape)}", "give [n] classes or [n, k] one-hot rows"
                )
            self._array = GrowingArray(folder / LABELS_FILE, np.dtype(np.int64), ())

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self._array.size_bytes

    def append(self, labels: Array, first_row: int, field: str) -> None:
        """Checks and adds labels.

        Args:
            labels: of consecutive examples.
            first_row: the position of the first in the set.
            field: their path in the request.

        Raises:
            InvalidField: they are of another kind than those before, or have values that no label may have.
        """
        if labels.dtype != self._dtype or labels.shape[1:] != self._row_shape:
            raise InvalidField(
                field,
                f"are {labels.dtype} {list(labels.shape)} where those before were {self._dtype} "
                f"[n{''.join(f', {n}' for n in self._row_shape)}]",
                "send the same type and shape in every chunk",
            )
        if not self._floating:
            self._append_classes(self._classes_of(labels, first_row, field), first_row, field)
            return
        check_finite_rows(labels, first_row, field, "the labels")
        self._maybe_one_hot = self._maybe_one_hot and bool(_is_one_hot(labels).all())
        self._array.append(labels)

    def finish(self, field: str) -> tuple[LabelInfo, Part]:
        """Completes the labels; what they are, and their part of the digest.

        Raises:
            InvalidField: they do not go with the model.
        """
        if self._maybe_one_hot:
            self._convert_targets(field)
        if self._floating:
            if self._fit is not None:
                self._fit.check_targets(self._row_shape, field)
            kind, shape = LabelKind.TARGETS, self._row_shape
        else:
            if self._fit is not None:
                self._fit.check_classes(self.greatest_class, self.columns, field)
            kind, shape = LabelKind.CLASSES, ()
        array = self._array
        content = array.finish()
        info = LabelInfo(kind, array.path.name, self._array.dtype.name, shape)
        return info, Part(kind, "", array.dtype.name, (array.rows, *shape), content)

    def close(self) -> None:
        """Closes the file as it is."""
        self._array.close()

    def _classes_of(self, labels: Array, first_row: int, field: str) -> Array:
        if self.columns is None:
            flat = labels.reshape(-1)
            if flat.dtype == np.uint64 and flat.size and int(flat.max()) > np.iinfo(np.int64).max:
                raise InvalidField(field, "have values beyond int64", "give class indices from 0")
            return flat.astype(np.int64)
        wrong = np.flatnonzero(~_is_one_hot(labels))
        if wrong.size:
            raise InvalidField(
                field, f"row {first_row + int(wrong[0])} is not one-hot", "give rows of zeros and a single one"
            )
        classes: Array = labels.argmax(axis=1)
        return classes.astype(np.int64)

    def _append_classes(self, classes: Array, first_row: int, field: str) -> None:
        below = np.flatnonzero(classes < 0)
        if below.size:
            raise InvalidField(
                field, f"row {first_row + int(below[0])} has class {classes[below[0]]}", "give class indices from 0"
            )
        values, counts = np.unique(classes, return_counts=True)
        self.class_counts.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        if len(self.class_counts) > _MOST_CLASSES:
            raise InvalidField(
                field, f"have more than {_MOST_CLASSES} classes", "give floating-point numbers if they are targets"
            )
        self.greatest_class = max(self.greatest_class, int(values[-1]))
        if self._fit is not None:
            try:
                self._fit.check_classes(int(values[-1]), self.columns, field)
            except InvalidField as error:
                row = first_row + int(np.argmax(classes == values[-1]))
                raise InvalidField(field, f"{error.problem} (row {row})", error.remedy) from error
        self._array.append(classes)

    def _convert_targets(self, field: str) -> None:
        """Makes classes of floating-point labels that were one-hot to the last row."""
        targets = self._array
        targets.finish()
        mapped = map_array(targets.path, self._dtype.name, (targets.rows, *self._row_shape))
        self.columns = self._row_shape[0]
        self._floating = False
        self._array = GrowingArray(self._folder / LABELS_FILE, np.dtype(np.int64), ())
        for first in range(0, len(mapped), _BLOCK_ROWS):
            block = mapped[first : first + _BLOCK_ROWS]
            self._append_classes(block.argmax(axis=1).astype(np.int64), first, field)
        targets.path.unlink()


def _is_one_hot(labels: Array) -> Array:
    """Which rows hold zeros and a single one."""
    ones = labels == 1
    result: Array = (ones.sum(axis=1) == 1) & ((labels == 0) | ones).all(axis=1)
    return result
