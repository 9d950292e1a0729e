"""Images and their labels, and what else the examples of this folder share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sidelight

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The flags that all examples have, told by the first line of the example's own text."""
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument("--server", default="localhost:8461")
    made.add_argument("--images", required=True, help="an .npz file, 'mnist' or 'fashion_mnist'")
    made.add_argument("--divisor", type=float, default=1.0, help="what pixels are divided by, such as 255")
    made.add_argument("--out", type=Path, default=Path(), help="the folder to write to")
    return made


def read(source: str, divisor: float, part: str = "test") -> tuple[Any, Any]:
    """Images, (n, rows, columns, channels), and their labels, (n,).

    Args:
        source: an .npz file with `x_test` and `y_test`, or `x` and `y` for both parts; or a data set that your own
            Keras fetches.
        divisor: what pixels are divided by.
        part: ``"test"`` or ``"train"``.
    """
    if source in ("mnist", "fashion_mnist"):
        import keras

        train, test = getattr(keras.datasets, source).load_data()
        x, y = test if part == "test" else train
    else:
        data = np.load(source, allow_pickle=False)
        x, y = (data[name if name in data else name[0]] for name in (f"x_{part}", f"y_{part}"))
    if divisor != 1:
        x = (x / divisor).astype(np.float32)
    # An axis for the one channel of grey images.
    return (x[..., np.newaxis] if x.ndim == 3 else x), y


def fitted(x: Any, model: sidelight.ModelDetail) -> Any:
    """Grey images in the shape that a model takes: channel last, channel first, or flat."""
    shape = model.inputs[0].shape[1:]
    grey = x.shape[-1] == 1 and min(shape) > 0
    return x.reshape(len(x), *shape) if grey else x


def names(source: str, classes: Sequence[int]) -> list[str]:
    """What to call each class: the words of Fashion-MNIST, or its number."""
    return [FASHION[index] if source == "fashion_mnist" else str(index) for index in classes]


def save(pictures: Sequence[sidelight.Picture], folder: Path) -> None:
    """Writes each picture to a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        picture.save(folder / f"{picture.name}.{picture.format}")
