"""Weighted sums over rows within an ONNX graph.

Whole tensors need not leave ONNX Runtime then. Convolutions work on blocks of channels; a tensor that leaves is put in
order first, number by number, which takes longer than the convolution. The order of the numbers does not matter to
a sum over rows, so the sum is put in order instead of the rows. Only the graph that ONNX Runtime has optimised tells
where it puts them in order, so sums are added to that: saved as ONNX Runtime does on request, and loaded again
within the same process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.runtime.feeds import checked_feed
from sidelight_engines.runtime.runtime import Array, ForwardPass

SHAPE = "sidelight/rows"
"""An input of int64: sums, rows of each, -1."""
WEIGHTS = "sidelight/weights"
"""Inputs of (1, rows of each sum), one for each type: this and the type's name."""

_ELEMENTS = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
_REORDER = "ReorderOutput"
# Before, Slice has attributes for operands.
_FIRST_OPSET = 10


def add_sums(model: onnx.ModelProto, summed: Mapping[str, str]) -> dict[str, str]:
    """Replaces outputs of a model by weighted sums over their rows, in place.

    Args:
        model: an ONNX model, optimised or not, that has `SHAPE` and `WEIGHTS` for inputs; see `declare`.
        summed: names of its outputs -> type.

    Returns:
        Output -> name of the output that stands in its place, (sums, ...).
    """
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    sums = {}
    for number, (tensor, dtype) in enumerate(summed.items()):
        prefix = f"sidelight/{number}"
        maker = makers.get(tensor)
        reorder = maker if maker is not None and maker.op_type == _REORDER else None
        source = tensor if reorder is None else reorder.input[0]
        whole = f"{prefix}/sum"
        graph.node.extend(_sum(prefix, source, WEIGHTS + dtype))
        if reorder is not None:
            ordered = onnx.NodeProto()
            ordered.CopyFrom(reorder)
            ordered.name = ordered.output[0] = f"{prefix}/ordered"
            ordered.input[0] = whole
            graph.node.append(ordered)
            whole = ordered.output[0]
        sums[tensor] = whole
    used = {name for node in graph.node for name in node.input}
    kept = [output for output in graph.output if output.name not in summed]
    fetched = {output.name for output in kept}
    for tensor in summed:
        maker = makers.get(tensor)
        if maker is not None and maker.op_type == _REORDER and not used.union(fetched).intersection(maker.output):
            graph.node.remove(maker)
    del graph.output[:]
    graph.output.extend([*kept, *(onnx.ValueInfoProto(name=name) for name in sums.values())])
    graph.initializer.extend(_constants())
    return sums


def declare(model: onnx.ModelProto, dtypes: Sequence[str]) -> None:
    """Adds the inputs that `add_sums` reads, in place.

    Args:
        model: the model, before it is optimised.
        dtypes: the types of what will be summed.
    """
    model.graph.input.append(helper.make_tensor_value_info(SHAPE, TensorProto.INT64, [3]))
    for dtype in dtypes:
        model.graph.input.append(helper.make_tensor_value_info(WEIGHTS + dtype, _ELEMENTS[dtype], [1, None]))


def can_sum(model: onnx.ModelProto) -> bool:
    """Whether the operations of `add_sums` mean in this model what they mean there."""
    return any(entry.domain in ("", "ai.onnx") and entry.version >= _FIRST_OPSET for entry in model.opset_import)


def _sum(prefix: str, source: str, weights: str) -> list[onnx.NodeProto]:
    """(sums * rows, ...) -> (sums, ...)."""
    nodes = [
        ("Reshape", [source, SHAPE], "grouped"),
        ("MatMul", [weights, f"{prefix}/grouped"], "weighed"),
        ("Shape", [source], "shape"),
        ("Slice", [f"{prefix}/shape", "sidelight/one", "sidelight/most"], "row"),
        ("Concat", ["sidelight/minus_one", f"{prefix}/row"], "whole"),
        ("Reshape", [f"{prefix}/weighed", f"{prefix}/whole"], "sum"),
    ]
    made = [helper.make_node(op, inputs, [f"{prefix}/{name}"], f"{prefix}/{name}") for op, inputs, name in nodes]
    made[4].attribute.append(helper.make_attribute("axis", 0))
    return made


def _constants() -> list[onnx.TensorProto]:
    values = {"one": 1, "minus_one": -1, "most": np.iinfo(np.int64).max}
    return [numpy_helper.from_array(np.array([value], np.int64), f"sidelight/{name}") for name, value in values.items()]


class OnnxSummingPass:
    """A summing pass through one session; the batch axis of its model is free. See `SummingPass`.

    Args:
        run: evaluates the session, given a feed that is checked; fetches the sums first.
        inputs: the model's.
        count: how many tensors are summed.
        dtypes: their types.
    """

    def __init__(self, run: ForwardPass, inputs: Sequence[TensorSpec], count: int, dtypes: Sequence[str]) -> None:
        self._run = run
        self._inputs = inputs
        self._count = count
        self._dtypes = {spec.name: spec.dtype for spec in inputs}
        self._shapes = {spec.name: spec.shape for spec in inputs}
        self._weight_types = dtypes

    def __call__(self, inputs: Mapping[str, Array], weights: Array) -> tuple[list[Array], list[Array]]:
        """See `SummingPass`."""
        checked = checked_feed(inputs, self._dtypes, self._shapes)
        feed = {spec.tensor: checked[spec.name] for spec in self._inputs}
        rows = len(next(iter(feed.values())))
        feed[SHAPE] = np.array([rows // len(weights), len(weights), -1], np.int64)
        feed |= {WEIGHTS + dtype: weights.astype(dtype)[None, :] for dtype in self._weight_types}
        values = self._run(feed)
        return values[: self._count], values[self._count :]
