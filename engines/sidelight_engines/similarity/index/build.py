"""Builds an index: gradients of a reference set, pass by pass, written chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from sidelight_engines.control import Control
from sidelight_engines.errors import IndexDamaged, IndexStale
from sidelight_engines.model import Model
from sidelight_engines.similarity.extraction import check_examples, gradients_of, make_task
from sidelight_engines.similarity.gradients.rows import GradientRows, join_rows
from sidelight_engines.similarity.index.files import IndexWriter
from sidelight_engines.similarity.index.header import HEADER, IndexHeader, read_header
from sidelight_engines.similarity.index.opened import GradientIndex, open_index
from sidelight_engines.similarity.parameters import Chunking, Examples, GradientOptions, Precision

_UNWATCHED = Control()
_CHUNKING = Chunking()


@dataclass(frozen=True)
class IndexOptions:
    """What is built.

    Attributes:
        gradients: the loss, the output and the layers.
        precision: how gradients are stored.
        chunk_rows: how many references are written at a time; what a crash can lose.
    """

    gradients: GradientOptions = field(default_factory=GradientOptions)
    precision: Precision = Precision.FLOAT32
    chunk_rows: int = 1024


def build_index(
    model: Model,
    references: Examples,
    options: IndexOptions,
    folder: Path,
    model_digest: str,
    reference_digest: str,
    control: Control = _UNWATCHED,
    *,
    chunking: Chunking = _CHUNKING,
) -> GradientIndex:
    """Builds the index of a reference set, or goes on where an earlier call was interrupted.

    Memory does not grow with the number of references.

    Args:
        model: the model.
        references: the reference set; its arrays may be memory-mapped.
        options: what is built.
        folder: the index' place. It grows in ``<folder>.partial``, which an interruption leaves behind.
        model_digest: of the model version.
        reference_digest: of the reference set.
        control: asked for a stop before every pass, told of progress in references.
        chunking: how the work is cut into passes.

    Returns:
        The index, opened and verified.

    Raises:
        InvalidField: an input, a label, a layer or the output does not go with the model.
        MethodNotSupported: the model has no parameters.
        UnsupportedOp: the model has operations that are not covered.
        GradientCheckFailed: the model's TensorFlow form disagrees with ONNX Runtime.
        NonFiniteGradient: a reference's gradient is NaN or infinite.
        OSError: the disk is full or can not be written to.
        Stopped: `control` asked for it.
    """
    check_examples(references)
    task = make_task(model, options.gradients)
    extractor = task.extractor(references, options.precision)
    header = IndexHeader(
        model_digest,
        reference_digest,
        task.options,
        references.labels is None,
        options.precision,
        len(references),
        options.chunk_rows,
        extractor.layout,
        {},
    )
    ready = _complete(folder, header, model_digest)
    if ready is not None:
        return ready
    writer = IndexWriter(folder.with_name(f"{folder.name}.partial"), header)
    try:
        if writer.header.layout != extractor.layout:
            extractor = task.extractor(references, options.precision, writer.header.layout)
        control.progress(writer.rows, len(references))
        passes = replace(chunking, rows=min(chunking.rows, options.chunk_rows))
        held: list[GradientRows] = []
        rows = gradients_of(task, extractor, references, passes, control, called="reference", start=writer.rows)
        for part in rows:
            held.append(part)
            waiting = sum(map(len, held))
            if waiting >= options.chunk_rows or writer.rows + waiting == len(references):
                held = _write(writer, join_rows(held), options.chunk_rows, len(references))
            control.progress(writer.rows + sum(map(len, held)), len(references))
        writer.finish(folder)
    finally:
        writer.close()
    return open_index(folder, model_digest)


def _complete(folder: Path, header: IndexHeader, model_digest: str) -> GradientIndex | None:
    """The index, if it is there already and whole."""
    try:
        if read_header(folder / HEADER).is_for_the_same(header):
            return open_index(folder, model_digest)
    except (IndexDamaged, IndexStale):
        return None
    return None


def _write(writer: IndexWriter, rows: GradientRows, chunk_rows: int, count: int) -> list[GradientRows]:
    """Writes whole chunks, and the last one; what is left over."""
    start = 0
    while len(rows) - start >= chunk_rows or (start < len(rows) and writer.rows + len(rows) - start == count):
        part = rows.take(slice(start, start + chunk_rows))
        writer.write([*part.fields, part.scales, part.norms, part.labels, part.predictions])
        start += len(part)
    return [rows.take(slice(start, None))] if start < len(rows) else []
