"""What does an image classifier recognise each class by, and where does its performance hang?

The published ethik example over MNIST, asked of a Sidelight server: the influence of every pixel on every label, and on
accuracy and log-loss.

    python examples/pixel_influence.py --images mnist.npz --model digits --out results
    python examples/pixel_influence.py --images keras --predictions y_pred.npy --out results

Images come from an .npz file with `x_test` (or `x`), (n, rows, columns[, channels]), and `y_test` (or `y`), (n,); or
from your own Keras, which fetches MNIST. Predictions come from the served model, or from a file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import sidelight


def images(source: str, divisor: float) -> tuple[Any, Any]:
    """Images and their labels."""
    if source == "keras":
        from keras.datasets import mnist

        _, (x, y) = mnist.load_data()
    else:
        data = np.load(source, allow_pickle=False)
        x, y = (data[name if name in data else name.removesuffix("_test")] for name in ("x_test", "y_test"))
    if divisor != 1:
        x = (x / divisor).astype(np.float32)
    # An axis for the one channel that a network of grey images has.
    return (x[..., np.newaxis] if x.ndim == 3 else x), y


def main(arguments: list[str] | None = None) -> None:
    """Explains and writes what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", default="localhost:8461")
    parser.add_argument("--images", required=True, help="an .npz file, or 'keras'")
    parser.add_argument("--divisor", type=float, default=1.0, help="what pixels are divided by, such as 255")
    parser.add_argument("--model", help="a model of the server")
    parser.add_argument("--predictions", type=Path, help="(n, labels) as .npy, in place of the model's")
    parser.add_argument("--out", type=Path, default=Path())
    given = parser.parse_args(arguments)
    x, y = images(given.images, given.divisor)
    predictions = None if given.predictions is None else np.load(given.predictions)
    given.out.mkdir(parents=True, exist_ok=True)
    with sidelight.connect(given.server) as client:
        explanation = client.influence(
            given.model, x, labels=y, predictions=predictions, metrics=["accuracy", "log-loss"], picture="png"
        )
    for picture in explanation.pictures:
        picture.save(given.out / f"{picture.name}.png")
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
