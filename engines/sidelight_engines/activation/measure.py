"""Which classes fire the same neurons.

For each class c and unit u of a layer, F[c, u] is the share of the examples of the class for which the unit's
activation is above a threshold; the distance of two classes is mean_u |F_a - F_b|. This is the experiment of A. R.
Gosthipaty, Similarity of neuron activations between similar classes (2020), which divided by a fixed 1,000 and took
the 32 ReLU units of a penultimate layer; what is added: any layer, several at once, thresholds for units that are
never 0, the pooling of positions, other distances, and standard errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sidelight_engines.activation.alignment import FEWEST_UNITS, Alignment
from sidelight_engines.activation.counting import FiringCounter, Members
from sidelight_engines.activation.distances import matrix, most_specific, rate_distances
from sidelight_engines.activation.parameters import (
    Chunking,
    Classes,
    PatternDistance,
    PatternParameters,
    QuantileThreshold,
)
from sidelight_engines.activation.plan import Plan, make_plan
from sidelight_engines.activation.quantiles import KeptActivations, Observe, fits, passes_needed, search
from sidelight_engines.activation.result import DistanceMatrix, LayerPattern, PatternResult
from sidelight_engines.activation.taps import Observation, Tap, Taps
from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, MemoryLimitExceeded
from sidelight_engines.graph.graph import Graph
from sidelight_engines.notice import Notice
from sidelight_engines.runtime.runtime import Array, Runtime

_UNWATCHED = Control()
_CHUNKING = Chunking()
# Counts, rates and standard errors.
_BYTES_PER_RATE = 3 * 8
# Below this, a rate is off by a tenth and more (sqrt(0.25 / 25) = 0.1).
_FEW_EXAMPLES = 25
_CLASSES_SHOWN = 10


def measure_activation_patterns(
    graph: Graph,
    runtime: Runtime,
    inputs: Mapping[str, Array],
    classes: Classes,
    parameters: PatternParameters,
    control: Control = _UNWATCHED,
    *,
    fields: Mapping[str, str] | None = None,
    chunking: Chunking = _CHUNKING,
) -> PatternResult:
    """Measures which classes fire the same units at layers of a model.

    Args:
        graph: the model.
        runtime: evaluates it.
        inputs: input name -> (examples, ...), of the input's dtype, finite, at least one example.
        classes: how examples are grouped.
        parameters: how patterns are counted.
        control: asked for a stop before every forward pass, told of progress in examples (times passes, where a
            quantile takes several).
        fields: input name -> the request field that it came from, for errors.
        chunking: how the work is cut. Nothing in the result depends on it but rounding in alignments.

    Returns:
        The patterns of each layer.

    Raises:
        MethodNotSupported: the model takes text.
        InvalidField: a value is not one that may be given; the error names the field.
        NonFiniteOutput: the model gave NaN or infinity.
        MemoryLimitExceeded: one row, or the counts, take more memory than is granted.
        Stopped: `control` asked for it.
    """
    named = {spec.name: f"inputs[{spec.name!r}]" for spec in graph.inputs} if fields is None else fields
    plan = make_plan(graph, inputs, named, classes, parameters)
    taps = Taps(plan, runtime, parameters, chunking, control)
    _check_memory(taps, parameters, chunking)
    work = _Work(plan, taps, parameters, control, chunking)
    return work.result()


def _check_memory(taps: Taps, parameters: PatternParameters, chunking: Chunking) -> None:
    needed = sum(tap.units for tap in taps.taps) * taps.class_count * _BYTES_PER_RATE
    if PatternDistance.CKA in parameters.distances:
        for tap in taps.taps:
            if tap.units < FEWEST_UNITS:
                raise InvalidField(
                    f"parameters.distances[{parameters.distances.index(PatternDistance.CKA)}]",
                    f"CKA compares units, and layer {tap.observed.layer.name!r} has {tap.units}",
                    f"leave out layers with fewer than {FEWEST_UNITS} units, or CKA",
                )
            needed += Alignment.memory_bytes(taps.class_count, tap.units)
    if needed > chunking.memory_bytes:
        raise MemoryLimitExceeded(
            needed, chunking.memory_bytes, "observe fewer layers at a time, pool positions, or grant more"
        )


class _Work:
    """One request on its way."""

    def __init__(
        self, plan: Plan, taps: Taps, parameters: PatternParameters, control: Control, chunking: Chunking
    ) -> None:
        self._plan = plan
        self._taps = taps
        self._parameters = parameters
        self._control = control
        self._memory_bytes = chunking.memory_bytes
        self._passes = 1
        self._observed = 0

    def result(self) -> PatternResult:
        """Does it."""
        thresholds, observe = self._thresholds()
        taps = self._taps
        counters = [
            FiringCounter(taps.class_count, threshold, tap.observed.layer.op, tap.dtype)
            for tap, threshold in zip(taps.taps, thresholds, strict=True)
        ]
        alignments = [
            Alignment(taps.class_count, tap.units) if PatternDistance.CKA in self._parameters.distances else None
            for tap in taps.taps
        ]
        class_counts = np.zeros(taps.class_count, np.int64)
        first_examples = np.full(taps.class_count, -1, np.int64)
        for observation in observe():
            members = Members.of(observation.classes)
            for counter, alignment, units in zip(counters, alignments, observation.units, strict=True):
                counter.add(units, members)
                if alignment is not None:
                    alignment.add(units, observation.classes)
            present, firsts, counts = np.unique(observation.classes, return_index=True, return_counts=True)
            class_counts[present] += counts
            unseen = first_examples[present] < 0
            first_examples[present[unseen]] = observation.first + firsts[unseen]
        kept = class_counts > 0
        notices = [*self._plan.notices, *taps.notices]
        layers = []
        for tap, counter, alignment, threshold in zip(taps.taps, counters, alignments, thresholds, strict=True):
            layers.append(self._layer(tap, counter, alignment, threshold, class_counts, kept, notices))
        few = taps.classes[kept & (class_counts < _FEW_EXAMPLES)].tolist()
        if few:
            shown = ", ".join(map(str, few[:_CLASSES_SHOWN])) + (" and others" if len(few) > _CLASSES_SHOWN else "")
            notices.append(
                Notice(
                    "FEW_EXAMPLES",
                    f"class {shown} has fewer than {_FEW_EXAMPLES} examples, so its rates may be off by a tenth and "
                    "more; see the standard errors, or give more examples",
                )
            )
        return PatternResult(
            layers=tuple(layers),
            classes=taps.classes[kept],
            class_counts=class_counts[kept],
            class_examples=first_examples[kept],
            forward_rows=taps.forward_rows,
            warnings=tuple(notices),
            parameters=self._parameters,
            output="" if self._plan.output is None else self._plan.output.name,
        )

    def _thresholds(self) -> tuple[list[Array], Observe]:
        """The thresholds of each layer's units, and what goes over the examples to count them."""
        threshold, taps, count = self._parameters.threshold, self._taps, self._plan.count
        if not isinstance(threshold, QuantileThreshold):
            return [np.full(tap.units, float(threshold.value)) for tap in taps.taps], self._observe
        if fits(taps.taps, count, self._memory_bytes):
            kept = KeptActivations(taps.taps, count, self._observe)
            return kept.thresholds(threshold.quantile), kept.observations
        self._passes = passes_needed(taps.taps, self._memory_bytes) + 1
        return search(taps.taps, count, threshold.quantile, self._memory_bytes, self._observe), self._observe

    def _observe(self) -> Iterator[Observation]:
        for observation in self._taps.observations():
            yield observation
            self._observed += len(observation.classes)
            self._control.progress(self._observed, self._plan.count * self._passes)

    def _layer(
        self,
        tap: Tap,
        counter: FiringCounter,
        alignment: Alignment | None,
        thresholds: Array,
        class_counts: Array,
        kept: Array,
        notices: list[Notice],
    ) -> LayerPattern:
        counts, sizes, classes = counter.counts[kept], class_counts[kept], self._taps.classes[kept]
        divisors = np.full(len(sizes), self._parameters.divisor) if self._parameters.divisor else sizes.astype(float)
        rates = counts / divisors[:, np.newaxis]
        shares = counts / sizes[:, np.newaxis]
        errors = np.sqrt(shares * (1 - shares) / sizes[:, np.newaxis]) * (sizes / divisors)[:, np.newaxis]
        fired = counts.sum(axis=0)
        distances = []
        for distance in self._parameters.distances:
            if distance is PatternDistance.CKA and alignment is not None:
                distances.append(self._alignment_distances(tap, alignment, class_counts, kept, notices))
            else:
                distances.append(rate_distances(rates, distance, self._control))
        return LayerPattern(
            name=tap.observed.layer.name,
            unit_shape=tap.unit_shape,
            firing_counts=counts,
            firing_rates=rates,
            standard_errors=errors,
            thresholds=thresholds,
            distances=tuple(distances),
            dead_units=np.flatnonzero(fired == 0),
            always_on_units=np.flatnonzero(fired == self._plan.count),
            saturated_units=counter.saturated(),
            specific_units=most_specific(rates, classes, self._parameters.specific_units),
        )

    def _alignment_distances(
        self, tap: Tap, alignment: Alignment, class_counts: Array, kept: Array, notices: list[Notice]
    ) -> DistanceMatrix:
        aligned, known = alignment.cka(np.maximum(class_counts, 1))
        values = 1.0 - aligned[np.ix_(kept, kept)]
        np.fill_diagonal(values, 0.0)
        unknown = self._taps.classes[kept & ~known].tolist()
        if unknown:
            shown = ", ".join(map(str, unknown[:_CLASSES_SHOWN]))
            notices.append(
                Notice(
                    "CKA_UNDEFINED",
                    f"at layer {tap.observed.layer.name!r} all units go together alike in class {shown}, so CKA says "
                    "nothing of it; its distances are given as 1",
                )
            )
        return matrix(PatternDistance.CKA, values)
