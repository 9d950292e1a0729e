"""Which inputs carried the evidence, and where relevance went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sidelight_service.report.figures.bars import Bar, bars
from sidelight_service.report.figures.images import picture
from sidelight_service.report.figures.macros import macro, number
from sidelight_service.report.page import Cell, Data, Figure, Section
from sidelight_service.report.sections.family import Family, cost, warnings
from sidelight_service.report.subject import Subject

if TYPE_CHECKING:
    from sidelight import LrpExplanation

_CAUSES = {"bias": "bias", "stabiliser": "stabiliser", "empty_branch": "empty branch", "sink": "sink"}
_MOST_ROWS = 1000


def _fill(subject: Subject, section: Section) -> Section:
    request = subject.request
    explanation = subject.client.lrp(
        subject.model,
        subject.shown_inputs,
        seed=request.seed,
        picture="png",
        picture_instances=request.instances,
        timeout=request.timeout,
    )
    figures = [*_maps(explanation), _explained(explanation)]
    if explanation.ledger:
        figures.append(_ledger(explanation))
    gap, residual = float(explanation.conservation_gap.max()), float(explanation.ledger_residual.max())
    rules = dict.fromkeys(rule.rule for rule in explanation.applied_rules)
    fallbacks = [f"{rule.op} {rule.node}" for rule in explanation.applied_rules if rule.fallback]
    return replace(
        section,
        figures=figures,
        settings=[
            ("instances", f"{explanation.instance_count}, {subject.told_inputs}"),
            ("explained", "the largest logit of each"),
            ("rules", "preset EpsilonPlus: " + ", ".join(rules)),
            ("head", f"cut at {explanation.head_cut_at}" if explanation.head_cut_at else "none was cut off"),
            ("seed", f"{request.seed}; nothing in these rules is random"),
            *cost([explanation.provenance]),
        ],
        trust=[
            f"Of the relevance that started, at most {gap:.1%} did not reach the inputs (conservation gap).",
            f"The ledger says where that went, and leaves at most {residual:.1e} unexplained.",
            *([f"By the gradient, for want of a rule: {', '.join(fallbacks)}."] if fallbacks else []),
            "Another preset gives other heatmaps: relevance is what these rules define it to be.",
            *warnings([explanation.provenance]),
        ],
    )


LRP = Family(
    method="lrp",
    id="relevance",
    title="Relevance",
    question="Which inputs carried the evidence?",
    reading="a pixel in the warm colour spoke for the class that is explained, one in the cold colour against it.",
    fill=_fill,
)


def _maps(explanation: LrpExplanation) -> list[Figure]:
    """The heatmaps, which the server draws."""
    found = [made for made in explanation.pictures if made.name == "relevance"]
    if not found:
        return []
    rows: Iterator[list[Cell]] = (
        [name, instance, int(explanation.classes[instance, target]), ", ".join(map(str, place)), float(value)]
        for name, relevance in explanation.inputs.items()
        for (instance, target, *place), value in np.ndenumerate(relevance)
    )
    total = sum(relevance.size for relevance in explanation.inputs.values())
    return [
        Figure(
            title="Relevance of the inputs",
            body=picture(found[0]),
            words=found[0].alternative_text,
            data=Data.of(("input", "instance", "class", "place", "relevance"), rows, total),
        )
    ]


def _explained(explanation: LrpExplanation) -> Figure:
    columns = ("instance", "class", "logit", "relevance that reached the inputs", "conservation gap", "Gini index")
    rows: list[list[Cell]] = [
        [
            instance,
            int(explanation.classes[instance, target]),
            float(explanation.logit[instance, target]),
            float(explanation.relevance_in[instance, target]),
            float(explanation.conservation_gap[instance, target]),
            float(explanation.sparseness[instance, target]),
        ]
        for instance, target in np.ndindex(*explanation.classes.shape)
    ]
    shown = [[str(cell) if isinstance(cell, int) else number(float(cell or 0)) for cell in row] for row in rows]
    sparse = float(explanation.sparseness.mean())
    return Figure(
        title="What was explained",
        body=macro("plain_table", columns, shown[:_MOST_ROWS], "What was explained"),
        words=f"{len(rows)} explanations of classes {', '.join(str(row[1]) for row in rows[:12])}. The Gini index of "
        f"relevance is {sparse:.2f} on average; 1 would be a single pixel, 0 all alike.",
        data=Data.of(columns, rows),
    )


def _ledger(explanation: LrpExplanation) -> Figure:
    """What each layer lost, as a share of the relevance that started, whatever its sign."""
    started = explanation.relevance_out
    whole = float(np.abs(started).sum()) or 1.0
    signs = np.where(started < 0, -1.0, 1.0)
    bars_: list[Bar] = []
    rows: list[list[Cell]] = []
    for entry in explanation.ledger:
        shares = {name: float((getattr(entry, name) * signs).sum()) / whole for name in ("relevance_in", *_CAUSES)}
        lost = sum(abs(shares[cause]) for cause in _CAUSES)
        largest = max(_CAUSES, key=lambda cause: abs(shares[cause]))
        note = f"mostly {_CAUSES[largest]}" if lost > 0 else ""
        bars_.append(Bar(entry.layer or "total", lost, note=note, accent=not entry.layer))
        rows.append([entry.layer or "total", *shares.values()])
    most = max(bars_[:-1] or bars_, key=lambda bar: bar.value)
    return Figure(
        title="Where relevance went on its way",
        body=bars(bars_, "share that did not go on", "{:.2%}".format),
        words="Share of the relevance that started which each layer did not hand on, from output to inputs. The most "
        f"was left at {most.name}: {most.value:.2%}. In all it was {bars_[-1].value:.2%}.",
        data=Data.of(("layer", "handed on", *_CAUSES.values()), rows),
    )
