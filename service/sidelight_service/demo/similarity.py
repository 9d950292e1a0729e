"""The similarity step: which training digits does the network treat like some held-out ones?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from sidelight_service.cli.similarity import MEANS, STRIP
from sidelight_service.cli.similarity_report import print_table
from sidelight_service.demo.stage import ONNX, SAVED_MODEL, DemoFailed, Stage, heading, say

if TYPE_CHECKING:
    from sidelight import SimilarityExplanation

_SHOWN = 5
# Float32 rounding differs between the runtimes, and gradients of digits that the network is sure of are small.
_TOLERANCE = 1e-3


def explain_similarity(stage: Stage) -> None:
    """Indexes the training digits, explains both models with them, and draws what was found.

    Raises:
        DemoFailed: the formats disagree.
    """
    heading("Similarity: which training digits does the network treat like these?")
    explanations = {}
    for model in (SAVED_MODEL, ONNX):
        started = time.monotonic()
        index = stage.client.submit_gradient_index(model, stage.reference, timeout=60).wait(timeout=300).result()
        built = time.monotonic() - started
        started = time.monotonic()
        explanations[model] = stage.client.similarity(
            model,
            stage.images[:_SHOWN],
            reference=stage.reference,
            labels=stage.labels[:_SHOWN],
            class_means=True,
            picture="png",
            timeout=120,
        )
        say(
            f"{model}: index of {index.values_per_reference:,} numbers per digit in {built:.1f} s, "
            f"{_SHOWN} digits explained in {time.monotonic() - started:.2f} s"
        )
    typer.echo("")
    print_table(explanations[ONNX])
    for name, file in ((STRIP, "similarity.png"), (MEANS, "similarity-means.png")):
        (picture,) = (picture for picture in explanations[ONNX].pictures if picture.name == name)
        path = stage.directory / file
        picture.save(path)
        typer.echo(f"  drawn to {path}")
    _compare(explanations[SAVED_MODEL], explanations[ONNX])


def _compare(saved_model: SimilarityExplanation, onnx: SimilarityExplanation) -> None:
    """Compares scores of both formats: of each digit for the same references, best first."""
    one, other = saved_model.most_similar, onnx.most_similar
    difference = float(np.abs(one.scores - other.scores).max())
    same = int((one.indices == other.indices).sum())
    right = float((_labels(onnx) == onnx.predictions[:, None]).mean()) if onnx.predictions is not None else 0.0
    say(f"{right:.0%} of the neighbours bear the label that the network predicts for the digit")
    say(
        f"SavedModel and ONNX agree on {same} of {one.indices.size} neighbours; scores differ by up to {difference:.1e}"
    )
    if difference > _TOLERANCE:
        raise DemoFailed(f"the formats disagree by {difference:.2g} in a cosine, more than {_TOLERANCE:g}")


def _labels(explanation: SimilarityExplanation) -> Any:
    labels = explanation.most_similar.labels
    if labels is None:
        raise DemoFailed("the server has lost the labels of the training digits")
    return labels
