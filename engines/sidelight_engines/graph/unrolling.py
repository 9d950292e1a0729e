"""Unrolls the loops of a frozen graph, so that what happens at each step is in sight.

A recurrent layer is one operation in a frozen graph, While, whose body is a function, and its sequence is a list of
tensors. Relevance goes from step to step and must see both. With the lengths of the inputs given, how often a loop
runs is known before it runs: counters and limits are computed here, in Python, while the graph is copied; every step
becomes a copy of the body, every list a list of the copied tensors, and what does not change from step to step is
copied once.

TensorFlow is imported on use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sidelight_engines.errors import OpProblem, UnsupportedOp
from sidelight_engines.graph.static_values import StaticValues

LOOPS = frozenset({"StatelessWhile", "While"})
"""Operations that run a function again and again."""

LONGEST_LOOP = 256
"""The most steps that are unrolled: more would take minutes to trace."""

_LISTS = frozenset(
    {"EmptyTensorList", "TensorListFromTensor", "TensorListGather", "TensorListGetItem", "TensorListLength"}
    | {"TensorListPopBack", "TensorListPushBack", "TensorListReserve", "TensorListSetItem", "TensorListStack"}
)

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_BRANCHES = frozenset({"If", "StatelessIf"})

UNROLLED: frozenset[str] = LOOPS | _LISTS | _BRANCHES
"""Operations that are gone from an unrolled graph."""

# Marks the steps in the names of copied nodes; no author's name holds it.
_STEP = "/>"


def has_loops(graph_def: Any) -> bool:
    """Whether a graph has loops."""
    return any(node.op in LOOPS for node in graph_def.node)


def loop_of(name: str) -> str:
    """The loop whose body a copied node comes from; the name itself for any other node."""
    return name.partition(_STEP)[0]


def unroll(graph_def: Any, shapes: Mapping[str, Sequence[int | None]]) -> Any:
    """Copies a graph without its loops.

    Args:
        graph_def: a flat graph, nodes in any order.
        shapes: name of a placeholder -> its shape, with the length of every axis but that of the instances. One that
            is left out keeps its own.

    Returns:
        A `GraphDef`. Nodes outside of loops keep their names; those of a body are named after the loop and step.

    Raises:
        UnsupportedOp: a loop's number of steps depends on the values of the inputs, or is too large.
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        # A function that calls others can be read only where those are known.
        tf.graph_util.import_graph_def(tf.compat.v1.GraphDef(library=graph_def.library, versions=graph_def.versions))
        _Copy(graph, graph_def.library, shapes).run(graph_def.node)
    unrolled = graph.as_graph_def()
    unrolled.library.Clear()
    return unrolled


@dataclass(frozen=True)
class _List:
    """A TensorList while the graph is being copied.

    Attributes:
        items: its tensors; None for one that was not written.
    """

    items: tuple[Any, ...]


@dataclass
class _Frame:
    """The nodes of a graph or function, and what they have become.

    Attributes:
        nodes: name -> node.
        prefix: in front of the names of copies.
        made: name of a tensor (``node:0``) -> copied tensor or list.
    """

    nodes: Mapping[str, Any]
    prefix: str
    made: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Function:
    """A function as a graph.

    Attributes:
        nodes: name -> node; arguments are placeholders.
        arguments: names of the arguments, in order.
        results: names of the tensors that it gives, in order.
    """

    nodes: Mapping[str, Any]
    arguments: tuple[str, ...]
    results: tuple[str, ...]


class _Copy:
    def __init__(self, graph: Any, library: Any, shapes: Mapping[str, Sequence[int | None]]) -> None:
        self._graph = graph
        self._library = {function.signature.name: function for function in library.function}
        self._functions: dict[str, _Function] = {}
        self._shapes = shapes
        self._static = StaticValues()

    def run(self, nodes: Iterable[Any]) -> None:
        frame = _Frame({node.name: node for node in nodes}, "")
        kept: dict[str, tuple[list[Any], Sequence[Any]]] = {}
        for name in frame.nodes:
            self._node(frame, name, kept)

    def _node(self, frame: _Frame, name: str, kept: dict[str, tuple[list[Any], Sequence[Any]]]) -> None:
        """Copies a node after all that it reads; without recursion, since graphs are deep."""
        waiting = [name]
        while waiting:
            node = frame.nodes[waiting[-1]]
            if f"{node.name}:0" in frame.made:
                waiting.pop()
                continue
            missing = [source for source in _sources(node) if f"{source}:0" not in frame.made]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            inputs = [frame.made[_full(source)] for source in node.input if not source.startswith("^")]
            before = kept.get(node.name)
            if before is None or any(a is not b for a, b in zip(before[0], inputs, strict=True)):
                before = (inputs, self._copied(node, inputs, frame.prefix))
                kept[node.name] = before
            for index, made in enumerate(before[1]):
                frame.made[f"{node.name}:{index}"] = made

    def _copied(self, node: Any, inputs: list[Any], prefix: str) -> Sequence[Any]:
        if node.op in LOOPS:
            return self._loop(node, inputs, prefix)
        if node.op in _CALLS:
            return self._called(self._function(node.attr["f"].func.name), inputs, f"{prefix}{node.name}{_STEP}")
        if node.op in _BRANCHES:
            return self._branch(node, inputs, prefix)
        if node.op.startswith("TensorList") or node.op == "EmptyTensorList":
            return self._list_operation(node, inputs, prefix)
        if node.op == "Placeholder" and node.name in self._shapes and not prefix:
            import tensorflow as tf

            dtype = tf.as_dtype(node.attr["dtype"].type)
            return [tf.compat.v1.placeholder(dtype, self._shapes[node.name], node.name)]
        if any(isinstance(source, _List) for source in inputs):
            if node.op in ("Identity", "StopGradient"):
                return inputs
            raise _refusal(node, "it reads a list of tensors")
        return list(self._create(node, inputs, prefix + node.name).outputs)

    def _create(self, node: Any, inputs: list[Any], name: str) -> Any:
        # A name with a slash behind it is taken as it is.
        return self._graph._create_op_internal(node.op, inputs, name=f"{name}/", attrs=dict(node.attr))

    def _loop(self, node: Any, inputs: list[Any], prefix: str) -> Sequence[Any]:
        condition = self._function(node.attr["cond"].func.name)
        body = self._function(node.attr["body"].func.name)
        state = inputs
        kept: dict[str, tuple[list[Any], Sequence[Any]]] = {}
        for step in range(LONGEST_LOOP + 1):
            scope = f"{prefix}{node.name}{_STEP}{step}/"
            (again,) = self._called(condition, state, f"{scope}condition/")
            known = self._static.whole(again)
            if known is None:
                raise _refusal(node, "how often the loop runs depends on the values of the inputs")
            if not bool(known):
                return state
            state = list(self._called(body, state, scope, kept))
        raise _refusal(
            node, f"the loop runs more than {LONGEST_LOOP} times; send shorter sequences, or explain a layer behind it"
        )

    def _called(
        self,
        function: _Function,
        arguments: Sequence[Any],
        prefix: str,
        kept: dict[str, tuple[list[Any], Sequence[Any]]] | None = None,
    ) -> Sequence[Any]:
        """Copies a function's nodes.

        Args:
            function: the function.
            arguments: what it is called with.
            prefix: in front of the names of copies.
            kept: what the copies of earlier calls read and made; a node that reads the same is not copied again.
        """
        frame = _Frame(function.nodes, prefix)
        own = {} if kept is None else kept
        for name, argument in zip(function.arguments, arguments, strict=True):
            frame.made[f"{name}:0"] = argument
        for name in function.results:
            self._node(frame, name.partition(":")[0], own)
        return [frame.made[name] for name in function.results]

    def _branch(self, node: Any, inputs: list[Any], prefix: str) -> Sequence[Any]:
        known = self._static.whole(inputs[0])
        if known is None:
            raise _refusal(node, "which branch is taken depends on the values of the inputs")
        branch = self._function(node.attr["then_branch" if known else "else_branch"].func.name)
        return self._called(branch, inputs[1:], f"{prefix}{node.name}{_STEP}")

    def _function(self, name: str) -> _Function:
        from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def

        if name not in self._functions:
            definition = self._library[name]
            graph_def, flat = function_def_to_graph_def(definition)
            signature = definition.signature
            self._functions[name] = _Function(
                nodes={node.name: node for node in graph_def.node},
                arguments=tuple(argument.name for argument in signature.input_arg),
                results=tuple(_full(flat[definition.ret[result.name]]) for result in signature.output_arg),
            )
        return self._functions[name]

    def _list_operation(self, node: Any, inputs: list[Any], prefix: str) -> Sequence[Any]:
        import tensorflow as tf

        name = f"{prefix}{node.name}"
        match node.op:
            case "EmptyTensorList":
                return [_List(())]
            case "TensorListReserve":
                return [_List((None,) * self._number(node, inputs[1]))]
            case "TensorListFromTensor":
                if inputs[0].shape.rank is None or inputs[0].shape[0] is None:
                    raise _refusal(node, "the length of a sequence depends on the values of the inputs")
                return [_List(tuple(tf.unstack(inputs[0], name=name)))]
            case "TensorListGetItem":
                return [self._item(node, inputs[0], self._number(node, inputs[1]))]
            case "TensorListSetItem":
                items, at = list(inputs[0].items), self._number(node, inputs[1])
                # A list may grow as it is written.
                items.extend([None] * (at + 1 - len(items)))
                items[at] = inputs[2]
                return [_List(tuple(items))]
            case "TensorListPushBack":
                return [_List((*inputs[0].items, inputs[1]))]
            case "TensorListPopBack":
                return [_List(inputs[0].items[:-1]), self._item(node, inputs[0], -1)]
            case "TensorListLength":
                return [tf.constant(len(inputs[0].items), name=name)]
            case "TensorListStack":
                every = range(len(inputs[0].items))
                return [tf.stack([self._item(node, inputs[0], at) for at in every], name=name)]
            case "TensorListGather":
                places = self._static.whole(inputs[1])
                if places is None:
                    raise _refusal(node, "which items it reads depends on the values of the inputs")
                return [tf.stack([self._item(node, inputs[0], int(at)) for at in places], name=name)]
        raise _refusal(node, "lists of tensors are not followed through it")

    def _number(self, node: Any, tensor: Any) -> int:
        known = self._static.whole(tensor)
        if known is None:
            raise _refusal(node, "which item of a list it is about depends on the values of the inputs")
        return int(known)

    def _item(self, node: Any, items: _List, at: int) -> Any:
        import tensorflow as tf

        found = items.items[at]
        if found is not None:
            return found
        # What was never written counts as zero.
        written = next((item for item in items.items if item is not None), None)
        if written is None:
            raise _refusal(node, "it reads a list that nothing was written to")
        return tf.zeros_like(written)


def _sources(node: Any) -> list[str]:
    return [source.partition(":")[0] for source in node.input if not source.startswith("^")]


def _full(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"


def _refusal(node: Any, reason: str) -> UnsupportedOp:
    return UnsupportedOp([OpProblem(loop_of(node.name), node.op, "", 0, reason)])
