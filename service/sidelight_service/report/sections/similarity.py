"""Which reference examples the model treats like an instance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sidelight_service.report.figures.images import picture
from sidelight_service.report.figures.macros import macro, number
from sidelight_service.report.page import Cell, Data, Figure, Section
from sidelight_service.report.sections.family import Family, cost, warnings
from sidelight_service.report.subject import Subject

if TYPE_CHECKING:
    from sidelight import SimilarityExplanation

_NEIGHBOURS = 5
_SHOWN_CLASSES = 3


def _fill(subject: Subject, section: Section) -> Section:
    explanation, index = _measure(subject)
    norms = explanation.gradient_norms
    figures = [*_strip(explanation), _neighbours(explanation)]
    if explanation.by_label is not None:
        figures.append(_class_means(explanation))
    own = "the labels of the references, and the model's predictions for the instances"
    return replace(
        section,
        figures=figures,
        settings=[
            ("instances", f"{len(explanation)}, {subject.told_inputs}"),
            ("references", f"all {subject.reference.count:,} examples of {subject.reference.name}"),
            ("score", "cosine of the gradients of the loss by all parameters"),
            ("labels", own if subject.reference.labelled else "the model's predictions"),
            ("index", index),
            ("seed", f"{subject.request.seed}, where instances were drawn; nothing else is random"),
            *cost([explanation.provenance]),
        ],
        trust=[
            "Scores are exact: they come from whole gradients, not from a projection of them.",
            f"Gradient norms of the instances are {number(float(norms.min()))} to {number(float(norms.max()))}; where "
            "the model is sure, they are small and scores hang on little.",
            "A cosine of 1 is the same direction of change, 0 none in common, -1 the opposite.",
            *warnings([explanation.provenance]),
        ],
    )


SIMILARITY = Family(
    method="similarity",
    id="similarity",
    title="Similar examples",
    question="Which reference examples does the model treat like this one?",
    reading="to learn from a reference with a high score would change the model as to learn from the instance would.",
    fill=_fill,
)


def _measure(subject: Subject) -> tuple[SimilarityExplanation, str]:
    """Asks; where the references are so many that they need an index first, has it built."""
    import sidelight

    def ask() -> SimilarityExplanation:
        return subject.client.similarity(
            subject.model,
            subject.shown_inputs,
            reference=subject.reference.name,
            label_source="prediction",
            top=_NEIGHBOURS,
            class_means=True,
            picture="png",
            picture_instances=subject.request.instances,
            timeout=subject.request.timeout,
        )

    try:
        return ask(), "the server's, or none for so few references"
    except sidelight.FailedPrecondition as error:
        if error.reason not in ("INDEX_MISSING", "INDEX_STALE"):
            raise
    job = subject.client.submit_gradient_index(subject.model, subject.reference.name, timeout=subject.request.timeout)
    job.wait(timeout=subject.request.timeout)
    job.result(timeout=subject.request.timeout)
    return ask(), "built for this report"


def _strip(explanation: SimilarityExplanation) -> list[Figure]:
    """The instances beside their neighbours, which the server draws."""
    found = [made for made in explanation.pictures if made.name == "similarity-strip"]
    return [Figure("Instances and their most similar references", picture(found[0]), found[0].alternative_text,
                   _data(explanation))] if found else []  # fmt: skip


def _data(explanation: SimilarityExplanation) -> Data:
    most = explanation.most_similar
    rows: list[list[Cell]] = [
        [
            instance,
            _class_of(explanation.predictions, instance),
            rank + 1,
            int(most.indices[instance, rank]),
            float(most.scores[instance, rank]),
            None if most.labels is None else int(most.labels[instance, rank]),
            None if most.predictions is None else int(most.predictions[instance, rank]),
        ]
        for instance in range(len(explanation))
        for rank in range(len(most))
    ]
    columns = ("instance", "predicted", "rank", "reference", "score", "label", "predicted for the reference")
    return Data.of(columns, rows)


def _class_of(classes: object, place: int) -> int | None:
    return int(np.asarray(classes)[place]) if classes is not None else None


def _neighbours(explanation: SimilarityExplanation) -> Figure:
    most = explanation.most_similar
    ranks = [str(rank + 1) for rank in range(len(most))]
    rows = []
    for instance in range(len(explanation)):
        predicted = _class_of(explanation.predictions, instance)
        cells = []
        for rank in range(len(most)):
            label = "" if most.labels is None else f", label {most.labels[instance, rank]}"
            cells.append(f"{most.indices[instance, rank]}{label} ({most.scores[instance, rank]:.2f})")
        rows.append([f"instance {instance}" + ("" if predicted is None else f", predicted {predicted}"), *cells])
    words = f"The {len(most)} most similar references of {len(explanation)} instances."
    if most.labels is not None and explanation.predictions is not None:
        same = float((most.labels == explanation.predictions[:, np.newaxis]).mean())
        words += f" {same:.0%} of them bear the label that the model predicts for the instance."
    return Figure(
        title="Most similar references",
        body=macro("plain_table", ("instance", *ranks), rows, "Most similar references"),
        words=words,
        data=_data(explanation),
    )


def _class_means(explanation: SimilarityExplanation) -> Figure:
    means = explanation.by_label
    if means is None:
        raise ValueError("there are no mean scores by class")
    rows, lines = [], []
    for instance in range(len(explanation)):
        order = np.argsort(-means.means[instance], kind="stable")
        best = [
            f"class {means.classes[place]} ({means.means[instance, place]:.2g})" for place in order[:_SHOWN_CLASSES]
        ]
        predicted = _class_of(explanation.predictions, instance)
        rows.append(
            [f"instance {instance}" + ("" if predicted is None else f", predicted {predicted}"), ", ".join(best)]
        )
        lines += [
            (instance, int(name), float(mean), int(count))
            for name, mean, count in zip(means.classes, means.means[instance], means.counts, strict=True)
        ]
    nearest = means.classes[means.means.argmax(axis=1)]
    words = "The classes whose references are most similar on average, for each instance."
    if explanation.predictions is not None:
        agreed = int((nearest == explanation.predictions).sum())
        words += f" For {agreed} of {len(explanation)} instances that is the class that the model predicts."
    return Figure(
        title="Mean score by class of the references",
        body=macro("plain_table", ("instance", "most similar classes on average"), rows, "Mean score by class"),
        words=words,
        data=Data.of(("instance", "class", "mean score", "references"), lines),
    )
