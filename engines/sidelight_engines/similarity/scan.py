"""Inner products of a few gradients with very many, by blocks of rows.

Fields of one position are multiplied as wholes (see `field_products`); what sums over positions is made of them
block by block. Threads work on blocks of their own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.field_products import FieldProducts, MatrixProduct
from sidelight_engines.similarity.gradients.layout import Block, BlockKind
from sidelight_engines.similarity.gradients.rows import GradientRows

_TASKS_PER_THREAD = 8


class Scanner:
    """Computes inner products with references.

    Args:
        queries: q gradients, float32.
        counted: for each parameter of the layout, whether it counts.
        threads: how many blocks are worked on at a time; None for one per processor.
    """

    def __init__(self, queries: GradientRows, counted: Array, threads: int | None = None) -> None:
        self._queries = queries
        self._threads = threads or min(os.cpu_count() or 1, 16)
        self._matrix_product = MatrixProduct()
        self._blocks: list[tuple[Block, int, bool, bool]] = []
        layout = queries.layout
        for block, first in zip(layout.blocks, layout.first_fields, strict=True):
            uses = [bool(counted[part.parameter]) for part in block.parts]
            if any(uses):
                self._blocks.append((block, first, uses[0], len(uses) > 1 and uses[1]))
        self._vectors = {
            first: _counted_columns(block, queries.fields[first], counted)
            for block, first, _, _ in self._blocks
            if block.kind is BlockKind.VECTOR
        }

    def products(self, references: GradientRows, control: Control, out: Array, selection: Array | None = None) -> None:
        """Fills in the inner products of every query with every reference.

        Args:
            references: gradients of the same layout.
            selection: (n,) int64, which of them; None for all n.
            control: asked for a stop between blocks.
            out: (q, n) float64.

        Raises:
            Stopped: `control` asked for it.
        """
        rows = len(references) if selection is None else len(selection)
        multiply, fields = self._field_products(references)
        step = multiply.step

        def work(first: int, last: int) -> None:
            for start in range(first, last, step):
                control.checkpoint()
                stop = min(start + step, last)
                at = slice(start, stop) if selection is None else selection[start:stop]
                out[:, start:stop] = self._block_products(references, at, multiply, fields)

        share = max(step, -(-rows // (self._threads * _TASKS_PER_THREAD)))
        spans = [(start, min(start + share, rows)) for start in range(0, rows, share)]
        if self._threads == 1 or len(spans) == 1:
            for first, last in spans:
                work(first, last)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            for done in [pool.submit(work, first, last) for first, last in spans]:
                done.result()

    def _block_products(
        self, references: GradientRows, at: slice | Array, multiply: FieldProducts, used: Sequence[int]
    ) -> Array:
        fields = multiply({field: references.fields[field][at] for field in used}) if used else {}
        scales = references.scales[at].astype(np.float64)
        own = self._queries.scales.astype(np.float64)

        def scaled(field: int) -> Array:
            product = np.multiply(fields[field], scales[:, field, None])
            product *= own[:, field]
            return product

        total = np.zeros((len(scales), len(own)))
        for block, first, main, bias in self._blocks:
            if block.kind is BlockKind.VECTOR:
                total += scaled(first)
            elif block.kind is BlockKind.OUTER and self._is_single(references, block, first):
                right = scaled(first + 1)
                if main:
                    left = scaled(first)
                    left += float(bias)
                    right *= left
                total += right
            elif block.kind is BlockKind.OUTER:
                total += self._outer(block, first, fields, scales, main, bias).T
            else:
                total += self._lookup(block, first, fields, references.fields[first][at], scales).T
        return total.T

    def _is_single(self, references: GradientRows, block: Block, first: int) -> bool:
        widths = {references.fields[first].shape[1], self._queries.fields[first].shape[1]}
        return widths == {block.left}

    def _outer(
        self, block: Block, first: int, fields: dict[int, Array], scales: Array, main: bool, bias: bool
    ) -> Array:
        """Sums over positions, by whichever of the two ways takes fewer operations."""
        v, e = fields[first], fields[first + 1].reshape(len(scales), -1, block.right)
        positions = e.shape[1]
        flat, sums = v.reshape(-1, block.left), e.sum(axis=1)
        products = np.zeros((len(self._queries), len(scales)))
        product = self._matrix_product
        for query in range(len(products)):
            u = self._queries.fields[first][query].reshape(-1, block.left)
            d = self._queries.fields[first + 1][query].reshape(-1, block.right)
            left, right = self._queries.scales[query, first : first + 2].astype(np.float64)
            if main:
                if len(u) * (block.left + block.right) < block.left * block.right:
                    inner = product(flat, u.T) * product(e.reshape(-1, block.right), d.T)
                    summed = inner.reshape(len(scales), -1).sum(axis=1)
                else:
                    along = product(flat, product(u.T, d)).reshape(len(scales), positions, block.right)
                    summed = np.einsum("ntr,ntr->n", along, e)
                products[query] += summed * scales[:, first] * left * scales[:, first + 1] * right
            if bias:
                products[query] += product(sums, d.sum(axis=0)[:, None])[:, 0] * scales[:, first + 1] * right
        return products

    def _lookup(self, block: Block, first: int, fields: dict[int, Array], ids: Array, scales: Array) -> Array:
        e = fields[first + 1].reshape(len(scales), -1, block.right)
        products = np.zeros((len(self._queries), len(scales)))
        for query in range(len(products)):
            known, place = np.unique(self._queries.fields[first][query], return_inverse=True)
            d = self._queries.fields[first + 1][query].reshape(-1, block.right)
            # One row per token of the query, and one of zeros for all others.
            table = np.zeros((len(known) + 1, block.right), np.float32)
            np.add.at(table, place, d)
            row_of = np.full(block.left, len(known), np.int32)
            row_of[known] = np.arange(len(known))
            summed = np.einsum("ntr,ntr->n", table[row_of[ids]], e)
            products[query] = summed * scales[:, first + 1] * float(self._queries.scales[query, first + 1])
        return products

    def _field_products(self, references: GradientRows) -> tuple[FieldProducts, tuple[int, ...]]:
        """What multiplies fields, and the fields that it takes."""
        multiplied: dict[int, Array] = {}
        plain: dict[int, int] = {}
        for block, first, main, _ in self._blocks:
            if block.kind is BlockKind.VECTOR:
                multiplied[first] = self._vectors[first].T
            elif block.kind is BlockKind.OUTER and self._is_single(references, block, first):
                used = (first, first + 1) if main else (first + 1,)
                multiplied.update({field: self._queries.fields[field].T for field in used})
            else:
                wide = (first, first + 1) if block.kind is BlockKind.OUTER else (first + 1,)
                plain.update({field: references.fields[field].shape[1] for field in wide})
        fields = (*multiplied, *plain)
        dtype = references.fields[fields[0]].dtype if fields else np.dtype(np.float32)
        return FieldProducts(multiplied, plain, dtype), fields


def _counted_columns(block: Block, values: Array, counted: Array) -> Array:
    keep = np.repeat([bool(counted[part.parameter]) for part in block.parts], [part.size for part in block.parts])
    return values if keep.all() else np.where(keep, values, np.float32(0))
