"""What holds of patterns whatever the numbers."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_layers import Array, NumpyLayers, relu
from sidelight_engines.activation import (
    Chunking,
    LabelClasses,
    LayerSelection,
    PatternDistance,
    PatternParameters,
    PatternResult,
    QuantileThreshold,
    UnitPooling,
    ValueThreshold,
    measure_activation_patterns,
)
from sidelight_engines.activation import quantiles as quantile_search
from sidelight_engines.control import Control
from sidelight_engines.errors import Stopped

ALL = LayerSelection(everything=True)


def measure(
    model: NumpyLayers, x: Array, labels: Array, parameters: PatternParameters, chunking: Chunking | None = None
) -> PatternResult:
    return measure_activation_patterns(
        model.graph, model, {"x": x}, LabelClasses(labels, "labels"), parameters, chunking=chunking or Chunking()
    )


def data(seed: int, rows: int, shape: tuple[int, ...] = (5,), classes: int = 4) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, *shape)).astype(np.float32), random.integers(0, classes, rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 6), st.floats(-1, 1))
def test_distances_are_symmetric_0_on_the_diagonal_and_within_bounds(
    seed: int, rows: int, classes: int, threshold: float
) -> None:
    x, labels = data(seed, rows, classes=classes)
    parameters = PatternParameters(ALL, threshold=ValueThreshold(threshold), distances=tuple(PatternDistance))

    (layer,) = measure(NumpyLayers((5,), {"layer": lambda x: x}), x, labels, parameters).layers

    assert ((layer.firing_rates >= 0) & (layer.firing_rates <= 1)).all()
    assert layer.firing_counts.sum() == (x.astype(np.float64) > threshold).sum()
    for matrix in layer.distances:
        most = 2.0 if matrix.distance is PatternDistance.CKA else 1.0
        np.testing.assert_array_equal(matrix.values, matrix.values.T)
        assert (np.diagonal(matrix.values) == 0).all()
        assert ((matrix.values >= 0) & (matrix.values <= most)).all()
        assert matrix.neighbours[:, 0].tolist() == list(range(len(matrix.values)))
        assert (np.sort(matrix.neighbours, axis=1) == np.arange(len(matrix.values))).all()
        ranked = np.take_along_axis(matrix.values, matrix.neighbours, axis=1)
        assert (np.diff(ranked, axis=1) >= 0).all()


@pytest.mark.parametrize("threshold", [ValueThreshold(0.3), QuantileThreshold(0.7)])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_result_does_not_depend_on_how_the_work_is_cut(threshold: Any, rows: int) -> None:
    x, labels = data(3, 50, (3, 4))
    layers = {"plain": lambda x: x, "rectified": relu}
    parameters = PatternParameters(ALL, threshold=threshold, distances=tuple(PatternDistance))
    whole = measure(NumpyLayers((3, 4), layers), x, labels, parameters, Chunking(50))

    cut = measure(NumpyLayers((3, 4), layers), x, labels, parameters, Chunking(rows))

    for one, other in zip(whole.layers, cut.layers, strict=True):
        for field in dataclasses.fields(one):
            if field.name != "distances":
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
        for first, second in zip(one.distances, other.distances, strict=True):
            np.testing.assert_allclose(first.values, second.values, atol=1e-12)


def test_the_order_of_examples_changes_nothing_but_which_comes_first() -> None:
    x, labels = data(5, 80)
    order = np.random.default_rng(0).permutation(80)
    model = NumpyLayers((5,), {"layer": relu})

    one, other = (
        measure(model, x[rows], labels[rows], PatternParameters(ALL)).layers[0] for rows in (np.arange(80), order)
    )

    np.testing.assert_array_equal(one.firing_counts, other.firing_counts)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 40),
    st.floats(0, 1),
    st.sampled_from(["float16", "float32", "float64", "int32"]),
    st.integers(4, 16),
)
def test_a_quantile_is_the_order_statistic_of_numpy_kept_or_searched(
    seed: int, rows: int, quantile: float, dtype: str, bits: int
) -> None:
    random = np.random.default_rng(seed)
    # Few different values, negative ones and both zeros among them, so that there are ties.
    x = random.choice(np.array([-2.5, -1.0, -0.0, 0.0, 1e-3, 1.0, 2.0, 300.0]), size=(rows, 3)).astype(np.float32)
    model = NumpyLayers((3,), {"layer": lambda x: x.astype(dtype)})
    values = x.astype(dtype).astype(np.float64)
    expected = np.quantile(values, quantile, axis=0, method="lower")
    parameters = PatternParameters(ALL, threshold=QuantileThreshold(quantile))
    labels = np.zeros(rows, np.int64)

    kept = measure(model, x, labels, parameters).layers[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantile_search, "_MOST_BITS", bits)
        patch.setattr("sidelight_engines.activation.measure.fits", lambda *_: False)
        searched = measure(model, x, labels, parameters).layers[0]

    np.testing.assert_array_equal(kept.thresholds, expected)
    np.testing.assert_array_equal(searched.thresholds, expected)
    fired = (values > np.quantile(values, quantile, axis=0)).sum(axis=0)
    assert kept.firing_counts[0].tolist() == searched.firing_counts[0].tolist() == fired.tolist()


def test_memory_does_not_grow_with_the_examples() -> None:
    def peak(rows: int) -> int:
        x, labels = data(0, rows, (16, 16, 4))
        model = NumpyLayers((16, 16, 4), {f"layer_{i}": relu for i in range(4)})
        parameters = PatternParameters(ALL, threshold=QuantileThreshold(0.9), pooling=UnitPooling.POSITION)
        tracemalloc.start()
        try:
            measure(model, x, labels, parameters, Chunking(rows=16, memory_bytes=4 * 2**20))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few = peak(400)

    assert peak(1200) < few * 1.1


def test_work_stops_within_one_forward_pass_of_being_told() -> None:
    x, labels = data(0, 500)
    model = NumpyLayers((5,), {"layer": relu})
    told = 8

    with pytest.raises(Stopped):
        measure_activation_patterns(
            model.graph,
            model,
            {"x": x},
            LabelClasses(labels, "labels"),
            PatternParameters(ALL),
            Control(should_stop=lambda: len(model.batches) >= told),
            chunking=Chunking(rows=10),
        )

    # Two lanes may each have had one under way, and one was ready.
    assert len(model.batches) <= told + 3


def test_progress_ends_where_it_said_it_would() -> None:
    x, labels = data(0, 100)
    model = NumpyLayers((5,), {"layer": relu})
    for threshold, memory_bytes in (
        (ValueThreshold(), 2**20),
        (QuantileThreshold(0.5), 2**20),
        (QuantileThreshold(0.5), 1500),
    ):
        seen: list[tuple[int, int]] = []
        parameters = PatternParameters(ALL, threshold=threshold, specific_units=0)

        measure_activation_patterns(
            model.graph,
            model,
            {"x": x},
            LabelClasses(labels, "labels"),
            parameters,
            Control(progress=lambda done, total, seen=seen: seen.append((done, total))),
            chunking=Chunking(rows=9, memory_bytes=memory_bytes),
        )

        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1]
        assert len({total for _, total in seen}) == 1
