"""A relevance result for people: what was explained, and where relevance went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from sidelight_service.cli.terminal import console

if TYPE_CHECKING:
    from sidelight import LrpExplanation

_MOST_ROWS = 20
_CAUSES = {"bias": "bias", "stabiliser": "stabiliser", "empty_branch": "empty branch", "sink": "sink"}


def print_report(explanation: LrpExplanation) -> None:
    """Prints a line per explanation and a line per layer of the ledger to standard output."""
    out = console()
    out.print(_explained(explanation))
    count = explanation.classes.size
    if count > _MOST_ROWS:
        out.print(Text(f"… and {count - _MOST_ROWS} more; --json or --out has them all", style="dim"))
    if explanation.ledger:
        out.print()
        out.print(_ledger(explanation))
    fallbacks = [rule for rule in explanation.applied_rules if rule.fallback]
    for rule in fallbacks:
        out.print(Text(f"by the gradient, for want of a rule: {rule.op} {rule.node}"))
    provenance = explanation.provenance
    rows = explanation.instance_count
    cut = f", cut at {explanation.head_cut_at}" if explanation.head_cut_at else ""
    out.print(
        Text(
            f"\n{provenance.model}:{provenance.version}, {rows} {'row' if rows == 1 else 'rows'}{cut}, "
            f"{provenance.compute_seconds:.2f} s, {provenance.digest}",
            style="dim",
        )
    )


def _explained(explanation: LrpExplanation) -> Table:
    optional = {
        name: values
        for name, values in (
            ("pixel flipping", explanation.pixel_flipping_auc),
            ("random logit", explanation.random_logit_similarity),
        )
        if values is not None
    }
    table = Table(box=None, pad_edge=False)
    for name in ("row", "class", "logit", "started", "reached", "gap", "unexplained", "Gini", "entropy", *optional):
        table.add_column(name, justify="right")
    targets = explanation.classes.shape[1]
    for place in range(min(explanation.classes.size, _MOST_ROWS)):
        at = divmod(place, targets)
        number = int(explanation.classes[at])
        cells = [str(at[0]), "given" if number < 0 else str(number)]
        cells.append("" if number < 0 else f"{explanation.logit[at]:.4g}")
        cells += [f"{explanation.relevance_out[at]:.4g}", f"{explanation.relevance_in[at]:.4g}"]
        cells += [f"{explanation.conservation_gap[at]:.2g}", f"{explanation.ledger_residual[at]:.1e}"]
        cells += [f"{explanation.sparseness[at]:.3f}", f"{explanation.entropy[at]:.2f}"]
        cells += [f"{values[at]:.4g}" for values in optional.values()]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _ledger(explanation: LrpExplanation) -> Table:
    """Shares of the relevance that started, over all explanations; each counts with its size, whatever its sign."""
    started = explanation.relevance_out
    whole = float(np.abs(started).sum()) or 1.0
    signs = np.where(started < 0, -1.0, 1.0)
    rules: dict[str, str] = {}
    for applied in explanation.applied_rules:
        rules.setdefault(applied.layer, applied.rule)
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    for name in ("handed on", *_CAUSES.values()):
        table.add_column(name, justify="right")
    table.add_column("rule")
    for entry in explanation.ledger:
        shares = [float((getattr(entry, name) * signs).sum()) / whole for name in ("relevance_in", *_CAUSES)]
        cells = [entry.layer or "total", *(_percent(share) for share in shares), rules.get(entry.layer, "")]
        style = "" if entry.layer else "bold"
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def _percent(share: float) -> str:
    if share == 0:
        return "0"
    return f"{100 * share:.2f} %" if abs(share) >= 5e-5 else f"{100 * share:.0e} %"
