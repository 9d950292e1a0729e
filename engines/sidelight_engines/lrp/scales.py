"""Folds constant factors behind a product with constant weights into the weights, in a graph's definition.

That is what batch normalisation leaves behind a convolution without a bias. Exporters and TensorFlow's own optimiser
fold it too, so that both formats of one network compute the same numbers in the same order; a network with residual
connections can make a difference in rounding a thousand times as large in relevance.

The factor's node stays, as one that does nothing: names, and the layers that they belong to, do not change. The values
between the two do, so this is no graph to take gradients by them of; relevance is the same on both sides of a factor.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from sidelight_engines.runtime.runtime import Array

_PRODUCTS = frozenset({"Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul"})


def fold_scales(graph_def: Any, target: str) -> Any:
    """Folds.

    Args:
        graph_def: a flat graph.
        target: name of the tensor that must keep its value.

    Returns:
        The changed graph, without constants that nothing reads any more.
    """
    changed = type(graph_def)()
    changed.CopyFrom(graph_def)
    nodes = {node.name: node for node in changed.node}
    readers = Counter(_node(source) for node in changed.node for source in node.input)
    added = []
    for node in changed.node:
        found = _factor_of(node, nodes) if node.op == "Mul" else None
        if found is None:
            continue
        product, factor = found
        if readers[product.name] != 1 or product.name == _node(target):
            continue
        weights = _constant(nodes.get(_node(product.input[1])))
        scaled = None if weights is None else _scaled(product, weights, factor)
        if scaled is None:
            continue
        added.append(_const_node(f"{product.name}/scaled", scaled, type(node)))
        product.input[1] = added[-1].name
        data_type = node.attr["T"].type
        node.op = "Identity"
        del node.input[:]
        node.input.append(product.name)
        node.attr.clear()
        node.attr["T"].type = data_type
    changed.node.extend(added)
    read = {_node(source) for node in changed.node for source in node.input} | {_node(target)}
    kept = [node for node in changed.node if node.op != "Const" or node.name in read]
    lighter = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    lighter.node.extend(kept)
    return lighter


def _factor_of(node: Any, nodes: dict[str, Any]) -> tuple[Any, Array] | None:
    """The product that a Mul reads, and the constant that it multiplies by."""
    for first, second in ((0, 1), (1, 0)):
        product, other = nodes.get(node.input[first]), nodes.get(_node(node.input[second]))
        factor = _constant(other)
        if product is not None and product.op in _PRODUCTS and factor is not None:
            return product, factor
    return None


def _scaled(product: Any, weights: Array, factor: Array) -> Array | None:
    """Weights times a factor for each output channel, in their own type; None if it is another factor."""
    if product.op == "MatMul":
        turned = product.attr["transpose_b"].b
        channels = weights.shape[0 if turned else 1]
    else:
        if product.attr["data_format"].s not in (b"NHWC", b"NDHWC"):
            return None
        turned = False
        depthwise = product.op == "DepthwiseConv2dNative"
        channels = weights.shape[-1] * (weights.shape[-2] if depthwise else 1)
    if factor.size not in (1, channels) or (factor.size > 1 and factor.shape[-1] != channels):
        return None
    by_channel = np.broadcast_to(factor.ravel(), (channels,))
    if product.op == "DepthwiseConv2dNative":
        by_channel = by_channel.reshape(weights.shape[-2:])
    scaled: Array = (weights * (by_channel[:, np.newaxis] if turned else by_channel)).astype(weights.dtype)
    return scaled


def _constant(node: Any) -> Array | None:
    import tensorflow as tf

    if node is None or node.op != "Const":
        return None
    value: Array = tf.make_ndarray(node.attr["value"].tensor)
    return value if value.dtype in (np.float32, np.float64) else None


def _const_node(name: str, value: Array, kind: Any) -> Any:
    import tensorflow as tf

    node = kind(name=name, op="Const")
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return node


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
