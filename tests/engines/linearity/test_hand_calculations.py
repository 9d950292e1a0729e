"""Numbers that a reader can work out: y = x^2 and its like, samples given as the nearest of a few rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy_models import NumpyModel, square
from sidelight_engines.linearity import (
    Aggregation,
    ClassifierScale,
    KnnSampling,
    LayerLinearity,
    LayerSelection,
    LinearityParameters,
    ModelType,
    Rows,
    ZeroReason,
    measure_linearity,
)


def rows(*values: float, dtype: str = "float64") -> KnnSampling:
    return KnnSampling(Rows(np.array(values, dtype).reshape(-1, 1), "data"))


def output_of(model: NumpyModel, x: float, parameters: LinearityParameters, dtype: str = "float64") -> LayerLinearity:
    return measure_linearity(model.graph, model.runtime, np.array([[x]], dtype), parameters).layers[0]


def test_global_is_the_mean_square_less_the_square_of_the_mean() -> None:
    # (1^2 + (-1)^2) / 2 - 0^2 = 1, and the superposed output is 1.
    layer = output_of(square(), 0, LinearityParameters(rows(1, -1, 3), samples=2))
    assert layer.linearity == pytest.approx([1])
    assert layer.normalized == pytest.approx([1])
    assert layer.zero_reason is ZeroReason.NONE


def test_global_takes_coefficients_in_the_order_of_the_samples() -> None:
    # 2 * 1 + 1 * 9 - (2 * 1 + 1 * 3)^2 = 11 - 25
    parameters = LinearityParameters(rows(3, 1), samples=2, coefficients=(2, 1))
    assert output_of(square(), 0, parameters).linearity == pytest.approx([14])


def test_pairwise_is_the_mean_of_a_quarter_of_each_square() -> None:
    # |(0 + v^2) / 2 - (v / 2)^2| = v^2 / 4 for v = 1 and 2; the superposed outputs are 1/2 and 2.
    layer = output_of(square(), 0, LinearityParameters(rows(1, 2), samples=2, aggregation=Aggregation.PAIRWISE))
    assert layer.linearity == pytest.approx([0.625])
    assert layer.normalized == pytest.approx([0.625 / 1.25])


def test_pairwise_takes_the_coefficient_of_the_instance_first() -> None:
    # x = 2, v = 3: 0.25 * 4 + 0.75 * 9 - (0.25 * 2 + 0.75 * 3)^2 = 7.75 - 2.75^2; v = 2: 0.
    parameters = LinearityParameters(rows(3, 2), samples=2, aggregation=Aggregation.PAIRWISE, coefficients=(0.25, 0.75))
    assert output_of(square(), 2, parameters).linearity == pytest.approx([(7.75 - 2.75**2) / 2])


def test_the_norm_runs_over_all_numbers_of_an_output() -> None:
    model = NumpyModel((1,), lambda x: np.stack([3 * x**2, 4 * x**2], axis=1), dtype="float64")
    assert output_of(model, 0, LinearityParameters(rows(1, -1), samples=2)).linearity == pytest.approx([5])


def test_an_output_without_an_axis_for_features_is_measured() -> None:
    model = NumpyModel((1,), lambda x: x[:, 0] ** 2, dtype="float64")
    assert output_of(model, 0, LinearityParameters(rows(1, -1), samples=2)).linearity == pytest.approx([1])


def test_a_classifier_is_measured_on_the_logarithm_of_its_probability() -> None:
    # p = exp(-x^2) makes log(p + 0) = -x^2.
    model = NumpyModel((1,), lambda x: np.exp(-(x**2)), dtype="float64", head="Sigmoid")
    parameters = LinearityParameters(rows(1, -1), samples=2, probability_floor=0)
    assert output_of(model, 0, parameters).linearity == pytest.approx([1])


def test_a_classifier_adds_the_floor_to_its_probability() -> None:
    # p = 0 at 0 and 1 at both samples: log(1.01) - log(0.01) = log 101.
    model = NumpyModel((1,), lambda x: np.abs(x), dtype="float64", head="Sigmoid")
    parameters = LinearityParameters(rows(1, -1), samples=2, probability_floor=0.01)
    assert output_of(model, 0, parameters).linearity == pytest.approx([math.log(101)])


def test_a_classifier_measured_as_a_regressor_is_measured_as_it_is() -> None:
    model = NumpyModel((1,), lambda x: np.abs(x), dtype="float64", head="Sigmoid")
    parameters = LinearityParameters(rows(1, -1), samples=2, model_type=ModelType.REGRESSOR)
    assert output_of(model, 0, parameters).linearity == pytest.approx([1])


def test_a_model_without_a_head_is_a_classifier_only_when_told() -> None:
    model = NumpyModel((1,), lambda x: np.exp(-(x**2)), dtype="float64")
    told = LinearityParameters(rows(2, -2), samples=2, probability_floor=0, model_type=ModelType.CLASSIFIER)
    assert output_of(model, 0, told).linearity == pytest.approx([4])
    untold = LinearityParameters(rows(2, -2), samples=2)
    assert output_of(model, 0, untold).linearity == pytest.approx([1 - math.exp(-4)])


def test_the_exact_logarithm_of_a_sigmoid_needs_no_floor_where_the_probability_is_0() -> None:
    # z = -1000 |x|: log sigmoid(z) = z at both samples, and log 1/2 between them. In float32 the sigmoid is 0.
    def logits(x: np.ndarray) -> np.ndarray:
        return -1000 * np.abs(x)

    model = NumpyModel((1,), lambda x: np.exp(logits(x)) / (1 + np.exp(logits(x))), head="Sigmoid", logits=logits)
    parameters = LinearityParameters(
        rows(1, -1, dtype="float32"), samples=2, classifier_scale=ClassifierScale.EXACT_LOG_PROBABILITY
    )
    assert output_of(model, 0, parameters, "float32").linearity == pytest.approx([1000 - math.log(2)])


@pytest.mark.parametrize("axis", [1, 2])
def test_the_exact_logarithm_of_a_softmax_runs_along_the_axis_of_the_softmax(axis: int) -> None:
    weights = np.arange(6.0).reshape(2, 3)

    def logits(x: np.ndarray) -> np.ndarray:
        return x[:, :, None] ** 2 * weights

    def probabilities(x: np.ndarray) -> np.ndarray:
        e = np.exp(logits(x))
        return e / e.sum(axis=axis, keepdims=True)

    model = NumpyModel((1,), probabilities, dtype="float64", head="Softmax", logits=logits)
    exact = LinearityParameters(rows(1, -0.5), samples=2, classifier_scale=ClassifierScale.EXACT_LOG_PROBABILITY)
    plain = LinearityParameters(rows(1, -0.5), samples=2, probability_floor=0)
    assert output_of(model, 0, exact).linearity == pytest.approx(output_of(model, 0, plain).linearity)


def test_pairwise_confidence_is_students_interval_of_the_samples() -> None:
    # L of the samples 1/4 and 1: mean 5/8, standard error (3/4 / sqrt 2) / sqrt 2 = 3/8; t_1(0.975) = 12.706.
    parameters = LinearityParameters(rows(1, 2), samples=2, aggregation=Aggregation.PAIRWISE, confidence_level=0.95)
    layer = output_of(square(), 0, parameters)
    assert layer.confidence_low == pytest.approx([0])
    assert layer.confidence_high == pytest.approx([0.625 + 12.7062 * 0.375], rel=1e-4)


def test_global_confidence_is_the_jackknife_over_samples() -> None:
    # Samples 1, -1, 3: L = 11/3 - 1 = 8/3. Without each: 5 - 1, 5 - 4, 1 - 0, of mean 2;
    # variance 2/3 * (4 + 1 + 1) = 4.
    parameters = LinearityParameters(rows(1, -1, 3), samples=3, confidence_level=0.8)
    layer = output_of(square(), 0, parameters)
    assert layer.linearity == pytest.approx([8 / 3])
    # t_2(0.9) = 1.88562
    assert layer.confidence_low == pytest.approx([0])
    assert layer.confidence_high == pytest.approx([8 / 3 + 1.88562 * 2], rel=1e-5)


def test_mean_and_deviation_are_taken_over_instances() -> None:
    # Around 0 the two nearest are 1 and -1: L = 1. Around 10, 8 and 12: L = 104 - 100 = 4.
    model = square()
    parameters = LinearityParameters(rows(1, -1, 8, 12), samples=2)
    layer = measure_linearity(model.graph, model.runtime, np.array([[0.0], [10.0]]), parameters).layers[0]
    assert layer.linearity == pytest.approx([1, 4])
    assert layer.mean == pytest.approx(2.5)
    assert layer.standard_deviation == pytest.approx(3 / math.sqrt(2))


def test_the_deviation_of_one_instance_is_0() -> None:
    assert output_of(square(), 0, LinearityParameters(rows(1, -1), samples=2)).standard_deviation == 0


def test_an_inner_layer_is_measured_as_it_is_even_in_a_classifier() -> None:
    model = NumpyModel((1,), lambda x: np.exp(-(x**2)), {"inner": lambda x: 3 * x**2}, dtype="float64", head="Sigmoid")
    parameters = LinearityParameters(rows(1, -1), samples=2, layers=LayerSelection(("inner",)))
    result = measure_linearity(model.graph, model.runtime, np.array([[0.0]]), parameters)
    assert [(layer.name, layer.is_output) for layer in result.layers] == [("y", True), ("inner", False)]
    assert result.layers[1].linearity == pytest.approx([3])


def test_coefficients_that_do_not_sum_to_1_leave_the_constant_of_an_affine_layer() -> None:
    # 0.5 * (v + 4) twice over less (v + 4): with a = (1, 1) the constant counts twice on one side.
    model = NumpyModel((1,), lambda x: x + 4, {"l": lambda x: x + 4}, affine=("l", "y"), dtype="float64")
    parameters = LinearityParameters(rows(1, -1), samples=2, coefficients=(1, 1), layers=LayerSelection(("l",)))
    result = measure_linearity(model.graph, model.runtime, np.array([[0.0]]), parameters)
    assert [layer.linearity[0] for layer in result.layers] == pytest.approx([4, 4])
    assert [notice.code for notice in result.warnings] == ["COEFFICIENTS_SUM"]
