"""The references of a similarity request as the engine takes them: an index if one fits, else examples."""

from __future__ import annotations

from dataclasses import dataclass

from sidelight_engines.model import Model
from sidelight_engines.similarity import Examples, GradientIndex, GradientOptions, Labels, gradient_bytes, make_task

from sidelight_service.errors import IndexMissing
from sidelight_service.methods.context import MethodContext, Version
from sidelight_service.references.arrays import Array
from sidelight_service.references.selecting import SelectedExamples

_FIELD = "parameters.reference"


@dataclass(frozen=True)
class FoundReferences:
    """References of one model version.

    Attributes:
        references: the index of the whole set, or the examples selected.
        selection: (n,) which of an index' references count; None for all of them.
    """

    references: GradientIndex | Examples
    selection: Array | None


def selected_examples(model: Model, selected: SelectedExamples, field: str) -> Examples:
    """The selected examples as gradients are taken at, with the set's labels if it has them.

    Args:
        model: that takes them.
        selected: which.
        field: the path of the selection in the request, for errors.
    """
    labels = None if selected.labels is None else Labels(selected.labels, field)
    return Examples(selected.stored_inputs(model.graph.inputs), labels, field, selected.rows)


def find_references(
    context: MethodContext, version: Version, selected: SelectedExamples, options: GradientOptions
) -> FoundReferences:
    """Finds the references of one model version.

    Args:
        context: has the indexes, and the limits.
        version: the model version.
        selected: which references.
        options: which gradients.

    Raises:
        IndexMissing: they are too many to be compared without an index, and there is none.
        IndexStale: the same, and there is one of an earlier content of the model.
        IndexDamaged: the index' files are not as they were written.
        InvalidField, MethodNotSupported, UnsupportedOp, GradientCheckFailed: there are no such gradients.
    """
    task = make_task(version.model, options)
    digest = selected.reference.header.digest
    index = context.indexes.find(version.owner, digest, task, predicted=selected.labels is None)
    if index is not None:
        return FoundReferences(index, selected.rows)
    examples = selected_examples(version.model, selected, _FIELD)
    needed = gradient_bytes(task, examples)
    if needed > context.limits.unindexed_bytes:
        context.indexes.require_none_stale(version.owner, digest, task)
        raise IndexMissing(
            version.owner.model,
            version.owner.version,
            selected.reference.header.name,
            needed,
            context.limits.unindexed_bytes,
        )
    return FoundReferences(examples, None)
