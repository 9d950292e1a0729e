"""Patterns worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy_layers import Array, NumpyLayers, relu
from sidelight_engines.activation import (
    LabelClasses,
    LayerSelection,
    PatternDistance,
    PatternParameters,
    PatternResult,
    PredictedClasses,
    SpecificUnit,
    UnitPooling,
    ValueThreshold,
    measure_activation_patterns,
)

# Three units; class 3 has four examples, class 7 two, class 9 one.
X = np.array(
    [[1, 0, -1], [2, 0, 0], [0, 5, 0], [3, 0, -2], [0, 1, 0], [1, 2, 0], [-1, -1, -1]],
    np.float32,
)
LABELS = np.array([3, 3, 7, 3, 7, 3, 9])


def measure(
    x: Array = X, labels: Array | None = LABELS, model: NumpyLayers | None = None, **parameters: Any
) -> PatternResult:
    model = model or NumpyLayers(x.shape[1:], {"layer": relu})
    classes = PredictedClasses() if labels is None else LabelClasses(np.asarray(labels), "labels")
    selection = parameters.pop("layers", LayerSelection(everything=True))
    return measure_activation_patterns(
        model.graph, model, {"x": x}, classes, PatternParameters(selection, **parameters)
    )


def test_rates_are_the_shares_of_each_class_that_fire_a_unit() -> None:
    result = measure()

    (layer,) = result.layers
    assert result.classes.tolist() == [3, 7, 9]
    assert result.class_counts.tolist() == [4, 2, 1]
    assert result.class_examples.tolist() == [0, 2, 6]
    assert layer.firing_counts.tolist() == [[4, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert layer.firing_rates.tolist() == [[1.0, 0.25, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_standard_errors_are_binomial() -> None:
    (layer,) = measure().layers

    # sqrt(1/4 * 3/4 / 4) where one of four fires, 0 where all or none do.
    assert layer.standard_errors.tolist() == [[0.0, 0.21650635094610965, 0.0], [0.0] * 3, [0.0] * 3]


def test_a_fixed_divisor_scales_rates_and_errors() -> None:
    (layer,) = measure(divisor=1000.0).layers

    assert layer.firing_rates.tolist() == [[0.004, 0.001, 0.0], [0.0, 0.002, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(layer.standard_errors[0, 1], 0.21650635094610965 * 4 / 1000, rtol=1e-15)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        # Rows (1, 1/4, 0), (0, 1, 0), (0, 0, 0).
        (PatternDistance.MEAN_ABSOLUTE, [(1 + 0.75) / 3, 1.25 / 3, 1 / 3]),
        # 1 - 1/4 / (sqrt(17)/4); 1 from the silent class.
        (PatternDistance.COSINE, [1 - 1 / 17**0.5, 1.0, 1.0]),
        # 1 - 1/4 / 2; 1 from the silent class.
        (PatternDistance.JACCARD, [0.875, 1.0, 1.0]),
    ],
)
def test_distances_are_those_of_their_formulas(distance: PatternDistance, expected: list[float]) -> None:
    (layer,) = measure(distances=(distance,)).layers

    values = layer.distances[0].values
    a, b, c = expected
    np.testing.assert_allclose(values, [[0, a, b], [a, 0, c], [b, c, 0]], rtol=1e-12)


def test_neighbours_are_in_order_and_each_class_its_own_nearest() -> None:
    (layer,) = measure().layers

    # Mean absolute: 3-7 0.583, 3-9 0.417, 7-9 0.333.
    assert layer.distances[0].neighbours.tolist() == [[0, 2, 1], [1, 2, 0], [2, 1, 0]]


def test_classes_with_one_pattern_are_at_distance_0_and_each_still_comes_first() -> None:
    x = np.array([[1.0, 0.0]] * 3, np.float32)
    for distance in (PatternDistance.MEAN_ABSOLUTE, PatternDistance.COSINE, PatternDistance.JACCARD):
        (layer,) = measure(x, np.array([0, 1, 2]), distances=(distance,)).layers

        assert layer.distances[0].values.tolist() == [[0.0] * 3] * 3
        assert layer.distances[0].neighbours.tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]


def test_a_unit_fires_above_the_threshold_and_not_at_it() -> None:
    (layer,) = measure(threshold=ValueThreshold(1.0)).layers

    assert layer.firing_counts.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert layer.thresholds.tolist() == [1.0] * 3


def test_a_threshold_that_float32_can_not_hold_is_compared_as_it_is() -> None:
    # float32(0.1) is 0.100000001490116, above 0.1; float32(0.7) is 0.699999988079071, not above 0.7.
    x = np.array([[0.1, 0.7]], np.float32)

    above_a = measure(x, np.array([0]), threshold=ValueThreshold(0.1)).layers[0].firing_counts.tolist()
    above_b = measure(x, np.array([0]), threshold=ValueThreshold(0.7)).layers[0].firing_counts.tolist()

    assert above_a == [[1, 1]]
    assert above_b == [[0, 0]]


def test_dead_and_always_on_units_are_told() -> None:
    x = np.array([[1, 0, 3, 0], [2, 0, 0, 1]], np.float32)

    (layer,) = measure(x, np.array([0, 1])).layers

    assert layer.dead_units.tolist() == [1]
    assert layer.always_on_units.tolist() == [0]


def test_units_at_a_bound_of_their_operation_are_saturated() -> None:
    x = np.array([[0.999, 0.5, 0.001, 0.999], [0.001, 0.99, 0.001, 0.5]], np.float32)
    layers = {"sigmoid": lambda x: x, "relu": lambda x: x}
    model = NumpyLayers((4,), layers, ops={"sigmoid": "Sigmoid"})

    sigmoid, plain = measure(x, np.array([0, 1]), model).layers

    # Unit 0 is at one bound and at the other, unit 2 always at the lower one.
    assert sigmoid.saturated_units.tolist() == [0, 2]
    assert plain.saturated_units.tolist() == []


def test_the_most_specific_units_exceed_every_other_class() -> None:
    (layer,) = measure().layers

    # Unit 0: 1 - 0 for class 3. Unit 1: 1 - 1/4 for class 7. Class 9 has none.
    assert layer.specific_units == (SpecificUnit(3, 0, 1.0), SpecificUnit(7, 1, 0.75))
    assert measure(specific_units=0).layers[0].specific_units == ()


# Two examples of two channels with two positions each: channels first, and last.
FIRST = np.array([[[1, -3], [0, 0]], [[-1, -1], [2, 0]]], np.float32)


@pytest.mark.parametrize("axis", [1, None])
@pytest.mark.parametrize(
    ("pooling", "expected"),
    [(UnitPooling.ANY, [[1, 0], [0, 1]]), (UnitPooling.MEAN, [[0, 0], [0, 1]])],
)
def test_positions_are_pooled_along_the_other_axes_than_that_of_channels(
    axis: int | None, pooling: UnitPooling, expected: list[list[int]]
) -> None:
    x = FIRST if axis == 1 else FIRST.transpose(0, 2, 1)
    model = NumpyLayers(x.shape[1:], {"layer": lambda x: x}, axes={"layer": axis} if axis else None)

    (layer,) = measure(x, np.array([0, 1]), model, pooling=pooling).layers

    assert layer.firing_counts.tolist() == expected
    assert layer.unit_shape == (2,)


def test_every_position_may_be_a_unit_of_its_own() -> None:
    model = NumpyLayers((2, 2), {"layer": lambda x: x}, axes={"layer": 1})

    (layer,) = measure(FIRST, np.array([0, 1]), model, pooling=UnitPooling.POSITION).layers

    assert layer.firing_counts.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert layer.unit_shape == (2, 2)


def test_predicted_classes_are_those_of_the_greatest_output() -> None:
    model = NumpyLayers((3,), {"layer": relu}, output=lambda x: x)

    result = measure(labels=None, model=model)

    # Row by row: 0, 0, 1, 0, 1, 1, and 0 for the tie.
    assert result.classes.tolist() == [0, 1]
    assert result.class_counts.tolist() == [4, 3]
    assert result.output == "y"


def test_a_single_probability_tells_two_classes() -> None:
    x = np.array([[0.2], [0.5], [0.9]], np.float32)
    model = NumpyLayers((1,), {"layer": lambda x: x}, head="Sigmoid")

    result = measure(x, None, model)

    assert result.class_counts.tolist() == [1, 2]


def slow_hsic(k: Array, m: Array) -> float:
    """HSIC_1 as Song et al. (2012), eq. 5, write it: with the diagonals set to 0."""
    n = len(k)
    k, m, one = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), np.ones(n)
    total = (
        np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
    )
    return float(total / (n * (n - 3)))


def test_cka_is_that_of_unbiased_hsic_between_the_units_of_two_classes() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 7)).astype(np.float32)
    labels = np.repeat([0, 1, 2], 20)
    x[labels == 1] = x[labels == 0] * 2  # the same relations on another scale

    (layer,) = measure(x, labels, NumpyLayers((7,), {"layer": lambda x: x}), distances=(PatternDistance.CKA,)).layers

    kernels = [x[labels == c].astype(np.float64).T @ x[labels == c].astype(np.float64) for c in range(3)]
    hsic = np.array([[slow_hsic(a, b) for b in kernels] for a in kernels])
    expected = 1 - hsic / np.sqrt(np.outer(np.diag(hsic), np.diag(hsic)))
    np.testing.assert_allclose(layer.distances[0].values, expected, atol=1e-9)
    assert layer.distances[0].values[0, 1] < 1e-9


def test_cka_of_many_units_is_that_of_its_minibatches() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(40, 600)).astype(np.float32)
    labels = np.repeat([0, 1], 20)

    (layer,) = measure(x, labels, NumpyLayers((600,), {"layer": lambda x: x}), distances=(PatternDistance.CKA,)).layers

    # 600 units in three minibatches of at most 256: every third unit.
    total = np.zeros((2, 2))
    for batch in range(3):
        parts = [x[labels == c, batch::3].astype(np.float64) for c in range(2)]
        total += [[slow_hsic(a.T @ a, b.T @ b) for b in parts] for a in parts]
    expected = 1 - total[0, 1] / np.sqrt(total[0, 0] * total[1, 1])
    np.testing.assert_allclose(layer.distances[0].values[0, 1], expected, rtol=1e-9)


def test_a_class_whose_units_are_all_silent_has_no_cka_and_the_result_says_so() -> None:
    x = np.concatenate([np.random.default_rng(0).normal(size=(5, 6)), np.zeros((5, 6))]).astype(np.float32)

    result = measure(x, np.repeat([0, 1], 5), distances=(PatternDistance.CKA,))

    assert result.layers[0].distances[0].values.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert "CKA_UNDEFINED" in [notice.code for notice in result.warnings]
