"""Builds an index: gradients of a reference set, pass by pass, written chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from sidelight_engines.control import Control
from sidelight_engines.errors import IndexDamaged, IndexStale
from sidelight_engines.model import Model
from sidelight_engines.similarity.extraction import Task, check_examples, gradients_of, make_task
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


@dataclass(frozen=True)
class IndexPlan:
    """An index that is to be built: everything but its gradients.

    Attributes:
        task: which gradients.
        references: of what.
        header: what the index will say of itself; its layout may still be replaced by that of what is gone on with.
    """

    task: Task
    references: Examples
    header: IndexHeader


def plan_index(
    model: Model, references: Examples, options: IndexOptions, model_digest: str, reference_digest: str
) -> IndexPlan:
    """Finds out what an index will be like.

    Args:
        model: the model.
        references: the reference set; its arrays may be memory-mapped.
        options: what is built.
        model_digest: of the model version.
        reference_digest: of the reference set.

    Raises:
        InvalidField: an input, a label, a layer or the output does not go with the model.
        MethodNotSupported: the model has no parameters.
        UnsupportedOp: the model has operations that are not covered.
        GradientCheckFailed: the model's TensorFlow form disagrees with ONNX Runtime.
    """
    check_examples(references)
    task = make_task(model, options.gradients)
    header = IndexHeader(
        model_digest,
        reference_digest,
        task.options,
        references.labels is None,
        options.precision,
        len(references),
        options.chunk_rows,
        task.extractor(references, options.precision).layout,
        {},
    )
    return IndexPlan(task, references, header)


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
        InvalidField, MethodNotSupported, UnsupportedOp, GradientCheckFailed: see `plan_index`.
        NonFiniteGradient: a reference's gradient is NaN or infinite.
        OSError: the disk is full or can not be written to.
        Stopped: `control` asked for it.
    """
    plan = plan_index(model, references, options, model_digest, reference_digest)
    complete = extend_index(plan, folder, len(references), control, chunking=chunking)
    return open_index(folder, model_digest) if complete is None else complete


def extend_index(
    plan: IndexPlan, folder: Path, rows: int, control: Control = _UNWATCHED, *, chunking: Chunking = _CHUNKING
) -> GradientIndex | None:
    """Goes on with an index until the gradients of its first references are written.

    Calls with growing `rows`, the last with all of them, build what `build_index` builds; each goes on from what
    is on the disk, whatever became of those before it. Only one may work on a place at a time.

    Args:
        plan: what is built.
        folder: the index' place.
        rows: of how many references; counted in whole chunks, so that fewer may be written if it is not all.
        control: asked for a stop before every pass, told of progress in references.
        chunking: how the work is cut into passes.

    Returns:
        The index, opened and verified, if it is complete, now or already; else None.

    Raises:
        NonFiniteGradient: a reference's gradient is NaN or infinite.
        InvalidField: a label does not go with the model.
        OSError: the disk is full or can not be written to.
        Stopped: `control` asked for it.
    """
    task, header, count = plan.task, plan.header, plan.header.count
    ready = _complete(folder, header)
    if ready is not None:
        return ready
    wanted = count if rows >= count else rows - rows % header.chunk_rows
    writer = IndexWriter(folder.with_name(f"{folder.name}.partial"), header)
    try:
        extractor = task.extractor(plan.references, header.precision)
        if writer.header.layout != extractor.layout:
            extractor = task.extractor(plan.references, header.precision, writer.header.layout)
        control.progress(writer.rows, count)
        passes = replace(chunking, rows=min(chunking.rows, header.chunk_rows))
        held: list[GradientRows] = []
        examples = _first(plan.references, wanted)
        for part in gradients_of(
            task, extractor, examples, passes, control, called="reference", start=min(writer.rows, wanted)
        ):
            held.append(part)
            waiting = sum(map(len, held))
            if waiting >= header.chunk_rows or writer.rows + waiting == count:
                held = _write(writer, join_rows(held), header.chunk_rows, count)
            control.progress(writer.rows + sum(map(len, held)), count)
        if writer.rows < count:
            return None
        writer.finish(folder)
    finally:
        writer.close()
    return open_index(folder, header.model_digest)


def _first(examples: Examples, count: int) -> Examples:
    """The first few examples, without a copy of memory-mapped ones."""
    labels = examples.labels
    return Examples(
        {name: array[:count] for name, array in examples.inputs.items()},
        None if labels is None else replace(labels, values=labels.values[:count]),
        examples.field,
    )


def _complete(folder: Path, header: IndexHeader) -> GradientIndex | None:
    """The index, if it is there already and whole."""
    try:
        if read_header(folder / HEADER).is_for_the_same(header):
            return open_index(folder, header.model_digest)
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
