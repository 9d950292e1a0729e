"""Reads a SavedModel into one frozen graph and the description of its layers. TensorFlow is imported on use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidelight_engines.errors import ModelInvalid
from sidelight_engines.graph.affinity import affinities, depends_on_values
from sidelight_engines.graph.freezing import flatten, freeze
from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.graph.graph import Graph, ModelFormat, TensorSpec
from sidelight_engines.graph.layers import build_graph
from sidelight_engines.graph.step import Step, TensorType

# What TensorFlow says when a file is damaged; it has no error types of their own for it.
_DAMAGE = {
    "saved_model.pb": ("Cannot parse",),
    "variables/": ("TensorSliceReader", "less bytes", "sstable", "checksum", "checkpoint"),
}

# Operations that make no value from others.
_SILENT = frozenset({"Const", "NoOp", "Placeholder"})


@dataclass(frozen=True)
class SavedModel:
    """A SavedModel in memory. It is never changed, so threads may share it.

    Attributes:
        graph: its description.
        frozen: its signature as one flat graph; the names of tensors are the same in both.
    """

    graph: Graph
    frozen: FrozenGraph


def read_saved_model(directory: Path, signature: str = "serving_default") -> SavedModel:
    """Reads one signature of a SavedModel.

    Inputs and outputs are called what the signature calls them, in alphabetical order (``output_2``
    before ``output_10``), which is the one order that a signature has; floating-point outputs come
    before whole-number ones, and outputs that are not numbers are left out. The trainable variables are
    the parameters.

    Args:
        directory: the folder that holds ``saved_model.pb``.
        signature: the name of the signature.

    Raises:
        ModelInvalid: a file is missing or damaged, there is no such signature, it reads something that is
            neither an input nor a variable, or none of its outputs is a dense tensor of numbers.
    """
    loaded = _load(directory)
    function = loaded.signatures.get(signature)
    if function is None:
        known = ", ".join(sorted(loaded.signatures)) or "none"
        raise ModelInvalid(f"{directory.name} has no signature {signature!r}; it has: {known}")
    try:
        frozen = freeze(function)
        input_specs = _inputs(function, frozen)
        output_specs = _outputs(function, frozen)
        variables = _variables(function)
        trainable = {name for name, variable in variables.items() if variable.trainable}
        graph_def = flatten(frozen, [spec.tensor for spec in output_specs], trainable)
    except _loading_errors() as error:
        raise ModelInvalid(f"signature {signature!r} of {directory.name} can not be frozen: {_first(error)}") from error
    return _describe(loaded, graph_def, input_specs, output_specs, trainable, _scopes(variables))


def _loading_errors() -> tuple[type[Exception], ...]:
    """What TensorFlow raises over files that it can not read or use: its own errors and Python's."""
    import tensorflow as tf

    python = (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, OSError, RuntimeError)
    return (*python, TypeError, ValueError, tf.errors.OpError)


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _load(directory: Path) -> Any:
    import tensorflow as tf

    name = directory.name
    proto = directory / "saved_model.pb"
    variables = directory / "variables"
    if not proto.is_file():
        raise ModelInvalid(f"{name} holds no saved_model.pb")
    if proto.stat().st_size == 0:
        raise ModelInvalid(f"saved_model.pb in {name} is empty")
    if variables.is_dir() and not (variables / "variables.index").is_file():
        raise ModelInvalid(f"{name} holds no variables/variables.index")
    if variables.is_dir() and not any(variables.glob("variables.data-*")):
        raise ModelInvalid(f"{name} holds no variables/variables.data-00000-of-00001")
    try:
        return tf.saved_model.load(str(directory))
    except _loading_errors() as error:
        text = _first(error).replace(f"{directory}/", "")
        damaged = next((part for part, signs in _DAMAGE.items() if any(sign in text for sign in signs)), "the model")
        raise ModelInvalid(f"{damaged} in {name} can not be read: {text}") from error


def _alphabetical(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts numbers in names by value."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def _spec(name: str, tensor: Any) -> TensorSpec:
    shape = _shape(tensor)
    return TensorSpec(name, tensor.name, tensor.dtype.name, (None,) if shape is None else shape)


def _shape(tensor: Any) -> tuple[int | None, ...] | None:
    return None if tensor.shape.rank is None else tuple(tensor.shape.as_list())


def _inputs(function: Any, frozen: Any) -> list[TensorSpec]:
    names = list(function._arg_keywords)
    if len(frozen.inputs) > len(names):
        rest = [f"{tensor.name} ({tensor.dtype.name})" for tensor in frozen.inputs[len(names) :]]
        raise ValueError(f"it reads what is neither an input nor a variable, such as a lookup table: {', '.join(rest)}")
    specs = [_spec(name, tensor) for name, tensor in zip(names, frozen.inputs, strict=True)]
    return sorted(specs, key=lambda spec: _alphabetical(spec.name))


def _outputs(function: Any, frozen: Any) -> list[TensorSpec]:
    # TensorFlow flattens the dictionary of outputs in the order of its sorted keys.
    named = zip(sorted(function.structured_outputs), frozen.outputs, strict=True)
    specs = sorted((_spec(name, tensor) for name, tensor in named), key=lambda spec: _alphabetical(spec.name))
    floating = [spec for spec in specs if spec.dtype.startswith(("float", "bfloat"))]
    integer = [spec for spec in specs if spec.dtype.startswith(("int", "uint"))]
    if not floating and not integer:
        raise ValueError("it has no output that is a dense tensor of numbers, so nothing can be explained")
    return floating + integer


def _variables(function: Any) -> dict[str, Any]:
    """Name of the Const node that freezing makes of a variable -> the variable."""
    by_handle = {id(variable.handle): variable for variable in function.graph.variables}
    return {
        inner.op.name: by_handle[id(handle)] for handle, inner in function.graph.captures if id(handle) in by_handle
    }


def _scopes(variables: Mapping[str, Any]) -> set[str]:
    """The layers that the names of variables tell of: ``block1/conv`` of ``block1/conv/kernel:0``."""
    return {scope for variable in variables.values() if (scope := variable.name.rpartition("/")[0])}


def _describe(
    loaded: Any,
    graph_def: Any,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    trainable: set[str],
    scopes: set[str],
) -> SavedModel:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    operations = graph.get_operations()
    steps = [
        Step(
            op.name,
            op.type,
            tuple(tensor.name for tensor in op.inputs),
            tuple(tensor.name for tensor in op.outputs),
            {tensor.name: TensorType(tensor.dtype.name, _shape(tensor)) for tensor in op.outputs},
            {name: int(op.get_attr(name)) for name in ("is_training",) if name in op.node_def.attr},
        )
        for op in operations
        if op.type not in _SILENT
    ]
    sizes = {
        op.outputs[0].name: op.outputs[0].shape.num_elements()
        for op in operations
        if op.type == "Const" and op.name in trainable
    }
    ordered = dict.fromkeys(_learned(steps, [spec.tensor for spec in inputs], sizes))
    described = build_graph(
        ModelFormat.SAVED_MODEL,
        f"TensorFlow {loaded.tensorflow_version}",
        steps,
        # After inlining and folding more may be known of a shape than the function told.
        inputs,
        [_spec(spec.name, graph.get_tensor_by_name(spec.tensor)) for spec in outputs],
        {name: sizes[name] for name in ordered},
        scopes,
    )
    parameters = tuple(name.removesuffix(":0") for name in ordered)
    return SavedModel(described, FrozenGraph(graph_def, {spec.name: spec.tensor for spec in inputs}, {}, parameters))


def _learned(steps: Sequence[Step], inputs: Sequence[str], sizes: Mapping[str, int]) -> Iterator[str]:
    """The learned constants, in the order in which values that come from the inputs meet them."""
    kinds = affinities(steps, inputs)
    makers = {name: step for step in steps for name in step.outputs}
    for step in steps:
        if not any(depends_on_values(kinds, name) for name in step.outputs):
            continue
        waiting = list(reversed(step.inputs))
        while waiting:
            name = waiting.pop()
            if name in sizes:
                yield name
            elif name in makers and not depends_on_values(kinds, name):
                waiting.extend(reversed(makers[name].inputs))
