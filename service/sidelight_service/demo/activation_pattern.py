"""The activation-pattern step: which digits fire the same neurons, and do both formats say the same?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from sidelight_service.cli.activation_pattern_report import print_patterns, save_pictures
from sidelight_service.demo.stage import ONNX, SAVED_MODEL, DemoFailed, Stage, heading, say

if TYPE_CHECKING:
    from sidelight import ActivationPatternExplanation

_LAYER = "relu_3"
# Rounding may let a unit fire in one runtime and not in the other, for one example of a class or two.
_TOLERANCE = 0.02


def explain_activation_patterns(stage: Stage) -> None:
    """Explains both models, compares them, and draws the classes beside their neighbours.

    Raises:
        DemoFailed: the formats disagree.
    """
    import sidelight

    examples = sidelight.ReferenceSelection(stage.reference)
    heading(f"Which digits fire the same neurons at {_LAYER}?")
    explanations = {}
    for model in (SAVED_MODEL, ONNX):
        started = time.monotonic()
        explanation = stage.client.activation_pattern(model, examples, layers=[_LAYER], picture="png", timeout=120)
        explanations[model] = explanation
        counted, runtime = sum(explanation.class_counts), explanation.provenance.runtime
        say(f"{model}: {counted:,} training digits in {time.monotonic() - started:.2f} s with {runtime}")
    typer.echo("")
    print_patterns(explanations[ONNX])
    paths = save_pictures(explanations[ONNX], stage.directory / "patterns.png")
    typer.echo(f"\n  drawn to {', '.join(str(path) for path in paths)}")
    _compare(explanations[SAVED_MODEL], explanations[ONNX])


def _compare(saved_model: ActivationPatternExplanation, onnx: ActivationPatternExplanation) -> None:
    worst = float(abs(saved_model[_LAYER].firing_rates - onnx[_LAYER].firing_rates).max())
    say(f"the formats' firing rates differ by at most {worst:.1e}")
    if worst > _TOLERANCE:
        raise DemoFailed(f"the formats' firing rates differ by {worst:.2g}, more than {_TOLERANCE:g}")
