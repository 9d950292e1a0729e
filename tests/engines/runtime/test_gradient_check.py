"""The check passes forms that agree, and says why it fails those that do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import Graph, ModelFormat, TensorSpec
from sidelight_engines.runtime.gradient_check import CheckState, check_gradient_form, draw_probe
from sidelight_engines.runtime.runtime import Lanes, RuntimeKind

Function = Callable[[Mapping[str, Any]], dict[str, Any]]


class _Made:
    """A runtime made of a function."""

    kind = RuntimeKind.ONNX_RUNTIME

    def __init__(self, function: Function) -> None:
        self._function = function

    def forward(self, tensors: Sequence[str]) -> Callable[[Mapping[str, Any]], list[Any]]:
        return lambda inputs: [self._function(inputs)[tensor] for tensor in tensors]

    def lanes(self, tensors: Sequence[str]) -> Lanes:
        return Lanes(self.forward(tensors), 1)


def _graph(*inputs: TensorSpec, dtype: str = "float32") -> Graph:
    outputs = (TensorSpec("p", "p", dtype, (None, 3)), TensorSpec("label", "label", "int64", (None,)))
    specs = inputs or (TensorSpec("x", "x", "float32", (None, 3)),)
    return Graph(ModelFormat.ONNX, "", specs, outputs, (), {}, {"p": "z"}, {"p": "Softmax"}, 0)


def _softmax(inputs: Mapping[str, Any], gain: float = 1.0) -> dict[str, Any]:
    z = inputs["x"] * gain
    e = np.exp(z - z.max(-1, keepdims=True))
    return {"p": e / e.sum(-1, keepdims=True), "z": z}


def test_equal_forms_pass_without_error() -> None:
    check = check_gradient_form(_graph(), _Made(_softmax), _Made(_softmax))
    assert check.state is CheckState.PASSED
    assert (check.max_absolute_error, check.max_relative_error, check.probe_rows, check.message) == (0, 0, 4, "")
    assert check.tolerance == 1e-4


def test_rounding_passes_and_is_measured_against_the_largest_magnitude() -> None:
    largest = np.abs(draw_probe(_graph().inputs, 4, 8, 0, spread=True)["x"]).max()
    check = check_gradient_form(_graph(), _Made(_softmax), _Made(lambda x: _softmax(x, 1 + 2.0**-16)))
    assert check.state is CheckState.PASSED
    # The logits differ most: by 2^-16 of the input, which is that much of their own largest.
    assert check.max_relative_error == pytest.approx(2.0**-16, rel=1e-2)
    assert check.max_absolute_error == pytest.approx(2.0**-16 * largest, rel=1e-2)


def test_a_difference_fails_with_the_tensor_named() -> None:
    check = check_gradient_form(_graph(), _Made(_softmax), _Made(lambda x: _softmax(x, 1.01)))
    assert check.state is CheckState.FAILED
    assert check.max_relative_error == pytest.approx(0.01, rel=1e-3)
    assert "'z'" in check.message


def test_logits_show_a_difference_that_the_softmax_hides() -> None:
    def shifted(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return _softmax(inputs) | {"z": inputs["x"] + 1}

    assert check_gradient_form(_graph(), _Made(_softmax), _Made(shifted)).state is CheckState.FAILED


def test_half_precision_may_differ_by_more() -> None:
    graph = _graph(dtype="float16")
    assert check_gradient_form(graph, _Made(_softmax), _Made(lambda x: _softmax(x, 1.01))).state is CheckState.PASSED


def test_another_shape_fails() -> None:
    def first_row(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value[:1] for name, value in _softmax(inputs).items()}

    check = check_gradient_form(_graph(), _Made(_softmax), _Made(first_row))
    assert check.state is CheckState.FAILED
    assert "(1, 3)" in check.message


def test_nan_in_one_form_fails() -> None:
    def broken(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value * np.nan for name, value in _softmax(inputs).items()}

    assert "NaN" in check_gradient_form(_graph(), _Made(_softmax), _Made(broken)).message


def test_a_form_that_can_not_run_fails() -> None:
    def refuse(inputs: Mapping[str, Any]) -> dict[str, Any]:
        raise InvalidField("inputs", "no kernel", "none")

    check = check_gradient_form(_graph(), _Made(_softmax), _Made(refuse))
    assert check.state is CheckState.FAILED
    assert "no kernel" in check.message


def test_a_reference_that_refuses_every_probe_fails() -> None:
    def refuse(inputs: Mapping[str, Any]) -> dict[str, Any]:
        raise InvalidField("inputs", "out of range", "none")

    check = check_gradient_form(_graph(), _Made(refuse), _Made(_softmax))
    assert check.state is CheckState.FAILED
    assert "random rows" in check.message


def test_free_axes_are_tried_longer_until_the_reference_takes_them() -> None:
    seen = []

    def wide(inputs: Mapping[str, Any]) -> dict[str, Any]:
        seen.append(inputs["x"].shape)
        if inputs["x"].shape[1] < 20:
            raise InvalidField("inputs", "too small", "give more")
        return _softmax(inputs)

    graph = _graph(TensorSpec("x", "x", "float32", (None, None)))
    assert check_gradient_form(graph, _Made(wide), _Made(wide)).state is CheckState.PASSED
    assert seen[-1] == (4, 32)


def test_probe_rows_are_seeded_and_suit_their_dtype() -> None:
    specs = [
        TensorSpec("image", "image", "uint8", (None, 50)),
        TensorSpec("token", "token", "int64", (2, None)),
        TensorSpec("flag", "flag", "bool", (None, 50)),
        TensorSpec("x", "x", "float64", (None, 50)),
    ]
    probe = draw_probe(specs, 4, 6, 1, spread=True)
    assert {name: value.dtype.name for name, value in probe.items()} == {spec.name: spec.dtype for spec in specs}
    assert probe["token"].shape == (4, 6)
    assert set(np.unique(probe["token"])) == {0, 1}
    assert probe["image"].max() > 200
    # Rows alternate between [0, 1) and the normal distribution.
    assert probe["x"][::2].min() >= 0
    assert probe["x"][1::2].min() < -1
    again = draw_probe(specs, 4, 6, 1, spread=True)
    assert all(np.array_equal(probe[name], again[name]) for name in probe)


def test_text_inputs_fail_with_their_name() -> None:
    graph = _graph(TensorSpec("words", "words", "string", (None, 1)))
    assert "words" in check_gradient_form(graph, _Made(_softmax), _Made(_softmax)).message
