"""Compares gradients of instances with those of references, for one version of a model.

Where only the best and worst are wanted, not everything need be read. With L the leading blocks, those that hold
most of the gradients' norm in the fewest numbers, and R the rest,

    |g.h - g_L.h_L| <= |g_R| |h_R|          (Cauchy, Schwarz)

and norms are known, so that L alone tells which references may be among the best. Only these are scored exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.gradients.pairs import pair_products
from sidelight_engines.similarity.gradients.rows import NO_CLASS, GradientRows
from sidelight_engines.similarity.parameters import SimilarityParameters
from sidelight_engines.similarity.ranking import select, select_bounded
from sidelight_engines.similarity.references import ReferenceRows
from sidelight_engines.similarity.scan import Scanner
from sidelight_engines.similarity.scores import denominators, divide

# Pairs that are scored exactly at a time: their rows are widened to float64.
_EXACT_VALUES = 2**23
# Products of instances that are added up are kept this many at a time.
_SCANNED_TOGETHER = 2**23
# What a scan may be off by, relative to the norms: sums of thousands of float32 terms.
_SCAN_ROUNDING = 1e-5
# Rows in float16 may be longer than the gradients whose norms are known, by half a unit in the last place.
_NARROWED = 1.002
# The leading blocks hold all but this share of the instances' squared norms, in at most this share of the numbers.
_REST = 0.1
_LEADING_SHARE = 0.6


class Comparison:
    """Scores of some instances, or of all together, against n references.

    Args:
        queries: gradients of the instances, float32, in the layout of the references.
        references: the references.
        layers: the layers that count.
        parameters: how to compare.
        control: asked for a stop between blocks.
        threads: how many blocks are worked on at a time; None for one per processor.

    Attributes:
        norms: (rankings,) norms of the gradients that are ranked for.
        self_scores: (rankings,) similarity of those gradients to themselves.
        predictions: (rankings,) the predicted classes; NO_CLASS for several instances together.
    """

    def __init__(
        self,
        queries: GradientRows,
        references: ReferenceRows,
        layers: Sequence[str],
        parameters: SimilarityParameters,
        control: Control,
        threads: int | None,
    ) -> None:
        self._queries = queries
        self._references = references
        self._parameters = parameters
        self._control = control
        self._threads = threads
        together = parameters.aggregate_instances
        everyone = np.arange(len(queries))
        self._groups = [everyone] if together else list(everyone[:, None])
        known = [parameter.layer for parameter in queries.layout.parameters]
        self._place = np.asarray([list(layers).index(layer) if layer in layers else -1 for layer in known])
        self._layer_count = len(layers)
        self._counted = self._place >= 0
        self.norms = np.sqrt(self._own_squares(self._counted))
        self._reference_norms = np.sqrt(self._reference_squares(self._counted))
        function, offset = parameters.function, parameters.norm_offset
        self.self_scores = divide(np.square(self.norms), denominators(function, self.norms, self.norms, offset))
        self.predictions = np.full(1, NO_CLASS) if together else queries.predictions
        self._scores: Array | None = None
        self._partial: Array | None = None

    @property
    def scores(self) -> Array:
        """(rankings, n) float64, every score, as scanned in single precision.

        Raises:
            Stopped: `control` asked for it.
        """
        if self._scores is None:
            products = self._products(self._counted)
            self._scores = np.stack([divide(row, self._denominators(i)) for i, row in enumerate(products)])
        return self._scores

    def best(self, count: int, *, least: bool) -> list[tuple[Array, Array]]:
        """The most or least similar references of each ranking: where they are, and their exact scores.

        Raises:
            Stopped: `control` asked for it.
        """
        if count == 0:
            return [(np.empty(0, np.int64), np.empty(0)) for _ in self._groups]
        leading = self._leading() if self._scores is None else None
        found: list[tuple[Array, Array] | None] = [None] * len(self._groups)
        if leading is not None:
            found = self._bounded(leading, count, least=least)
        positions = self._references.positions
        return [
            each if each is not None else select(self.scores[i], positions, count, partial(self._exact, i), least=least)
            for i, each in enumerate(found)
        ]

    def _bounded(self, leading: Array, count: int, *, least: bool) -> list[tuple[Array, Array] | None]:
        rest = self._counted & ~leading
        own = np.sqrt(self._own_squares(rest))
        others = np.sqrt(self._reference_squares(rest)) * _NARROWED
        rounding = _SCAN_ROUNDING * self._scanned_norms()
        found: list[tuple[Array, Array] | None] = []
        for i, products in enumerate(self._leading_products(leading)):
            by = self._denominators(i)
            slack = divide(own[i] * others + rounding[i] * self._reference_norms, by)
            each = select_bounded(
                divide(products, by),
                slack,
                self._references.positions,
                count,
                partial(self._exact, i),
                least=least,
            )
            found.append(each)
            if each is None:
                # All must be scanned for one; then that is quickest for the others too.
                return found + [None] * (len(self._groups) - len(found))
        return found

    def layer_scores(self, ranking: int, chosen: Array) -> Array:
        """Exact scores of some references, split by layer.

        Args:
            ranking: which one.
            chosen: (k,) which references.

        Returns:
            (k, layers) float64; rows sum to the scores.
        """
        split = np.zeros((len(chosen), self._layer_count))
        step = max(1, _EXACT_VALUES // max(1, self._queries.layout.values_per_example))
        for first in range(0, len(chosen), step):
            part = chosen[first : first + step]
            rows = self._references.rows.take(self._references.at(part))
            for query in self._groups[ranking]:
                products = pair_products(self._queries.take(slice(query, query + 1)), rows)
                for parameter, layer in enumerate(self._place):
                    if layer >= 0:
                        split[first : first + step, layer] += products[:, parameter]
        return divide(split, self._denominators(ranking)[chosen, None])

    def _exact(self, ranking: int, chosen: Array) -> Array:
        return np.asarray(self.layer_scores(ranking, chosen).sum(axis=1))

    def _denominators(self, ranking: int) -> Array:
        function, offset = self._parameters.function, self._parameters.norm_offset
        return denominators(function, self.norms[ranking], self._reference_norms, offset)

    def _own_squares(self, counted: Array) -> Array:
        if not self._parameters.aggregate_instances:
            return np.asarray(self._queries.norms[:, counted].sum(axis=1))
        # |sum_i g_i|^2 = sum_ij g_i.g_j, which is twice the sum over i < j and the squares.
        rows = self._queries
        total = float(rows.norms[:, counted].sum())
        step = max(1, _EXACT_VALUES // max(1, rows.layout.values_per_example))
        for i in range(len(rows) - 1):
            self._control.checkpoint()
            one = rows.take(slice(i, i + 1))
            for first in range(i + 1, len(rows), step):
                total += 2 * float(pair_products(one, rows.take(slice(first, first + step)))[:, counted].sum())
        return np.maximum([total], 0.0)

    def _scanned_norms(self) -> Array:
        """What rounding grows with: gradients that are added up may cancel, their rounding does not."""
        each = np.sqrt(self._queries.norms[:, self._counted].sum(axis=1))
        return np.asarray(each.sum(keepdims=True) if self._parameters.aggregate_instances else each)

    def _reference_squares(self, counted: Array) -> Array:
        norms, selection = self._references.rows.norms, self._references.selection
        squares = norms.sum(axis=1) if counted.all() else norms[:, counted].sum(axis=1)
        return np.asarray(squares if selection is None else squares[selection])

    def _products(self, counted: Array) -> Array:
        if not self._parameters.aggregate_instances:
            return self._scanned(self._queries, counted)
        total = np.zeros((1, len(self._references)))
        step = max(1, _SCANNED_TOGETHER // max(1, len(self._references)))
        for first in range(0, len(self._queries), step):
            part = self._scanned(self._queries.take(slice(first, first + step)), counted)
            total += part.sum(axis=0, keepdims=True)
        return total

    def _scanned(self, queries: GradientRows, counted: Array) -> Array:
        products = np.empty((len(queries), len(self._references)))
        scanner = Scanner(queries, counted, self._threads)
        scanner.products(self._references.rows, self._control, products, self._references.selection)
        return products

    def _leading_products(self, leading: Array) -> Array:
        # The most and the least similar are found by the same products.
        if self._partial is None:
            self._partial = self._products(leading)
        return self._partial

    def _leading(self) -> Array | None:
        """The parameters of the leading blocks; None if there is little to be left out."""
        layout = self._queries.layout
        squares = self._queries.norms / np.maximum(self._queries.norms.sum(axis=1, keepdims=True), 1e-300)
        shares = np.where(self._counted, squares.mean(axis=0), 0.0)
        blocks: list[tuple[float, int, list[int]]] = []
        for block in layout.blocks:
            own = [part.parameter for part in block.parts if self._counted[part.parameter]]
            if own:
                width = sum(block.field_widths)
                blocks.append((float(shares[own].sum()) / width, width, own))
        blocks.sort(key=lambda block: -block[0])
        total, left, read = sum(width for _, width, _ in blocks), float(shares.sum()), 0
        if left == 0:
            return None
        leading = np.zeros(len(layout.parameters), bool)
        limit = _REST * left
        for density, width, own in blocks:
            if left <= limit:
                break
            leading[own] = True
            left -= density * width
            read += width
        return leading if read <= _LEADING_SHARE * total else None
