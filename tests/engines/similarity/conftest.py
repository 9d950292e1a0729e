"""Models that several test modules compare gradients of, each opened once per session."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.model import Model, open_model
from sidelight_engines.similarity import Examples, Labels

from tests.engines.similarity.layer_zoo import ZOO, Array, draw_inputs

GOLDEN = Path(__file__).parents[2] / "golden"


@dataclass(frozen=True)
class Digits:
    """The network of the goldens and its images."""

    model: Model
    images: Array
    labels: Array

    def examples(self, rows: slice | Array, *, labels: bool = True) -> Examples:
        """Some of the images, with one-hot labels or none."""
        hot = np.eye(10, dtype=np.float32)[self.labels[rows]]
        return Examples({self.model.graph.inputs[0].name: self.images[rows]}, Labels(hot) if labels else None)


@pytest.fixture(scope="session")
def digits_by_format(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Digits]:
    """The network of the goldens by file format."""
    inputs = np.load(GOLDEN / "similarity" / "inputs.npz")
    folder = tmp_path_factory.mktemp("digits")
    shutil.copy(GOLDEN / "linearity" / "classic_8x8.onnx", folder / "model.onnx")
    models = {
        "saved_model": open_model(GOLDEN / "similarity" / "classic_8x8", ModelFormat.SAVED_MODEL),
        "onnx": open_model(folder, ModelFormat.ONNX),
    }
    return {name: Digits(model, inputs["x"], inputs["labels"]) for name, model in models.items()}


@pytest.fixture(scope="session")
def digits(digits_by_format: dict[str, Digits]) -> Digits:
    """The network of the goldens as a SavedModel."""
    return digits_by_format["saved_model"]


class ZooNetwork:
    """A network of the zoo, exported and opened on first use."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder

    @cached_property
    def keras_model(self) -> Any:
        import keras

        keras.backend.clear_session()
        keras.utils.set_random_seed(3)
        model = ZOO[self._name](keras)
        random = np.random.default_rng(1)
        for layer in model.layers:
            layer.set_weights([w if w.ndim > 1 else random.uniform(0.3, 0.9, w.shape) for w in layer.get_weights()])
        return model

    @cached_property
    def saved_model(self) -> Model:
        path = self._folder / self._name
        self.keras_model.export(str(path), verbose=False)
        return open_model(path, ModelFormat.SAVED_MODEL)

    @cached_property
    def onnx(self) -> Model:
        path = self._folder / f"{self._name}_onnx"
        path.mkdir()
        self.keras_model.export(str(path / "model.onnx"), format="onnx", verbose=False)
        return open_model(path, ModelFormat.ONNX)

    def examples(self, model: Model, count: int = 5) -> Examples:
        """Seeded random inputs and labels."""
        drawn = draw_inputs(self.keras_model, count)
        shape = model.graph.outputs[0].shape
        random = np.random.default_rng(2)
        head = model.graph.head_ops.get(model.graph.outputs[0].name)
        if head == "Softmax":
            labels: Array = random.integers(0, shape[-1] or 1, count)
        elif head == "Sigmoid":
            labels = random.integers(0, 2, count)
        else:
            labels = random.normal(size=(count, *[length or 1 for length in shape[1:]]))
        inputs = {spec.name: array for spec, array in zip(model.graph.inputs, drawn.values(), strict=True)}
        return Examples(inputs, Labels(labels))


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ZooNetwork]:
    folder = tmp_path_factory.mktemp("zoo")
    return {name: ZooNetwork(name, folder) for name in ZOO}
