"""Lowers an ONNX model to one frozen TensorFlow graph, node by node, by the table in `sidelight_engines.ops`.

Every node becomes TensorFlow operations under a name scope called after it, and every tensor that it makes can
be fetched and differentiated under its ONNX name. The batch axis stays free, even where the file fixes it: a
Reshape that spells out the fixed batch length then takes what the other lengths leave.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import onnx
import onnx.numpy_helper

from sidelight_engines.errors import OpProblem, UnsupportedOp
from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.graph.functions import detach_functions
from sidelight_engines.graph.onnx_model import OnnxModel, captured_tensors
from sidelight_engines.graph.onnx_weights import ATTRIBUTE_WEIGHTS
from sidelight_engines.graph.shape_values import as_shape_value, propagate
from sidelight_engines.ops import Entry, NodeForm, find, form_of
from sidelight_engines.ops.bodies import constants_of_body, forms_of_body
from sidelight_engines.ops.context import LoweringContext, RefusedFormError, Tensor
from sidelight_engines.ops.layout import as_channels_last, channels_first
from sidelight_engines.ops.registry import ML_DOMAIN
from sidelight_engines.runtime.runtime import Array


def uncovered_ops(model: OnnxModel) -> tuple[OpProblem, ...]:
    """Names the operations that keep a model from being lowered, without importing TensorFlow.

    Only nodes that the model's explainable outputs need count. A form whose refusal depends on what only
    lowering finds out (an axis length that is computed) is not among them; `lower` names it.

    Args:
        model: the model.

    Returns:
        One problem per node that is not covered; empty if the model can be lowered.
    """
    return tuple(found for _, found in _entries(model, _needed(model)) if isinstance(found, OpProblem))


def lower(model: OnnxModel) -> FrozenGraph:
    """Lowers a model.

    Args:
        model: the model.

    Returns:
        The graph, with every tensor that was lowered under its ONNX name.

    Raises:
        UnsupportedOp: it has operations that are not covered; all that are known are named.
    """
    problems = uncovered_ops(model)
    if problems:
        raise UnsupportedOp(problems)
    return _Lowering(model).run()


def _needed(model: OnnxModel) -> list[int]:
    """The positions of the nodes that the explainable outputs need.

    Labels (integers) are worth having but not worth a refusal: only if every output is an integer, or if
    their own nodes are all covered, are they lowered.
    """
    outputs = model.graph.outputs
    floating = [spec.tensor for spec in outputs if not spec.dtype.startswith(("int", "uint"))]
    needed = _ancestors(model, floating or [spec.tensor for spec in outputs])
    for spec in outputs:
        more = _ancestors(model, [spec.tensor]) - needed
        if not any(isinstance(found, OpProblem) for _, found in _entries(model, sorted(more))):
            needed |= more
    return sorted(needed)


def _ancestors(model: OnnxModel, tensors: Iterable[str]) -> set[int]:
    nodes = model.proto.graph.node
    makers = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    found: set[int] = set()
    pending = list(tensors)
    while pending:
        index = makers.get(pending.pop())
        if index is None or index in found:
            continue
        found.add(index)
        pending.extend(name for name in nodes[index].input if name)
        for attribute in nodes[index].attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                pending.extend(captured_tensors(attribute.g))
    return found


def _entries(model: OnnxModel, positions: Iterable[int]) -> list[tuple[NodeForm, Entry | OpProblem]]:
    nodes = model.proto.graph.node
    forms = [
        form_of(nodes[index], model.names[index], model.opsets, model.types, model.constants) for index in positions
    ]
    return [(form, find(form)) for form in forms]


class _Lowering:
    """One model on its way into a TensorFlow graph."""

    def __init__(self, model: OnnxModel) -> None:
        import tensorflow as tf

        self._tf = tf
        self._model = model
        self._tensors: dict[str, Tensor] = {}
        self._shape_values: dict[str, Array] = {}
        self._constants: Mapping[str, onnx.TensorProto] = model.constants
        self._parameters: list[str] = []
        batches = {spec.shape[0] for spec in model.graph.inputs if spec.shape}
        self._fixed_batch = None if None in batches or len(batches) != 1 else batches.pop()

    def run(self) -> FrozenGraph:
        graph = self._tf.Graph()
        with graph.as_default():
            inputs = {
                spec.name: self._placeholder(spec.tensor, spec.dtype, spec.shape) for spec in self._model.graph.inputs
            }
            for form, entry in _entries(self._model, _needed(self._model)):
                # What Constant nodes make is read where it is used, as initializers are.
                if isinstance(entry, Entry) and form.outputs[0] not in self._model.constants:
                    self._lower_node(form, entry)
            for spec in self._model.graph.outputs:
                if spec.tensor in self._model.constants:
                    self._constant(spec.tensor)
        graph_def = graph.as_graph_def()
        detach_functions(graph_def)
        return FrozenGraph(
            graph_def=graph_def,
            inputs=inputs,
            tensors={name: tensor.name for name, tensor in self._tensors.items()},
            parameters=tuple(self._parameters),
        )

    def _placeholder(self, tensor: str, dtype: str, shape: tuple[int | None, ...]) -> str:
        free = (None, *shape[1:]) if shape else shape
        try:
            placeholder = self._tf.compat.v1.placeholder(dtype, free, node_name(tensor))
        except TypeError as error:
            opset = self._model.opsets.get("", 0)
            problem = OpProblem(tensor, "input", "", opset, f"TensorFlow has no type {dtype}")
            raise UnsupportedOp([problem]) from error
        self._tensors[tensor] = placeholder
        name: str = placeholder.name
        return name

    def _lower_node(self, form: NodeForm, entry: Entry) -> None:
        tf = self._tf
        self._read_before(form)
        read = tuple(self._read(form, name) for name in form.inputs)
        values = tuple(self._value(name) for name in form.inputs)
        partials = tuple(self._shape_values.get(name) for name in form.inputs)
        context = LoweringContext(tf, form, read, values, partials, lambda body, given: self._body(form, body, given))
        scope = node_name(form.name) + "/"
        try:
            with tf.name_scope(scope):
                made = self._lowered(context, entry)
                # Two ONNX values are two tensors, so that each can be differentiated by.
                made = tuple(tf.identity(t) if any(t is r for r in read) else t for t in made)
        except (RefusedFormError, ValueError, TypeError, tf.errors.OpError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UnsupportedOp([form.problem(reason or type(error).__name__)]) from error
        for name, tensor in zip(form.outputs, made, strict=False):
            if name and tensor is not None:
                self._tensors[name] = tensor
        self._note_shape_value(form, read)
        kept_in_attributes = ATTRIBUTE_WEIGHTS.get(form.op, ()) if form.domain == ML_DOMAIN else ()
        self._parameters.extend(
            scope + name for name in kept_in_attributes if f"{form.name}/{name}" in self._model.parameters
        )

    def _lowered(self, context: LoweringContext, entry: Entry) -> tuple[Tensor | None, ...]:
        turned = as_channels_last(context) if entry.elementwise else None
        if turned is not None:
            return (channels_first(context, entry.lower(turned)),)
        freed = self._with_free_batch(context)
        made = entry.lower(context) if freed is None else freed
        return made if isinstance(made, tuple) else (made,)

    def _body(self, form: NodeForm, body: onnx.GraphProto, given: Mapping[str, Tensor]) -> list[Tensor]:
        """Lowers the graph that a node holds, where TensorFlow traces it."""
        around = self._tensors, self._constants
        self._tensors = {**self._tensors, **given}
        self._constants = constants_of_body(form, body)
        try:
            for inner in forms_of_body(form, body):
                entry = find(inner)
                if isinstance(entry, OpProblem):
                    raise UnsupportedOp([entry])
                if inner.outputs[0] not in self._constants:
                    self._lower_node(inner, entry)
            return [self._tensor(form, value.name) for value in body.output]
        finally:
            # What was made in there can not be read out here.
            self._tensors, self._constants = around

    def _read_before(self, form: NodeForm) -> None:
        """Makes the constants that a body reads from around it, so that they stand outside of it, once."""
        for value in form.attributes.values():
            if isinstance(value, onnx.GraphProto):
                for name in captured_tensors(value):
                    self._tensor(form, name)

    def _tensor(self, form: NodeForm, name: str) -> Tensor:
        if name not in self._tensors and name not in self._constants:
            raise UnsupportedOp([form.problem(f"its input {name!r} is made by nothing that is covered")])
        return self._tensors[name] if name in self._tensors else self._constant(name)

    def _read(self, form: NodeForm, name: str) -> Tensor | None:
        if not name:
            return None
        return self._tensor(form, name)

    def _constant(self, name: str) -> Tensor:
        value = onnx.numpy_helper.to_array(self._constants[name])
        constant = self._tf.constant(value, name=node_name(name))
        self._tensors[name] = constant
        if name in self._model.parameters:
            self._parameters.append(constant.op.name)
        return constant

    def _value(self, name: str) -> Array | None:
        """The whole value of a tensor, if it is known."""
        proto = self._constants.get(name)
        if proto is not None:
            value = onnx.numpy_helper.to_array(proto)
            partial = as_shape_value(value)
            if partial is not None:
                self._shape_values[name] = partial
            return value
        known = self._shape_values.get(name)
        if known is None or any(element is None for element in known.ravel()):
            return None
        return known.astype(self._tensors[name].dtype.as_numpy_dtype)

    def _note_shape_value(self, form: NodeForm, read: tuple[Tensor | None, ...]) -> None:
        first = read[0] if read else None
        lengths = None if first is None or first.shape.rank is None else first.shape.as_list()
        value = propagate(form, [self._shape_values.get(name) for name in form.inputs], lengths)
        if value is not None:
            self._shape_values[form.outputs[0]] = value

    def _with_free_batch(self, context: LoweringContext) -> Tensor | None:
        """A Reshape in a model of fixed batch length, without that length; None for all other nodes.

        Assumes that axis 0 is the one that grows with the batch; the comparison with ONNX Runtime, which
        keeps to the fixed length, tells if it is not.
        """
        form = context.form
        if not self._fixed_batch or form.op != "Reshape" or form.domain:
            return None
        shape = self._model.types[form.outputs[0]].shape if form.outputs[0] in self._model.types else None
        data = context.input(0)
        if not shape or None in shape or data.shape.rank is None or None not in data.shape.as_list():
            return None
        if shape[0] is None or shape[0] % self._fixed_batch:
            return None
        return self._tf.reshape(data, [-1, *shape[1:]])


def node_name(name: str) -> str:
    """A TensorFlow node name for an ONNX name: what TensorFlow does not allow becomes ``_``."""
    clean = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name).strip("/")
    return clean if re.match(r"[A-Za-z0-9.]", clean) else f".{clean}"
