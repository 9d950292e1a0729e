"""The result of `Client.linearity`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidelight.provenance import Picture, Provenance

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerLinearity:
    """The linearity at one layer; every array has one number per instance.

    Attributes:
        name: the name of the output or layer.
        is_output: whether this is the model's output, on the classifier scale if it is one.
        linearity: L, at least 0; 0 is perfectly linear.
        normalized: L divided by the norm of the superposed outputs; comparable between layers.
        noise_floor: what float32 rounding alone may give.
        confidence_low: the lower bounds of the confidence intervals; None unless asked for.
        confidence_high: the upper bounds.
        mean: the mean of `linearity` over instances.
        standard_deviation: of `linearity` over instances (n - 1); 0 for one instance.
        zero_reason: why values are 0, where they are: ``affine``, ``below-noise-floor`` or empty.
        zero_count: how many are 0 for that reason.
    """

    name: str
    is_output: bool
    linearity: FloatArray
    normalized: FloatArray
    noise_floor: FloatArray
    confidence_low: FloatArray | None
    confidence_high: FloatArray | None
    mean: float
    standard_deviation: float
    zero_reason: str
    zero_count: int

    def as_dict(self) -> dict[str, Any]:
        """The same as plain numbers, lists and text, fit for JSON."""
        return {
            field.name: value.tolist() if isinstance(value, np.ndarray) else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }


@dataclass(frozen=True)
class LinearityParameters:
    """The parameters as the server used them, every default filled in.

    Attributes:
        sampling: ``grid`` or ``knn``.
        epsilon: for the grid: the half-width of the neighbourhood as a share of the feature range.
        resolution: for the grid: the number of steps in the feature range.
        clip: for the grid: whether samples were kept within the feature range.
        samples: per instance.
        aggregate: ``global`` or ``pairwise``.
        coefficients: of the superposition.
        output: the output that was measured.
        model_type: ``classifier`` or ``regressor``.
        classifier_scale: for classifiers: ``log-probability`` or ``exact-log-probability``.
        probability_floor: for ``log-probability``: what was added before the logarithm.
        seed: of the draws.
        draws: ``counter`` or ``mersenne-twister``.
        confidence: the level of the confidence interval; None if there is none.
        runtime: what evaluates the model, as asked for; empty if left to the server.
    """

    sampling: str
    epsilon: float | None
    resolution: int | None
    clip: bool | None
    samples: int
    aggregate: str
    coefficients: tuple[float, ...]
    output: str
    model_type: str
    classifier_scale: str
    probability_floor: float | None
    seed: int
    draws: str
    confidence: float | None
    runtime: str


@dataclass(frozen=True, eq=False)
class LinearityExplanation(Mapping[str, LayerLinearity]):
    """How linear a model is around each instance, at its output and at the layers asked for.

    Reads like a dict from layer name to `LayerLinearity`: ``explanation["conv_1"].mean``. Where a
    layer has the name of the output, the name means the output; `layers` has both.

    Attributes:
        layers: the output first, then the layers in the order asked for, or in the order of
            evaluation for ``"all"``.
        provenance: what was explained, by what, at what cost.
        parameters: the parameters as they were used.
        pictures: if asked for.
        next_word_offset: for Mersenne Twister draws: `word_offset` for the call that goes on where
            this one ended.
    """

    layers: tuple[LayerLinearity, ...]
    provenance: Provenance
    parameters: LinearityParameters
    pictures: tuple[Picture, ...] = ()
    next_word_offset: int = 0

    def __getitem__(self, name: str) -> LayerLinearity:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"{name!r} was not measured; there are {', '.join(self)}")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(layer.name for layer in self.layers))

    def __len__(self) -> int:
        return len({layer.name for layer in self.layers})

    @property
    def output(self) -> LayerLinearity:
        """The linearity of the model's output."""
        return next(layer for layer in self.layers if layer.is_output)

    @property
    def mean(self) -> dict[str, float]:
        """The mean over instances, by layer."""
        return {name: layer.mean for name, layer in self.items()}

    @property
    def instance_count(self) -> int:
        """The number of instances."""
        return len(self.output.linearity)

    def __repr__(self) -> str:
        means = ", ".join(f"{name}: {mean:.4g}" for name, mean in self.mean.items())
        where = f"{self.provenance.model}:{self.provenance.version}"
        return f"<LinearityExplanation of {where}, {self.instance_count} instances, mean L {{{means}}}>"

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pictures as plain numbers, lists and text, fit for JSON."""
        return {
            "instance_count": self.instance_count,
            "layers": [layer.as_dict() for layer in self.layers],
            "parameters": dataclasses.asdict(self.parameters),
            "provenance": dataclasses.asdict(self.provenance),
            "next_word_offset": self.next_word_offset,
        }

    def to_npz(self, path: str | Path) -> None:
        """Writes everything but the pictures to a NumPy archive that loads without pickle.

        `layer` holds the names; `is_output`, `mean`, `standard_deviation`, `zero_reason` and
        `zero_count` have one entry per layer; `linearity`, `normalized`, `noise_floor` and, if
        asked for, `confidence_low` and `confidence_high` are (layers, instances); `parameters` and
        `provenance` are JSON text.
        """
        columns: dict[str, Any] = {"layer": np.array([layer.name for layer in self.layers])}
        for field in dataclasses.fields(LayerLinearity):
            values = [getattr(layer, field.name) for layer in self.layers]
            if field.name != "name" and values[0] is not None:
                columns[field.name] = np.array(values)
        columns["parameters"] = np.array(json.dumps(dataclasses.asdict(self.parameters)))
        columns["provenance"] = np.array(json.dumps(dataclasses.asdict(self.provenance)))
        # Through an open file, because numpy would add ".npz" to a path that lacks it.
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **columns)
