"""The result of `Client.activation_pattern`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.arrays import from_tensor
from sidelight.decode import decode_picture, decode_provenance
from sidelight.provenance import Picture, Provenance
from sidelight.v1 import activation_pattern_pb2, reference_pb2
from sidelight.words import word

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PatternDistances:
    """The distances between the patterns of all classes.

    Attributes:
        distance: ``mean-absolute``, ``cosine``, ``jaccard`` or ``cka``.
        values: (classes, classes), symmetric, 0 on the diagonal.
        neighbours: (classes, classes), each row the positions of all classes, nearest first, itself first.
    """

    distance: str
    values: FloatArray
    neighbours: IntArray


@dataclass(frozen=True)
class SpecificUnit:
    """A unit that fires for one class more than for any other.

    Attributes:
        class_index: the class.
        unit: the unit.
        excess_rate: its rate for the class minus its greatest rate for another.
    """

    class_index: int
    unit: int
    excess_rate: float


@dataclass(frozen=True, eq=False)
class LayerPattern:
    """The patterns at one layer.

    Attributes:
        name: of the layer.
        firing_rates: (classes, units), the share of the examples of a class for which a unit fires.
        standard_errors: (classes, units), of the rates.
        thresholds: (units,), above which each unit fires.
        unit_shape: what units are counted over; ``np.unravel_index`` finds a unit's place in it.
        distances: by name, in the order asked for.
        dead_units: those that never fire.
        always_on_units: those that always fire.
        saturated_units: those at a bound of their activation for nearly all examples.
        specific_units: the most class-specific ones, class by class.
    """

    name: str
    firing_rates: FloatArray
    standard_errors: FloatArray
    thresholds: FloatArray
    unit_shape: tuple[int, ...]
    distances: Mapping[str, PatternDistances]
    dead_units: tuple[int, ...]
    always_on_units: tuple[int, ...]
    saturated_units: tuple[int, ...]
    specific_units: tuple[SpecificUnit, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain numbers, lists and text, fit for JSON."""
        return {
            "name": self.name,
            "firing_rates": self.firing_rates.tolist(),
            "standard_errors": self.standard_errors.tolist(),
            "thresholds": self.thresholds.tolist(),
            "unit_shape": list(self.unit_shape),
            "distances": {
                name: {"values": matrix.values.tolist(), "neighbours": matrix.neighbours.tolist()}
                for name, matrix in self.distances.items()
            },
            "dead_units": list(self.dead_units),
            "always_on_units": list(self.always_on_units),
            "saturated_units": list(self.saturated_units),
            "specific_units": [dataclasses.asdict(unit) for unit in self.specific_units],
        }


@dataclass(frozen=True)
class ActivationPatternParameters:
    """The parameters as the server used them, every default filled in.

    Attributes:
        threshold: above which units fire; None with a quantile.
        quantile: of each unit's own activations, above which it fires; None with a threshold.
        pooling: ``any``, ``mean`` or ``position``.
        class_source: ``label`` or ``prediction``.
        divisor: of the counts; 0 where it is the number of examples of the class.
        distances: those that were measured.
        specific_units: the most that were looked for, per class.
        output: the output that predictions were taken from; empty for labels.
    """

    threshold: float | None
    quantile: float | None
    pooling: str
    class_source: str
    divisor: float
    distances: tuple[str, ...]
    specific_units: int
    output: str


@dataclass(frozen=True, eq=False)
class ActivationPatternExplanation(Mapping[str, LayerPattern]):
    """Which classes fire the same neurons, at the layers asked for.

    Reads like a dict from layer name to `LayerPattern`: ``explanation["dense"].firing_rates``.

    Attributes:
        layers: in the order asked for, or of evaluation for ``"all"``.
        classes: what the rows and columns of all matrices stand for.
        class_counts: how many examples each class has.
        class_examples: the position of the first example of each class, in x or in the reference set.
        provenance: what was explained, by what, at what cost.
        parameters: as they were used.
        pictures: if asked for.
    """

    layers: tuple[LayerPattern, ...]
    classes: tuple[int, ...]
    class_counts: tuple[int, ...]
    class_examples: tuple[int, ...]
    provenance: Provenance
    parameters: ActivationPatternParameters
    pictures: tuple[Picture, ...] = ()

    def __getitem__(self, name: str) -> LayerPattern:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{name!r} was not observed; there are {', '.join(self)}")

    def __iter__(self) -> Iterator[str]:
        return iter(layer.name for layer in self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        where = f"{self.provenance.model}:{self.provenance.version}"
        layers = ", ".join(f"{layer.name}: {layer.firing_rates.shape[1]} units" for layer in self.layers)
        return f"<ActivationPatternExplanation of {where}, {len(self.classes)} classes, {{{layers}}}>"

    def nearest(self, layer: str, class_index: int, distance: str | None = None) -> tuple[int, ...]:
        """The other classes, nearest first.

        Args:
            layer: the name of a layer.
            class_index: of which class.
            distance: by which distance; the first that was asked for if None.
        """
        matrices = self[layer].distances
        matrix = next(iter(matrices.values())) if distance is None else matrices[distance]
        return tuple(self.classes[position] for position in matrix.neighbours[self.classes.index(class_index)][1:])

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures as plain numbers, lists and text, fit for JSON."""
        return {
            "classes": list(self.classes),
            "class_counts": list(self.class_counts),
            "class_examples": list(self.class_examples),
            "layers": [layer.as_dict() for layer in self.layers],
            "parameters": dataclasses.asdict(self.parameters),
            "provenance": dataclasses.asdict(self.provenance),
        }

    def to_npz(self, path: str | Path) -> None:
        """Writes the numbers to a NumPy archive that loads without pickle.

        `layer`, `classes`, `class_counts` and `class_examples` are lists; layer i has `firing_rates_i`,
        `standard_errors_i`, `thresholds_i`, `dead_units_i`, `always_on_units_i`, `saturated_units_i`, and
        `distances_<name>_i` and `neighbours_<name>_i` for each distance; `parameters` and `provenance` are JSON.
        """
        columns: dict[str, Any] = {
            "layer": np.array([layer.name for layer in self.layers]),
            "classes": np.array(self.classes, np.int64),
            "class_counts": np.array(self.class_counts, np.int64),
            "class_examples": np.array(self.class_examples, np.int64),
            "parameters": np.array(json.dumps(dataclasses.asdict(self.parameters))),
            "provenance": np.array(json.dumps(dataclasses.asdict(self.provenance))),
        }
        for number, layer in enumerate(self.layers):
            for name in ("firing_rates", "standard_errors", "thresholds"):
                columns[f"{name}_{number}"] = getattr(layer, name)
            for name in ("dead_units", "always_on_units", "saturated_units"):
                columns[f"{name}_{number}"] = np.array(getattr(layer, name), np.int64)
            for name, matrix in layer.distances.items():
                columns[f"distances_{name}_{number}"] = matrix.values
                columns[f"neighbours_{name}_{number}"] = matrix.neighbours
        # Through an open file, because numpy would add ".npz" to a path that lacks it.
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **columns)


def decode_activation_pattern(
    response: activation_pattern_pb2.ExplainActivationPatternResponse,
) -> ActivationPatternExplanation:
    """Reads a response."""
    used = response.effective_parameters
    which = used.WhichOneof("threshold")
    return ActivationPatternExplanation(
        layers=tuple(_layer(layer) for layer in response.layers),
        classes=tuple(response.classes),
        class_counts=tuple(response.class_counts),
        class_examples=tuple(response.class_examples),
        provenance=decode_provenance(response.provenance),
        parameters=ActivationPatternParameters(
            threshold=used.value if which == "value" else None,
            quantile=used.quantile if which == "quantile" else None,
            pooling=word(activation_pattern_pb2.UnitPooling.DESCRIPTOR, used.pooling),
            class_source=word(reference_pb2.ClassSource.DESCRIPTOR, used.class_source),
            divisor=used.divisor,
            distances=tuple(_distance(distance) for distance in used.distances),
            specific_units=used.specific_units,
            output=used.output,
        ),
        pictures=tuple(decode_picture(picture) for picture in response.pictures),
    )


def _layer(message: activation_pattern_pb2.LayerPattern) -> LayerPattern:
    return LayerPattern(
        name=message.layer,
        firing_rates=from_tensor(message.firing_rates),
        standard_errors=from_tensor(message.standard_errors),
        thresholds=from_tensor(message.thresholds),
        unit_shape=tuple(message.unit_shape),
        distances={
            _distance(matrix.distance): PatternDistances(
                _distance(matrix.distance), from_tensor(matrix.values), from_tensor(matrix.neighbours)
            )
            for matrix in message.distances
        },
        dead_units=tuple(message.dead_units),
        always_on_units=tuple(message.always_on_units),
        saturated_units=tuple(message.saturated_units),
        specific_units=tuple(
            SpecificUnit(unit.class_index, unit.unit, unit.excess_rate) for unit in message.specific_units
        ),
    )


def _distance(number: int) -> str:
    return word(activation_pattern_pb2.PatternDistance.DESCRIPTOR, number)
