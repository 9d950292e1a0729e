"""What can not be honoured is refused by the name of its field; what a reader should know is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy_layers import Array, NumpyLayers, relu
from sidelight_engines.activation import (
    Chunking,
    LabelClasses,
    LayerSelection,
    PatternDistance,
    PatternParameters,
    PatternResult,
    PredictedClasses,
    QuantileThreshold,
    UnitPooling,
    ValueThreshold,
    measure_activation_patterns,
)
from sidelight_engines.errors import InvalidField, MemoryLimitExceeded, NonFiniteOutput, UnknownLayer

X = np.ones((4, 3), np.float32)
LABELS = np.array([0, 0, 1, 1])
NAN = np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 1).astype(np.float32)


def measure(
    x: Array = X,
    classes: Any = None,
    model: NumpyLayers | None = None,
    layers: LayerSelection | None = None,
    chunking: Chunking | None = None,
    **parameters: Any,
) -> PatternResult:
    model = model or NumpyLayers((3,), {"dense": relu})
    given = PatternParameters(layers or LayerSelection(everything=True), **parameters)
    return measure_activation_patterns(
        model.graph,
        model,
        {"x": x},
        classes or LabelClasses(LABELS, "parameters.labels"),
        given,
        fields={"x": "instances.reference"},
        chunking=chunking or Chunking(),
    )


def labels(*values: Any) -> LabelClasses:
    return LabelClasses(np.array(values), "parameters.labels")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"x": X.astype(np.float64)}, "instances.reference"),
        ({"x": np.ones((4, 2), np.float32)}, "instances.reference"),
        ({"x": np.ones((0, 3), np.float32)}, "instances.reference"),
        ({"x": NAN}, "instances.reference"),
        ({"classes": labels(0, 1)}, "parameters.labels"),
        ({"classes": labels(0, 1, 2, -1)}, "parameters.labels"),
        ({"classes": labels(0.0, 1.0, 2.0, 3.0)}, "parameters.labels"),
        ({"classes": labels([0, 1], [1, 0], [0, 1], [1, 0])}, "parameters.labels"),
        ({"classes": PredictedClasses("z")}, "parameters.output"),
        ({"layers": LayerSelection()}, "parameters.layers"),
        ({"layers": LayerSelection(("dense",), everything=True)}, "parameters.layers.names"),
        ({"layers": LayerSelection(("dense", "dens"))}, "parameters.layers.names[1]"),
        ({"threshold": ValueThreshold(float("nan"))}, "parameters.value"),
        ({"threshold": QuantileThreshold(1.5)}, "parameters.quantile"),
        ({"threshold": QuantileThreshold(float("nan"))}, "parameters.quantile"),
        ({"divisor": -1.0}, "parameters.divisor"),
        ({"divisor": float("inf")}, "parameters.divisor"),
        ({"specific_units": 1001}, "parameters.specific_units"),
        ({"specific_units": -1}, "parameters.specific_units"),
        ({"distances": (PatternDistance.COSINE, PatternDistance.COSINE)}, "parameters.distances[1]"),
        # Three units: CKA needs four.
        ({"distances": (PatternDistance.COSINE, PatternDistance.CKA)}, "parameters.distances[1]"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_bad_value_is_refused_by_the_path_of_its_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        measure(**given)

    assert caught.value.field == field


def test_the_row_that_holds_nan_is_named() -> None:
    with pytest.raises(InvalidField, match="example 2 holds NaN"):
        measure(NAN, chunking=Chunking(rows=1))


def test_a_misspelt_layer_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(UnknownLayer) as caught:
        measure(layers=LayerSelection(("dens",)))

    assert caught.value.nearest == ("dense",)


def test_a_layer_that_gives_nan_is_named_with_the_example() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    model = NumpyLayers((3,), {"bad": lambda x: np.where(x == 9, np.nan, x)})

    with pytest.raises(NonFiniteOutput) as caught:
        measure(x, model=model, chunking=Chunking(rows=2))

    assert (caught.value.layer, caught.value.row) == ("bad", 3)


def test_a_named_layer_without_a_row_per_example_is_refused_and_left_out_of_all() -> None:
    layers = {"dense": relu, "mask": lambda x: np.ones((7, 2), np.float32), "shape": lambda x: np.array(3)}
    model = NumpyLayers((3,), layers)

    with pytest.raises(InvalidField, match="'mask'") as caught:
        measure(model=model, layers=LayerSelection(("dense", "mask")))
    result = measure(model=model)

    assert caught.value.field == "parameters.layers.names[1]"
    assert [layer.name for layer in result.layers] == ["dense"]
    (notice,) = [notice for notice in result.warnings if notice.code == "LAYERS_LEFT_OUT"]
    assert "'mask', 'shape'" in notice.message


def test_an_output_that_tells_no_classes_is_refused() -> None:
    model = NumpyLayers((3,), {"dense": relu}, output=lambda x: x[:, :1])

    with pytest.raises(InvalidField, match="does not tell classes") as caught:
        measure(classes=PredictedClasses(), model=model)

    assert caught.value.field == "parameters.class_source"


@pytest.mark.parametrize(
    ("parameters", "classes"),
    [
        ({"pooling": UnitPooling.POSITION}, LABELS),
        ({"pooling": UnitPooling.POSITION}, np.arange(4) * 1_000_000),
        ({"pooling": UnitPooling.POSITION, "distances": (PatternDistance.CKA,)}, LABELS),
        ({"pooling": UnitPooling.POSITION, "threshold": QuantileThreshold(0.5)}, LABELS),
    ],
)
def test_what_would_take_more_memory_than_granted_is_refused(parameters: dict[str, Any], classes: Array) -> None:
    model = NumpyLayers((3,), {"wide": lambda x: np.ones((len(x), 5000), np.float32)})

    with pytest.raises(MemoryLimitExceeded) as caught:
        measure(
            model=model,
            classes=LabelClasses(classes, "labels"),
            chunking=Chunking(rows=1, memory_bytes=100_000),
            **parameters,
        )

    assert caught.value.needed_bytes > caught.value.limit_bytes


def test_a_threshold_of_0_at_a_layer_that_is_always_above_it_is_told() -> None:
    model = NumpyLayers((3,), {"gate": relu, "dense": relu}, ops={"gate": "Sigmoid"})

    told = [notice.message for notice in measure(model=model).warnings if notice.code == "THRESHOLD_BELOW_RANGE"]

    assert len(told) == 1
    assert "'gate'" in told[0]
    assert "dense" not in told[0]
    codes = [notice.code for notice in measure(model=model, threshold=ValueThreshold(0.5)).warnings]
    assert "THRESHOLD_BELOW_RANGE" not in codes


def test_a_class_of_few_examples_is_told() -> None:
    x = np.ones((60, 3), np.float32)
    classes = LabelClasses(np.repeat([4, 5], [36, 24]), "labels")

    (notice,) = measure(x, classes).warnings

    assert notice.code == "FEW_EXAMPLES"
    assert "class 5 " in notice.message
