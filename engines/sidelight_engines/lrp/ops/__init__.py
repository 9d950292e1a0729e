"""How relevance passes each operation: one family per file, in one table."""

from sidelight_engines.lrp.ops import (
    activations,
    attention,
    linear,
    movement,
    normalization,
    pooling,
    products,
    selection,
    sums,
)
from sidelight_engines.lrp.ops.registry import COVERED, entry_for, linear_map_of, pattern_at

__all__ = [
    "COVERED",
    "activations",
    "attention",
    "entry_for",
    "linear",
    "linear_map_of",
    "movement",
    "normalization",
    "pattern_at",
    "pooling",
    "products",
    "selection",
    "sums",
]
