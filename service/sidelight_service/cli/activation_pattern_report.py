"""Activation patterns for people: a table of neighbours per layer, and files of pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sidelight_service.cli.terminal import console

if TYPE_CHECKING:
    from sidelight import ActivationPatternExplanation, LayerPattern
    from sidelight_engines.pictures import Picture, PictureFormat

_NEIGHBOURS_SHOWN = 5


def print_patterns(explanation: ActivationPatternExplanation) -> None:
    """Prints, for each layer, one line per class to standard output."""
    out = console()
    for layer in explanation.layers:
        out.print(Text(f"{layer.name}: {_units(layer)}", style="bold"))
        out.print(_table(explanation, layer))
        out.print()
    provenance, parameters = explanation.provenance, explanation.parameters
    threshold = (
        f"above {parameters.threshold:g}"
        if parameters.quantile is None
        else f"above quantile {parameters.quantile:g} of its own activations"
    )
    out.print(
        Text(
            f"{provenance.model}:{provenance.version}, {sum(explanation.class_counts):,} examples by "
            f"{parameters.class_source}, a unit fires {threshold} ({parameters.pooling}), {provenance.runtime}, "
            f"{provenance.compute_seconds:.2f} s, {provenance.digest}",
            style="dim",
        )
    )


def save_pictures(explanation: ActivationPatternExplanation, path: Path) -> list[Path]:
    """Writes the pictures of a result.

    Args:
        explanation: the result.
        path: how the files are called: ``R.png`` becomes ``R-firing-rates-dense.png`` and so on.

    Returns:
        The files.
    """
    file_format: PictureFormat = "svg" if path.suffix == ".svg" else "png"
    written = []
    # A job that was not asked for pictures has none; then there are no examples to show either.
    for picture in explanation.pictures or _draw(explanation, file_format):
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", picture.name)
        target = path.with_name(f"{path.stem}-{name}{path.suffix}")
        target.write_bytes(picture.data)
        written.append(target)
    return written


def _draw(explanation: ActivationPatternExplanation, file_format: PictureFormat) -> list[Picture]:
    from sidelight_engines.pictures import class_neighbours, firing_rates, pattern_distances

    drawn, classes, model = [], list(explanation.classes), explanation.provenance.model
    for layer in explanation.layers:
        where = f"at {layer.name} of {model}"
        title = f"Firing rates {where}"
        drawn.append(firing_rates(layer.firing_rates, classes, layer=layer.name, title=title, file_format=file_format))
        for matrix in layer.distances.values():
            drawn.append(
                pattern_distances(
                    matrix.values,
                    classes,
                    layer=layer.name,
                    distance=matrix.distance.replace("-", " "),
                    title=f"Distance of classes {where}",
                    file_format=file_format,
                )
            )
        drawn.append(
            class_neighbours(
                next(iter(layer.distances.values())).neighbours,
                classes,
                None,
                layer=layer.name,
                title=f"Each class and its neighbours {where}",
                file_format=file_format,
            )
        )
    return drawn


def _units(layer: LayerPattern) -> str:
    count = layer.firing_rates.shape[1]
    told = [f"{count:,} {'unit' if count == 1 else 'units'}"]
    for name, units in (
        ("dead", layer.dead_units),
        ("always on", layer.always_on_units),
        ("saturated", layer.saturated_units),
    ):
        if units:
            told.append(f"{len(units):,} {name}")
    return ", ".join(told)


def _table(explanation: ActivationPatternExplanation, layer: LayerPattern) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("class", "examples", "mean rate", "std err"):
        table.add_column(column, justify="right")
    for distance in layer.distances:
        table.add_column(f"nearest classes ({distance})")
    table.add_column("units of its own")
    specific = {name: [u for u in layer.specific_units if u.class_index == name] for name in explanation.classes}
    for row, name in enumerate(explanation.classes):
        nearest = [
            ", ".join(
                f"{explanation.classes[other]} ({matrix.values[row, other]:.3g})"
                for other in matrix.neighbours[row][1 : 1 + _NEIGHBOURS_SHOWN]
            )
            for matrix in layer.distances.values()
        ]
        units = ", ".join(f"{unit.unit} (+{unit.excess_rate:.2f})" for unit in specific[name])
        cells = [
            str(name),
            f"{explanation.class_counts[row]:,}",
            f"{layer.firing_rates[row].mean():.3f}",
            f"{layer.standard_errors[row].mean():.3f}",
            *nearest,
            units,
        ]
        table.add_row(*(Text(cell) for cell in cells))
    return table
