"""Reads an ONNX file into a checked proto and the format-neutral description of the model.

TensorFlow is not imported here, so a model can be listed and run by ONNX Runtime without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnx.inliner

from sidelight_engines.errors import ModelInvalid
from sidelight_engines.graph.channels import channel_axes
from sidelight_engines.graph.graph import Graph, ModelFormat, TensorSpec
from sidelight_engines.graph.layers import build_graph
from sidelight_engines.graph.onnx_types import infer_types
from sidelight_engines.graph.onnx_weights import attribute_weights, learned_constants
from sidelight_engines.graph.step import Step, TensorType

# What makes sequences, maps and optional values instead of tensors.
_COLLECTING = frozenset(
    {
        *("Optional", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceMap"),
        *("SplitToSequence", "ZipMap"),
    }
)
# Protobuf can not serialise more, and both runtimes take a serialised model.
_LARGEST_MODEL_BYTES = 2**31 - 1


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An ONNX model in memory. It is never changed, so threads may share it.

    Attributes:
        proto: the model, with external data read in and its local functions inlined.
        graph: its description.
        names: the unique name of each node of ``proto.graph``, in order; nodes that the file leaves
            without a name are called after their operation and position (``Conv_3``).
        types: tensor name -> what declaration and shape inference tell of it.
        constants: tensor name -> value, of initializers and of what Constant nodes make.
        parameters: name of a learned constant (``node/attribute`` for the weights that ai.onnx.ml keeps
            in attributes) -> number of elements, in the order of evaluation.
        opsets: operator domain (``""`` for ONNX's own) -> version that the file declares.
    """

    proto: onnx.ModelProto
    graph: Graph
    names: tuple[str, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, onnx.TensorProto]
    parameters: Mapping[str, int]
    opsets: Mapping[str, int]


def read_onnx_model(path: Path) -> OnnxModel:
    """Reads and checks an ONNX file.

    Args:
        path: the ``model.onnx``; files of external data are looked for beside it.

    Raises:
        ModelInvalid: the file can not be read, is not a valid ONNX model, is larger than 2 GiB with its
            external data, or has no output that is a dense numeric tensor.
    """
    try:
        # By path, so that external data is checked too; and in C++, which tells a truncated file from a
        # sound one before Python parses it.
        onnx.checker.check_model(str(path))
        proto = onnx.load(path)
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ModelInvalid(f"{path.name} is not a valid ONNX model: {_first_line(error)}") from error
    if proto.ByteSize() > _LARGEST_MODEL_BYTES:
        raise ModelInvalid(f"{path.name} holds {proto.ByteSize()} bytes with its external data; at most 2 GiB can be")
    return describe_onnx_model(proto)


def describe_onnx_model(proto: onnx.ModelProto) -> OnnxModel:
    """Describes a checked model that is in memory.

    Args:
        proto: the model, its external data read in. It must not be changed afterwards.

    Raises:
        ModelInvalid: it has no output that is a dense numeric tensor, or its functions can not be inlined.
    """
    if proto.functions:
        try:
            proto = onnx.inliner.inline_local_functions(proto)
        except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
            raise ModelInvalid(f"the model's local functions can not be inlined: {_first_line(error)}") from error
    if not all(isinstance(text, str) for text in _texts(proto)):
        raise ModelInvalid("a name in the model is not UTF-8 text")
    nodes = proto.graph.node
    names = _unique_names(nodes)
    types = infer_types(proto)
    constants = dict(_constants(proto.graph))
    parameters = learned_constants(nodes, names, constants)
    graph = build_graph(
        ModelFormat.ONNX,
        " ".join(part for part in (proto.producer_name, proto.producer_version) if part),
        _steps(nodes, names, types),
        _inputs(proto.graph, types),
        _outputs(proto.graph, types),
        parameters,
    )
    axes = channel_axes(nodes, types)
    layers = tuple(replace(layer, channel_axis=axes.get(layer.tensor)) for layer in graph.layers)
    graph = replace(graph, layers=layers)
    opsets = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    return OnnxModel(proto, graph, names, types, constants, parameters, opsets)


def _texts(proto: onnx.ModelProto) -> Iterator[str]:
    """All names; the reader of protobuf messages leaves what is not UTF-8 as bytes."""
    yield proto.producer_name
    yield proto.producer_version
    graph = proto.graph
    yield from (entry.domain for entry in proto.opset_import)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    yield from (value.name for value in (*graph.input, *graph.output, *graph.value_info))
    yield from (initializer.name for initializer in graph.initializer)


def captured_tensors(graph: onnx.GraphProto) -> Iterator[str]:
    """The tensors that a subgraph (the body of If, Loop or Scan) reads from around it."""
    own = {value.name for value in graph.input}
    own.update(initializer.name for initializer in graph.initializer)
    own.update(output for node in graph.node for output in node.output)
    for node in graph.node:
        yield from (name for name in _read(node) if name and name not in own)
    # A body may hand an outer tensor straight through.
    yield from (value.name for value in graph.output if value.name not in own)


def _read(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from captured_tensors(attribute.g)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _unique_names(nodes: Iterable[onnx.NodeProto]) -> tuple[str, ...]:
    taken: set[str] = set()
    names = []
    for index, node in enumerate(nodes):
        base = node.name or f"{node.op_type}_{index}"
        name = base
        suffix = 1
        while name in taken:
            name = f"{base}_{suffix}"
            suffix += 1
        taken.add(name)
        names.append(name)
    return tuple(names)


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    for initializer in graph.initializer:
        yield initializer.name, initializer
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            value = constant_value(node)
            if value is not None:
                yield node.output[0], value


def constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """What a Constant node makes; None for strings and sparse tensors."""
    for attribute in node.attribute:
        match attribute.name:
            case "value":
                return attribute.t
            case "value_float":
                return onnx.numpy_helper.from_array(np.asarray(attribute.f, np.float32))
            case "value_floats":
                return onnx.numpy_helper.from_array(np.asarray(attribute.floats, np.float32))
            case "value_int":
                return onnx.numpy_helper.from_array(np.asarray(attribute.i, np.int64))
            case "value_ints":
                return onnx.numpy_helper.from_array(np.asarray(attribute.ints, np.int64))
    return None


def _steps(nodes: Sequence[onnx.NodeProto], names: Sequence[str], types: Mapping[str, TensorType]) -> list[Step]:
    steps = []
    collections: set[str] = set()
    for node, name in zip(nodes, names, strict=True):
        outputs = tuple(output for output in node.output if output)
        if node.op_type in _COLLECTING or (node.op_type == "Identity" and node.input[0] in collections):
            # No array comes out of these, so they are no layers.
            collections.update(outputs)
            continue
        captured = dict.fromkeys(_read(node)).keys() - set(node.input)
        inputs = (*node.input, *sorted(captured), *attribute_weights(node, name))
        known = {output: types[output] for output in outputs if output in types}
        steps.append(Step(name, node.op_type, inputs, outputs, known, _deciding(node)))
    return steps


def _deciding(node: onnx.NodeProto) -> dict[str, str | int | float]:
    """What a node sets of the attributes that decide which function it is."""
    found: dict[str, str | int | float] = {}
    for attribute in node.attribute:
        if attribute.name == "training_mode":
            found[attribute.name] = attribute.i
        elif attribute.name == "post_transform":
            found[attribute.name] = attribute.s.decode()
    return found


def _spec(name: str, tensor: str, kind: TensorType) -> TensorSpec:
    # A tensor of unknown rank still has its batch axis.
    return TensorSpec(name, tensor, kind.dtype, (None,) if kind.shape is None else kind.shape)


def _inputs(graph: onnx.GraphProto, types: Mapping[str, TensorType]) -> list[TensorSpec]:
    # Before IR version 4 every initializer was listed as an input too.
    constants = {initializer.name for initializer in graph.initializer}
    wanted = [value.name for value in graph.input if value.name not in constants]
    return [_spec(name, name, types[name]) for name in wanted if name in types]


def _outputs(graph: onnx.GraphProto, types: Mapping[str, TensorType]) -> list[TensorSpec]:
    """The outputs that are dense numbers, floating-point ones first.

    ZipMap turns the scores of a scikit-learn classifier into a list of dictionaries; its input, the scores
    as a matrix, stands for its output.
    """
    makers = {output: node for node in graph.node for output in node.output if output}
    floating, integer = [], []
    for value in graph.output:
        tensor = _before_zip_map(value.name, makers)
        kind = types.get(tensor, TensorType())
        if kind.dtype.startswith(("float", "bfloat")):
            floating.append(_spec(value.name, tensor, kind))
        elif kind.dtype.startswith(("int", "uint")):
            integer.append(_spec(value.name, tensor, kind))
    if not floating and not integer:
        raise ModelInvalid("the model has no output that is a dense tensor of numbers, so nothing can be explained")
    return floating + integer


def _before_zip_map(tensor: str, makers: Mapping[str, onnx.NodeProto]) -> str:
    reached = tensor
    while (maker := makers.get(reached)) is not None:
        if maker.op_type == "ZipMap":
            return maker.input[0]
        if maker.op_type != "Identity":
            break
        reached = maker.input[0]
    return tensor
