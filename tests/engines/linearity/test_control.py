"""Long work can be watched and stopped, and its memory does not grow with it."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest
from numpy_models import NumpyModel, network, uniform
from sidelight_engines.control import Control
from sidelight_engines.errors import Stopped
from sidelight_engines.linearity import (
    Aggregation,
    Chunking,
    GridSampling,
    LayerSelection,
    LinearityParameters,
    UniformRange,
    measure_linearity,
)

GRID = GridSampling(UniformRange(0, 1))


@pytest.mark.parametrize("aggregation", Aggregation)
@pytest.mark.parametrize("samples", [5, 60])
def test_work_stops_within_one_forward_pass_of_being_told(aggregation: Aggregation, samples: int) -> None:
    model = network()
    stop = threading.Event()
    passes_when_told = 4

    def should_stop() -> bool:
        if len(model.runtime.batches) >= passes_when_told:
            stop.set()
        return stop.is_set()

    parameters = LinearityParameters(GRID, samples=samples, aggregation=aggregation)
    with pytest.raises(Stopped):
        measure_linearity(
            model.graph, model.runtime, uniform(400, 6), parameters, Control(should_stop), chunking=Chunking(22)
        )
    # One may have been under way, and one ready.
    assert len(model.runtime.batches) <= passes_when_told + 2


def test_work_that_is_told_to_stop_beforehand_evaluates_nothing() -> None:
    model = network()
    with pytest.raises(Stopped):
        measure_linearity(
            model.graph, model.runtime, uniform(4, 6), LinearityParameters(GRID), Control(should_stop=lambda: True)
        )
    assert model.runtime.batches == []


@pytest.mark.parametrize("samples", [5, 60])
def test_progress_counts_instances_up_to_all(samples: int) -> None:
    model = network()
    told: list[tuple[int, int]] = []
    control = Control(progress=lambda done, total: told.append((done, total)))
    parameters = LinearityParameters(GRID, samples=samples)
    measure_linearity(model.graph, model.runtime, uniform(20, 6), parameters, control, chunking=Chunking(22))
    assert told[-1] == (20, 20)
    assert told == sorted(told)
    assert len(told) >= 5


def peak_bytes(instances: int, samples: int, layers: int, aggregation: Aggregation, memory_bytes: int) -> int:
    features, width = 100, 2000
    weights = np.random.default_rng(0).normal(size=(features, width)).astype(np.float32)

    def layer(x: np.ndarray) -> np.ndarray:
        values = x @ weights
        return np.maximum(values, 0, out=values)

    inner = {f"layer_{i}": layer for i in range(layers)}
    model = NumpyModel((features,), lambda x: x[:, :3] ** 2, inner)
    parameters = LinearityParameters(
        GRID, samples=samples, aggregation=aggregation, layers=LayerSelection(everything=True)
    )
    x = uniform(instances, features)
    tracemalloc.start()
    try:
        measure_linearity(model.graph, model.runtime, x, parameters, chunking=Chunking(memory_bytes=memory_bytes))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("aggregation", Aggregation)
def test_memory_does_not_grow_with_instances_samples_or_layers(aggregation: Aggregation) -> None:
    granted = 4 * 2**20
    few = peak_bytes(50, 10, 1, aggregation, granted)
    many = peak_bytes(500, 10, 1, aggregation, granted)
    long = peak_bytes(3, 400, 1, aggregation, granted)
    deep = peak_bytes(50, 10, 4, aggregation, granted)
    # What the runtime holds while it works comes on top of what was granted.
    assert max(few, many, long, deep) < 1.5 * granted
    assert many < 1.3 * few


def test_an_error_of_the_model_reaches_the_caller_and_leaves_no_thread() -> None:
    def output(x: np.ndarray) -> np.ndarray:
        if len(x) > 3:
            raise ValueError("broken")
        return x

    model = NumpyModel((6,), output)
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="broken"):
        measure_linearity(
            model.graph, model.runtime, uniform(90, 6), LinearityParameters(GRID, samples=5), chunking=Chunking(12)
        )
    assert set(threading.enumerate()) <= before
