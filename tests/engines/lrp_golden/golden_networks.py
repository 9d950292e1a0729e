"""The networks of the LRP goldens, opened in single and in double precision."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper
from sidelight_engines.graph.graph import ModelFormat
from sidelight_engines.lrp import LrpParameters, LrpResult, propagate_relevance
from sidelight_engines.model import Model, open_model

FOLDER = Path(__file__).parents[2] / "golden" / "lrp"
NAMES = (
    *("layers", "empty", "cnn", "plain", "plain_unbiased"),
    *("attention_head", "attention_padded", "attention_positive", "encoder", "gated"),
)
TOLERANCES = {"float32": 1e-5, "float64": 1e-9}
"""Of the largest |R| of the same instance; see tests/golden/lrp/README.md."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class GoldenNetwork:
    """One of the networks in one precision."""

    model: Model
    dtype: str

    def propagate(self, inputs: dict[str, Array], parameters: LrpParameters) -> LrpResult:
        """Runs the engine on inputs in the network's precision."""
        typed = {name: array.astype(self.dtype) for name, array in inputs.items()}
        return propagate_relevance(self.model, typed, parameters)

    def assert_equal(self, found: Array, expected: Array, what: str = "", least: float = 0.0) -> None:
        """Compares (n, ...) with the tolerance of the precision, or `least` if that is more."""
        assert found.shape == expected.shape, what
        axes = tuple(range(1, expected.ndim))
        scale = np.abs(expected).max(axis=axes, keepdims=True)
        worst = float((np.abs(found - expected) / np.where(scale == 0, 1, scale)).max())
        assert worst <= max(TOLERANCES[self.dtype], least), f"{what}: off by {worst:.2e}"


def open_golden(name: str, dtype: str, folder: Path) -> GoldenNetwork:
    """Opens a network of the goldens.

    Args:
        name: one of `NAMES`.
        dtype: ``float32``, which is as the file is, or ``float64``.
        folder: an empty one, for files.
    """
    folder.mkdir()
    source = FOLDER / f"{name}.onnx"
    if dtype == "float32":
        shutil.copy(source, folder / "model.onnx")
        return GoldenNetwork(open_model(folder, ModelFormat.ONNX), dtype)
    from sidelight_engines.graph.lowering import lower
    from sidelight_engines.graph.onnx_model import read_onnx_model
    from sidelight_engines.runtime.tensorflow_runtime import TensorFlowRuntime

    onnx.save(_doubled(onnx.load(source)), folder / "model.onnx")
    # ONNX Runtime does not convolve in double precision, so that the file can not be opened as it would be served.
    read = read_onnx_model(folder / "model.onnx")
    return GoldenNetwork(Model(read.graph, TensorFlowRuntime(lower(read), 2), None, 2), dtype)


def _doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = model.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for held in graph.initializer:
        if held.data_type != TensorProto.FLOAT:
            continue
        held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held).astype(np.float64), held.name))
    return model
