"""Do a network's neurons fire alike for classes that look alike?

The published experiment over Fashion-MNIST (A. R. Gosthipaty, Similarity of neuron activations between similar classes,
2020), asked of a Sidelight server: how often each unit of the penultimate layer fires for the images of each class, how
far apart classes are by that, and which are nearest.

    python examples/class_patterns.py --images fashion_mnist --model fashion --count-divisor 1000 --out results
    python examples/class_patterns.py --images mnist.npz --model digits --out results
"""

from __future__ import annotations

import images
import sidelight


def penultimate(model: sidelight.ModelDetail) -> str:
    """The last layer of a model that ends in a ReLU: what its classes are told apart by."""
    return next(layer.name for layer in reversed(model.layers) if layer.op == "Relu")


def main(arguments: list[str] | None = None) -> None:
    """Explains and writes what came out."""
    parser = images.parser(__doc__)
    parser.add_argument("--model", required=True, help="a model of the server")
    parser.add_argument("--layer", help="by default the last that ends in a ReLU")
    parser.add_argument(
        "--count-divisor", type=float, help="what counts are divided by, such as 1000; by default the images of a class"
    )
    given = parser.parse_args(arguments)
    x, y = images.read(given.images, given.divisor)
    with sidelight.connect(given.server) as client:
        model = client.model(given.model)
        layer = given.layer or penultimate(model)
        patterns = client.activation_pattern(
            given.model,
            images.fitted(x, model),
            labels=y,
            layers=[layer],
            threshold=0,
            divisor=given.count_divisor,
            picture="png",
            picture_instances=len(set(y.tolist())),
        )
    images.save(patterns.pictures, given.out)
    patterns.to_npz(given.out / "patterns.npz")

    found = patterns[layer]
    distances = found.distances["mean-absolute"]
    names = images.names(given.images, patterns.classes)
    width = max(map(len, names))
    print("Distances: the mean over units of the difference in how often they fire")
    print(" " * width, *(f"{name[:6]:>6}" for name in names))
    for name, row in zip(names, distances.values, strict=True):
        print(f"{name:{width}}", *(f"{value:6.3f}" for value in row))
    print("\nThe other classes, nearest first")
    for name, order in zip(names, distances.neighbours, strict=True):
        print(f"{name:{width}} ", ", ".join(names[other] for other in order[1:]))
    silent = f", of which {len(found.dead_units)} never fire" if found.dead_units else ""
    seconds = patterns.provenance.compute_seconds
    print(f"\n{len(x)} images, {layer}: {found.firing_rates.shape[1]} units{silent}: {seconds:.2f} s; to {given.out}")


if __name__ == "__main__":
    main()
