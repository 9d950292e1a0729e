"""A model made ready for relevance: the graph up to what is explained, with constants folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sidelight_engines.errors import InvalidField, MethodNotSupported
from sidelight_engines.graph.freezing import fold_constants
from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.graph.graph import Graph, TensorSpec
from sidelight_engines.graph.unrolling import has_loops, unroll
from sidelight_engines.lrp.parameters import GradientMethod, RuleMap
from sidelight_engines.lrp.presets import LrpPreset
from sidelight_engines.lrp.structure.folding import fold_affine
from sidelight_engines.lrp.structure.origins import Origins
from sidelight_engines.model import Model
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.runtime.tensorflow_import import import_frozen

Lengths = tuple[tuple[str, tuple[int, ...]], ...]

_METHOD = "layer-wise relevance propagation"

# Smaller constants stay in the graph, where TensorFlow may compute with them ahead of time.
_LEAST_LIFTED_BYTES = 2**16

# What stands between a softmax or sigmoid and the output without changing values.
_PASSES = frozenset({"Cast", "EnsureShape", "Identity", "Reshape", "Squeeze", "StopGradient"})


@dataclass(frozen=True)
class PreparedGraph:
    """The graph that one output needs.

    Attributes:
        graph: the model.
        output: the output.
        frozen: the graph up to `target`, folded; inputs that it does not need are left out.
        target: name of the tensor that relevance starts at.
        origins: where nodes come from.
        head_cut_at: the layer whose softmax or sigmoid was cut off; empty if none was.
        dtypes: input name -> NumPy type name, for the inputs of `frozen`.
        shapes: input name -> length of each axis, None where it is free; None if nothing is known.
        unused: names of the inputs that the output does not depend on.
        target_shape: the shape of one instance's logits; None if the file does not tell.
        lengths: input name and shape of one instance, if loops were unrolled for it; empty if there are none.
        weights: tensor name -> eager tensor, of the large constants: they are no part of the graph of `frozen`.
    """

    graph: Graph
    output: TensorSpec
    frozen: FrozenGraph
    target: str
    origins: Origins
    head_cut_at: str
    dtypes: dict[str, str]
    shapes: dict[str, tuple[int | None, ...] | None]
    unused: tuple[str, ...]
    target_shape: tuple[int, ...] | None
    lengths: Lengths = ()
    weights: Mapping[str, Any] = field(default_factory=dict)

    def imported(
        self, inputs: Mapping[str, Any], tensors: Sequence[str], graph_def: Any = None
    ) -> tuple[list[Any], dict[str, Array]]:
        """Imports the graph into the function that is being traced; see `import_frozen`.

        Returns:
            One symbolic tensor per name, and the values of those symbolic tensors that stand for large constants.
        """
        import tensorflow as tf

        # Read by reference: all functions share them, and none takes long to be optimised for holding them.
        captured = {name: tf.compat.v1.get_default_graph().capture(value) for name, value in self.weights.items()}
        found = import_frozen(self.frozen, inputs, tensors, graph_def, captured)
        return found, {captured[name].name: np.asarray(value) for name, value in self.weights.items()}

    @property
    def fixed_batch(self) -> int | None:
        """The one batch length that the file allows; None if any."""
        return next((shape[0] for shape in self.shapes.values() if shape and shape[0] is not None), None)


def find_output(graph: Graph, name: str) -> TensorSpec:
    """The output that is explained.

    Raises:
        InvalidField: there is no such output.
        MethodNotSupported: it is not of floating-point numbers.
    """
    found = graph.outputs[0] if not name else next((spec for spec in graph.outputs if spec.name == name), None)
    if found is None:
        known = ", ".join(repr(spec.name) for spec in graph.outputs)
        raise InvalidField("parameters.target.output", f"the model has no output {name!r}", f"name one of {known}")
    if not found.dtype.startswith(("float", "bfloat")):
        raise MethodNotSupported(
            _METHOD, f"its output {found.name!r} is of {found.dtype}, not of floating-point numbers"
        )
    return found


def prepare(
    model: Model, output: TensorSpec, inputs: Mapping[str, Array], method: LrpPreset | RuleMap | GradientMethod
) -> PreparedGraph:
    """Cuts the head off, folds constants, unrolls loops and drops what the output does not need; kept on the model.

    Args:
        model: the model.
        output: the output that is explained.
        inputs: input name -> instances; how long they are says how often loops run.
        method: what the graph is for. Gradients by tensors within it are those of the model's own tensors; for
            relevance, factors are folded into weights.

    Raises:
        MethodNotSupported: the output depends on no input.
        UnsupportedOp: the model has operations without a TensorFlow form, or a loop that can not be unrolled.
        GradientCheckFailed: its TensorFlow form disagrees with ONNX Runtime.
    """
    frozen = model.frozen()
    lengths: Lengths = ()
    if has_loops(frozen.graph_def):
        lengths = tuple((name, np.shape(inputs[name])[1:]) for name in frozen.inputs if name in inputs)
    for_gradients = isinstance(method, GradientMethod)
    key = ("lrp", "graph", output.name, lengths, for_gradients)
    return model.derived(key, lambda: _prepare(model.graph, frozen, output, lengths, for_gradients))


def _prepare(
    graph: Graph, frozen: FrozenGraph, output: TensorSpec, lengths: Lengths, for_gradients: bool
) -> PreparedGraph:
    import tensorflow as tf

    nodes = {node.name: node for node in frozen.graph_def.node}
    origins = Origins(graph)
    target, head = _cut(frozen, nodes, graph.logits.get(output.name), output)
    folded = fold_constants(frozen.graph_def, list(frozen.inputs.values()), [target])
    if lengths and has_loops(folded):
        # An array that does not fit its input is refused later, by name.
        fitted = {_node(frozen.inputs[name]): _fitting(nodes[_node(frozen.inputs[name])], own) for name, own in lengths}
        folded = fold_constants(unroll(folded, fitted), list(frozen.inputs.values()), [target])
    needed = {_node(source) for node in folded.node for source in node.input} | {_node(target)}
    used = {name: tensor for name, tensor in frozen.inputs.items() if _node(tensor) in needed}
    if not used:
        raise MethodNotSupported(_METHOD, f"its output {output.name!r} depends on none of its inputs")
    dtypes, shapes = {}, {}
    for name, tensor in used.items():
        attr = nodes[_node(tensor)].attr
        dtypes[name] = tf.as_dtype(attr["dtype"].type).name
        shape = tf.TensorShape(attr["shape"].shape)
        shapes[name] = None if shape.rank is None else tuple(shape.as_list())
    shape_of_target = _target_shape(folded, target)
    lighter, weights = _lifted(folded if for_gradients else fold_affine(folded, target))
    unused = tuple(name for name in frozen.inputs if name not in used)
    return PreparedGraph(
        graph=graph,
        output=output,
        frozen=FrozenGraph(lighter, used, frozen.tensors, ()),
        target=target,
        origins=origins,
        head_cut_at=(origins.layer(head) or head) if head else "",
        dtypes=dtypes,
        shapes=shapes,
        unused=unused,
        target_shape=shape_of_target,
        lengths=lengths,
        weights=weights,
    )


def _lifted(graph_def: Any) -> tuple[Any, dict[str, Any]]:
    """The graph without its large constants, and those, by the names of their tensors."""
    import tensorflow as tf

    lighter, weights = type(graph_def)(versions=graph_def.versions, library=graph_def.library), {}
    for node in graph_def.node:
        if node.op == "Const" and node.ByteSize() >= _LEAST_LIFTED_BYTES:
            weights[f"{node.name}:0"] = tf.constant(tf.make_ndarray(node.attr["value"].tensor))
        else:
            lighter.node.append(node)
    return lighter, weights


def _fitting(placeholder: Any, lengths: tuple[int, ...]) -> list[int | None]:
    """A placeholder's shape, with the lengths that it leaves free taken from an instance."""
    import tensorflow as tf

    shape = tf.TensorShape(placeholder.attr["shape"].shape)
    given = tf.TensorShape([shape[0] if shape.rank else None, *lengths])
    fitting: list[int | None] = (given if shape.is_compatible_with(given) else shape).as_list()
    return fitting


def _target_shape(graph_def: Any, target: str) -> tuple[int, ...] | None:
    import tensorflow as tf

    with tf.Graph().as_default():
        (tensor,) = tf.graph_util.import_graph_def(graph_def, return_elements=[target], name="")
    lengths = None if tensor.shape.rank is None else tensor.shape.as_list()[1:]
    return None if lengths is None or None in lengths else tuple(lengths)


def _cut(frozen: FrozenGraph, nodes: dict[str, Any], logits: str | None, output: TensorSpec) -> tuple[str, str]:
    """The tensor that relevance starts at, and the node of the softmax or sigmoid behind it, if there is one."""
    tensor = frozen.tensor(output.tensor)
    found = frozen.tensor(logits) if logits is not None else ""
    node = nodes[_node(tensor)]
    while node.op in _PASSES and node.input:
        node = nodes[_node(node.input[0])]
    if node.op in ("Sigmoid", "Softmax"):
        return _full(node.input[0]), node.name
    if found:
        # A head in a form of its own, such as a softmax over axes in the middle.
        makers = [name for name in (output.tensor,) if name]
        return found, _node(frozen.tensor(makers[0]))
    return tensor, ""


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _full(tensor: str) -> str:
    return tensor if ":" in tensor else f"{tensor}:0"
