"""What can not be compared is refused, with the field, the problem and the remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sidelight_engines.errors import InvalidField, MemoryLimitExceeded, UnknownLayer
from sidelight_engines.similarity import (
    Chunking,
    Examples,
    GradientOptions,
    Labels,
    LayerSelection,
    Loss,
    SimilarityParameters,
    explain_similarity,
)

if TYPE_CHECKING:
    from tests.engines.similarity.conftest import Digits

VALID = SimilarityParameters()


def explain(digits: Digits, parameters: SimilarityParameters = VALID, labels: Any = None, **more: Any) -> None:
    instances = digits.examples(slice(0, 3))
    if labels is not None:
        instances = replace(instances, labels=Labels(np.asarray(labels)))
    explain_similarity(digits.model, instances, parameters, digits.examples(slice(8, 28)), **more)


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        (SimilarityParameters(top=-1), "parameters.top"),
        (SimilarityParameters(bottom=10_001), "parameters.bottom"),
        (SimilarityParameters(norm_offset=-1e-7), "parameters.norm_offset"),
        (SimilarityParameters(norm_offset=float("nan")), "parameters.norm_offset"),
        (SimilarityParameters(gradients=GradientOptions(output="nothing")), "parameters.output"),
        (
            SimilarityParameters(gradients=GradientOptions(layers=LayerSelection(("conv_1", "flat")))),
            "parameters.layers.names[1]",
        ),
    ],
)
def test_parameters_out_of_range_are_named(digits: Digits, parameters: SimilarityParameters, field: str) -> None:
    with pytest.raises(InvalidField) as caught:
        explain(digits, parameters)
    assert caught.value.field == field


def test_an_unknown_layer_is_named_with_its_nearest(digits: Digits) -> None:
    with pytest.raises(UnknownLayer, match="conv_1"):
        explain(digits, SimilarityParameters(gradients=GradientOptions(layers=LayerSelection(("conv1",)))))


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([1, 2], "are 2 for 3 examples"),
        ([1, 2, 10], "hold 10 in row 2"),
        ([1, -1, 3], "hold -1 in row 1"),
        ([1.5, 2, 3], "hold 1.5 in row 0"),
        (np.zeros((3, 9)), "have shape"),
        (np.full((3, 10), np.nan), "NaN or infinity, first in row 0"),
        (np.full((3, 10), 2.0), "not between 0 and 1"),
        (["a", "b", "c"], "give numbers"),
    ],
)
def test_labels_that_do_not_go_with_the_output_are_refused(digits: Digits, labels: Any, problem: str) -> None:
    with pytest.raises(InvalidField, match=problem) as caught:
        explain(digits, labels=labels)
    assert caught.value.field == "parameters.labels"


def test_class_indices_are_the_same_as_one_hot_rows(digits: Digits) -> None:
    references = digits.examples(slice(8, 28))
    instances = digits.examples(slice(0, 3))
    indices = replace(instances, labels=Labels(digits.labels[:3]))
    one, other = (explain_similarity(digits.model, given, VALID, references) for given in (instances, indices))
    assert one == other


def test_predictions_are_no_targets_of_a_regression(digits: Digits) -> None:
    parameters = SimilarityParameters(gradients=GradientOptions(Loss.SQUARED_ERROR))
    with pytest.raises(InvalidField, match="gradient is zero"):
        explain_similarity(
            digits.model, digits.examples(slice(0, 1), labels=False), parameters, digits.examples(slice(8, 28))
        )


def test_references_that_take_too_much_memory_are_refused(digits: Digits) -> None:
    with pytest.raises(MemoryLimitExceeded, match="build an index"):
        explain(digits, chunking=Chunking(reference_bytes=1000))


def test_instances_of_another_shape_are_refused(digits: Digits) -> None:
    name = digits.model.graph.inputs[0].name
    instances = Examples({name: np.zeros((2, 7, 7, 1), np.float32)}, None, "instances.inline")
    with pytest.raises(InvalidField) as caught:
        explain_similarity(digits.model, instances, VALID, digits.examples(slice(8, 28)))
    assert caught.value.field == "instances.inline"


def test_no_instances_are_refused(digits: Digits) -> None:
    with pytest.raises(InvalidField, match="hold no example"):
        explain_similarity(digits.model, digits.examples(slice(0, 0)), VALID, digits.examples(slice(8, 28)))


def test_a_selection_outside_the_set_is_refused(digits: Digits) -> None:
    with pytest.raises(InvalidField, match="selects example 20 of 20"):
        explain(digits, selection=np.array([0, 20]))
