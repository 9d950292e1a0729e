"""References: gradients that instances are compared with, wherever they come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, MemoryLimitExceeded
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.extraction import Task, check_examples, gradients_of, part_of
from sidelight_engines.similarity.gradients.extractor import GradientExtractor
from sidelight_engines.similarity.gradients.rows import GradientRows, join_rows
from sidelight_engines.similarity.index.opened import GradientIndex
from sidelight_engines.similarity.parameters import Chunking, Examples, Precision


@dataclass(frozen=True)
class ReferenceRows:
    """References, ready to be compared with.

    Attributes:
        rows: gradients, of those that count or of more.
        selection: (n,) int64, where those that count are in `rows`; None for all.
        positions: (n,) int64, the index of each of those in its set.
        digest: of the set; empty if they were given as arrays.
        extractor: what computed them, if that was for this call.
        predicted: whether it takes the model's own predictions for labels.
    """

    rows: GradientRows
    selection: Array | None
    positions: Array
    digest: str
    extractor: GradientExtractor | None = None
    predicted: bool = False

    def __len__(self) -> int:
        return len(self.positions)

    def at(self, chosen: Array) -> Array:
        """Where some of those that count are in `rows`."""
        return chosen if self.selection is None else np.asarray(self.selection[chosen])


def ready_references(
    task: Task, references: GradientIndex | Examples, selection: Array | None, chunking: Chunking, control: Control
) -> ReferenceRows:
    """Takes references from an index, or computes their gradients.

    Args:
        task: which gradients.
        references: the index, or examples.
        selection: (n,) int64, the indices of those that count; None for all.
        chunking: how computing is cut into passes, and what the gradients of examples may take.
        control: asked for a stop, told of progress in examples.

    Raises:
        IndexStale: the index was built for another loss or output.
        MemoryLimitExceeded: the gradients of the examples take more memory than is granted.
        NonFiniteGradient: a gradient is NaN or infinite.
        InvalidField: an input or a label does not go with the model.
        Stopped: `control` asked for it.
    """
    if isinstance(references, GradientIndex):
        references.check_task(task)
        rows = references.rows
        positions = np.arange(len(rows)) if selection is None else _checked(selection, len(rows))
        return ReferenceRows(
            rows, None if selection is None else positions, positions, references.header.reference_digest
        )
    check_examples(references)
    positions = np.arange(len(references)) if references.positions is None else references.positions
    if selection is not None:
        chosen = _checked(selection, len(references))
        references, positions = part_of(references, chosen), positions[chosen]
    extractor = task.extractor(references, Precision.FLOAT32)
    needed = gradient_bytes(task, references)
    if needed > chunking.reference_bytes:
        raise MemoryLimitExceeded(needed, chunking.reference_bytes, "build an index of the references, or give fewer")
    parts = []
    done = 0
    for part in gradients_of(task, extractor, references, chunking, control, called="reference"):
        parts.append(part)
        done += len(part)
        control.progress(done, len(references))
    return ReferenceRows(join_rows(parts), None, positions, "", extractor, references.labels is None)


def gradient_bytes(task: Task, references: Examples) -> int:
    """What the gradients of references that are not indexed take in memory, in bytes.

    Args:
        task: which gradients.
        references: n examples, or fewer to be told of so many.

    Raises:
        MethodNotSupported, UnsupportedOp, GradientCheckFailed, InvalidField: they can not be computed.
    """
    return len(references) * task.extractor(references, Precision.FLOAT32).layout.values_per_example * 4


def _checked(selection: Array, count: int) -> Array:
    positions = np.asarray(selection, np.int64)
    if positions.ndim != 1 or len(positions) == 0:
        raise InvalidField("parameters.reference", "selects no example", "select at least one")
    outside = (positions < 0) | (positions >= count)
    if outside.any():
        raise InvalidField(
            "parameters.reference", f"selects example {positions[outside][0]} of {count}", f"give 0 to {count - 1}"
        )
    return positions
