"""Linearity by layer, and at the output by class."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sidelight_service.report.figures.bars import Bar, bars, boxes
from sidelight_service.report.figures.macros import number
from sidelight_service.report.page import Data, Figure, Section
from sidelight_service.report.sections.family import Family, cost, warnings
from sidelight_service.report.subject import Subject

if TYPE_CHECKING:
    from sidelight import LayerLinearity, LinearityExplanation

_LEVEL = 0.95
_ZERO_NOTES = {"affine": "affine", "below-noise-floor": "below noise"}


def _fill(subject: Subject, section: Section) -> Section:
    groups = _measure(subject)
    parts = [explanation for _, explanation in groups]
    provenances = [part.provenance for part in parts]
    used, rows = parts[0].parameters, sum(part.instance_count for part in parts)
    drawn = f"{rows} of {subject.reference.name}, drawn with seed {subject.request.seed}"
    scale = used.classifier_scale if used.model_type == "classifier" else "its numbers as they are"
    figures = [_by_layer(parts)]
    if len(groups) > 1:
        figures.append(_by_class(groups))
    else:
        figures.append(_distribution(parts[0]))
    noise = max(float(layer.noise_floor.max()) for part in parts for layer in part.layers)
    return replace(
        section,
        figures=figures,
        settings=[
            ("examples", drawn + (", in equal parts per class" if len(groups) > 1 else "")),
            ("neighbourhood", f"{used.samples} samples within {used.epsilon or 0:g} of the range of each feature"),
            ("range", f"least and greatest values in {subject.reference.name}"),
            ("samples combined", used.aggregate),
            ("measured of the output", scale),
            ("seed of the samples", f"{used.seed} ({used.draws})"),
            *cost(provenances),
        ],
        trust=[
            f"Whiskers are {_LEVEL:.0%} confidence intervals of L, over the samples drawn, averaged over the examples.",
            f"Rounding alone may give up to {noise:.1g}; what is below that is shown as 0.",
            "L depends on the neighbourhood: a wider one finds more curvature.",
            *warnings(provenances),
        ],
    )


LINEARITY = Family(
    method="linearity",
    id="linearity",
    title="Linearity",
    question="How linear is the model around an example, at each of its layers?",
    reading="L is 0 where the model is a straight line around the example; the longer a bar, the more it bends there.",
    fill=_fill,
)


def _measure(subject: Subject) -> list[tuple[str, LinearityExplanation]]:
    """By class where the set has classes, so that each is seen alike; else all in one."""
    client, request = subject.client, subject.request
    counts = subject.reference.class_counts
    everything = subject.selection()
    if not subject.classes:
        wanted = [("all", subject.selection(sample=min(request.sample, subject.reference.count)))]
    else:
        each = max(2, request.sample // len(subject.classes))
        wanted = [
            (f"class {name}", subject.selection(classes=(name,), sample=min(each, counts[name])))
            for name in subject.classes
        ]
    found = []
    for told, selection in wanted:
        explanation = client.linearity(
            subject.model,
            selection,
            layers="all",
            range_data=everything,
            confidence=_LEVEL,
            seed=request.seed,
            timeout=request.timeout,
        )
        found.append((told, explanation))
    return found


def _by_layer(parts: list[LinearityExplanation]) -> Figure:
    first = parts[0]
    order = [place for place, layer in enumerate(first.layers) if not layer.is_output]
    order += [place for place, layer in enumerate(first.layers) if layer.is_output]
    rows, lines = [], []
    for place in order:
        layers = [part.layers[place] for part in parts]
        values = _joined(layers, "linearity")
        low, high = (float(_joined(layers, f"confidence_{end}").mean()) for end in ("low", "high"))
        layer = layers[0]
        note = _ZERO_NOTES.get(layer.zero_reason, "") if not values.any() else ""
        name = f"{layer.name} (output)" if layer.is_output else layer.name
        rows.append(Bar(name, float(values.mean()), low, high, note=note, accent=layer.is_output))
        normalized = float(_joined(layers, "normalized").mean())
        lines.append((layer.name, float(values.mean()), float(values.std()), low, high, normalized, note))
    bent = [row for row in rows if row.value > 0]
    most = max(rows, key=lambda row: row.value)
    words = (
        f"Mean L of {len(rows)} layers in the order of evaluation; the output comes last, {number(rows[-1].value)}. "
    )
    words += (
        f"The least linear is {most.name} with {number(most.value)}. Linear to rounding: {len(rows) - len(bent)}."
        if bent
        else "All are linear."
    )
    return Figure(
        title="Mean L by layer",
        body=bars(rows, "mean L"),
        words=words,
        data=Data.of(
            ("layer", "mean L", "standard deviation", "low", "high", "mean normalised L", "note"),
            lines,
        ),
    )


def _by_class(groups: list[tuple[str, LinearityExplanation]]) -> Figure:
    named = [(told, explanation.output.linearity) for told, explanation in groups]
    medians = {told: float(np.median(values)) for told, values in named}
    least, most = min(medians, key=lambda name: medians[name]), max(medians, key=lambda name: medians[name])
    return Figure(
        title="L at the output by class",
        body=boxes(named, "L"),
        words="Distribution of L at the output over the examples of each class. By the median the model is most linear "
        f"around {least} ({number(medians[least])}) and least around {most} ({number(medians[most])}).",
        data=Data.of(("class", "L"), [(told, float(value)) for told, values in named for value in values]),
    )


def _distribution(explanation: LinearityExplanation) -> Figure:
    layers = [*(layer for layer in explanation.layers if not layer.is_output), explanation.output]
    named = [(layer.name, layer.linearity) for layer in layers]
    output = explanation.output.linearity
    return Figure(
        title="L by layer, over the examples",
        body=boxes(named, "L"),
        words=f"Distribution of L over {len(output)} examples at each layer; at the output its median is "
        f"{number(float(np.median(output)))} and its greatest {number(float(output.max()))}.",
        data=Data.of(("layer", "L"), [(name, float(value)) for name, values in named for value in values]),
    )


def _joined(layers: list[LayerLinearity], column: str) -> NDArray[np.float64]:
    values = [getattr(layer, column) for layer in layers]
    return np.concatenate([value for value in values if value is not None])
