"""Compares the TensorFlow form of a model with the runtime that defines what the model computes.

Gradients of an ONNX model are those of its TensorFlow form, so the form must compute the same function. Both
runtimes evaluate a small batch of seeded random rows, and must agree at every floating-point output and at the
logits behind it: a saturated softmax would hide a difference.

The measure, for reference values r and candidate values c of one tensor, is

    max |r - c| / max(max |r|, 1e-6)

so a tensor is judged by its own largest value, not element by element: elements that cancel to nearly zero
differ by rounding alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sidelight_engines.errors import SidelightError
from sidelight_engines.graph.graph import Graph, TensorSpec
from sidelight_engines.runtime.runtime import Array, Runtime, RuntimeKind

# By dtype of the output. Rounding differs by order of summation: in single precision by some 1e-6 after a few
# layers and 1e-5 after many.
_TOLERANCES: Mapping[str, float] = {"float64": 1e-6, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
_SMALLEST_SCALE = 1e-6

# Lengths that free axes are tried with, until the reference takes one.
_FREE_LENGTHS = (8, 32, 64, 224)


class CheckState(Enum):
    """What is known of the TensorFlow form of a model."""

    NOT_NEEDED = "not_needed"
    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True)
class GradientCheck:
    """What came of the comparison.

    Attributes:
        state: whether the form may be used.
        max_absolute_error: largest difference of any two elements.
        max_relative_error: largest difference of any tensor, relative to its largest magnitude.
        tolerance: the largest relative error that passes, for the coarsest dtype among the tensors.
        probe_rows: rows that were compared.
        message: why the check failed; empty otherwise.
    """

    state: CheckState
    max_absolute_error: float = 0.0
    max_relative_error: float = 0.0
    tolerance: float = 0.0
    probe_rows: int = 0
    message: str = ""


def check_gradient_form(
    graph: Graph, reference: Runtime, candidate: Runtime, *, rows: int = 4, seed: int = 0
) -> GradientCheck:
    """Compares two runtimes on a probe batch.

    Args:
        graph: the model.
        reference: what defines the model's function (ONNX Runtime).
        candidate: what is to be trusted with gradients (TensorFlow).
        rows: rows of the probe batch; 2 at least, so that a mistaken batch axis shows.
        seed: of the random rows.

    Returns:
        PASSED if all tensors agree, FAILED otherwise: also if either runtime can not evaluate the probe.
    """
    specs = [spec for spec in graph.outputs if spec.dtype in _TOLERANCES]
    if not specs:
        return _failed("the model has no floating-point output, so there is nothing to differentiate")
    textual = [spec.name for spec in graph.inputs if not _can_be_drawn(spec)]
    if textual:
        return _failed(f"no random values can be drawn for the inputs {textual}")
    tensors = list(
        dict.fromkeys([spec.tensor for spec in specs] + [graph.logits[s.name] for s in specs if s.name in graph.logits])
    )
    tolerance = max(_TOLERANCES[spec.dtype] for spec in specs)

    expected, failure = None, ""
    probe: dict[str, Array] = {}
    for length in _FREE_LENGTHS if any(None in spec.shape[1:] for spec in graph.inputs) else _FREE_LENGTHS[:1]:
        for spread in (True, False):
            probe = draw_probe(graph.inputs, rows, length, seed, spread=spread)
            try:
                expected = reference.forward(tensors)(probe)
                break
            except SidelightError as error:
                failure = str(error)
        if expected is not None:
            break
    if expected is None:
        return _failed(f"the model could not be run on random rows: {failure}")
    try:
        found = candidate.forward(tensors)(probe)
    except _failures_of(candidate) as error:
        return _failed(f"the TensorFlow form could not be run: {str(error).partition(chr(10))[0]}")
    return _compare(tensors, expected, found, tolerance, rows)


def draw_probe(
    inputs: Sequence[TensorSpec], rows: int, free_length: int, seed: int, *, spread: bool
) -> dict[str, Array]:
    """Draws random rows for a model's inputs.

    Args:
        inputs: the inputs.
        rows: length of axis 0.
        free_length: length of the other axes that the model leaves free.
        seed: of the generator.
        spread: whether floating-point rows alternate between the uniform distribution on [0, 1) and the
            standard normal one, rather than all being uniform.

    Returns:
        Input name -> array. Whole numbers are 0 or 1 (they may be indices into a table of any length), bytes
        are 0 to 255.
    """
    generator = np.random.default_rng(seed)
    probe = {}
    for spec in inputs:
        shape = (rows, *(free_length if length is None else length for length in spec.shape[1:]))
        if not spec.shape:
            shape = ()
        if spec.dtype == "bool":
            values = generator.integers(0, 2, shape) == 1
        elif spec.dtype == "uint8":
            values = generator.integers(0, 256, shape)
        elif spec.dtype.startswith(("int", "uint")):
            values = generator.integers(0, 2, shape)
        else:
            values = generator.random(shape)
            if spread and shape:
                values[1::2] = generator.standard_normal(values[1::2].shape)
        probe[spec.name] = np.asarray(values).astype(np.dtype(spec.dtype))
    return probe


def _can_be_drawn(spec: TensorSpec) -> bool:
    return spec.dtype == "bool" or spec.dtype in _TOLERANCES or spec.dtype.startswith(("int", "uint"))


def _failures_of(runtime: Runtime) -> tuple[type[Exception], ...]:
    if runtime.kind is not RuntimeKind.TENSORFLOW:
        return (SidelightError,)
    import tensorflow as tf

    # ValueError: shapes that can not go together, found while the graph is imported.
    return (SidelightError, ValueError, tf.errors.OpError)


def _failed(message: str) -> GradientCheck:
    return GradientCheck(CheckState.FAILED, message=message)


def _compare(
    tensors: Sequence[str], expected: Sequence[Array], found: Sequence[Array], tolerance: float, rows: int
) -> GradientCheck:
    worst_absolute = worst_relative = 0.0
    worst_tensor = ""
    for tensor, r, c in zip(tensors, expected, found, strict=True):
        if r.shape != c.shape:
            return _failed(f"tensor {tensor!r} has shape {r.shape}, and {c.shape} in the TensorFlow form")
        r, c = r.astype(np.float64), c.astype(np.float64)
        finite = np.isfinite(r)
        if not np.array_equal(finite, np.isfinite(c)):
            return _failed(f"tensor {tensor!r} is NaN or infinite for other elements in the TensorFlow form")
        if not finite.any():
            continue
        absolute = float(np.abs(r[finite] - c[finite]).max())
        relative = absolute / max(float(np.abs(r[finite]).max()), _SMALLEST_SCALE)
        worst_absolute = max(worst_absolute, absolute)
        if relative > worst_relative:
            worst_relative, worst_tensor = relative, tensor
    passed = worst_relative <= tolerance
    message = (
        ""
        if passed
        else (
            f"tensor {worst_tensor!r} differs by {worst_relative:.2g} of its largest magnitude between ONNX Runtime "
            f"and the TensorFlow form; at most {tolerance:g} is rounding"
        )
    )
    return GradientCheck(
        CheckState.PASSED if passed else CheckState.FAILED, worst_absolute, worst_relative, tolerance, rows, message
    )
