"""The influence step: which pixels does each digit hang on, and which its accuracy?"""

from __future__ import annotations

import time

import numpy as np

from sidelight_service.cli.influence_report import draw_main
from sidelight_service.demo.stage import ONNX, DemoFailed, Stage, heading, say

# The targets are reached to the last bits that floating-point numbers have.
_TOLERANCE = 1e-10


def explain_influence(stage: Stage) -> None:
    """Tilts every pixel from dark to bright, and draws what that does to each label and to accuracy.

    Raises:
        DemoFailed: a mean that could be reached was not, or the weights of a tilt do not add up to 1.
    """
    count, pixels = len(stage.images), int(np.prod(stage.images.shape[1:]))
    heading(f"Influence of {pixels} pixels on each label and on accuracy, over {count} held-out digits")
    started = time.monotonic()
    explanation = stage.client.influence(
        ONNX, stage.images, labels=stage.labels, taus=(-1, 0, 1), metrics=["accuracy", "log-loss"], timeout=120
    )
    say(f"{explanation.influences.size} mean predictions in {time.monotonic() - started:.2f} s")
    missed = np.abs(explanation.attained_means - explanation.targets)[explanation.attained]
    reached = int(explanation.attained.sum())
    say(f"{reached} of {explanation.attained.size} targets reached to within {missed.max():.0e}, the others are bounds")
    if missed.max() > _TOLERANCE:
        raise DemoFailed(f"a pixel's mean is {missed.max():.2g} from its target, more than {_TOLERANCE:g}")
    total = explanation.influences.sum(axis=2)
    if np.abs(total - 1).max() > 1e-5:
        raise DemoFailed("the mean probabilities under a tilt do not add up to 1")
    if explanation.performances is None or explanation.baseline_performances is None:
        raise DemoFailed("the server left out the metrics")
    differences = explanation.differences
    for label in (0, 1, 7):
        up = int(differences[:, label].argmax())
        where = ", ".join(
            str(int(i)) for i in np.unravel_index(explanation.features[up], explanation.example_shape[:2])
        )
        say(f"digit {label} hangs most on the pixel in row, column {where}: {differences[up, label]:+.2f}")
    accuracy, before = explanation.performances[:, :, 0], explanation.baseline_performances[0]
    say(f"accuracy, {before:.1%}, moves between {accuracy.min():.1%} and {accuracy.max():.1%}")
    path = stage.directory / "influence.png"
    path.write_bytes(draw_main(explanation, "png").data)
    say(f"drawn to {path}")
