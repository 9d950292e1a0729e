"""What holds for every model: affine is 0, chunks do not matter, units do not matter."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_models import NumpyModel, network, uniform
from sidelight_engines.linearity import (
    Aggregation,
    Chunking,
    ClassifierScale,
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
    ZeroReason,
    measure_linearity,
)

GRID = GridSampling(UniformRange(0, 1))
ALL = LayerSelection(everything=True)
AGGREGATIONS = st.sampled_from(Aggregation)
GENERATORS = st.sampled_from(DrawGenerator)


def table(result: LinearityResult) -> np.ndarray:
    """(layers, instances)"""
    return np.stack([layer.linearity for layer in result.layers])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    features=st.integers(1, 300),
    units=st.integers(1, 40),
    depth=st.integers(1, 4),
    offset=st.sampled_from([0.0, 1.0, 10.0]),
    dtype=st.sampled_from(["float32", "float64"]),
    samples=st.integers(2, 40),
    aggregation=AGGREGATIONS,
)
def test_affine_models_score_0_at_every_layer_and_say_why(
    seed: int,
    features: int,
    units: int,
    depth: int,
    offset: float,
    dtype: str,
    samples: int,
    aggregation: Aggregation,
) -> None:
    random = np.random.default_rng(seed)
    sizes = [features] + [units] * depth
    weights = [random.normal(size=size).astype(dtype) for size in pairwise(sizes)]
    biases = [random.normal(size=units).astype(dtype) for _ in weights]

    def chain(length: int) -> Callable[[np.ndarray], np.ndarray]:
        def run(x: np.ndarray) -> np.ndarray:
            for w, b in zip(weights[:length], biases[:length], strict=True):
                x = x @ w + b
            return x

        return run

    layers = {f"dense_{i}": chain(i) for i in range(1, depth)}
    model = NumpyModel((features,), chain(depth), layers, affine=[*layers, "y"], dtype=dtype)
    x = (uniform(5, features, dtype, seed) + random.random() * offset).astype(dtype)
    parameters = LinearityParameters(GRID, samples=samples, aggregation=aggregation, layers=ALL)
    result = measure_linearity(model.graph, model.runtime, x, parameters)
    assert len(result.layers) == depth
    for layer in result.layers:
        assert not layer.linearity.any()
        assert not layer.normalized.any()
        assert layer.zero_reason is ZeroReason.AFFINE
        assert layer.zero_count == 5


def test_a_layer_that_only_seems_linear_is_0_for_lying_below_the_noise_floor() -> None:
    model = NumpyModel((4,), lambda x: np.abs(x @ np.eye(4, dtype=np.float32)) * np.float32(0.1))
    result = measure_linearity(model.graph, model.runtime, uniform(30, 4) + 1, LinearityParameters(GRID))
    layer = result.layers[0]
    assert layer.zero_reason is ZeroReason.BELOW_NOISE_FLOOR
    assert 0 < layer.zero_count <= 30
    assert not layer.linearity.any()
    assert (layer.noise_floor > 0).all()


def test_a_layer_that_is_called_affine_but_is_not_keeps_its_measure() -> None:
    model = NumpyModel((2,), lambda x: x**2, affine=("y",))
    parameters = LinearityParameters(GridSampling(UniformRange(0, 1), epsilon=0.5))
    layer = measure_linearity(model.graph, model.runtime, uniform(3, 2), parameters).layers[0]
    assert (layer.linearity > 1e-3).all()
    assert layer.zero_reason is ZeroReason.NONE


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(3, 90),
    samples=st.integers(3, 30),
    instances=st.integers(1, 9),
    aggregation=AGGREGATIONS,
    generator=GENERATORS,
    resolution=st.sampled_from([100, 120]),
    interval=st.booleans(),
    knn=st.booleans(),
)
def test_results_do_not_depend_on_how_the_work_is_cut(
    rows: int,
    samples: int,
    instances: int,
    aggregation: Aggregation,
    generator: DrawGenerator,
    resolution: int,
    interval: bool,
    knn: bool,
) -> None:
    model = network(dtype="float64")
    sampling = (
        KnnSampling(Rows(uniform(40, 6, seed=8), "data")) if knn else GridSampling(UniformRange(0, 1), 0.04, resolution)
    )
    parameters = LinearityParameters(
        sampling,
        samples=samples,
        aggregation=aggregation,
        layers=ALL,
        draws=RandomDraws(3, generator),
        confidence_level=0.9 if interval else None,
    )
    x = uniform(instances, 6, "float64")
    whole = measure_linearity(model.graph, model.runtime, x, parameters, chunking=Chunking(100_000))
    cut = measure_linearity(model.graph, model.runtime, x, parameters, chunking=Chunking(rows))
    assert max(model.runtime.batches[1:]) <= max(rows, model.runtime.batches[0])
    np.testing.assert_allclose(table(cut), table(whole), rtol=1e-7, atol=1e-12)
    assert cut.next_word_offset == whole.next_word_offset
    for a, b in zip(cut.layers, whole.layers, strict=True):
        if interval:
            np.testing.assert_allclose(a.confidence_low, b.confidence_low, rtol=1e-6, atol=1e-12)
            np.testing.assert_allclose(a.confidence_high, b.confidence_high, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(a.normalized, b.normalized, rtol=1e-7, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    split=st.integers(1, 11),
    aggregation=AGGREGATIONS,
    generator=GENERATORS,
    resolution=st.sampled_from([100, 120]),
    before=st.integers(0, 5),
)
def test_a_list_split_over_requests_gives_the_same_numbers(
    split: int, aggregation: Aggregation, generator: DrawGenerator, resolution: int, before: int
) -> None:
    model = network()
    x = uniform(12, 6)
    total = before + 12

    def part(first: int, last: int) -> np.ndarray:
        parameters = LinearityParameters(
            GridSampling(UniformRange(0, 1), 0.04, resolution),
            samples=7,
            aggregation=aggregation,
            layers=ALL,
            draws=RandomDraws(3, generator, before + first, total),
        )
        return table(measure_linearity(model.graph, model.runtime, x[first:last], parameters))

    np.testing.assert_allclose(
        np.concatenate([part(0, split), part(split, 12)], axis=1), part(0, 12), rtol=1e-4, atol=1e-7
    )


def test_more_samples_extend_the_samples_of_fewer() -> None:
    seen: list[np.ndarray] = []
    model = NumpyModel((5,), lambda x: (seen.append(x.copy()), x**2)[1])
    x = uniform(1, 5)
    for samples in (6, 9):
        measure_linearity(model.graph, model.runtime, x, LinearityParameters(GRID, samples=samples))
    few, many = (rows for rows in seen if len(rows) in (7, 10))
    np.testing.assert_array_equal(few[:6], many[:6])


def test_samples_stay_within_the_neighbourhood_and_never_on_the_instance() -> None:
    seen: list[np.ndarray] = []
    model = NumpyModel((50,), lambda x: (seen.append(x.copy()), x)[1], dtype="float64")
    x = uniform(1, 50, "float64")
    sampling = GridSampling(UniformRange(-2, 3), 0.1, 50)
    measure_linearity(model.graph, model.runtime, x, LinearityParameters(sampling, samples=200), chunking=Chunking(500))
    steps = (seen[-1][:-1] - x) / 0.1
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    assert set(np.round(steps).ravel()) == {-5, -4, -3, -2, -1, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("generator", DrawGenerator)
def test_clipped_samples_stay_within_the_range(generator: DrawGenerator) -> None:
    seen: list[np.ndarray] = []
    model = NumpyModel((50,), lambda x: (seen.append(x.copy()), x)[1], dtype="float64")
    x = uniform(1, 50, "float64")
    sampling = GridSampling(UniformRange(0, 1), 0.5, clip=True)
    measure_linearity(model.graph, model.runtime, x, LinearityParameters(sampling, draws=RandomDraws(0, generator)))
    assert seen[-1].min() == 0
    assert seen[-1].max() == 1


def test_a_feature_of_empty_range_is_not_moved_and_reported() -> None:
    seen: list[np.ndarray] = []
    model = NumpyModel((3,), lambda x: (seen.append(x.copy()), x)[1], dtype="float64")
    x = uniform(1, 3, "float64")
    sampling = GridSampling(PerFeatureRange(np.array([0.0, 2.0, 0.0]), np.array([1.0, 2.0, 1.0])))
    result = measure_linearity(model.graph, model.runtime, x, LinearityParameters(sampling))
    assert (seen[-1][:-1, 1] == x[0, 1]).all()
    assert (seen[-1][:-1, [0, 2]] != x[0, [0, 2]]).all()
    assert [notice.code for notice in result.warnings] == ["FEATURE_RANGE_EMPTY"]
    assert "1 of 3" in result.warnings[0].message


@settings(deadline=None, max_examples=25)
@given(factor=st.sampled_from([2.0**-12, 0.25, 8.0, 2.0**20]), aggregation=AGGREGATIONS, seed=st.integers(0, 99))
def test_the_normalized_measure_does_not_change_with_the_unit_of_a_layer(
    factor: float, aggregation: Aggregation, seed: int
) -> None:
    parameters = LinearityParameters(GRID, aggregation=aggregation, model_type=ModelType.REGRESSOR)
    x = uniform(4, 6, seed=seed)
    plain = NumpyModel((6,), lambda x: np.tanh(x) + x)
    scaled = NumpyModel((6,), lambda x: np.float32(factor) * (np.tanh(x) + x))
    one, other = (measure_linearity(m.graph, m.runtime, x, parameters).layers[0] for m in (plain, scaled))
    np.testing.assert_allclose(other.normalized, one.normalized, rtol=1e-5)
    np.testing.assert_allclose(other.linearity, factor * one.linearity, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), aggregation=AGGREGATIONS)
def test_the_order_of_features_does_not_matter_to_neighbours(seed: int, aggregation: Aggregation) -> None:
    order = np.random.default_rng(seed).permutation(6)
    model = network(dtype="float64")
    data = uniform(30, 6, "float64", seed)
    x = uniform(3, 6, "float64", seed + 1)

    def linearity(model: NumpyModel, x: np.ndarray, data: np.ndarray) -> np.ndarray:
        parameters = LinearityParameters(KnnSampling(Rows(data, "data")), samples=5, aggregation=aggregation)
        return measure_linearity(model.graph, model.runtime, x, parameters).layers[0].linearity

    straight = linearity(model, x, data)
    function = model.runtime._functions["y"]
    turned = NumpyModel((6,), lambda v: function(v[:, np.argsort(order)]), dtype="float64", head="Softmax")
    np.testing.assert_allclose(linearity(turned, x[:, order], data[:, order]), straight, rtol=1e-6)


def test_pairwise_with_equal_coefficients_is_symmetric_in_instance_and_sample() -> None:
    model = network(dtype="float64")
    a, b = uniform(2, 6, "float64")

    def linearity(x: np.ndarray, v: np.ndarray) -> float:
        data = KnnSampling(Rows(np.stack([v, v]), "data"))
        parameters = LinearityParameters(data, samples=2, aggregation=Aggregation.PAIRWISE)
        return float(measure_linearity(model.graph, model.runtime, x[None], parameters).layers[0].linearity[0])

    assert linearity(a, b) == pytest.approx(linearity(b, a), rel=1e-9)


def test_exact_log_probability_equals_the_logarithm_of_the_probability_without_a_floor() -> None:
    model = network(dtype="float64")
    x = uniform(6, 6, "float64")
    exact = LinearityParameters(GRID, classifier_scale=ClassifierScale.EXACT_LOG_PROBABILITY)
    plain = LinearityParameters(GRID, probability_floor=0)
    found = [table(measure_linearity(model.graph, model.runtime, x, p)) for p in (exact, plain)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_layers_and_output_come_from_the_same_samples_in_one_forward_pass() -> None:
    model = network()
    result = measure_linearity(model.graph, model.runtime, uniform(3, 6), LinearityParameters(GRID, layers=ALL))
    assert [layer.name for layer in result.layers] == ["y", "dense_1", "tanh", "dense_2"]
    assert model.runtime.fetched == [("y", "dense_1", "tanh", "dense_2")]
    assert sum(model.runtime.batches) == 63
    assert result.forward_rows == 63


def test_two_names_of_one_tensor_score_the_same() -> None:
    function = np.tanh
    model = NumpyModel((4,), lambda x: function(x) ** 2, {"act": function, "drop": function})
    result = measure_linearity(model.graph, model.runtime, uniform(5, 4), LinearityParameters(GRID, layers=ALL))
    np.testing.assert_array_equal(result.layers[1].linearity, result.layers[2].linearity)
