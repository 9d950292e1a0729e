"""Which training images does a network treat like this one, and which the other way?

The published alibi example over MNIST, asked of a Sidelight server: references are uploaded once, their gradients kept
in an index, and the most and least similar are found for a few images by the cosine of gradients.

    python examples/similar_examples.py --images mnist --divisor 255 --model digits --out results

The server needs a data directory (`sidelight serve --data DIR`). The second figure is drawn here, with matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import images
import numpy as np
import sidelight
from matplotlib.figure import Figure

TOP = 5
BLUE, ORANGE = "#1d4ed8", "#c2410c"


def draw(asked: Any, labels: Any, known: Any, found: sidelight.SimilarityExplanation, path: Path) -> None:
    """A row per image: itself, the most similar, the least similar."""
    columns = 1 + len(found.most_similar) + len(found.least_similar)
    figure = Figure(figsize=(1.1 * columns, 1.45 * len(asked)), layout="constrained")
    grid = figure.subplots(len(asked), columns, squeeze=False)
    for row, axes in enumerate(grid):
        shown = [(asked[row], f"{labels[row]} (asked)", "black")]
        for side, colour in ((found.most_similar, BLUE), (found.least_similar, ORANGE)):
            for index, label, score in zip(side.indices[row], side.labels[row], side.scores[row], strict=True):
                shown.append((known[index], f"{label}: {score:+.2f}", colour))
        for axis, (picture, title, colour) in zip(axes, shown, strict=True):
            axis.imshow(np.squeeze(picture), cmap="gray")
            axis.set_title(title, color=colour, fontsize=9)
            axis.axis("off")
    figure.suptitle("Asked, most similar (blue), least similar (orange): label and score", fontsize=11)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Explains and writes what came out."""
    parser = images.parser(__doc__)
    parser.add_argument("--model", required=True, help="a model of the server")
    parser.add_argument("--references", type=int, default=1000, help="training images to look among")
    parser.add_argument("--queries", type=int, default=5, help="test images to ask about")
    parser.add_argument("--name", default="similar-examples", help="of the reference set, which is deleted at the end")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    x_train, y_train = images.read(given.images, given.divisor, "train")
    x_test, y_test = images.read(given.images, given.divisor, "test")
    # Of a file whose images are both parts, both orders are the same one: it begins with the references and ends with
    # the queries.
    chosen = np.random.default_rng(given.seed).permutation(len(x_train))[: given.references]
    asked = np.random.default_rng(given.seed).permutation(len(x_test))[-given.queries :]
    known, labels = x_train[chosen], y_train[chosen]
    with sidelight.connect(given.server) as client:
        model = client.model(given.model)
        client.create_reference(given.name, images.fitted(known, model), labels, model=given.model)
        try:
            client.submit_gradient_index(given.model, given.name).wait()
            found = client.similarity(
                given.model,
                images.fitted(x_test[asked], model),
                reference=given.name,
                labels=y_test[asked],
                top=TOP,
                bottom=TOP,
                class_means=True,
                picture="png",
                picture_instances=given.queries,
            )
        finally:
            client.delete_reference(given.name)
    images.save(found.pictures, given.out)
    found.to_npz(given.out / "similarity.npz")
    draw(x_test[asked], y_test[asked], known, found, given.out / "most-and-least-similar.png")

    for row, index in enumerate(asked):
        print(f"test image {index}: a {y_test[index]}, taken for {found.predictions[row]}")
        for told, side in (("most", found.most_similar), ("least", found.least_similar)):
            pairs = zip(side.labels[row], side.scores[row], strict=True)
            print(f"  {told:5} similar:", ", ".join(f"{label} ({score:+.3f})" for label, score in pairs))
    same = (found.most_similar.labels == y_test[asked][:, np.newaxis]).mean()
    print(f"{same:.0%} of the most similar bear the label of the image; written to {given.out}")


if __name__ == "__main__":
    main()
