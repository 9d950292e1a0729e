"""The result of `Client.similarity`, and of building a gradient index."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.provenance import Picture, Provenance

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """References that were found; axis 0 is the instance, axis 1 the rank, the best first.

    Attributes:
        indices: (n, k), positions in the reference set.
        scores: (n, k).
        labels: (n, k), their classes; None for regression and for a set without labels.
        predictions: (n, k), the classes that the model predicts for them; None for regression.
        layer_scores: (n, k, layers), what each layer contributes, which adds up to `scores`; None unless asked for.
        examples: input name -> (n, k, ...); empty unless asked for.
    """

    indices: IntArray
    scores: FloatArray
    labels: IntArray | None = None
    predictions: IntArray | None = None
    layer_scores: FloatArray | None = None
    examples: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many there are for each instance."""
        return int(self.indices.shape[1])

    def as_dict(self) -> dict[str, Any]:
        """The same as plain numbers, lists and text, fit for JSON; without the examples."""
        return {name: _plain(array) for name, array in self.columns().items()}

    def columns(self) -> dict[str, NDArray[Any]]:
        """The arrays that there are, by attribute; without the examples."""
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "examples"}
        return {name: array for name, array in named.items() if array is not None}


@dataclass(frozen=True, eq=False)
class ClassMeans:
    """The mean score of the references of each class.

    Attributes:
        classes: (c,), ascending.
        means: (n, c), for each instance.
        counts: (c,), how many references each is the mean of.
    """

    classes: IntArray
    means: FloatArray
    counts: IntArray

    def as_dict(self) -> dict[str, Any]:
        """The same as plain lists, fit for JSON."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}


@dataclass(frozen=True, eq=False)
class SimilarityExplanation:
    """The reference examples that a model treats like each instance.

    With aggregated instances there is one ranking, and n below is 1.

    Attributes:
        most_similar: score descending, then index ascending.
        least_similar: score ascending, then index ascending; none unless asked for.
        gradient_norms: (n,), the norms of the gradients of the instances. Where it is 0, so are all scores.
        predictions: (n,), the classes that the model predicts; None for regression and for aggregated instances.
        scores: (n, references), every score in the order of the selection; None unless asked for.
        by_label: mean scores by the labels of the references; None unless asked for, or without labels.
        by_prediction: mean scores by the model's predictions for the references; None unless asked for.
        self_influence: (n,), the similarity of each instance to itself; None unless asked for.
        layers: the names of the layers that `layer_scores` speak of, in order.
        reference_digest: the digest of the reference set.
        provenance: what was explained, by what, at what cost.
        pictures: if asked for.
    """

    most_similar: Neighbours
    least_similar: Neighbours
    gradient_norms: FloatArray
    predictions: IntArray | None
    scores: NDArray[np.float32] | None
    by_label: ClassMeans | None
    by_prediction: ClassMeans | None
    self_influence: FloatArray | None
    layers: tuple[str, ...]
    reference_digest: str
    provenance: Provenance
    pictures: tuple[Picture, ...] = ()

    def __len__(self) -> int:
        """The number of rankings: that of the instances, or 1 if they were aggregated."""
        return len(self.gradient_norms)

    def __repr__(self) -> str:
        where = f"{self.provenance.model}:{self.provenance.version}"
        best = f", best {self.most_similar.indices[:, 0].tolist()[:8]}" if len(self.most_similar) else ""
        return f"<SimilarityExplanation of {where}, {len(self)} rankings of {len(self.most_similar)}{best}>"

    def as_dict(self) -> dict[str, Any]:
        """Everything but pictures and examples as plain numbers, lists and text, fit for JSON."""
        optional = {
            "predictions": self.predictions,
            "scores": self.scores,
            "self_influence": self.self_influence,
        }
        return {
            "most_similar": self.most_similar.as_dict(),
            "least_similar": self.least_similar.as_dict(),
            "gradient_norms": _plain(self.gradient_norms),
            **{name: None if array is None else _plain(array) for name, array in optional.items()},
            "by_label": None if self.by_label is None else self.by_label.as_dict(),
            "by_prediction": None if self.by_prediction is None else self.by_prediction.as_dict(),
            "layers": list(self.layers),
            "reference_digest": self.reference_digest,
            "provenance": dataclasses.asdict(self.provenance),
        }

    def to_npz(self, path: str | Path) -> None:
        """Writes everything but the pictures to a NumPy archive that loads without pickle.

        `most_similar_indices`, `most_similar_scores` and so on are the arrays of `most_similar`, and likewise of
        `least_similar`, `by_label` and `by_prediction`; examples are `most_similar_example_<input>`. What there is
        not is left out. `reference_digest` and `provenance`, which is JSON, are text.
        """
        arrays: dict[str, Any] = {"gradient_norms": self.gradient_norms, "layers": np.array(self.layers, dtype=str)}
        for name in ("most_similar", "least_similar"):
            found: Neighbours = getattr(self, name)
            if len(found):
                arrays.update({f"{name}_{column}": array for column, array in found.columns().items()})
                arrays.update({f"{name}_example_{key}": array for key, array in found.examples.items()})
        for name in ("by_label", "by_prediction"):
            means: ClassMeans | None = getattr(self, name)
            if means is not None:
                arrays.update({f"{name}_{key}": getattr(means, key) for key in ("classes", "means", "counts")})
        for name in ("predictions", "scores", "self_influence"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        arrays["reference_digest"] = np.array(self.reference_digest)
        arrays["provenance"] = np.array(json.dumps(dataclasses.asdict(self.provenance)))
        # Through an open file, because numpy would add ".npz" to a path that lacks it.
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **arrays)


@dataclass(frozen=True)
class GradientIndex:
    """An index that a job has built.

    Attributes:
        model_digest: of the model version that it is for.
        reference_digest: of the reference set that it is for.
        values_per_reference: the numbers kept of each reference.
        size_bytes: on disk.
        materialised_layers: layers whose gradients could not be factored and are kept whole.
    """

    model_digest: str
    reference_digest: str
    values_per_reference: int
    size_bytes: int
    materialised_layers: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain numbers, lists and text, fit for JSON."""
        return {**dataclasses.asdict(self), "materialised_layers": list(self.materialised_layers)}


def _plain(array: NDArray[Any]) -> Any:
    return array.tolist()
