"""The relevance step: which pixels speak for a digit, what did not arrive, and do both formats say the same?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import typer

from sidelight_service.cli.lrp_report import print_report
from sidelight_service.demo.stage import ONNX, SAVED_MODEL, DemoFailed, Stage, heading, say

if TYPE_CHECKING:
    from sidelight import LrpExplanation

_DRAWN = 12
# Float32 rounding differs between the formats; an error of either would be far larger.
_TOLERANCE = 1e-4
_CLOSES = 1e-5


def explain_relevance(stage: Stage) -> None:
    """Explains both models by alpha-beta, compares them, and draws heatmaps and the ledger.

    Raises:
        DemoFailed: the formats disagree, or the ledger does not close.
    """
    images = stage.images[:_DRAWN]
    heading(f"Relevance in {len(images)} held-out digits (EpsilonAlpha2Beta1, with the ledger)")
    explanations: dict[str, LrpExplanation] = {}
    for model in (SAVED_MODEL, ONNX):
        started = time.monotonic()
        explanations[model] = stage.client.lrp(
            model, images, preset="EpsilonAlpha2Beta1", picture="png", picture_instances=_DRAWN, timeout=120
        )
        say(f"{model}: {len(images)} explanations in {time.monotonic() - started:.2f} s")
    explanation = explanations[SAVED_MODEL]
    typer.echo("")
    print_report(explanation)
    for picture in explanation.pictures:
        path = stage.directory / f"{picture.name}.png"
        path.write_bytes(picture.data)
        say(f"drawn to {path}")
    _check(explanation, explanations[ONNX])


def _check(saved_model: LrpExplanation, onnx: LrpExplanation) -> None:
    residual = max(float(one.ledger_residual.max()) for one in (saved_model, onnx))
    say(f"the ledgers account for all relevance but {residual:.0e} of it")
    if residual > _CLOSES:
        raise DemoFailed(f"a ledger leaves {residual:.2g} of the relevance unexplained, more than {_CLOSES:g}")
    first, second = (one.relevance.reshape(one.instance_count, -1) for one in (saved_model, onnx))
    difference = float((np.abs(first - second).max(axis=1) / np.abs(first).max(axis=1)).max())
    say(f"SavedModel and ONNX differ by at most {difference:.0e} of the largest relevance")
    if difference > _TOLERANCE:
        raise DemoFailed(f"the formats disagree by {difference:.2g} of the largest relevance, more than {_TOLERANCE:g}")
