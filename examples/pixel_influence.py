"""What does an image classifier recognise each class by, and where does its performance hang?

The published ethik example over MNIST, asked of a Sidelight server: the influence of every pixel on every label, and on
accuracy and log-loss.

    python examples/pixel_influence.py --images mnist.npz --model digits --out results
    python examples/pixel_influence.py --images mnist --predictions y_pred.npy --out results

Predictions come from the served model, or from a file.
"""

from __future__ import annotations

from pathlib import Path

import images
import numpy as np
import sidelight


def main(arguments: list[str] | None = None) -> None:
    """Explains and writes what came out."""
    parser = images.parser(__doc__)
    parser.add_argument("--model", help="a model of the server")
    parser.add_argument("--predictions", type=Path, help="(n, labels) as .npy, in place of the model's")
    given = parser.parse_args(arguments)
    x, y = images.read(given.images, given.divisor)
    predictions = None if given.predictions is None else np.load(given.predictions)
    with sidelight.connect(given.server) as client:
        if given.model:
            x = images.fitted(x, client.model(given.model))
        explanation = client.influence(
            given.model, x, labels=y, predictions=predictions, metrics=["accuracy", "log-loss"], picture="png"
        )
    images.save(explanation.pictures, given.out)
    explanation.to_npz(given.out / "influence.npz")
    maps = explanation.image(explanation.differences)
    for label in range(maps.shape[-1]):
        most = np.unravel_index(np.nanargmax(maps[..., label]), maps.shape[:-1])
        row, column = (int(i) for i in most[:2])
        print(f"label {label}: {maps[(*most, label)]:+.3f} by the pixel in row {row}, column {column}")
    seconds = explanation.provenance.compute_seconds
    print(f"{len(x)} images, {len(explanation.features)} pixels: {seconds:.2f} s; written to {given.out}")


if __name__ == "__main__":
    main()
