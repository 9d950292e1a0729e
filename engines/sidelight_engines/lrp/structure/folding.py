"""Folds constants behind a product with constant weights into its weights and one bias, in a graph's definition.

Factors and addends per channel are what batch normalisation leaves behind a convolution. Exporters and TensorFlow's own
optimiser fold some of them too; with all folded, both formats of one network compute the same numbers in the same order
(a network with residual connections can make a difference in rounding a thousand times as large in relevance), and
TensorFlow makes one kernel of the product, its bias and its ReLU.

The nodes stay, all but the last as ones that do nothing: names, and the layers that they belong to, do not change. The
values between do, so this is no graph to take gradients by them of; relevance is the same on either side of a factor
or an addend.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from sidelight_engines.runtime.runtime import Array

_PRODUCTS = frozenset({"Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul"})
_SUMS = frozenset({"Add", "AddV2", "BiasAdd"})


def fold_affine(graph_def: Any, target: str) -> Any:
    """Folds.

    Args:
        graph_def: a flat graph.
        target: name of the tensor that must keep its value.

    Returns:
        The changed graph, without constants that nothing reads any more.
    """
    changed = type(graph_def)()
    changed.CopyFrom(graph_def)
    folding = _Folding(changed, _node(target))
    for node in list(changed.node):
        folding.begin_at(node)
    read = {_node(source) for node in changed.node for source in node.input} | {_node(target)}
    kept = [node for node in changed.node if node.op != "Const" or node.name in read]
    lighter = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    lighter.node.extend(kept)
    return lighter


@dataclass(frozen=True)
class _Link:
    """An operation behind a product: y = factor x + addend, by constants of one number per channel.

    Attributes:
        node: the operation; an Identity is a link too.
        factor: of shape (channels,); None for 1.
        addend: likewise; None for 0.
    """

    node: Any
    factor: Array | None = None
    addend: Array | None = None


class _Folding:
    def __init__(self, graph_def: Any, target: str) -> None:
        self._graph_def = graph_def
        self._target = target
        self._nodes = {node.name: node for node in graph_def.node}
        self._readers: dict[str, list[Any]] = {}
        for node in graph_def.node:
            for source, times in Counter(_node(source) for source in node.input).items():
                self._readers.setdefault(source, []).extend([node] * times)

    def begin_at(self, product: Any) -> None:
        """Folds what follows a node, if it is a product with constant weights."""
        weights = self._constant(product.input[1]) if product.op in _PRODUCTS else None
        channels = None if weights is None else _channels(product, weights)
        if weights is None or channels is None:
            return
        links = self._links(product, channels)
        while links and links[-1].node.op == "Identity":
            links.pop()
        if not links or [link.node.op for link in links] == ["BiasAdd"]:
            return
        scale: Array | None = None
        bias: Array | None = None
        for link in links:
            if link.factor is not None:
                scale = link.factor if scale is None else scale * link.factor
                bias = None if bias is None else bias * link.factor
            if link.addend is not None:
                bias = link.addend if bias is None else bias + link.addend
        if scale is not None:
            product.input[1] = self._added(f"{product.name}/scaled", _scaled(product, weights, scale))
        for link, before in zip(links, [product, *(link.node for link in links)], strict=False):
            _become(link.node, "Identity", before.name)
        if bias is not None:
            last = links[-1].node
            _become(last, "BiasAdd", last.input[0], self._added(f"{last.name}/bias", bias.astype(weights.dtype)))
            last.attr["data_format"].s = b"NHWC"

    def _links(self, product: Any, channels: int) -> list[_Link]:
        links: list[_Link] = []
        node = product
        while node.name != self._target:
            readers = self._readers.get(node.name, [])
            link = self._link(readers[0], node, channels) if len(readers) == 1 else None
            if link is None:
                break
            links.append(link)
            node = link.node
        return links

    def _link(self, node: Any, before: Any, channels: int) -> _Link | None:
        if node.op == "Identity":
            return _Link(node)
        if len(node.input) != 2 or node.op not in (*_SUMS, "Mul"):
            return None
        if node.op == "BiasAdd" and node.attr["data_format"].s == b"NCHW":
            return None
        other = node.input[1] if _node(node.input[0]) == before.name else node.input[0]
        value = self._constant(other)
        if value is None or value.size not in (1, channels) or (value.size > 1 and value.shape[-1] != channels):
            return None
        by_channel = np.broadcast_to(value.astype(np.float64).ravel(), (channels,))
        return _Link(node, factor=by_channel) if node.op == "Mul" else _Link(node, addend=by_channel)

    def _constant(self, source: str) -> Array | None:
        import tensorflow as tf

        node = self._nodes.get(_node(source))
        if node is None or node.op != "Const":
            return None
        value: Array = tf.make_ndarray(node.attr["value"].tensor)
        return value if value.dtype in (np.float32, np.float64) else None

    def _added(self, name: str, value: Array) -> str:
        import tensorflow as tf

        while name in self._nodes:
            name += "_"
        node = self._nodes[name] = self._graph_def.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return name


def _become(node: Any, op: str, *inputs: str) -> None:
    data_type = node.attr["T"].type
    node.op = op
    del node.input[:]
    node.input.extend(inputs)
    node.attr.clear()
    node.attr["T"].type = data_type


def _channels(product: Any, weights: Array) -> int | None:
    """How many output channels a product has, if they are its last axis."""
    if product.op == "MatMul":
        return int(weights.shape[0 if product.attr["transpose_b"].b else 1])
    if product.attr["data_format"].s not in (b"NHWC", b"NDHWC"):
        return None
    return int(weights.shape[-1] * (weights.shape[-2] if product.op == "DepthwiseConv2dNative" else 1))


def _scaled(product: Any, weights: Array, factor: Array) -> Array:
    """Weights times a factor for each output channel, in their own type."""
    if product.op == "DepthwiseConv2dNative":
        factor = factor.reshape(weights.shape[-2:])
    elif product.op == "MatMul" and product.attr["transpose_b"].b:
        factor = factor[:, np.newaxis]
    scaled: Array = (weights * factor).astype(weights.dtype)
    return scaled


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
