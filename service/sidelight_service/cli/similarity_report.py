"""A similarity result for people: a line per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from sidelight_service.cli.terminal import console

if TYPE_CHECKING:
    from sidelight import ClassMeans, Neighbours, SimilarityExplanation

# More do not fit on a line; --json and --out have all.
_SHOWN = 5
_CLASSES = 5


def print_table(explanation: SimilarityExplanation) -> None:
    """Prints a line per ranking to standard output."""
    table = Table(box=None, pad_edge=False)
    table.add_column("row", justify="right")
    if explanation.predictions is not None:
        table.add_column("predicted", justify="right")
    table.add_column("gradient norm", justify="right")
    ends = [("most similar", explanation.most_similar), ("least similar", explanation.least_similar)]
    ends = [(name, found) for name, found in ends if len(found)]
    for name, found in ends:
        rest = f" (first {_SHOWN} of {len(found)})" if len(found) > _SHOWN else ""
        table.add_column(f"{name}: index{'' if found.labels is None else ' (label)'} score{rest}")
    means = [("label", explanation.by_label), ("prediction", explanation.by_prediction)]
    shown = [(name, each) for name, each in means if each is not None]
    for name, each in shown:
        rest = f" (first {_CLASSES} of {len(each.classes)})" if len(each.classes) > _CLASSES else ""
        table.add_column(f"mean by {name}: class score{rest}")
    single = len(explanation) == 1
    for row in range(len(explanation)):
        cells = ["all" if single and explanation.predictions is None else str(row)]
        if explanation.predictions is not None:
            cells.append(str(explanation.predictions[row]))
        cells.append(f"{explanation.gradient_norms[row]:.3g}")
        cells += [_neighbours(found, row) for _, found in ends]
        cells += [_means(each, row) for _, each in shown]
        table.add_row(*map(Text, cells))
    out = console()
    out.print(table)
    provenance = explanation.provenance
    count = len(explanation)
    out.print(
        Text(
            f"\n{provenance.model}:{provenance.version}, {count} {'ranking' if count == 1 else 'rankings'}, "
            f"{provenance.forward_rows} rows through the model, {provenance.compute_seconds:.2f} s, "
            f"{provenance.digest}; references {explanation.reference_digest}",
            style="dim",
        )
    )


def _neighbours(found: Neighbours, row: int) -> str:
    parts = []
    for rank in range(min(_SHOWN, len(found))):
        label = "" if found.labels is None else f" ({found.labels[row, rank]})"
        parts.append(f"{found.indices[row, rank]}{label} {found.scores[row, rank]:.4g}")
    return ", ".join(parts)


def _means(means: ClassMeans, row: int) -> str:
    order = (-means.means[row]).argsort(kind="stable")[:_CLASSES]
    return ", ".join(f"{means.classes[i]} {means.means[row, i]:.4g}" for i in order)
