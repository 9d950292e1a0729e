"""Every value that may not be given is refused with the path of its field, what is wrong and a remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy_models import NumpyModel, network, uniform
from sidelight_engines.errors import (
    InvalidField,
    MemoryLimitExceeded,
    MethodNotSupported,
    NonFiniteOutput,
    UnknownLayer,
)
from sidelight_engines.graph.graph import Graph, TensorSpec
from sidelight_engines.linearity import (
    Aggregation,
    Chunking,
    ClassifierScale,
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

UNIFORM = UniformRange(0, 1)
GRID = GridSampling(UNIFORM)
INSTANCES = "instances.inline.inputs[0].tensor"
X = uniform(2, 6)
DATA = uniform(30, 6)
MERSENNE = DrawGenerator.MERSENNE_TWISTER


def measure(x: np.ndarray = X, model: NumpyModel | None = None, **parameters: Any) -> LinearityResult:
    model = model or network()
    given = LinearityParameters(**{"sampling": GRID} | parameters)
    return measure_linearity(model.graph, model.runtime, x, given)


def grid(**values: Any) -> GridSampling:
    return replace(GRID, **values)


def with_nan(values: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[-1, 2] = np.nan
    return changed


@pytest.mark.parametrize(
    ("field", "problem", "parameters"),
    [
        ("parameters.samples", "is 1", {"samples": 1}),
        ("parameters.samples", "is 10001", {"samples": 10_001}),
        ("parameters.probability_floor", "is -1", {"probability_floor": -1.0}),
        ("parameters.probability_floor", "is nan", {"probability_floor": float("nan")}),
        ("parameters.coefficients", "are 3", {"samples": 2, "coefficients": (1, 2, 3)}),
        ("parameters.coefficients", "are 3", {"aggregation": Aggregation.PAIRWISE, "coefficients": (1, 2, 3)}),
        ("parameters.coefficients", "NaN or infinity", {"samples": 2, "coefficients": (1, float("inf"))}),
        ("parameters.output", "no output 'predictoin'", {"output": "predictoin"}),
        ("parameters.layers.names[1]", "no layer 'tahn'", {"layers": LayerSelection(("dense_1", "tahn"))}),
        ("parameters.layers.names", "although `all` is set", {"layers": LayerSelection(("tanh",), everything=True)}),
        (
            "parameters.classifier_scale",
            "not for regressors",
            {"model_type": ModelType.REGRESSOR, "classifier_scale": ClassifierScale.EXACT_LOG_PROBABILITY},
        ),
        ("parameters.confidence_level", "is 0", {"confidence_level": 0.0}),
        ("parameters.confidence_level", "is 1", {"confidence_level": 1.0}),
        ("parameters.confidence_level", "is nan", {"confidence_level": float("nan")}),
        ("parameters.confidence_level", "needs 3 samples", {"samples": 2, "confidence_level": 0.9}),
        (
            "parameters.confidence_level",
            "coefficients of your own",
            {"samples": 3, "coefficients": (1, 1, 1), "confidence_level": 0.9},
        ),
        ("parameters.grid.epsilon", "is 0", {"sampling": grid(epsilon=0.0)}),
        ("parameters.grid.epsilon", "is 1.5", {"sampling": grid(epsilon=1.5)}),
        ("parameters.grid.epsilon", "is nan", {"sampling": grid(epsilon=float("nan"))}),
        ("parameters.grid.resolution", "is 1", {"sampling": grid(resolution=1)}),
        ("parameters.grid.resolution", "is 1000001", {"sampling": grid(resolution=1_000_001)}),
        (
            "parameters.grid.feature_range.uniform.maximum",
            "not above the minimum",
            {"sampling": grid(feature_range=UniformRange(1, 1))},
        ),
        (
            "parameters.grid.feature_range.uniform.minimum",
            "is -inf",
            {"sampling": grid(feature_range=UniformRange(-float("inf"), 1))},
        ),
        (
            "parameters.grid.feature_range.per_feature.minimum",
            "has shape (5,)",
            {"sampling": grid(feature_range=PerFeatureRange(np.zeros(5), np.ones(6)))},
        ),
        (
            "parameters.grid.feature_range.per_feature.maximum",
            "below the minimum for 6 features",
            {"sampling": grid(feature_range=PerFeatureRange(np.ones(6), np.zeros(6)))},
        ),
        (
            "parameters.grid.feature_range.per_feature.maximum",
            "NaN or infinity",
            {"sampling": grid(feature_range=PerFeatureRange(np.zeros(6), np.full(6, np.inf)))},
        ),
        (
            "parameters.grid.feature_range.per_feature.minimum",
            "is <U1",
            {"sampling": grid(feature_range=PerFeatureRange(np.full(6, "a"), np.ones(6)))},
        ),
        ("the.data", "rows of shape (5,)", {"sampling": grid(feature_range=DataRange(Rows(DATA[:, :5], "the.data")))}),
        ("the.data", "holds no row", {"sampling": grid(feature_range=DataRange(Rows(DATA[:0], "the.data")))}),
        ("the.data", "NaN or infinity", {"sampling": grid(feature_range=DataRange(Rows(with_nan(DATA), "the.data")))}),
        ("the.data", "30 rows where 31 neighbours", {"sampling": KnnSampling(Rows(DATA, "the.data")), "samples": 31}),
        ("the.data", "rows of shape (2, 3)", {"sampling": KnnSampling(Rows(DATA.reshape(-1, 2, 3), "the.data"))}),
        ("the.data", "NaN or infinity", {"sampling": KnnSampling(Rows(with_nan(DATA), "the.data"))}),
        ("the.data", "is bool", {"sampling": KnnSampling(Rows(DATA > 0.5, "the.data"))}),
        ("parameters.draws.seed", "is -1", {"draws": RandomDraws(-1)}),
        ("parameters.draws.seed", f"is {2**64}", {"draws": RandomDraws(2**64)}),
        ("parameters.draws.seed", f"is {2**32}", {"draws": RandomDraws(2**32, MERSENNE)}),
        ("parameters.draws.first_instance", "is -1", {"draws": RandomDraws(first_instance=-1)}),
        ("parameters.draws.first_instance", "is 9223372036854775807", {"draws": RandomDraws(first_instance=2**63 - 1)}),
        ("parameters.draws.total_instances", "is -1", {"draws": RandomDraws(0, MERSENNE, 0, -1)}),
        ("parameters.draws.total_instances", "is missing", {"draws": RandomDraws(0, MERSENNE, 3)}),
        ("parameters.draws.total_instances", "these instances end at 5", {"draws": RandomDraws(0, MERSENNE, 3, 4)}),
        ("parameters.draws.word_offset", "is -1", {"draws": RandomDraws(0, MERSENNE, word_offset=-1)}),
        ("parameters.draws.word_offset", "COUNTER has no use for", {"draws": RandomDraws(word_offset=8)}),
        (INSTANCES, "is float64", {"x": X.astype(np.float64)}),
        (INSTANCES, "has shape (2, 5)", {"x": X[:, :5]}),
        (INSTANCES, "has shape (12,)", {"x": X.reshape(-1)}),
        (INSTANCES, "holds no instance", {"x": X[:0]}),
        (INSTANCES, "NaN or infinity, first at [1, 2]", {"x": with_nan(X)}),
    ],
)
def test_a_value_that_may_not_be_given_is_named(field: str, problem: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as caught:
        measure(**parameters)
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert caught.value.remedy


def test_an_unknown_layer_is_told_with_the_nearest_names() -> None:
    with pytest.raises(UnknownLayer) as caught:
        measure(layers=LayerSelection(("dense_3",)))
    assert set(caught.value.nearest) == {"dense_1", "dense_2"}


def test_the_path_of_the_instances_is_the_callers() -> None:
    model = network()
    with pytest.raises(InvalidField) as caught:
        measure_linearity(
            model.graph, model.runtime, X[:0], LinearityParameters(GRID), instances_field="instances.reference"
        )
    assert caught.value.field == "instances.reference"


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ((TensorSpec("a", "a", "float32", (None, 2)), TensorSpec("b", "b", "float32", (None, 2))), "has 2: 'a', 'b'"),
        ((TensorSpec("a", "a", "int64", (None, 2)),), "is int64"),
        ((TensorSpec("a", "a", "string", (None,)),), "is string"),
    ],
)
def test_a_model_without_one_floating_point_input_can_not_be_measured(
    inputs: tuple[TensorSpec, ...], reason: str
) -> None:
    model = network()
    graph: Graph = replace(model.graph, inputs=inputs)
    with pytest.raises(MethodNotSupported, match=reason) as caught:
        measure_linearity(graph, model.runtime, X, LinearityParameters(GRID))
    assert caught.value.method == "linearity"


def test_exact_log_probability_needs_a_head() -> None:
    model = NumpyModel((6,), lambda x: x**2)
    with pytest.raises(MethodNotSupported, match="does not come from a softmax or sigmoid"):
        measure(model=model, classifier_scale=ClassifierScale.EXACT_LOG_PROBABILITY)


def test_exact_log_probability_is_refused_where_the_output_is_not_the_softmax_of_the_logits() -> None:
    model = NumpyModel((6,), lambda x: x**2, head="Softmax", logits=lambda x: x)
    with pytest.raises(MethodNotSupported, match="not the softmax of its logits"):
        measure(model=model, classifier_scale=ClassifierScale.EXACT_LOG_PROBABILITY)


def test_a_probability_of_0_needs_a_floor() -> None:
    model = NumpyModel((6,), lambda x: np.zeros_like(x), head="Softmax")
    with pytest.raises(InvalidField) as caught:
        measure(model=model, probability_floor=0.0)
    assert caught.value.field == "parameters.probability_floor"


def test_a_regressor_called_a_classifier_is_found_out_by_its_negative_output() -> None:
    model = NumpyModel((6,), lambda x: x - 10)
    with pytest.raises(InvalidField) as caught:
        measure(model=model, model_type=ModelType.CLASSIFIER)
    assert caught.value.field == "parameters.model_type"


@pytest.mark.parametrize("aggregation", Aggregation)
@pytest.mark.parametrize("head", ["", "Softmax"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("rows", [3, 9, 1000])
def test_what_is_not_finite_names_layer_and_instance(
    aggregation: Aggregation, head: str, bad: float, rows: int
) -> None:
    def output(x: np.ndarray) -> np.ndarray:
        return np.where(x > 3, np.float32(bad), np.float32(0.5))

    model = NumpyModel((6,), output, {"inner": lambda x: x**2}, head=head)
    x = uniform(7, 6)
    x[4, 2] = 4
    parameters = LinearityParameters(GRID, samples=6, aggregation=aggregation, layers=LayerSelection(("inner",)))
    with pytest.raises(NonFiniteOutput) as caught:
        measure_linearity(model.graph, model.runtime, x, parameters, chunking=Chunking(rows))
    assert caught.value.layer == "y"
    assert caught.value.row == 4


def test_numbers_whose_squares_overflow_float32_are_measured() -> None:
    model = NumpyModel((6,), lambda x: (np.float32(1e25) * x) * x, {"tiny": lambda x: x * x * np.float32(1e-25)})
    result = measure(model=model, layers=LayerSelection(everything=True))
    np.testing.assert_allclose(result.layers[0].linearity / 1e25, result.layers[1].linearity * 1e25, rtol=1e-4)


def test_a_named_layer_without_a_row_per_instance_is_refused_by_its_path() -> None:
    model = NumpyModel((6,), lambda x: x, {"shape": lambda x: np.arange(2.0)}, shapes_known=False)
    with pytest.raises(InvalidField) as caught:
        measure(model=model, layers=LayerSelection(("shape",)))
    assert caught.value.field == "parameters.layers.names[0]"


def test_among_all_layers_those_without_a_row_per_instance_are_left_out_and_reported() -> None:
    layers = {
        "scalar": lambda x: np.float32(1),
        "shape": lambda x: np.arange(2.0),
        "square": lambda x: x**2,
        "merged": lambda x: x.reshape(-1, 2),
    }
    model = NumpyModel((6,), lambda x: x, layers, shapes_known=False)
    result = measure(model=model, layers=LayerSelection(everything=True))
    assert [layer.name for layer in result.layers] == ["y", "square"]
    assert [notice.code for notice in result.warnings] == ["LAYERS_LEFT_OUT"]
    assert "scalar, shape, merged" in result.warnings[0].message


def test_repeated_names_count_once_and_the_output_is_not_repeated() -> None:
    result = measure(layers=LayerSelection(("dense_2", "y", "dense_1", "dense_2")))
    assert [layer.name for layer in result.layers] == ["y", "dense_2", "dense_1"]


def test_the_result_tells_the_parameters_as_they_were_used() -> None:
    used = measure(samples=4).parameters
    assert used.output == "prediction"
    assert used.model_type is ModelType.CLASSIFIER
    assert used.coefficients == (0.25,) * 4
    assert used.draws.total_instances == 2


def test_work_that_does_not_fit_into_the_memory_granted_is_refused() -> None:
    model = NumpyModel((6,), lambda x: np.repeat(x, 1000, axis=1))
    with pytest.raises(MemoryLimitExceeded) as caught:
        measure_linearity(
            model.graph, model.runtime, X, LinearityParameters(GRID), chunking=Chunking(memory_bytes=100_000)
        )
    assert caught.value.needed_bytes > caught.value.limit_bytes == 100_000


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_models_of_every_floating_point_type_are_measured(dtype: str) -> None:
    model = NumpyModel((6,), lambda x: x**2, dtype=dtype)
    exact = NumpyModel((6,), lambda x: x**2, dtype="float64")
    x = uniform(3, 6).astype(np.float16)
    parameters = LinearityParameters(GridSampling(UNIFORM, epsilon=0.5))
    found, expected = (
        measure_linearity(m.graph, m.runtime, x.astype(m.graph.inputs[0].dtype), parameters).layers[0]
        for m in (model, exact)
    )
    np.testing.assert_allclose(found.linearity, expected.linearity, rtol=0.05 if dtype == "float16" else 1e-4)
    assert (found.noise_floor > 0).all()
