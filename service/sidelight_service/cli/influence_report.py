"""An influence result for people: a table and pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sidelight_service.cli.terminal import console

if TYPE_CHECKING:
    from sidelight import InfluenceExplanation
    from sidelight_engines.pictures import InfluenceDrawing, Picture, PictureFormat

_MOST_LINES = 20


def print_table(explanation: InfluenceExplanation) -> None:
    """Prints a line for each of the features that move predictions most to standard output."""
    import numpy as np

    differences = np.nan_to_num(explanation.differences)
    order = explanation.ranking()
    least, most = int(explanation.taus.argmin()), int(explanation.taus.argmax())
    ends = [f"at {explanation.taus[place]:g}" for place in dict.fromkeys((least, most))]
    table = Table(box=None, pad_edge=False)
    for name in ("feature", "label"):
        table.add_column(name)
    for name in ("mean", *ends, "change", "std. error", "slope", "examples"):
        table.add_column(name, justify="right")
    table.add_column("note")
    for place in order[:_MOST_LINES].tolist():
        label = int(np.abs(differences[place]).argmax())
        cells = [explanation.influences[place, end, label] for end in dict.fromkeys((least, most))]
        error = float(np.max(explanation.standard_errors[place, [least, most], label]))
        few = float(explanation.effective_sample_sizes[place, [least, most]].min())
        table.add_row(
            Text(explanation.feature_name(place)),
            str(label),
            f"{explanation.feature_means[place]:.4g}",
            *(f"{cell:.4f}" for cell in cells),
            Text(f"{differences[place, label]:+.4f}", style="bold"),
            "" if np.isnan(error) else f"{error:.2g}",
            f"{explanation.slopes[place, label]:.3g}",
            "" if np.isnan(few) else f"{few:.0f}",
            "" if explanation.attained[place, [least, most]].all() else "not attained",
        )
    out = console()
    out.print(table)
    if len(order) > _MOST_LINES:
        out.print(Text(f"{len(order) - _MOST_LINES} more features move less", style="dim"))
    _print_metrics(explanation, least, most)
    provenance = explanation.provenance
    explained = (
        f"{provenance.model}:{provenance.version}, {provenance.runtime}" if provenance.runtime else "predictions"
    )
    features, taus, labels = explanation.influences.shape
    facts = f"{features} features x {taus} x {labels} labels, {provenance.compute_seconds:.2f} s {provenance.digest}"
    out.print(Text(f"\n{explained}, {facts}".rstrip(), style="dim"))


def _print_metrics(explanation: InfluenceExplanation, least: int, most: int) -> None:
    """Prints for each metric what it is, and where it moves most, with standard errors."""
    import numpy as np

    if explanation.performances is None or explanation.baseline_performances is None:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("\nmetric")
    for name in ("\nas they are", "\nleast", "\nmost"):
        table.add_column(name, justify="right")
    for place, metric in enumerate(explanation.metrics):
        values = explanation.performances[:, [least, most], place]
        errors = np.full_like(values, np.nan)
        if explanation.performance_errors is not None:
            errors = explanation.performance_errors[:, [least, most], place]
        found = np.isfinite(values).all(axis=1)
        if not found.any():
            continue
        low = int(np.where(found, values.min(axis=1), np.inf).argmin())
        high = int(np.where(found, values.max(axis=1), -np.inf).argmax())
        table.add_row(
            metric,
            f"{explanation.baseline_performances[place]:.4f}",
            *(
                Text(f"{_with_error(values[row, end], errors[row, end])} by {explanation.feature_name(row)}")
                for row, end in ((low, int(values[low].argmin())), (high, int(values[high].argmax())))
            ),
        )
    console().print(table)


def _with_error(value: float, error: float) -> str:
    return f"{value:.4f}" if math.isnan(error) else f"{value:.4f} ± {error:.2g}"


def draw_main(explanation: InfluenceExplanation, file_format: PictureFormat) -> Picture:
    """Draws a map per label for images, and the ranking for anything else."""
    from sidelight_engines.pictures import influence_heatmaps, influence_ranking

    drawing = _drawing(explanation)
    return (influence_heatmaps if drawing.is_image else influence_ranking)(drawing, file_format=file_format)


def draw_curves(explanation: InfluenceExplanation, file_format: PictureFormat) -> Picture:
    """Draws mean predictions over taus."""
    from sidelight_engines.pictures import influence_curves

    return influence_curves(_drawing(explanation), file_format=file_format)


def draw_ranking(explanation: InfluenceExplanation, file_format: PictureFormat) -> Picture:
    """Draws the features that move predictions most."""
    from sidelight_engines.pictures import influence_ranking

    return influence_ranking(_drawing(explanation), file_format=file_format)


def _drawing(explanation: InfluenceExplanation) -> InfluenceDrawing:
    import numpy as np
    from sidelight_engines.pictures import InfluenceDrawing

    provenance = explanation.provenance
    shape = explanation.influences.shape
    performances = explanation.performances
    return InfluenceDrawing(
        model=f"{provenance.model}:{provenance.version}" if provenance.model else "",
        features=explanation.features,
        feature_names=explanation.feature_names,
        example_shape=explanation.example_shape,
        aims=explanation.taus.tolist(),
        absolute_targets=explanation.absolute_targets,
        influences=explanation.influences,
        standard_errors=explanation.standard_errors,
        low=explanation.confidence_low,
        high=explanation.confidence_high,
        attained=explanation.attained,
        baseline=explanation.baseline_predictions,
        metric_names=[metric.replace("-", " ") for metric in explanation.metrics],
        performances=np.empty((*shape[:2], 0)) if performances is None else performances,
    )
