"""Factored gradients are the gradients, for every kind of layer, from SavedModel and ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sidelight_engines.model import Model
from sidelight_engines.similarity import Examples, GradientOptions, Precision
from sidelight_engines.similarity.extraction import make_task
from sidelight_engines.similarity.gradients.extractor import GradientExtractor, WholeGradients
from sidelight_engines.similarity.gradients.layout import BlockKind, Layout
from sidelight_engines.similarity.gradients.pairs import pair_products
from sidelight_engines.similarity.gradients.traced import Problem

if TYPE_CHECKING:
    from tests.engines.similarity.conftest import ZooNetwork

# Sums of a few hundred float32 terms in another order.
TOLERANCE = 1e-5

SAVED_MODELS = ["planar", "dilated", "sequence", "attention", "volume", "shared", "recurrent"]
ONNX_MODELS = ["planar", "shared"]
BY_ROW = {"recurrent": {"loop"}}
KEPT_WHOLE = {"shared": {"conv_twice", "dense_twice"}, "recurrent": {"loop"}}


def extractor_of(model: Model, examples: Examples) -> tuple[GradientExtractor, Problem]:
    task = make_task(model, GradientOptions())
    return task.extractor(examples, Precision.FLOAT32), Problem(task.analysis(), task.loss, predicted=False)


def by_row_layers(layout: Layout) -> set[str]:
    return {layout.parameters[part.parameter].layer for block in layout.blocks if block.by_row for part in block.parts}


def check_against_whole_gradients(model: Model, examples: Examples) -> Layout:
    extractor, problem = extractor_of(model, examples)
    layout = extractor.layout
    targets = make_task(model, GradientOptions()).targets(examples)
    assert targets is not None
    rows = extractor(examples.inputs, targets)
    count = len(rows)
    found = np.stack([pair_products(rows.take(slice(i, i + 1)), rows) for i in range(count)])
    whole = WholeGradients(problem, [parameter.name for parameter in layout.parameters])
    gradients = [
        whole({name: array[i : i + 1] for name, array in examples.inputs.items()}, targets[i : i + 1])
        for i in range(count)
    ]
    for position, parameter in enumerate(layout.parameters):
        vectors = np.stack([row[position] for row in gradients]).astype(np.float64)
        assert vectors.shape[1] == parameter.size
        expected = vectors @ vectors.T
        largest = np.diag(expected).max()
        assert largest > 0, parameter
        np.testing.assert_allclose(found[:, :, position], expected, atol=TOLERANCE * largest, err_msg=str(parameter))
        np.testing.assert_allclose(
            rows.norms[:, position], np.diag(expected), atol=TOLERANCE * largest, err_msg=str(parameter)
        )
    return layout


@pytest.mark.parametrize("name", SAVED_MODELS)
def test_factored_gradients_of_a_saved_model_equal_whole_ones(zoo: dict[str, ZooNetwork], name: str) -> None:
    network = zoo[name]
    layout = check_against_whole_gradients(network.saved_model, network.examples(network.saved_model))
    assert by_row_layers(layout) == BY_ROW.get(name, set())
    assert set(layout.materialised_layers) == KEPT_WHOLE.get(name, set())
    trainable = sum(int(np.prod(weight.shape)) for weight in network.keras_model.trainable_weights)
    assert sum(parameter.size for parameter in layout.parameters) == trainable


@pytest.mark.parametrize("name", ONNX_MODELS)
def test_factored_gradients_of_an_onnx_model_equal_whole_ones(zoo: dict[str, ZooNetwork], name: str) -> None:
    network = zoo[name]
    layout = check_against_whole_gradients(network.onnx, network.examples(network.onnx))
    assert by_row_layers(layout) == set()
    assert set(layout.materialised_layers) == KEPT_WHOLE.get(name, set())


def test_the_smaller_form_is_kept(zoo: dict[str, ZooNetwork]) -> None:
    network = zoo["sequence"]
    layout = extractor_of(network.saved_model, network.examples(network.saved_model))[0].layout
    kinds = {
        layout.parameters[block.parts[0].parameter].layer: (block.kind, block.positions) for block in layout.blocks
    }
    # 12 tokens and their gradients of 6 are fewer numbers than a table of 50 rows.
    assert kinds["table"] == (BlockKind.LOOKUP, 12)
    # 6 (18 + 40) = 348 < 18 * 40; 12 (6 + 40) = 552 > 6 * 40.
    assert kinds["over_time"] == (BlockKind.OUTER, 6)
    assert kinds["each"] == (BlockKind.VECTOR, 1)


def test_the_published_network_takes_10634_numbers() -> None:
    from sidelight_engines.similarity.gradients.layout import Block, Part

    # Convolutions 1 x 4 x 64 + 64 and 64 x 4 x 32 + 32 whole; dense layers 1568 + 256 and 256 + 10 as factors.
    blocks = (
        Block(BlockKind.VECTOR, (Part(0, 256), Part(1, 64)), 320),
        Block(BlockKind.VECTOR, (Part(2, 8192), Part(3, 32)), 8224),
        Block(BlockKind.OUTER, (Part(4), Part(5)), 1568, 256),
        Block(BlockKind.OUTER, (Part(6), Part(7)), 256, 10),
    )
    assert Layout((), blocks).values_per_example == 10_634
