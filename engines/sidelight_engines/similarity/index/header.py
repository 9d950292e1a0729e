"""What an index says of itself, and the files it consists of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sidelight_engines.errors import IndexDamaged
from sidelight_engines.similarity.gradients.layout import Layout, layout_from_json, layout_to_json
from sidelight_engines.similarity.parameters import GradientOptions, LayerSelection, Loss, Precision

HEADER = "header.json"
_FORMAT = 1


@dataclass(frozen=True)
class FileForm:
    """One file of an index.

    Attributes:
        name: of the file.
        dtype: of its array, as .npy has it.
        width: numbers per row; None for an array of one axis.
    """

    name: str
    dtype: str
    width: int | None

    @property
    def row_bytes(self) -> int:
        """The bytes of a row."""
        return int(np.dtype(self.dtype).itemsize * (1 if self.width is None else self.width))

    def shape(self, rows: int) -> tuple[int, ...]:
        """The shape of the whole array."""
        return (rows,) if self.width is None else (rows, self.width)


@dataclass(frozen=True)
class IndexHeader:
    """What an index says of itself.

    Attributes:
        model_digest: of the model version it is for.
        reference_digest: of the reference set it is for.
        options: loss, output and layers; resolved.
        predicted_labels: whether the model's own predictions were taken for labels.
        precision: how gradients are stored.
        count: references.
        chunk_rows: rows that a checksum is over.
        layout: how gradients are laid out.
        checksums: file name -> CRC-32 of each chunk of rows.
    """

    model_digest: str
    reference_digest: str
    options: GradientOptions
    predicted_labels: bool
    precision: Precision
    count: int
    chunk_rows: int
    layout: Layout
    checksums: Mapping[str, tuple[int, ...]]

    @property
    def files(self) -> tuple[FileForm, ...]:
        """The files: one per field, then scales, norms, labels and predictions."""
        values = "<f2" if self.precision is Precision.FLOAT16 else "<f4"
        fields = [
            FileForm(f"field_{i:03}.npy", "<i4" if is_ids else values, width)
            for i, (width, is_ids) in enumerate(zip(self.layout.field_widths, self.layout.field_is_ids, strict=True))
        ]
        return (
            *fields,
            FileForm("scales.npy", "<f4", len(fields)),
            FileForm("norms.npy", "<f8", len(self.layout.parameters)),
            FileForm("labels.npy", "<i8", None),
            FileForm("predictions.npy", "<i8", None),
        )

    @property
    def size_bytes(self) -> int:
        """What the arrays of the whole index take."""
        return self.count * sum(form.row_bytes for form in self.files)

    def is_for_the_same(self, other: IndexHeader) -> bool:
        """Whether another index would be of the same gradients, stored alike."""
        return replace(self, checksums={}, layout=other.layout) == replace(other, checksums={})


def header_to_json(header: IndexHeader) -> dict[str, Any]:
    """The header as `json` can write it."""
    return {
        "format": _FORMAT,
        "model_digest": header.model_digest,
        "reference_digest": header.reference_digest,
        "loss": header.options.loss.value,
        "output": header.options.output,
        "layers": list(header.options.layers.names),
        "predicted_labels": header.predicted_labels,
        "precision": header.precision.value,
        "count": header.count,
        "chunk_rows": header.chunk_rows,
        "layout": layout_to_json(header.layout),
        "checksums": {name: list(sums) for name, sums in header.checksums.items()},
    }


def read_header(path: Path) -> IndexHeader:
    """Reads a header.

    Raises:
        IndexDamaged: there is none, or it is not one.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        if read["format"] != _FORMAT:
            raise IndexDamaged(f"{path} is of format {read['format']}, not {_FORMAT}; build the index anew")
        return IndexHeader(
            str(read["model_digest"]),
            str(read["reference_digest"]),
            GradientOptions(Loss(read["loss"]), str(read["output"]), LayerSelection(tuple(read["layers"]))),
            bool(read["predicted_labels"]),
            Precision(read["precision"]),
            int(read["count"]),
            int(read["chunk_rows"]),
            layout_from_json(read["layout"]),
            {str(name): tuple(int(s) for s in sums) for name, sums in read["checksums"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IndexDamaged(f"{path} can not be read as the header of an index: {error}") from error
