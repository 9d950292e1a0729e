"""Gradient indexes: where they lie, who may use them, how long they stay (docs/similarity.md).

The workers build and read them (`shelf`), the front process clears away (`store`).
"""
