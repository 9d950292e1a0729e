"""Products of stored fields with a few vectors: where the time of a scan goes.

All of it is done by ONNX Runtime. It widens float16 with the processor's instructions for that, which NumPy does
not use, and its threads are the caller's: NumPy's BLAS has threads of its own, which wait for each other for
seconds where other processes want the processors too. Rows are widened and multiplied block after block in one
call, each block short enough to stay in a core's cache.

ONNX Runtime is imported on use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sidelight_engines.runtime.runtime import Array

# Numbers of a block. A quarter of a million floats take 1 MiB of the 1 to 2 that a core's cache holds. With many
# queries, longer blocks make up for reading the queries again for each.
_CACHED_VALUES = 2**18
_MANY_VALUES = 2**20
# From how many queries on it pays to have them rearranged for multiplication before the first block.
_MANY_QUERIES = 8
_BLOCKS_PER_CALL = 32
_MANY_BLOCKS_PER_CALL = 1


class FieldProducts:
    """Multiplies rows of fields with queries. Safe to call from several threads.

    Args:
        queries: by field, (width, q) float32.
        plain: fields without queries, which are only widened -> their width.
        dtype: of the rows, float32 or float16.

    Attributes:
        step: how many rows to hand over at a time.
    """

    def __init__(self, queries: Mapping[int, Array], plain: Mapping[int, int], dtype: np.dtype[Any]) -> None:
        columns = max((matrix.shape[1] for matrix in queries.values()), default=0)
        many = columns >= _MANY_QUERIES
        widths = {**{field: len(matrix) for field, matrix in queries.items()}, **plain}
        self._fields = tuple(widths)
        self._block = int(np.clip((_MANY_VALUES if many else _CACHED_VALUES) // max(1, sum(widths.values())), 8, 8192))
        self._queries = {f"q{field}": np.ascontiguousarray(matrix) for field, matrix in queries.items()}
        self._plain = bool(plain)
        self.step = self._block if plain else self._block * (_MANY_BLOCKS_PER_CALL if many else _BLOCKS_PER_CALL)
        self._session = _make_session(widths, self._queries, dtype, fixed=many, blockwise=not plain)
        self._given = {} if many else self._queries

    def __call__(self, rows: Mapping[int, Array]) -> dict[int, Array]:
        """Multiplies some rows.

        Args:
            rows: by field, (n, width).

        Returns:
            By field, the products with the queries, (n, q) float32; for fields without queries the rows, float32.
        """
        if not self._fields:
            return {}
        count = len(next(iter(rows.values())))
        if self._plain:
            return dict(zip(self._fields, self._run({f: rows[f] for f in self._fields}), strict=True))
        whole = count - count % self._block
        spans = [(0, whole, self._block), (whole, count, count - whole)]
        parts = [
            self._run(
                {field: rows[field][start:stop].reshape(-1, block, rows[field].shape[1]) for field in self._fields}
            )
            for start, stop, block in spans
            if start < stop
        ]
        return {
            field: np.concatenate([part[i].reshape(-1, part[i].shape[-1]) for part in parts])
            for i, field in enumerate(self._fields)
        }

    def _run(self, rows: Mapping[int, Array]) -> list[Array]:
        feed = {f"r{field}": np.ascontiguousarray(array) for field, array in rows.items()}
        made: list[Array] = self._session.run([f"p{field}" for field in self._fields], {**feed, **self._given})
        return made


class MatrixProduct:
    """a b for float32 matrices, in the caller's thread."""

    def __init__(self) -> None:
        from onnx import TensorProto, helper

        tensor = helper.make_tensor_value_info
        nodes = [helper.make_node("MatMul", ["a", "b"], ["c"])]
        inputs = [tensor(name, TensorProto.FLOAT, [None, None]) for name in "ab"]
        self._session = _session(
            helper.make_graph(nodes, "product", inputs, [tensor("c", TensorProto.FLOAT, [None, None])])
        )

    def __call__(self, a: Array, b: Array) -> Array:
        """The product."""
        made: list[Array] = self._session.run(
            None, {"a": np.ascontiguousarray(a, np.float32), "b": np.ascontiguousarray(b, np.float32)}
        )
        return made[0]


def _make_session(
    widths: Mapping[int, int], queries: Mapping[str, Array], dtype: np.dtype[Any], *, fixed: bool, blockwise: bool
) -> Any:
    """Widens and multiplies (n, width), or block by block (blocks, n, width).

    Args:
        widths: by field.
        queries: by ``q`` and field.
        dtype: of the rows.
        fixed: whether the queries are part of the graph rather than fed.
        blockwise: whether rows come in blocks.
    """
    from onnx import TensorProto, helper, numpy_helper

    tensor = helper.make_tensor_value_info
    kind = TensorProto.FLOAT16 if dtype == np.float16 else TensorProto.FLOAT
    inner = "_block" if blockwise else ""
    nodes = []
    for field in widths:
        multiplied = f"q{field}" in queries
        wide = f"w{field}" if multiplied else f"p{field}{inner}"
        nodes.append(helper.make_node("Cast", [f"r{field}{inner}"], [wide], to=TensorProto.FLOAT))
        if multiplied:
            nodes.append(helper.make_node("MatMul", [wide, f"q{field}"], [f"p{field}{inner}"]))
    constants = [numpy_helper.from_array(matrix, name) for name, matrix in queries.items()] if fixed else []
    fed = [] if fixed else [tensor(name, TensorProto.FLOAT, list(matrix.shape)) for name, matrix in queries.items()]
    rows = [tensor(f"r{field}{inner}", kind, [None, width]) for field, width in widths.items()]
    made = [tensor(f"p{field}{inner}", TensorProto.FLOAT, [None, None]) for field in widths]
    if not blockwise:
        return _session(helper.make_graph(nodes, "rows", rows + fed, made, constants))
    body = helper.make_graph(nodes, "block", rows, made, constants)
    names = [f"r{field}" for field in widths], [f"p{field}" for field in widths]
    scan = helper.make_node("Scan", *names, body=body, num_scan_inputs=len(widths))
    blocks = [tensor(f"r{field}", kind, [None, None, width]) for field, width in widths.items()]
    outputs = [tensor(f"p{field}", TensorProto.FLOAT, [None, None, None]) for field in widths]
    return _session(helper.make_graph([scan], "blocks", blocks + fed, outputs))


def _session(graph: Any) -> Any:
    import onnxruntime
    from onnx import helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
