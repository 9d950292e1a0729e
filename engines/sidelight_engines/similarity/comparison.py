"""Compares gradients of instances with those of references, for one version of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.gradients.pairs import pair_products
from sidelight_engines.similarity.gradients.rows import GradientRows
from sidelight_engines.similarity.parameters import SimilarityFunction, SimilarityParameters
from sidelight_engines.similarity.references import ReferenceRows
from sidelight_engines.similarity.scan import Scanner
from sidelight_engines.similarity.scores import denominators, divide

# Pairs that are scored exactly at a time: their rows are widened to float64.
_EXACT_VALUES = 2**23


class Comparison:
    """Scores of q queries against n references.

    Args:
        queries: gradients of the instances.
        groups: which queries are added up for each ranking: one each, or all.
        references: the references.
        layers: the layers that count.
        parameters: how to compare.
        products: (rankings, n) inner products.

    Attributes:
        scores: (rankings, n) float64, as scanned in single precision.
        norms: (rankings,) norms of the gradients that are ranked for.
        self_scores: (rankings,) similarity of those gradients to themselves.
        predictions: (rankings,) the predicted classes.
    """

    def __init__(
        self,
        queries: GradientRows,
        groups: Sequence[Array],
        references: ReferenceRows,
        layers: Sequence[str],
        parameters: SimilarityParameters,
        products: Array,
    ) -> None:
        self._queries = queries
        self._groups = groups
        self._references = references
        self._parameters = parameters
        layout = queries.layout
        self._place = np.full(len(layout.parameters), -1)
        for position, parameter in enumerate(layout.parameters):
            if parameter.layer in layers:
                self._place[position] = list(layers).index(parameter.layer)
        self._layer_count = len(layers)
        counted = self._place >= 0
        norms = references.rows.norms
        squared = norms.sum(axis=1) if counted.all() else norms[:, counted].sum(axis=1)
        self._reference_norms = np.sqrt(squared if references.selection is None else squared[references.selection])
        self.norms = np.sqrt(np.maximum([self._own_square(group, counted) for group in groups], 0.0))
        function, offset = parameters.function, parameters.norm_offset
        by = denominators(function, self.norms[:, None], self._reference_norms[None, :], offset)
        self.scores = divide(products, by)
        self.self_scores = divide(np.square(self.norms), denominators(function, self.norms, self.norms, offset))
        if function is SimilarityFunction.GRAD_DOT:
            self.self_scores = np.square(self.norms)
        alone = all(len(group) == 1 for group in groups)
        self.predictions = queries.predictions if alone else np.full(len(groups), -1)

    def _own_square(self, group: Array, counted: Array) -> float:
        if len(group) == 1:
            return float(self._queries.norms[group[0], counted].sum())
        rows = self._queries.take(group)
        # |sum_i g_i|^2 = sum_ij g_i.g_j
        return float(sum(pair_products(rows.take(slice(i, i + 1)), rows)[:, counted].sum() for i in range(len(group))))

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
        by = denominators(
            self._parameters.function,
            self.norms[ranking],
            self._reference_norms[chosen],
            self._parameters.norm_offset,
        )
        return divide(split, by[:, None])


def compare(
    queries: GradientRows,
    references: ReferenceRows,
    layers: Sequence[str],
    parameters: SimilarityParameters,
    control: Control,
    threads: int | None,
) -> Comparison:
    """Scores all references for some instances.

    Args:
        queries: gradients of the instances, float32, in the layout of the references.
        references: the references.
        layers: the layers that count.
        parameters: how to compare.
        control: asked for a stop between blocks.
        threads: how many blocks are worked on at a time; None for one per processor.

    Raises:
        Stopped: `control` asked for it.
    """
    counted = np.asarray([parameter.layer in layers for parameter in queries.layout.parameters])
    products = np.empty((len(queries), len(references)))
    Scanner(queries, counted, threads).products(references.rows, control, products, references.selection)
    together = parameters.aggregate_instances
    groups = [np.arange(len(queries))] if together else [np.asarray([i]) for i in range(len(queries))]
    if together:
        products = products.sum(axis=0, keepdims=True)
    return Comparison(queries, groups, references, layers, parameters, products)
