"""Sidelight against what alibi 0.9.4 gave for the same network, in the order of its draws."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sidelight_engines.control import Control
from sidelight_engines.graph.graph import Graph
from sidelight_engines.graph.onnx_model import read_onnx_model
from sidelight_engines.linearity import (
    Aggregation,
    DataRange,
    DrawGenerator,
    GridSampling,
    KnnSampling,
    LayerSelection,
    LinearityParameters,
    LinearityResult,
    ModelType,
    PerFeatureRange,
    RandomDraws,
    Rows,
    UniformRange,
    measure_linearity,
)
from sidelight_engines.linearity.draws import MersenneDraws
from sidelight_engines.linearity.sampling import GridSampler
from sidelight_engines.runtime.onnx_runtime import OnnxRuntime
from sidelight_engines.runtime.runtime import Runtime

FOLDER = Path(__file__).parents[2] / "golden" / "linearity"
PROVENANCE = json.loads((FOLDER / "cases.json").read_text())
SEED = PROVENANCE["seed"]
LAYERS = ("conv_1", "relu_1", "maxp_1", "conv_2", "relu_2", "maxp_2", "flat", "dense_1", "relu_3", "dense_2")


@cache
def inputs() -> Any:
    return dict(np.load(FOLDER / "inputs.npz"))


@cache
def model() -> tuple[Graph, Runtime]:
    read = read_onnx_model(FOLDER / "classic_8x8.onnx")
    return read.graph, OnnxRuntime(read, 1)


def sampling(case: dict[str, Any]) -> GridSampling | KnnSampling:
    references = Rows(inputs()["references"], "references")
    if case["sampling"] == "knn":
        return KnnSampling(references)
    ranges = {
        "uniform": UniformRange(0, 1),
        "per_feature": PerFeatureRange(inputs()["minimum"], inputs()["maximum"]),
        "data": DataRange(references),
    }
    return GridSampling(ranges[case["range"]], case["epsilon"], case["resolution"])


def measure(case: dict[str, Any], word_offset: int = 0, first: int = 0, last: int | None = None) -> LinearityResult:
    x = inputs()["instances"]
    graph, runtime = model()
    model_type = ModelType.CLASSIFIER if case["model_type"] == "classifier" else ModelType.REGRESSOR
    parameters = LinearityParameters(
        sampling(case),
        samples=case["samples"],
        aggregation=Aggregation(case["aggregation"]),
        coefficients=tuple(case["coefficients"]),
        layers=LayerSelection(LAYERS),
        model_type=model_type,
        draws=RandomDraws(case["seed"], DrawGenerator.MERSENNE_TWISTER, first, len(x), word_offset),
    )
    return measure_linearity(graph, runtime, x[first:last], parameters)


def values_of(result: LinearityResult, layer: str) -> np.ndarray:
    position = 0 if layer == "softmax" else 1 + LAYERS.index(layer)
    return result.layers[position].linearity


@pytest.mark.parametrize("case", PROVENANCE["cases"], ids=lambda case: case["name"])
def test_linearity_equals_the_reference(case: dict[str, Any]) -> None:
    offset = 0
    for _ in range(case["calls_before"]):
        offset = measure(case, offset).next_word_offset
    found = values_of(measure(case, offset), case["layer"])
    golden = np.load(FOLDER / "scores.npz")[case["name"]]
    np.testing.assert_array_less(np.abs(found - golden), 1e-4 + 1e-3 * golden)


@pytest.mark.parametrize("case", [case for case in PROVENANCE["cases"] if case["sampling"] == "grid"][::7])
def test_a_batch_split_over_requests_equals_the_reference(case: dict[str, Any]) -> None:
    offset = 0
    for _ in range(case["calls_before"]):
        offset = measure(case, offset).next_word_offset
    parts = [measure(case, offset, first, last) for first, last in ((0, 5), (5, 6), (6, 12))]
    found = np.concatenate([values_of(part, case["layer"]) for part in parts])
    golden = np.load(FOLDER / "scores.npz")[case["name"]]
    np.testing.assert_array_less(np.abs(found - golden), 1e-4 + 1e-3 * golden)
    assert len({part.next_word_offset for part in parts}) == 1


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 8, 10])
def test_samples_equal_the_reference_bit_for_bit_over_two_calls(steps: int) -> None:
    golden = np.load(FOLDER / "samples.npz")
    x = inputs()["instances"][:3].reshape(3, -1)
    widths = np.abs(inputs()["maximum"] - inputs()["minimum"]).reshape(-1) / 100.0
    offset = 0
    for call in range(2):
        draws = MersenneDraws(SEED, offset, 0, 3, 4, 64, steps, Control())
        sampler = GridSampler(x, draws, widths, None, np.dtype(np.float64))
        drawn = np.empty((3, 4, 64))
        sampler.fill(drawn, 0, 0)
        np.testing.assert_array_equal(drawn, golden[f"steps_{steps}_call_{call}"])
        offset = sampler.finish()
