"""Selections of reference sets: which examples, and what they hold.

The steps apply in this order: all examples or the given positions, then the classes to keep, then a sample. All
keep the order of what they are given. A sample of `count` takes the examples with the least keys, key i being the
i-th 64-bit word of Philox 4x64-10 keyed by (seed, 0), its counter from 1: the same everywhere, and a larger sample
of the same examples holds the smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sidelight.v1 import reference_pb2
from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import TensorSpec

from sidelight_service.convert.instances import as_input
from sidelight_service.references.arrays import Array
from sidelight_service.references.fit import check_shape
from sidelight_service.references.opened import OpenedSet, open_set
from sidelight_service.references.store import Location

Predict = Callable[["SelectedExamples", str], Array]
"""The class that the model predicts for each of some examples, int64; takes the field for errors too."""


@dataclass(frozen=True, eq=False)
class SelectedExamples:
    """Examples of a set.

    Attributes:
        reference: the set.
        rows: their positions in it, int64, in the order selected; None for all.
        field: the path of the selection in the request, for errors.
    """

    reference: OpenedSet
    rows: Array | None
    field: str

    def __len__(self) -> int:
        return self.reference.header.count if self.rows is None else len(self.rows)

    @property
    def positions(self) -> Array:
        """Their positions in the set, int64."""
        return np.arange(len(self)) if self.rows is None else self.rows

    @property
    def labels(self) -> Array | None:
        """Their labels; None if the set has none."""
        return None if self.reference.labels is None else self._pick(self.reference.labels)

    def inputs(self, specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
        """What they hold, as a model takes it.

        Args:
            specs: the model's inputs.

        Returns:
            Input name -> array in the input's type. Memory-mapped where neither the type nor the order asks for a
            copy.

        Raises:
            InvalidField: the set does not fit the model.
        """
        found = self.stored_inputs(specs)
        return {spec.name: as_input(found[spec.name], spec, self.field) for spec in specs}

    def stored_inputs(self, specs: tuple[TensorSpec, ...]) -> dict[str, Array]:
        """As `inputs`, in the types in which the set holds them where the model's type is what they round to.

        For engines that take examples pass by pass: a whole set of bytes need not become one of floats first.

        Args:
            specs: the model's inputs.

        Raises:
            InvalidField: the set does not fit the model.
        """
        available = self.reference.inputs
        name = self.reference.header.name
        wanted = [spec.name for spec in specs]
        keys = [""] if len(specs) == 1 else wanted
        if available.keys() != set(keys):
            held = "a single input" if list(available) == [""] else f"inputs {sorted(available)}"
            raise InvalidField(
                self.field, f"reference set {name!r} holds {held}; the model has {wanted}", "name a set of the same"
            )
        found = {}
        for key, spec in zip(keys, specs, strict=True):
            array = available[key]
            check_shape(array.shape[1:], spec, self.field, "the model")
            picked = self._pick(array)
            rounds = np.dtype(spec.dtype).kind == "f" and array.dtype.kind in "biuf"
            found[spec.name] = picked if rounds else as_input(picked, spec, self.field)
        return found

    def single_array(self) -> Array:
        """What they hold, where no model says what it takes.

        Raises:
            InvalidField: the set has several inputs.
        """
        available = self.reference.inputs
        if len(available) > 1:
            raise InvalidField(
                self.field,
                f"reference set {self.reference.header.name!r} holds inputs {sorted(available)}",
                "name a set with a single one",
            )
        return self._pick(next(iter(available.values())))

    def _pick(self, array: Array) -> Array:
        if self.rows is None:
            return array
        first = int(self.rows[0])
        if self.rows[-1] - first == len(self.rows) - 1 and bool((np.diff(self.rows) == 1).all()):
            return array[first : first + len(self.rows)]  # consecutive: no copy
        return array[self.rows]


class Selector:
    """Resolves the selections of one request."""

    def __init__(self, locations: Mapping[str, Location], predict: Predict) -> None:
        """Prepares.

        Args:
            locations: where the sets are that the request names, by name.
            predict: tells classes by the model, for the filter that asks for them.
        """
        self._locations = locations
        self._predict = predict
        self._opened: dict[str, OpenedSet] = {}

    def select(self, wire: reference_pb2.ReferenceSelection, field: str) -> SelectedExamples:
        """Resolves a selection.

        Args:
            wire: the wire form.
            field: its path in the request, for errors.

        Raises:
            InvalidField: it asks for what the set does not have.
            ReferenceNotFound: the set is gone or damaged.
        """
        opened = self._opened.get(wire.reference)
        if opened is None:
            opened = self._opened[wire.reference] = open_set(self._locations[wire.reference])
        check_digest(wire, opened.header.digest, field)
        selected = SelectedExamples(opened, _indices(wire, opened.header.count, field), field)
        if wire.HasField("class_filter"):
            selected = self._filtered(selected, wire.class_filter, f"{field}.class_filter")
        if wire.HasField("sample"):
            selected = _sampled(selected, wire.sample, f"{field}.sample")
        return selected

    def _filtered(self, selected: SelectedExamples, wire: reference_pb2.ClassFilter, field: str) -> SelectedExamples:
        if not wire.classes:
            raise InvalidField(f"{field}.classes", "is empty", "give at least one class, or no class_filter")
        for position, wanted in enumerate(wire.classes):
            if wanted < 0:
                raise InvalidField(f"{field}.classes[{position}]", f"is {wanted}", "give class indices from 0")
        if wire.source == reference_pb2.CLASS_SOURCE_PREDICTION:
            classes = self._predict(selected, f"{field}.source")
        elif wire.source in (reference_pb2.CLASS_SOURCE_UNSPECIFIED, reference_pb2.CLASS_SOURCE_LABEL):
            classes = _labelled_classes(selected, field)
        else:
            raise InvalidField(f"{field}.source", f"{wire.source} is not a value of it", "give LABEL or PREDICTION")
        kept = selected.positions[np.isin(classes, np.asarray(wire.classes, np.int64))]
        if not kept.size:
            listed = ", ".join(map(str, list(wire.classes)[:10]))
            raise InvalidField(
                f"{field}.classes", f"none of the {len(selected)} examples is of class {listed}", "give other classes"
            )
        return SelectedExamples(selected.reference, kept, selected.field)


def check_digest(wire: reference_pb2.ReferenceSelection, digest: str, field: str) -> None:
    """Checks that a set is the one that a selection means.

    Raises:
        InvalidField: it is not.
    """
    if wire.digest not in ("", digest):
        raise InvalidField(
            f"{field}.digest",
            f"reference set {wire.reference!r} has digest {digest}, not {wire.digest}",
            "describe the set anew, or leave the digest out",
        )


def _indices(wire: reference_pb2.ReferenceSelection, count: int, field: str) -> Array | None:
    if not wire.indices:
        return None
    rows = np.asarray(wire.indices, np.int64)
    outside = np.flatnonzero((rows < 0) | (rows >= count))
    if outside.size:
        raise InvalidField(
            f"{field}.indices[{outside[0]}]",
            f"is {rows[outside[0]]}, and reference set {wire.reference!r} has {count} examples",
            f"give 0 to {count - 1}",
        )
    return rows


def _labelled_classes(selected: SelectedExamples, field: str) -> Array:
    labels = selected.labels
    if selected.reference.classes is None or labels is None:
        held = "no labels" if labels is None else "targets for regression in place of class labels"
        raise InvalidField(
            field,
            f"reference set {selected.reference.header.name!r} has {held}",
            "filter by source PREDICTION, or create the set with class labels",
        )
    return labels


def _sampled(selected: SelectedExamples, wire: reference_pb2.ReferenceSample, field: str) -> SelectedExamples:
    left = len(selected)
    if not 1 <= wire.count <= left:
        raise InvalidField(f"{field}.count", f"is {wire.count} where {left} examples are left", f"give 1 to {left}")
    keys = np.random.Philox(key=wire.seed).random_raw(left)
    chosen = np.sort(np.argsort(keys, kind="stable")[: wire.count])
    return SelectedExamples(selected.reference, selected.positions[chosen], selected.field)
