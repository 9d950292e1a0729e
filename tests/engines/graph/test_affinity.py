"""Affinity by structure: constants, affine functions of the input, everything else."""

from __future__ import annotations

import pytest
from sidelight_engines.graph.affinity import Affinity, affinities
from sidelight_engines.graph.step import Step, TensorType


def kind_of(op: str, *operands: str, dtype: str = "float32") -> Affinity:
    """The kind of what `op` makes of operands: ``x`` an input, ``c`` a constant, ``r`` a relu of the input."""
    relu = Step("relu", "Relu", ("x",), ("r",))
    step = Step("step", op, operands, ("y",), {"y": TensorType(dtype)})
    return affinities([relu, step], ["x"])["y"]


@pytest.mark.parametrize("op", ["Add", "AddV2", "Sub", "Concat", "Sum", "BiasAdd"])
def test_sums_are_affine_in_all_operands_together(op: str) -> None:
    assert kind_of(op, "x", "x") is Affinity.AFFINE
    assert kind_of(op, "x", "c") is Affinity.AFFINE
    assert kind_of(op, "x", "r") is Affinity.NONLINEAR
    assert kind_of(op, "c", "c") is Affinity.CONSTANT


@pytest.mark.parametrize("op", ["MatMul", "Mul", "Conv", "Conv2D", "Gemm", "BatchMatMulV2", "Einsum"])
def test_products_are_affine_while_one_factor_is_constant(op: str) -> None:
    assert kind_of(op, "x", "c") is Affinity.AFFINE
    assert kind_of(op, "c", "x") is Affinity.AFFINE
    assert kind_of(op, "x", "x") is Affinity.NONLINEAR
    assert kind_of(op, "r", "c") is Affinity.NONLINEAR


def test_gemm_is_affine_in_its_addend_too() -> None:
    assert kind_of("Gemm", "x", "c", "x") is Affinity.AFFINE
    assert kind_of("Gemm", "x", "x", "c") is Affinity.NONLINEAR


def test_division_is_affine_in_the_numerator_alone() -> None:
    assert kind_of("Div", "x", "c") is Affinity.AFFINE
    assert kind_of("RealDiv", "x", "c") is Affinity.AFFINE
    assert kind_of("Div", "c", "x") is Affinity.NONLINEAR


@pytest.mark.parametrize("op", ["Div", "Mean", "AveragePool"])
def test_division_of_whole_numbers_rounds_and_is_not_affine(op: str) -> None:
    assert kind_of(op, "x", "c", dtype="int32") is Affinity.NONLINEAR


@pytest.mark.parametrize(
    "op", ["Reshape", "Transpose", "StridedSlice", "Gather", "Pad", "ReduceMean", "FusedBatchNormV3", "Squeeze", "Tile"]
)
def test_moving_values_is_affine_while_the_places_are_constant(op: str) -> None:
    assert kind_of(op, "x", "c") is Affinity.AFFINE
    assert kind_of(op, "c", "x") is Affinity.NONLINEAR


@pytest.mark.parametrize("op", ["Relu", "Softmax", "MaxPool", "SomethingNew"])
def test_other_and_unknown_operations_are_nonlinear(op: str) -> None:
    assert kind_of(op, "x", "c") is Affinity.NONLINEAR


@pytest.mark.parametrize(
    ("op", "attribute", "plain", "other"),
    [
        ("FusedBatchNormV3", "is_training", 0, 1),
        ("BatchNormalization", "training_mode", 0, 1),
        ("LinearRegressor", "post_transform", "NONE", "LOGISTIC"),
    ],
)
def test_an_attribute_can_make_an_operation_nonlinear(
    op: str, attribute: str, plain: str | int, other: str | int
) -> None:
    for value, kind in ((plain, Affinity.AFFINE), (other, Affinity.NONLINEAR)):
        step = Step("step", op, ("x", "c"), ("y",), attributes={attribute: value})
        assert affinities([step], ["x"])["y"] is kind
    assert kind_of(op, "x", "c") is Affinity.AFFINE


def test_unknown_operations_on_constants_give_constants() -> None:
    assert kind_of("SomethingNew", "c") is Affinity.CONSTANT


def test_random_numbers_are_never_constant() -> None:
    assert kind_of("RandomUniform", "c") is Affinity.NONLINEAR


def test_a_choice_is_affine_while_its_condition_is_constant() -> None:
    assert kind_of("SelectV2", "c", "x", "c") is Affinity.AFFINE
    assert kind_of("Where", "x", "c", "c") is Affinity.NONLINEAR


def test_a_cast_is_affine_only_to_a_floating_point_type() -> None:
    assert kind_of("Cast", "x", dtype="float64") is Affinity.AFFINE
    assert kind_of("Cast", "x", dtype="int64") is Affinity.NONLINEAR
    assert kind_of("Cast", "x", dtype="") is Affinity.NONLINEAR


def test_what_comes_from_a_shape_is_constant() -> None:
    steps = [
        Step("shape", "Shape", ("x",), ("s",)),
        Step("batch", "StridedSlice", ("s", "c"), ("b",)),
        Step("scaled", "Mul", ("x", "b"), ("y",)),
    ]
    kinds = affinities(steps, ["x"])
    assert kinds["b"] is Affinity.CONSTANT
    assert kinds["y"] is Affinity.AFFINE


@pytest.mark.parametrize(("op", "operands"), [("NonZero", ("x",)), ("Where", ("x",)), ("Unique", ("x",))])
def test_the_shape_of_what_values_have_shaped_is_not_constant(op: str, operands: tuple[str, ...]) -> None:
    steps = [
        Step("found", op, operands, ("f",)),
        Step("moved", "Transpose", ("f",), ("t",)),
        Step("count", "Shape", ("t",), ("n",)),
    ]
    assert affinities(steps, ["x"])["n"] is Affinity.NONLINEAR


def test_optional_operands_left_out_count_for_nothing() -> None:
    assert kind_of("Pad", "x", "c", "", "c") is Affinity.AFFINE


def test_an_input_that_is_listed_as_a_step_stays_an_input() -> None:
    assert affinities([Step("x", "Placeholder", (), ("x",))], ["x"])["x"] is Affinity.AFFINE
