"""A linearity result for people: a table and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sidelight_service.cli.terminal import console

if TYPE_CHECKING:
    from sidelight import LayerLinearity, LinearityExplanation
    from sidelight_engines.pictures import Picture, PictureFormat

_ZERO_NOTES = {"affine": "affine", "below-noise-floor": "below noise"}


def in_order(explanation: LinearityExplanation) -> list[LayerLinearity]:
    """The layers as they were asked for, or evaluated, and the output at the end."""
    return [layer for layer in explanation.layers if not layer.is_output] + [explanation.output]


def print_table(explanation: LinearityExplanation) -> None:
    """Prints one line per layer to standard output."""
    provenance, parameters = explanation.provenance, explanation.parameters
    level = parameters.confidence
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    for name in ("mean L", "std", "normalised", *([f"mean {level:.0%} interval"] if level else [])):
        table.add_column(name, justify="right")
    table.add_column("note")
    for layer in in_order(explanation):
        cells = [f"{layer.mean:.6g}", f"{layer.standard_deviation:.3g}", f"{layer.normalized.mean():.3g}"]
        if level:
            bounds = _interval(layer)
            cells.append("" if bounds is None else f"{bounds[0]:.4g} to {bounds[1]:.4g}")
        style = "bold" if layer.is_output else ""
        table.add_row(*(Text(cell, style=style) for cell in [layer.name, *cells, _note(layer, explanation)]))
    out = console()
    out.print(table)
    rows = explanation.instance_count
    out.print(
        Text(
            f"\n{provenance.model}:{provenance.version}, {rows} {'row' if rows == 1 else 'rows'} of "
            f"{parameters.samples} samples ({parameters.sampling}, {parameters.aggregate}), "
            f"{provenance.runtime}, {provenance.compute_seconds:.2f} s, {provenance.digest}",
            style="dim",
        )
    )


def draw(explanation: LinearityExplanation, file_format: PictureFormat) -> Picture:
    """Draws one bar per layer."""
    from sidelight_engines.pictures import linearity_by_layer

    layers = in_order(explanation)
    bounds = [_interval(layer) for layer in layers]
    known = [pair for pair in bounds if pair is not None]
    has_whiskers = len(known) == len(layers)
    provenance, rows = explanation.provenance, explanation.instance_count
    level = explanation.parameters.confidence
    return linearity_by_layer(
        [layer.name for layer in layers],
        [layer.mean for layer in layers],
        output_index=len(layers) - 1,
        low=[pair[0] for pair in known] if has_whiskers else None,
        high=[pair[1] for pair in known] if has_whiskers else None,
        whiskers=f"mean {level:.0%} confidence interval" if level else "confidence interval",
        zero_reasons=[_ZERO_NOTES.get(layer.zero_reason, "") for layer in layers],
        title=f"Linearity of {provenance.model}:{provenance.version} by layer, "
        f"{rows} {'instance' if rows == 1 else 'instances'}",
        file_format=file_format,
    )


def _interval(layer: LayerLinearity) -> tuple[float, float] | None:
    """The mean over instances of the bounds of their intervals."""
    if layer.confidence_low is None or layer.confidence_high is None:
        return None
    return float(layer.confidence_low.mean()), float(layer.confidence_high.mean())


def _note(layer: LayerLinearity, explanation: LinearityExplanation) -> str:
    parts = ["output"] if layer.is_output else []
    if layer.zero_reason:
        reason = _ZERO_NOTES.get(layer.zero_reason, layer.zero_reason)
        some = layer.zero_count < explanation.instance_count
        parts.append(f"{reason} in {layer.zero_count} rows" if some else reason)
    return ", ".join(parts)
