"""The backward walk: relevance from what is explained to the inputs, operation by operation.

The walk runs while a `tf.function` is traced. It visits the operations of the imported graph from the last to the
first; each takes the relevance that came to its outputs, and its entry in the table hands it down to what the
operation reads. All of it becomes one graph with the forward pass, so that what was computed there is used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidelight_engines.errors import OpProblem, UnsupportedOp
from sidelight_engines.lrp.distribution import LinearStep, distribute
from sidelight_engines.lrp.maps.weights import Weights
from sidelight_engines.lrp.ops.movement import by_gradient, move_back
from sidelight_engines.lrp.ops.registry import entry_for, linear_map_of, pattern_at
from sidelight_engines.lrp.parameters import LrpFallback
from sidelight_engines.lrp.rules import PlainGradient, Rule
from sidelight_engines.lrp.structure.chains import Chain, find_chain, scale_for
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.lrp.walk.node import Contributions, Node, Walking, wide


def find_chains(view: GraphView) -> dict[str, Chain]:
    """The linear operations of a graph with what is folded into each, by name."""
    maps = {op.name: linear_map_of(op, view) for op in view.order if any(view.depends(made) for made in op.outputs)}
    return {name: find_chain(found, view) for name, found in maps.items() if found is not None}


def walk(walking: Walking, chains: Mapping[str, Chain], start: Any) -> dict[str, Any]:
    """Propagates relevance.

    Args:
        walking: the graph and the settings; takes the ledger, the applied rules and the relevance of all tensors.
        chains: what `find_chains` gave.
        start: the relevance of the target.

    Returns:
        Input name -> its relevance, for those that any came to.

    Raises:
        UnsupportedOp: operations without an entry; all that relevance comes to before the first are named.
    """
    return _Walk(walking, chains).run(start)


class _Walk:
    def __init__(self, walking: Walking, chains: Mapping[str, Chain]) -> None:
        self._walking = walking
        self._view = walking.view
        self._ends = {chain.end.name: chain for chain in chains.values()}
        self._inside = {op.name for chain in chains.values() for op in (chain.map.op, *chain.links)} - set(self._ends)
        self._arrived: dict[str, list[Any]] = {}
        self._roots = {tensor.name: name for name, tensor in self._view.inputs.items()}

    def run(self, start: Any) -> dict[str, Any]:
        view, ledger = self._view, self._walking.ledger
        target = view.target
        begun = self._walking.replicas.total(start, view.batch_axis(target))  # type: ignore[arg-type]
        ledger.book(self._walking.layer_of(target.op.name), "relevance_out", begun)
        ledger.book("", "relevance_out", begun)
        self._arrived[target.name] = [start]
        for op in reversed(view.order):
            if op.name not in self._inside and any(made.name in self._arrived for made in op.outputs):
                self._visit(op)
        found = {}
        for tensor, name in self._roots.items():
            relevance = self._collected(tensor)
            if relevance is not None:
                found[name] = relevance
        return found

    def _collected(self, tensor: str) -> Any:
        import tensorflow as tf

        parts = self._arrived.pop(tensor, None)
        if parts is None:
            return self._walking.passed.get(tensor)
        whole = parts[0] if len(parts) == 1 else tf.add_n(parts)
        self._walking.zeros.after_sum(parts, whole)
        self._walking.passed[tensor] = whole
        return whole

    def _visit(self, op: Any) -> None:
        if any(made.name in self._roots for made in op.outputs):
            return
        came = [self._collected(made.name) for made in op.outputs]
        chain = self._ends.get(op.name)
        if chain is not None:
            node = Node(chain.map.op, self._walking, [None] * len(chain.map.op.outputs))
            self._hand_down(node, _through_chain(node, chain, came[0], self._pass_layers))
            return
        node = Node(op, self._walking, came)
        handed = self._contributions(node)
        self._walking.zeros.after_op(op, came, handed)
        self._hand_down(node, handed)

    def _contributions(self, node: Node) -> Contributions:
        op = node.op
        if isinstance(node.rule(), PlainGradient):
            return _by_plain_gradient(node, PlainGradient(), fallback=False)
        found = pattern_at(op, self._view)
        if found is not None:
            return found.hand_down(node)
        entry = entry_for(op)
        if entry is not None:
            return entry(node)
        if node.options.fallback is LrpFallback.GRADIENT:
            return _by_plain_gradient(node, PlainGradient(), fallback=True)
        reason = "layer-wise relevance propagation has no entry for it in this form; ask for the gradient as fallback"
        raise UnsupportedOp([OpProblem(op.name, op.type, "", 0, reason)])

    def _hand_down(self, node: Node, contributions: Contributions) -> None:
        for tensor, relevance in contributions:
            self._arrived.setdefault(tensor.name, []).append(relevance)
            root = tensor.name in self._roots
            self._walking.adopted.setdefault(tensor.op.name, node.layer)
            above = self._walking.layer_of(tensor.op.name)
            if root or above != node.layer:
                total = self._walking.replicas.total(relevance, node.where(tensor))
                self._walking.ledger.book(node.layer, "relevance_in", total)
                self._walking.ledger.book("" if root else above, "relevance_in" if root else "relevance_out", total)

    def _pass_layers(self, chain: Chain, relevance: Any) -> None:
        """Books what layers that were folded into an operation pass on as it is."""
        ops = [*reversed(chain.links), chain.map.op]
        own = self._walking.layer_of(chain.map.op.name)
        for op in ops[1:]:
            self._walking.adopted.setdefault(op.name, own)
        layers = list(dict.fromkeys(self._walking.layer_of(op.name) for op in ops))
        where = self._view.batch_axis(chain.end.outputs[0])
        if len(layers) < 2 or where is None:
            return
        total = self._walking.replicas.total(relevance, where)
        for upper in layers:
            if upper != own and upper == self._walking.layer_of(chain.end.name):
                self._walking.ledger.book(upper, "relevance_in", total)
            elif upper != own:
                self._walking.ledger.book(upper, "relevance_out", total)
                self._walking.ledger.book(upper, "relevance_in", total)
        if own != self._walking.layer_of(chain.end.name):
            self._walking.ledger.book(own, "relevance_out", total)


def _by_plain_gradient(node: Node, rule: Rule, fallback: bool) -> Contributions:
    """By TensorFlow's gradient; what that adds or takes is sink."""
    node.apply(rule, fallback)
    op = node.op
    sources = [
        (i, tensor) for i, tensor in enumerate(op.inputs) if node.view.carries(tensor) and tensor.dtype.is_floating
    ]
    try:
        handed = [(tensor, by_gradient(node, i)) for i, tensor in sources]
    except LookupError as error:
        raise node.refusal("TensorFlow has no gradient for it") from error
    handed = [(tensor, relevance) for tensor, relevance in handed if relevance is not None]
    difference: Any = 0.0
    for output, made in enumerate(op.outputs):
        if node.came(output):
            difference += node.replicas.total(node.relevance_of(output), node.where(made))
    for tensor, relevance in handed:
        difference -= node.replicas.total(relevance, node.where(tensor))
    node.book_total("sink", difference)
    return handed


def _through_chain(node: Node, chain: Chain, relevance: Any, pass_layers: Any) -> Contributions:
    """Through a linear operation and what was folded into it."""
    pass_layers(chain, relevance)
    for link in reversed(chain.links):
        node.keep(link.outputs[0], relevance)
        if link in chain.moves:
            relevance = move_back(Node(link, node.walking, [relevance]), relevance)
    node.keep(chain.map.u, relevance)
    step = _step(node, chain, relevance)
    rule = node.rule() or node.options.averages
    node.apply(rule)
    handed = distribute(node, step, rule, relevance)
    node.walking.zeros.after_rule(rule, handed, chain.map.x)
    return [(chain.map.x, handed)]


def _step(node: Node, chain: Chain, relevance: Any) -> LinearStep:
    import tensorflow as tf

    linear, view, zeros = chain.map, node.view, node.walking.zeros
    end = None if chain.moves else chain.end.outputs[0]
    made = wide(linear.u)
    scale = scale_for(chain, {axis: made.shape[axis] for axis in linear.channel_axes})
    return LinearStep(
        map=linear,
        relevance=relevance,
        weights=_weights(node, chain, scale, made.dtype),
        scale=scale,
        end_tensor=end,
        bias=None if chain.bias is None else tf.constant(chain.bias, made.dtype),
        nonnegative=view.nonnegative(linear.x),
        active_tensor=None if end is None else zeros.active(relevance, end),
        vanishing=end is not None and zeros.vanishes(relevance, end),
        x_where=node.where(linear.x),
        y_where=node.where(linear.u),
    )


def _weights(node: Node, chain: Chain, scale: Any, dtype: Any) -> Weights:
    import numpy as np

    linear = chain.map
    value = linear.weight(node.view)
    if value is None:
        return Weights(np.ones(()), dtype)
    if scale is None:
        return Weights(value, dtype, linear.weight_tensor)
    if isinstance(value, np.ndarray):
        return Weights(linear.scaled(value.astype(np.float64), scale), dtype)
    return Weights(linear.scaled(wide(value), scale.astype(dtype.as_numpy_dtype)), dtype)
