"""Which classes fire the same neurons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sidelight_service.report.figures.images import picture
from sidelight_service.report.figures.macros import number
from sidelight_service.report.figures.matrices import matrix, raster
from sidelight_service.report.page import Data, Figure, Section
from sidelight_service.report.sections.family import Family, cost, warnings
from sidelight_service.report.subject import Subject

if TYPE_CHECKING:
    from sidelight import ActivationPatternExplanation, LayerPattern

_ACTIVATIONS = frozenset(
    {
        *("Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu", "Relu6", "Selu"),
        *("Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"),
    }
)
_CHOSEN = 2


def _fill(subject: Subject, section: Section) -> Section:
    layers = subject.request.layers or _choose(subject)
    by_prediction = not subject.reference.class_counts
    explanation = subject.client.activation_pattern(
        subject.model,
        subject.all_examples(),
        layers=list(layers),
        by_prediction=True if by_prediction else None,
        picture="png",
        timeout=subject.request.timeout,
    )
    used = explanation.parameters
    worst = max(float(layer.standard_errors.max(initial=0.0)) for layer in explanation.layers)
    fires = f"above {used.threshold:g}" if used.quantile is None else f"above its {used.quantile:g} quantile"
    return replace(
        section,
        figures=[figure for layer in explanation.layers for figure in _figures(explanation, layer)],
        settings=[
            ("examples", subject.told_examples),
            ("classes", f"{len(explanation.classes)}, by {used.class_source}"),
            ("layers", ", ".join(layers) + ("" if subject.request.layers else " (chosen by their operations)")),
            ("a unit fires", fires),
            ("positions of a channel", f"one unit: {used.pooling}"),
            ("distance", "mean over units of the difference of firing rates"),
            ("seed", f"{subject.request.seed}, where examples were drawn; nothing else is random"),
            *cost([explanation.provenance]),
        ],
        trust=[
            f"The standard error of a firing rate is at most {worst:.2g}; each is in the numbers.",
            f"The smallest class has {min(explanation.class_counts):,} examples.",
            *[_units(layer) for layer in explanation.layers],
            *warnings([explanation.provenance]),
        ],
    )


ACTIVATION_PATTERN = Family(
    method="activation-pattern",
    id="patterns",
    title="Activation patterns",
    question="Which classes fire the same neurons?",
    reading="two classes at a small distance fire the same neurons, so the model takes them for much the same.",
    fill=_fill,
)


def _choose(subject: Subject) -> tuple[str, ...]:
    """The last activations before the output, where classes have come apart, those without positions first.

    A channel fires somewhere in nearly every image, so one unit per channel tells little of classes.
    """
    inner = [layer for layer in subject.detail.layers if not layer.is_output] or list(subject.detail.layers)
    active = [layer for layer in inner if layer.op in _ACTIVATIONS] or inner
    flat = [layer for layer in active if layer.shape is not None and len(layer.shape) == 2]
    return tuple(layer.name for layer in (flat or active)[-_CHOSEN:])


def _figures(explanation: ActivationPatternExplanation, layer: LayerPattern) -> Iterator[Figure]:
    names = [str(name) for name in explanation.classes]
    yield _rates(explanation, layer, names)
    if len(names) < 2:
        return
    (distance,) = layer.distances.values()
    values = distance.values
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    near, far = min(pairs, key=lambda pair: values[pair]), max(pairs, key=lambda pair: values[pair])
    words = (
        f"Nearest are classes {names[near[1]]} and {names[near[0]]} ({number(values[near])}), farthest "
        f"{names[far[1]]} and {names[far[0]]} ({number(values[far])})."
    )
    yield Figure(
        title=f"Distance of classes at {layer.name}",
        body=matrix(
            values,
            names,
            title=f"classes at {layer.name}",
            scale=f"from alike (0) to {number(float(values.max()))}",
            words=words,
        ),
        words=words,
        data=Data.of(
            ("class", *(f"class {name}" for name in names)),
            [(name, *row) for name, row in zip(names, values.tolist(), strict=True)],
        ),
    )
    found = [made for made in explanation.pictures if made.name == f"class-neighbours-{layer.name}"]
    if found:
        order = [[explanation.classes[place] for place in row] for row in distance.neighbours.tolist()]
        yield Figure(
            title=f"Each class and its neighbours at {layer.name}",
            body=picture(found[0]),
            words=found[0].alternative_text,
            data=Data.of(("class", *(f"neighbour {rank}" for rank in range(1, len(names)))), order),
        )


def _rates(explanation: ActivationPatternExplanation, layer: LayerPattern, names: list[str]) -> Figure:
    rates = layer.firing_rates
    specific = [
        f"unit {unit.unit} for class {unit.class_index} (+{unit.excess_rate:.2f})"
        for unit in sorted(layer.specific_units, key=lambda unit: -unit.excess_rate)[:3]
    ]
    told = f"Most particular to one class: {', '.join(specific)}." if specific else "No unit is particular to a class."
    units = f"{rates.shape[1]:,} units"
    words = f"{len(names)} classes by {units}; on average {rates.mean():.0%} of the units fire. {told}"
    return Figure(
        title=f"Firing rates at {layer.name}",
        body=raster(
            rates,
            names,
            words=words,
            low="never fires",
            high="always fires",
            columns=f"a row per class, a column per unit of {layer.name}",
        ),
        words=words,
        data=Data.of(
            ("class", "unit", "firing rate", "standard error"),
            (
                (name, unit, float(rates[row, unit]), float(layer.standard_errors[row, unit]))
                for row, name in enumerate(names)
                for unit in range(rates.shape[1])
            ),
            rates.size,
        ),
    )


def _units(layer: LayerPattern) -> str:
    count = layer.firing_rates.shape[1]
    return (
        f"At {layer.name}, of {count:,} units {len(layer.dead_units):,} never fire, {len(layer.always_on_units):,} "
        f"always fire and {len(layer.saturated_units):,} are saturated; these tell no classes apart."
    )
