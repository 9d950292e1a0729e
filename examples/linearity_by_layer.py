"""Where in a network does it stop being linear, and around which classes?

The published alibi example over Fashion-MNIST, asked of a Sidelight server: the linearity measure of every layer around
some images, and that of the output around images of each class.

    python examples/linearity_by_layer.py --images fashion_mnist --divisor 255 --model fashion --out results

The second figure is drawn here, with matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import images
import numpy as np
import sidelight
from matplotlib.figure import Figure

BLUE, ORANGE = "#7493be", "#c84f0a"


def draw_classes(by_class: list[Any], names: list[str], path: Path) -> None:
    """Bars of the means, and boxes of the quartiles of each class below."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    bars, spread = figure.subplots(2, 1, sharex=True)
    places = np.arange(len(names))
    bars.bar(places, [values.mean() for values in by_class], color=BLUE, width=0.7)
    bars.set_ylabel("mean L")
    bars.set_title("Linearity around images of each class: 0 is linear", loc="left")
    boxes = spread.boxplot(by_class, positions=places, widths=0.7, patch_artist=True, flierprops={"markersize": 3})
    for box, median in zip(boxes["boxes"], boxes["medians"], strict=True):
        box.set(facecolor=BLUE, edgecolor="none")
        median.set(color=ORANGE, linewidth=2)
    spread.set_ylabel("L of each image")
    spread.set_ylim(bottom=0)
    spread.set_xticks(places, names, rotation=0 if max(map(len, names)) < 4 else 30)
    for axes in (bars, spread):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Explains and writes what came out."""
    parser = images.parser(__doc__)
    parser.add_argument("--model", required=True, help="a model of the server")
    parser.add_argument("--instances", type=int, default=100, help="images for the layers")
    parser.add_argument("--per-class", type=int, default=2000, help="the most images of each class")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    x, y = images.read(given.images, given.divisor)
    order = np.random.default_rng(given.seed).permutation(len(x))
    with sidelight.connect(given.server) as client:
        x = images.fitted(x, client.model(given.model))
        # Samples are drawn around an image, as far as each pixel varies over all of them.
        near = {"feature_range": (x.min(axis=0), x.max(axis=0)), "samples": 20, "seed": given.seed}
        layers = client.linearity(given.model, x[order[: given.instances]], layers="all", picture="png", **near)
        classes = np.unique(y)
        members = [order[y[order] == label][: given.per_class] for label in classes]
        output = client.linearity(given.model, x[np.concatenate(members)], **near).output
    by_class = np.split(output.linearity, np.cumsum([len(rows) for rows in members])[:-1])
    names = images.names(given.images, classes)
    images.save(layers.pictures, given.out)
    layers.to_npz(given.out / "linearity-by-layer.npz")
    draw_classes(by_class, names, given.out / "linearity-by-class.png")

    print(f"Mean L around {given.instances} images")
    for layer in (*layers.layers[1:], layers.output):
        told = f"  ({layer.zero_reason})" if layer.zero_reason else "  (output)" if layer.is_output else ""
        print(f"{layer.name:24} {layer.mean:9.4f}{told}")
    print("\nMean L of the output around images of each class")
    for name, values in zip(names, by_class, strict=True):
        print(f"{name:24} {values.mean():9.4f}  over {len(values)}")


if __name__ == "__main__":
    main()
