"""What predictions and accuracy hang on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sidelight_service.report.figures.bars import Bar, bars
from sidelight_service.report.figures.curves import Curve, curves
from sidelight_service.report.figures.images import picture
from sidelight_service.report.figures.macros import number
from sidelight_service.report.page import Cell, Data, Figure, Section
from sidelight_service.report.sections.family import Family, cost, warnings
from sidelight_service.report.subject import Subject

if TYPE_CHECKING:
    from sidelight import InfluenceExplanation

_RANKED = 15
_CURVED = 2
_LINES = 6
_TAUS = np.linspace(-1, 1, 41)
_FEW = 30


def _fill(subject: Subject, section: Section) -> Section:
    client, request = subject.client, subject.request
    examples = subject.all_examples()
    metrics = ["accuracy"] if subject.reference.class_counts and subject.detail.classifier else None
    overview = client.influence(
        subject.model, examples, taus=(-1, 1), metrics=metrics, picture="png", timeout=request.timeout
    )
    ranked = overview.ranking()
    features = [int(overview.features[place]) for place in ranked[:_CURVED]]
    closer = client.influence(
        subject.model, examples, taus=_TAUS.tolist(), features=features, metrics=metrics, timeout=request.timeout
    )
    provenances = [overview.provenance, closer.provenance]
    figures = [_ranking(overview), *_maps(overview)]
    figures += [_curve(closer, place) for place in range(len(features))]
    least = float(overview.effective_sample_sizes.min())
    return replace(
        section,
        figures=figures,
        settings=[
            ("examples", subject.told_examples),
            ("features", f"{len(overview.features):,}, each moved alone"),
            ("moved to", "its 0.05 quantile (tau -1) and its 0.95 quantile (tau 1)"),
            ("a target out of reach", "all weight on the examples at that bound"),
            ("metrics", ", ".join(overview.metrics) or "none"),
            ("seed", f"{request.seed}, where examples were drawn; nothing else is random"),
            *cost(provenances),
        ],
        trust=[
            f"At the fewest, {least:,.0f} examples count (effective sample size); distrust what has fewer than {_FEW}.",
            "Bands are two standard errors. Influence shows what goes together in these data, not what causes what.",
            *warnings(provenances),
        ],
    )


INFLUENCE = Family(
    method="influence",
    id="influence",
    title="Influence",
    question="How would predictions change if a feature's mean moved?",
    reading="the more a label's mean prediction moves with a feature's mean, the more it hangs on that feature.",
    fill=_fill,
)


def _ranking(explanation: InfluenceExplanation) -> Figure:
    differences = explanation.differences
    ranked = explanation.ranking()
    rows = []
    for place in ranked[:_RANKED]:
        label = int(np.nanargmax(np.abs(differences[place])))
        change = float(differences[place, label])
        rows.append(Bar(_name(explanation, int(place)), abs(change), note=f"label {label}: {change:+.3g}"))
    first = int(ranked[0])
    label = int(np.nanargmax(np.abs(differences[first])))
    return Figure(
        title="Features by influence",
        body=bars(rows, "greatest change of a mean prediction"),
        words=f"The {len(rows)} of {len(ranked):,} features whose move from a low to a high mean changes a mean "
        f"prediction most. First is {_name(explanation, first)}: the mean prediction of label {label} changes by "
        f"{differences[first, label]:+.3g}.",
        data=Data.of(
            ("feature", "name", "label", "change from low to high"),
            (
                (int(explanation.features[place]), _name(explanation, int(place)), label, float(change))
                for place in ranked
                for label, change in enumerate(differences[place])
            ),
            differences.size,
        ),
    )


def _maps(explanation: InfluenceExplanation) -> list[Figure]:
    """The seed figure of the family, which the server draws for images alone."""
    found = [made for made in explanation.pictures if "heatmap" in made.name]
    if not found:
        return []
    differences = explanation.differences
    labels = [f"label {label}" for label in range(differences.shape[1])]
    rows: Iterator[list[Cell]] = (
        [int(feature), _name(explanation, place), *map(float, differences[place])]
        for place, feature in enumerate(explanation.features)
    )
    return [
        Figure(
            title="Influence of each pixel on each label",
            body=picture(found[0]),
            words=found[0].alternative_text,
            data=Data.of(("feature", "name", *labels), rows, len(differences)),
        )
    ]


def _curve(explanation: InfluenceExplanation, place: int) -> Figure:
    values, errors = explanation.influences[place], explanation.standard_errors[place]
    spread = np.nanmax(values, axis=0) - np.nanmin(values, axis=0)
    shown = sorted(np.argsort(-spread, kind="stable")[:_LINES].tolist())
    name = _name(explanation, place)
    most = int(np.argmax(spread))
    words = (
        f"Mean prediction of {len(shown)} labels as the mean of {name} moves from low to high; label {most} moves "
        f"most, from {number(float(values[0, most]))} to {number(float(values[-1, most]))}."
    )
    if explanation.performances is not None:
        accuracy = explanation.performances[place, :, 0]
        words += f" Accuracy is between {np.nanmin(accuracy):.1%} and {np.nanmax(accuracy):.1%}."
    lines = [Curve(f"label {label}", values[:, label], 2 * errors[:, label]) for label in shown]
    return Figure(
        title=f"Mean predictions as {name} moves",
        body=curves(explanation.taus, lines, x_name="tau", y_name="mean prediction", words=words),
        words=words,
        data=Data.of(
            ("tau", "mean of the feature", "effective sample size", "label", "mean prediction", "standard error"),
            [
                (
                    float(tau),
                    float(explanation.attained_means[place, row]),
                    float(explanation.effective_sample_sizes[place, row]),
                    label,
                    float(values[row, label]),
                    _known(errors[row, label]),
                )
                for row, tau in enumerate(explanation.taus)
                for label in range(values.shape[1])
            ],
        ),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _name(explanation: InfluenceExplanation, place: int) -> str:
    if explanation.feature_names or len(explanation.example_shape) < 2:
        return f"feature {explanation.feature_name(place)}"
    index = np.unravel_index(int(explanation.features[place]), explanation.example_shape)
    where = [int(part) for part, length in zip(index, explanation.example_shape, strict=True) if length > 1]
    return f"pixel {', '.join(map(str, where))}"
