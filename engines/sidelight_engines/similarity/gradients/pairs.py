"""Inner products of gradients, pair by pair, in double precision, split by parameter.

    VECTOR  g.h
    OUTER   sum_st (u_s.v_t)(d_s.e_t); the bias (sum_s d_s).(sum_t e_t)
    LOOKUP  sum_st [id_s = id_t] d_s.e_t

A pair's value does not depend on what other pairs are computed with it: equal gradients give equal values.
"""

from __future__ import annotations

import numpy as np

from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.gradients.layout import Block, BlockKind
from sidelight_engines.similarity.gradients.rows import GradientRows


def pair_products(left: GradientRows, right: GradientRows) -> Array:
    """Inner products of the gradients of one example with those of others.

    Args:
        left: one example.
        right: n examples of the same layout.

    Returns:
        (n, parameters) float64.
    """
    layout = left.layout
    products = np.zeros((len(right), len(layout.parameters)))
    for block, first in zip(layout.blocks, layout.first_fields, strict=True):
        fields = range(first, first + len(block.field_widths))
        scale = left.scales[:, fields].astype(np.float64) * right.scales[:, fields]
        a = [np.asarray(left.fields[f][0]) for f in fields]
        b = [np.asarray(right.fields[f]) for f in fields]
        if block.kind is BlockKind.VECTOR:
            _vector(block, a[0], b[0], scale[:, 0], products)
        elif block.kind is BlockKind.OUTER:
            _outer(block, a, b, scale, products)
        else:
            _lookup(block, a, b, scale[:, 1], products)
    return products


def _vector(block: Block, a: Array, b: Array, scale: Array, products: Array) -> None:
    start = 0
    for part in block.parts:
        span = slice(start, start + part.size)
        products[:, part.parameter] = scale * _dots(a[span].astype(np.float64), b[:, span])
        start += part.size


def _dots(a: Array, b: Array) -> Array:
    # A sum along contiguous rows: its order, unlike that of a matrix product, is the same for every row.
    product: Array = np.multiply(a, b, dtype=np.float64).sum(axis=-1)
    return product


def _outer(block: Block, a: list[Array], b: list[Array], scale: Array, products: Array) -> None:
    u, d = a[0].reshape(-1, block.left), a[1].reshape(-1, block.right)
    n = len(b[0])
    v, e = b[0].reshape(n, -1, block.left), b[1].reshape(n, -1, block.right)
    total = np.zeros(n)
    for s in range(len(u)):
        inner = _dots(u[s].astype(np.float64), v) * _dots(d[s].astype(np.float64), e)
        total += inner.sum(axis=1)
    products[:, block.parts[0].parameter] = total * scale[:, 0] * scale[:, 1]
    if block.has_bias:
        sums = _dots(d.sum(axis=0, dtype=np.float64), e.sum(axis=1, dtype=np.float64))
        products[:, block.parts[1].parameter] = sums * scale[:, 1]


def _lookup(block: Block, a: list[Array], b: list[Array], scale: Array, products: Array) -> None:
    d = a[1].reshape(-1, block.right)
    e = b[1].reshape(len(b[0]), -1, block.right)
    total = np.zeros(len(b[0]))
    for s in range(len(d)):
        total += (_dots(d[s].astype(np.float64), e) * (a[0][s] == b[0])).sum(axis=1)
    products[:, block.parts[0].parameter] = total * scale
