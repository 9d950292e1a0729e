"""Names of the operations that relevance passes."""

from __future__ import annotations

TENSORFLOW_OPS: frozenset[str] = frozenset()
ONNX_OPS: frozenset[str] = frozenset()
