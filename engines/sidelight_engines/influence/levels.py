"""A feature's examples gathered by value: all that tilting needs of them.

Weights depend on an example by its feature's value alone, so for each feature the examples of one value (a level) may
be added up once, for all targets, labels and metrics. Pixels have at most a few hundred levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sidelight_engines.runtime.runtime import Array

_MOST_GRID_LEVELS = 2048
_SAMPLED_ROWS = 256
# Where values repeat less often than this, gathering costs more than it saves.
_WORTHWHILE = 4


@dataclass(frozen=True, eq=False)
class Levels:
    """Features by level. Levels without examples have count 0 and sums 0.

    Attributes:
        values: (features, levels), in the features' unit.
        counts: (features, levels), examples at each level.
        sums: (features, levels, columns), the columns of these examples, added up. A view with axis 0 of length 1
            where each example is its own level.
        of_example: (features, examples), the level of each example; None where each example is its own level, or
            this was not asked for.
        ascending: whether values ascend from level to level.
    """

    values: Array
    counts: Array
    sums: Array
    of_example: Array | None
    ascending: bool

    @property
    def examples(self) -> int:
        """How many examples were gathered."""
        return int(self.counts[0].sum())

    def example_weights(self, feature: int, weights: Array) -> Array:
        """The weight of each example, (examples, aims), from those of a feature's levels, (aims, levels)."""
        by_level = np.ascontiguousarray(weights.T)
        return by_level if self.of_example is None else by_level[self.of_example[feature]]


@dataclass(frozen=True)
class Grid:
    """Evenly spaced values that all features of the data are taken to have: level l is near ``first + l * step``."""

    first: float
    step: float
    size: int
    background: float
    """The commonest value, whose sums are taken from the totals: most pixels are background."""

    def index_of(self, values: Array) -> Array:
        """The nearest level of each value, int32; out of range for values off the grid."""
        if values.dtype.kind in "biu" and values.dtype.itemsize <= 2:
            return values.astype(np.int32) - np.int32(self.first)
        levels = np.rint((values.astype(np.float64) - self.first) / self.step)
        return np.clip(levels, -1, self.size).astype(np.int32)


def as_slice(features: Array) -> Array | slice:
    """The same features as a slice where they are consecutive, so that no copy is made."""
    first, last = int(features[0]), int(features[-1])
    if last - first == len(features) - 1 and bool((np.diff(features) == 1).all()):
        return slice(first, last + 1)
    return features


def find_grid(rows: Array, features: Array, low: float, high: float) -> Grid | None:
    """The grid that a sample of rows lies on.

    Args:
        rows: (examples, all features), finite.
        features: those that count.
        low: the least value in it.
        high: the greatest.

    Returns:
        A grid from the least to the greatest value; None where the sample lies on none that is small. Rows beyond the
        sample need not lie on it: `grid_levels` looks.
    """
    sample = rows[:: -(-len(rows) // _SAMPLED_ROWS)][:, as_slice(features)]
    seen, times = np.unique(sample, return_counts=True)
    background = float(seen[np.argmax(times)])
    seen = np.unique(np.concatenate([seen.astype(np.float64), [low, high]]))
    if len(seen) == 1:
        return Grid(low, 1.0, 1, background)
    if rows.dtype.kind in "biu":
        size = int(high) - int(low) + 1
        return Grid(low, 1.0, size, background) if size <= _MOST_GRID_LEVELS else None
    # Rounded steps such as 1/255 differ in their last bits; from end to end they do not.
    steps = np.rint((high - low) / np.diff(seen).min())
    return Grid(low, (high - low) / steps, int(steps) + 1, background) if steps < _MOST_GRID_LEVELS else None


def grid_levels(
    rows: Array, features: Array | slice, grid: Grid, columns: Array, *, chunk_rows: int, keep_examples: bool
) -> Levels | None:
    """Gathers features whose values lie on a grid, in one pass over what is not background.

    Args:
        rows: (examples, all features), finite.
        features: which of them, as `as_slice` gives them.
        grid: where the values should lie.
        columns: (examples, columns) float64.
        chunk_rows: how many examples to read at a time.
        keep_examples: whether to keep the level of each example.

    Returns:
        The levels; None if a value does not lie on the grid.
    """
    # SciPy's sparse product adds a whole row of columns per entry; bincount would take a pass for each.
    from scipy.sparse import csr_array

    off = np.asarray(grid.background).astype(rows.dtype)
    background = int(grid.index_of(off[None])[0])
    table = np.full(grid.size, np.nan)
    table[background] = grid.background
    # A column of ones counts.
    columns = np.concatenate([np.ones((len(rows), 1)), columns], axis=1)
    sums: Array | float = 0.0
    kept = []
    for first in range(0, len(rows), chunk_rows):
        part = np.ascontiguousarray(rows[first : first + chunk_rows][:, features])
        count, width = part.shape
        occupied = part != off
        flat = np.flatnonzero(occupied)
        values = part.reshape(-1)[flat]
        level = grid.index_of(values)
        if level.size and (int(level.min()) < 0 or int(level.max()) >= grid.size):
            return None
        if not _add_values(table, level, values):
            return None
        starts = np.concatenate([[0], np.cumsum(np.count_nonzero(occupied, axis=1))])
        example = np.repeat(np.arange(count), np.diff(starts))
        feature = (flat - example * width).astype(np.int32)
        cells = feature * np.int32(grid.size) + level
        shape = (count, width * grid.size)
        indicator = csr_array((np.ones(len(cells)), cells, starts.astype(np.int32)), shape=shape)
        sums = sums + np.asarray(indicator.T @ columns[first : first + count])
        if keep_examples:
            of_example = np.full((width, count), background, np.int32)
            of_example[feature, example] = level
            kept.append(of_example)
    sums = np.asarray(sums, np.float64).reshape(-1, grid.size, columns.shape[1])
    sums[:, background] = 0.0
    sums[:, background] = columns.sum(axis=0) - sums.sum(axis=1)
    counts = np.ascontiguousarray(sums[:, :, 0])
    sums[counts[:, background] == 0, background] = 0.0
    line = grid.first + grid.step * np.arange(grid.size)
    values = np.broadcast_to(np.where(np.isnan(table), line, table), counts.shape)
    return Levels(values, counts, sums[:, :, 1:], np.concatenate(kept, axis=1) if kept else None, True)


def _add_values(table: Array, level: Array, values: Array) -> bool:
    """Notes the value of each level; false if two different ones share a level, which no histogram can hold."""
    if values.dtype.kind in "biu":
        table[level] = values  # one apart, so never two
        return True
    found = table.copy()
    found[level] = values
    new = np.isnan(table)
    table[new] = found[new]
    return np.array_equal(table[level], values)


def column_levels(column: Array, columns: Array) -> Levels:
    """Gathers one feature of any values.

    Args:
        column: (examples,), finite.
        columns: (examples, columns) float64.
    """
    values = column.astype(np.float64)
    found, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(found) * _WORTHWHILE > len(values):
        return Levels(values[None], np.ones((1, len(values))), columns[None], None, False)
    sums = np.stack([np.bincount(inverse, weights=part, minlength=len(found)) for part in columns.T], axis=1)
    return Levels(found[None], counts[None].astype(np.float64), sums[None], inverse[None].astype(np.int32), True)
