"""The nearest rows are those of a search in float64, whatever the data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sidelight_engines.control import Control
from sidelight_engines.errors import Stopped
from sidelight_engines.linearity.neighbours import nearest_rows

NEVER = Control()


def slow(queries: np.ndarray, data: np.ndarray, count: int) -> np.ndarray:
    distances = ((queries[:, None].astype(np.float64) - data[None].astype(np.float64)) ** 2).sum(axis=2)
    return np.argsort(distances, axis=1, kind="stable")[:, :count]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    features=st.integers(1, 40),
    scale=st.sampled_from([1e-6, 1.0, 255.0, 1e6]),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
    memory=st.sampled_from([1, 4000, 10**8]),
    data=st.data(),
)
def test_neighbours_equal_an_exhaustive_search_in_float64(
    seed: int, rows: int, features: int, scale: float, offset: float, memory: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    table = (offset + scale * random.random((rows, features))).astype(np.float32)
    queries = np.concatenate([table[:3], (offset + scale * random.random((4, features))).astype(np.float32)])
    count = data.draw(st.integers(1, rows))
    found = nearest_rows(queries, table, count, NEVER, memory)
    np.testing.assert_array_equal(found, slow(queries, table, count))


def test_rows_that_differ_less_than_float32_distances_can_tell_are_ordered_right() -> None:
    # All rows are about 1 away; the distances differ in the tenth digit.
    random = np.random.default_rng(0)
    directions = random.normal(size=(300, 20))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = 1 + 1e-10 * random.permutation(300)
    table = directions * lengths[:, None]
    found = nearest_rows(np.zeros((1, 20)), table, 300, NEVER, 10**6)
    np.testing.assert_array_equal(found[0], np.argsort(lengths))


def test_equal_distances_are_ordered_by_row() -> None:
    table = np.tile(np.eye(4, dtype=np.float32), (5, 1))
    found = nearest_rows(np.zeros((2, 4), np.float32), table, 20, NEVER, 10**6)
    np.testing.assert_array_equal(found, [range(20)] * 2)


def test_whole_numbers_and_memory_maps_can_be_searched(tmp_path: object) -> None:
    table = np.random.default_rng(0).integers(0, 256, (50, 9)).astype(np.uint8)
    file = np.memmap(f"{tmp_path}/rows", np.uint8, "w+", shape=table.shape)
    file[:] = table
    found = nearest_rows(table[:5], file, 7, NEVER, 10**6)
    np.testing.assert_array_equal(found, slow(table[:5], table, 7))


def test_numbers_beyond_the_range_of_float32_products_are_searched_exactly() -> None:
    table = (np.random.default_rng(0).random((30, 4)) * 1e30).astype(np.float32)
    np.testing.assert_array_equal(nearest_rows(table[:6], table, 5, NEVER, 10**6), slow(table[:6], table, 5))


def test_a_search_can_be_stopped() -> None:
    with pytest.raises(Stopped):
        nearest_rows(np.zeros((1, 2)), np.zeros((5, 2)), 1, Control(should_stop=lambda: True), 10**6)
