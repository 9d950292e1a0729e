"""The published experiment on its network, in both formats, against what its own code gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sidelight_engines.activation import (
    LabelClasses,
    LayerSelection,
    PatternParameters,
    PatternResult,
    PredictedClasses,
    QuantileThreshold,
    UnitPooling,
    measure_activation_patterns,
)
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.model import Model, open_model

FOLDER = Path(__file__).parents[2] / "golden" / "activation_pattern"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(FOLDER / "patterns.npz") as values, np.load(FOLDER / "inputs.npz") as inputs:
        return {**values, "x": inputs["x"].astype(np.float32), "y": inputs["y"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("onnx")
    (folder / "model.onnx").write_bytes((FOLDER / "network.onnx").read_bytes())
    return {
        "onnx": open_model(folder, ModelFormat.ONNX),
        "saved_model": open_model(FOLDER / "network", ModelFormat.SAVED_MODEL),
    }


def measure(model: Model, golden: dict[str, Any], layers: tuple[str, ...], **parameters: Any) -> PatternResult:
    classes = parameters.pop("classes", LabelClasses(golden["y"], "parameters.labels"))
    return measure_activation_patterns(
        model.graph,
        model.runtime(),
        {model.graph.inputs[0].name: golden["x"]},
        classes,
        PatternParameters(LayerSelection(layers), **parameters),
    )


@pytest.mark.parametrize("kind", ["onnx", "saved_model"])
def test_the_published_counts_distances_and_order_come_out(
    models: dict[str, Model], golden: dict[str, Any], kind: str
) -> None:
    result = measure(models[kind], golden, ("dense",), divisor=1000.0)

    (layer,) = result.layers
    assert result.classes.tolist() == list(range(10))
    assert result.class_counts.tolist() == np.bincount(golden["y"]).tolist()
    off = np.abs(layer.firing_counts - np.round(golden["class_vs_neurons"] * 1000))
    assert (off <= golden["doubtful"]).all()
    doubt = golden["doubtful"].sum() / 32_000 + 1e-8
    np.testing.assert_allclose(layer.distances[0].values, golden["corr"], rtol=0, atol=doubt)
    for row, order in enumerate(layer.distances[0].neighbours):
        theirs = golden["corr"][row]
        assert order[0] == row
        # Sorted by their distances too, but for what is equally near within the doubt.
        assert (np.diff(theirs[order]) > -2 * doubt).all()


def test_both_formats_count_alike_at_every_layer_they_share(models: dict[str, Model], golden: dict[str, Any]) -> None:
    names = [{layer.name for layer in model.graph.layers} for model in models.values()]
    shared = tuple(layer.name for layer in models["onnx"].graph.layers if layer.name in names[1])

    first, second = (measure(model, golden, shared) for model in models.values())

    assert {"conv2d", "conv2d_3", "max_pooling2d", "global_average_pooling2d", "dense", "dense_1"} <= set(shared)
    for one, other in zip(first.layers, second.layers, strict=True):
        assert one.firing_rates.shape == other.firing_rates.shape
        np.testing.assert_allclose(one.firing_rates, other.firing_rates, rtol=0, atol=0.05)
        assert np.abs(one.firing_rates - other.firing_rates).mean() < 1e-3


def test_a_convolution_has_as_many_units_as_filters_or_as_positions(
    models: dict[str, Model], golden: dict[str, Any]
) -> None:
    for model in models.values():
        few = golden | {"x": golden["x"][:20], "y": golden["y"][:20]}
        any_, mean = (
            measure(model, few, ("conv2d",), pooling=pooling).layers[0]
            for pooling in (UnitPooling.ANY, UnitPooling.MEAN)
        )
        position = measure(model, few, ("conv2d",), pooling=UnitPooling.POSITION).layers[0]

        assert any_.unit_shape == mean.unit_shape == (32,)
        assert np.prod(position.unit_shape) == 26 * 26 * 32
        # Behind a ReLU, a channel fires somewhere just if its mean is above 0.
        np.testing.assert_array_equal(any_.firing_counts, mean.firing_counts)


def test_classes_may_be_those_that_the_model_predicts(models: dict[str, Model], golden: dict[str, Any]) -> None:
    model = models["onnx"]
    (probabilities,) = model.runtime().forward([model.graph.outputs[0].tensor])(
        {model.graph.inputs[0].name: golden["x"]}
    )
    predicted = probabilities.argmax(axis=1)

    by_model = measure(model, golden, ("dense",), classes=PredictedClasses())
    by_caller = measure(model, golden, ("dense",), classes=LabelClasses(predicted, "labels"))

    assert by_model.classes.tolist() == sorted(set(predicted.tolist()))
    np.testing.assert_array_equal(by_model.layers[0].firing_counts, by_caller.layers[0].firing_counts)


def test_half_of_all_activations_are_above_the_median(models: dict[str, Model], golden: dict[str, Any]) -> None:
    result = measure(models["onnx"], golden, ("dense_1",), threshold=QuantileThreshold(0.5))

    # 500 different probabilities per unit: position floor(0.5 * 499) = 249, so 250 lie above.
    assert result.layers[0].firing_counts.sum(axis=0).tolist() == [250] * 10
