"""The linearity step: how linear is the network, layer by layer, and do both formats say the same?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from sidelight_service.cli.linearity_report import draw, print_table
from sidelight_service.demo.stage import ONNX, SAVED_MODEL, DemoFailed, Stage, heading, say

if TYPE_CHECKING:
    from sidelight import LinearityExplanation

# Float32 rounding differs between the runtimes; an error of either would be far larger.
_TOLERANCE = 1e-3


def explain_linearity(stage: Stage) -> None:
    """Explains both models, compares them, and draws the layers.

    Raises:
        DemoFailed: the formats disagree.
    """
    count = len(stage.images)
    heading(f"Linearity of every layer around {count} held-out digits")
    explanations = {}
    for model in (SAVED_MODEL, ONNX):
        started = time.monotonic()
        explanation = stage.client.linearity(model, stage.images, layers="all", feature_range=(0, 1), timeout=120)
        explanations[model] = explanation
        seconds = time.monotonic() - started
        say(f"{model}: {len(explanation.layers)} layers in {seconds:.2f} s with {explanation.provenance.runtime}")
    typer.echo("")
    print_table(explanations[ONNX])
    path = stage.directory / "linearity.png"
    path.write_bytes(draw(explanations[ONNX], "png").data)
    typer.echo(f"\n  drawn to {path}")
    _compare(explanations[SAVED_MODEL], explanations[ONNX])


def _compare(saved_model: LinearityExplanation, onnx: LinearityExplanation) -> None:
    """Compares both formats at the output and at every layer that the author's name finds in both."""
    pairs = [("output", saved_model.output, onnx.output)]
    inner = {layer.name: layer for layer in onnx.layers if not layer.is_output}
    pairs += [(layer.name, layer, inner[layer.name]) for layer in saved_model.layers[1:] if layer.name in inner]
    worst, where = 0.0, "output"
    for name, first, second in pairs:
        scale = max(first.mean, second.mean)
        difference = float(abs(first.linearity - second.linearity).max()) / scale if scale else 0.0
        if difference > worst:
            worst, where = difference, name
    matched = ", ".join(name for name, _, _ in pairs[1:])
    heading("Do SavedModel and ONNX agree?")
    say(f"{len(pairs)} values per digit, matched by the author's names: output, {matched}")
    say(f"the largest difference is {worst:.1e} of the layer's mean, at {where}")
    if worst > _TOLERANCE:
        raise DemoFailed(f"the formats disagree at {where} by {worst:.2g} of its mean, more than {_TOLERANCE:g}")
