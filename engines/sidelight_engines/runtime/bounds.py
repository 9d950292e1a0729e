"""How large the values of a TensorFlow graph can be, so that what must be finite need not be looked at.

Where |x| <= B, a convolution or product with weights w gives at most B sum |w|, in whatever order it adds; a bias adds
max |b|, activations and pooling add nothing. A bound far below the greatest float32 proves that no value was infinite
or NaN on the way, for the price of a few numbers instead of one more reading of the largest tensors. Where nothing is
proven so, the values are added up: no sum of numbers of which one is NaN or infinite is finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# The greatest float32 is 3e38. Algorithms for convolutions work with values that are larger than their result, by less
# than a thousand; a mean adds up before it divides; and bounds are rounded.
_LIMIT = 1e30
# What they give is within the range of what they read: their first input.
_WITHIN = frozenset(
    {"AvgPool", "ExpandDims", "Identity", "Max", "MaxPool", "Mean", "Relu", "Relu6", "Reshape", "Squeeze", "Transpose"}
)
_PRODUCTS = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul"})
_SUMS = frozenset({"Add", "AddV2", "BiasAdd", "Sub"})
_NOT_NEGATIVE = frozenset({"Relu", "Relu6"})
_INFINITE = np.float32(np.inf)


def finite_proofs(inputs: Sequence[Any], tensors: Sequence[Any], greatest: Sequence[Any]) -> list[Any]:
    """Numbers that are finite only if tensors are, in the graph that is being traced.

    Args:
        inputs: the symbolic inputs of the graph.
        tensors: symbolic, of float32, axis 0 the batch.
        greatest: for each, its greatest values, symbolic, which are right if it is finite.

    Returns:
        For each tensor, symbolic, (rows,).
    """
    import tensorflow as tf

    asked = {tensor.ref(): values for tensor, values in zip(tensors, greatest, strict=True)}
    bounds = {tensor.ref(): _of_input(tensor) for tensor in inputs}
    found: dict[Any, Any] = {}
    # In the order of evaluation: what an operation reads comes before it, or is taken for unknown.
    for operation in tf.compat.v1.get_default_graph().get_operations() if asked else ():
        for tensor in operation.outputs:
            key = tensor.ref()
            if key not in bounds:
                bound = _by_operation(operation, bounds)
                # What it reads is limited already where the bound is the same.
                bounds[key] = bound if operation.type in _WITHIN else _limited(bound)
            if key not in asked:
                continue
            bound = bounds[key]
            found[key] = _sum(tensor) if bound is None else tf.fill([tf.shape(tensor)[0]], bound)
            if operation.type in _NOT_NEGATIVE:
                # Its greatest value is the greatest without its sign too: a closer bound for what follows.
                proven = tf.reduce_all(tf.math.is_finite(found[key]))
                bounds[key] = tf.where(proven, tf.reduce_max(asked[key]), _INFINITE)
    return [found[tensor.ref()] for tensor in tensors]


def _limited(bound: Any | None) -> Any | None:
    """The bound, or infinity if it is NaN or so large that a value might have become infinite."""
    import tensorflow as tf

    # The operation itself, because a network has hundreds and `tf.where` takes four times as long to trace.
    return None if bound is None else tf.raw_ops.SelectV2(condition=bound < _LIMIT, t=bound, e=_INFINITE)


def _by_operation(operation: Any, bounds: Mapping[Any, Any | None]) -> Any | None:
    """The bound of what an operation gives, from those of what it reads; None if there is no rule for it."""
    import tensorflow as tf

    kind, inputs = operation.type, operation.inputs
    if kind in _WITHIN:
        return bounds.get(inputs[0].ref())
    if kind in _PRODUCTS:
        read, weights = bounds.get(inputs[0].ref()), _size(inputs[1], np.sum)
        return None if read is None or weights is None else read * weights
    if kind in _SUMS or kind == "Mul":
        # Constants are looked at where they are read: most are the weights of products.
        one, other = (
            _size(value, np.max) if bounds.get(value.ref()) is None else bounds[value.ref()] for value in inputs
        )
        if one is None or other is None:
            return None
        return one * other if kind == "Mul" else one + other
    if kind == "Cast" and inputs[0].dtype.is_integer and operation.outputs[0].dtype == tf.float32:
        return tf.constant(float(inputs[0].dtype.max), tf.float32)
    return None


def _of_input(tensor: Any) -> Any | None:
    import tensorflow as tf

    if tensor.dtype != tf.float32:
        return None
    finite = tf.reduce_all(tf.math.is_finite(tensor))
    return _limited(tf.where(finite, tf.reduce_max(tf.abs(tensor)), _INFINITE))


def _size(tensor: Any, of: Any) -> Any | None:
    """The greatest, or the sum, of the absolute values of a constant of float32; None if it is none."""
    import tensorflow as tf

    operation = tensor.op
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    if operation.type != "Const" or tensor.dtype != tf.float32:
        return None
    return tf.constant(float(of(np.abs(tf.get_static_value(operation.outputs[0])), initial=0.0)), tf.float32)


def _sum(tensor: Any) -> Any:
    """The sum of each row; a product with ones takes half the time of `reduce_sum`."""
    import tensorflow as tf

    rows = tf.reshape(tensor, [tf.shape(tensor)[0], tf.reduce_prod(tf.shape(tensor)[1:])])
    return tf.linalg.matvec(rows, tf.ones([tf.shape(rows)[1]], rows.dtype))
