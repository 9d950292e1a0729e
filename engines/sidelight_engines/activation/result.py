"""What activation patterns give back."""

from __future__ import annotations

from dataclasses import dataclass

from sidelight_engines.activation.parameters import PatternDistance, PatternParameters
from sidelight_engines.notice import Notice
from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True)
class DistanceMatrix:
    """The distances between all classes.

    Attributes:
        distance: which.
        values: float64 (classes, classes), symmetric, 0 on the diagonal.
        neighbours: int64 (classes, classes): each row the positions of all classes, nearest first, itself first;
            of equally near ones the earlier first.
    """

    distance: PatternDistance
    values: Array
    neighbours: Array


@dataclass(frozen=True)
class SpecificUnit:
    """A unit that fires for one class more than for any other.

    Attributes:
        class_index: the class.
        unit: the unit.
        excess_rate: its rate for the class minus its greatest rate for another; above 0.
    """

    class_index: int
    unit: int
    excess_rate: float


@dataclass(frozen=True)
class LayerPattern:
    """The patterns at one layer.

    Attributes:
        name: of the layer.
        unit_shape: what the units are counted over, in the order of the file's axes, the last the fastest:
            (channels,) where positions are pooled.
        firing_counts: int64 (classes, units), how many examples of the class the unit fires for.
        firing_rates: float64 (classes, units), the counts over the divisor.
        standard_errors: float64 (classes, units), those of the rates: sqrt(p (1 - p) / n) n / divisor, with n the
            number of examples of the class and p the share of them that the unit fires for.
        thresholds: float64 (units,), above which each unit fires.
        distances: in the order asked for.
        dead_units: int64, those that fire for no example.
        always_on_units: int64, those that fire for every example.
        saturated_units: int64, those at a bound of their activation for nearly all examples.
        specific_units: the most class-specific units, class by class, the most specific first.
    """

    name: str
    unit_shape: tuple[int, ...]
    firing_counts: Array
    firing_rates: Array
    standard_errors: Array
    thresholds: Array
    distances: tuple[DistanceMatrix, ...]
    dead_units: Array
    always_on_units: Array
    saturated_units: Array
    specific_units: tuple[SpecificUnit, ...]


@dataclass(frozen=True)
class PatternResult:
    """Which classes fire the same neurons.

    Attributes:
        layers: in the order asked for (for all: of evaluation).
        classes: int64, (classes,), ascending: what the rows and columns of all matrices stand for. Only classes
            that have an example.
        class_counts: int64, (classes,), how many examples each has.
        class_examples: int64, (classes,), the position of the first example of each.
        forward_rows: rows that were sent through the model.
        warnings: what a reader should know.
        parameters: as they were used.
        output: the output that predictions were taken from; empty for labels.
    """

    layers: tuple[LayerPattern, ...]
    classes: Array
    class_counts: Array
    class_examples: Array
    forward_rows: int
    warnings: tuple[Notice, ...]
    parameters: PatternParameters
    output: str
