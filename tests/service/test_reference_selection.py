"""Which examples a selection picks, and where in a request selections are found."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from sidelight.v1 import explanation_pb2, linearity_pb2, reference_pb2, similarity_pb2
from sidelight_engines.errors import InvalidField
from sidelight_engines.graph.graph import TensorSpec
from sidelight_service.references.resolving import selections_in
from sidelight_service.references.selecting import SelectedExamples, Selector
from sidelight_service.references.store import Location, ReferenceStore
from test_reference_store import chunk, create

COUNT = 30
X = np.random.default_rng(0).random((COUNT, 4), dtype=np.float32)
CLASSES = np.arange(COUNT) % 3
FIELD = "instances.reference"
SPEC = TensorSpec("x", "x", "float32", (None, 4))


@pytest.fixture(scope="module")
def locations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Location]:
    root = tmp_path_factory.mktemp("data")
    store = ReferenceStore(root)
    store.prepare()
    create(store, chunk(X, CLASSES), name="classes")
    create(store, chunk(X, X[:, 0]), name="targets")
    create(store, chunk(X), name="plain")
    create(store, chunk({"a": X, "b": X}), name="two")
    create(store, chunk((X * 255).astype(np.uint8)), name="bytes")
    found = {}
    for header in store.headers():
        with store.lease(header.name) as location:
            found[header.name] = location
    return found


def select(locations: dict[str, Location], reference: str = "classes", **given: Any) -> SelectedExamples:
    def predict(examples: SelectedExamples, field: str) -> Any:
        return examples.positions // 10

    wire = reference_pb2.ReferenceSelection(reference=reference, **given)
    return Selector(locations, predict).select(wire, FIELD)


def rows(locations: dict[str, Location], **given: Any) -> list[int]:
    positions: list[int] = select(locations, **given).positions.tolist()
    return positions


def test_by_default_all_examples_are_selected_and_none_is_copied(locations: dict[str, Location]) -> None:
    selected = select(locations)

    x = selected.inputs((SPEC,))["x"]
    assert len(selected) == COUNT
    np.testing.assert_array_equal(x, X)
    assert np.shares_memory(x, selected.reference.inputs[""])
    np.testing.assert_array_equal(selected.labels, CLASSES)


def test_indices_keep_their_order_and_may_repeat(locations: dict[str, Location]) -> None:
    selected = select(locations, indices=[7, 2, 7, 29])

    np.testing.assert_array_equal(selected.inputs((SPEC,))["x"], X[[7, 2, 7, 29]])
    np.testing.assert_array_equal(selected.labels, CLASSES[[7, 2, 7, 29]])


def test_consecutive_indices_are_not_copied(locations: dict[str, Location]) -> None:
    selected = select(locations, indices=[4, 5, 6])

    x = selected.inputs((SPEC,))["x"]
    np.testing.assert_array_equal(x, X[4:7])
    assert np.shares_memory(x, selected.reference.inputs[""])


def test_classes_are_kept_by_label_or_by_prediction(locations: dict[str, Location]) -> None:
    by_label = reference_pb2.ClassFilter(classes=[2, 0])
    by_prediction = reference_pb2.ClassFilter(classes=[1], source=reference_pb2.CLASS_SOURCE_PREDICTION)

    assert rows(locations, class_filter=by_label) == [i for i in range(COUNT) if i % 3 != 1]
    assert rows(locations, class_filter=by_prediction) == list(range(10, 20))
    assert rows(locations, reference="plain", class_filter=by_prediction) == list(range(10, 20))


def test_a_filter_works_on_the_indices_and_a_sample_on_what_is_left(locations: dict[str, Location]) -> None:
    indices = [20, 1, 4, 2, 10, 7]
    keep = reference_pb2.ClassFilter(classes=[1])

    assert rows(locations, indices=indices, class_filter=keep) == [1, 4, 10, 7]
    sampled = rows(locations, indices=indices, class_filter=keep, sample={"count": 3})
    assert sampled == [row for row in [1, 4, 10, 7] if row in sampled]
    assert len(sampled) == 3


def philox_words(key: int, count: int) -> list[int]:
    """Philox 4x64-10 after Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011), section 3.3.

    The key is (key, 0); the counter is the number of the block of four words, from 1.
    """
    mask = 2**64 - 1
    words: list[int] = []
    for block in range(1, -(-count // 4) + 1):
        c, k = [block, 0, 0, 0], [key, 0]
        for _ in range(10):
            first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [second >> 64 ^ c[1] ^ k[0], second & mask, first >> 64 ^ c[3] ^ k[1], first & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        words += c
    return words[:count]


def test_a_sample_is_that_of_its_seed_for_ever(locations: dict[str, Location]) -> None:
    words = philox_words(7, COUNT)
    expected = sorted(sorted(range(COUNT), key=words.__getitem__)[:5])

    assert rows(locations, sample={"count": 5, "seed": 7}) == expected == [4, 8, 16, 23, 29]
    assert rows(locations, sample={"count": 5, "seed": 2**64 - 1}) != expected
    assert rows(locations, sample={"count": COUNT}) == list(range(COUNT))


def test_a_larger_sample_holds_the_smaller(locations: dict[str, Location]) -> None:
    sizes = [set(rows(locations, sample={"count": count, "seed": 3})) for count in range(1, COUNT + 1)]

    assert all(smaller < larger for smaller, larger in itertools.pairwise(sizes))


@pytest.mark.parametrize(
    ("given", "field", "complaint"),
    [
        ({"indices": [0, 30]}, ".indices[1]", "is 30, and reference set 'classes' has 30 examples"),
        ({"indices": [-1]}, ".indices[0]", "is -1"),
        ({"digest": "sha256:other"}, ".digest", "has digest sha256:"),
        ({"class_filter": {}}, ".class_filter.classes", "is empty"),
        ({"class_filter": {"classes": [1, -2]}}, ".class_filter.classes[1]", "is -2"),
        ({"class_filter": {"classes": [5]}}, ".class_filter.classes", "none of the 30 examples is of class 5"),
        ({"class_filter": {"classes": [1], "source": 9}}, ".class_filter.source", "9 is not a value"),
        ({"reference": "plain", "class_filter": {"classes": [1]}}, ".class_filter", "'plain' has no labels"),
        ({"reference": "targets", "class_filter": {"classes": [1]}}, ".class_filter", "has targets for regression"),
        ({"sample": {}}, ".sample.count", "is 0 where 30 examples are left"),
        ({"sample": {"count": 31}}, ".sample.count", "is 31 where 30 examples are left"),
        ({"indices": [1, 2], "sample": {"count": 3}}, ".sample.count", "is 3 where 2 examples are left"),
    ],
)
def test_what_a_set_does_not_have_is_refused_by_the_path_of_its_field(
    locations: dict[str, Location], given: dict[str, Any], field: str, complaint: str
) -> None:
    with pytest.raises(InvalidField, match=complaint) as caught:
        select(locations, **given)

    assert caught.value.field == FIELD + field


@pytest.mark.parametrize(
    ("reference", "specs", "complaint"),
    [
        ("plain", (TensorSpec("x", "x", "float32", (None, 28, 28)),), r"shape \[4\] where the model takes \[28, 28\]"),
        ("two", (SPEC,), r"holds inputs \['a', 'b'\]"),
        ("plain", (SPEC, TensorSpec("y", "y", "float32", (None, 4))), "holds a single input"),
        ("plain", (TensorSpec("x", "x", "int64", (None, 4)),), "int64 can not hold"),
    ],
)
def test_a_set_that_does_not_fit_the_model_is_refused(
    locations: dict[str, Location], reference: str, specs: tuple[TensorSpec, ...], complaint: str
) -> None:
    with pytest.raises(InvalidField, match=complaint) as caught:
        select(locations, reference).inputs(specs)

    assert caught.value.field == FIELD


def test_examples_come_in_the_type_of_the_input(locations: dict[str, Location]) -> None:
    x = select(locations, "bytes", indices=[3]).inputs((SPEC,))["x"]

    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[0], np.floor(X[3] * 255))


def test_selections_are_found_wherever_they_are_in_a_request() -> None:
    def of(name: str) -> reference_pb2.ReferenceSelection:
        return reference_pb2.ReferenceSelection(reference=name)

    linearity = linearity_pb2.ExplainLinearityRequest(
        instances=reference_pb2.Instances(reference=of("a")),
        parameters=linearity_pb2.LinearityParameters(
            grid=linearity_pb2.GridSampling(
                feature_range=linearity_pb2.FeatureRange(data=reference_pb2.Instances(reference=of("b")))
            ),
            layers=explanation_pb2.LayerSelection(names=["dense"]),
        ),
    )
    similarity = similarity_pb2.ExplainSimilarityRequest(
        parameters=similarity_pb2.SimilarityParameters(reference=of("c"))
    )

    found = [
        (path, selection.reference) for message in (linearity, similarity) for path, selection in selections_in(message)
    ]
    assert found == [
        ("instances.reference", "a"),
        ("parameters.grid.feature_range.data.reference", "b"),
        ("parameters.reference", "c"),
    ]
