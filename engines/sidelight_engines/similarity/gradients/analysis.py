"""Works out, for every parameter, how its per-example gradient can be had."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidelight_engines.errors import InvalidField, MethodNotSupported
from sidelight_engines.graph.frozen import FrozenGraph
from sidelight_engines.graph.graph import Graph, TensorSpec
from sidelight_engines.similarity.gradients.elementwise_terms import ElementwiseTerm
from sidelight_engines.similarity.gradients.layout import Block, BlockKind, Layout, Parameter, Part
from sidelight_engines.similarity.gradients.readings import (
    ImportedGraph,
    ParameterReadings,
    find_readings,
    import_for_analysis,
)
from sidelight_engines.similarity.gradients.term_table import find_term
from sidelight_engines.similarity.gradients.terms import NotFactorableError, Term
from sidelight_engines.similarity.parameters import LayerSelection

# What stands between a matrix product and its bias without changing the order of values.
_BETWEEN = frozenset({"ExpandDims", "Identity", "Reshape", "Squeeze"})


@dataclass(frozen=True)
class Source:
    """Where the gradient of one parameter comes from.

    Attributes:
        readings: where it is read.
        terms: one per reading; empty if the gradient must come row by row.
        reason: why it must; empty if not.
    """

    readings: ParameterReadings
    terms: tuple[Term, ...]
    reason: str = ""

    @property
    def pulled_back(self) -> bool:
        """Whether the gradient is put together from several, through the parameter's plumbing."""
        return bool(self.terms) and not self.readings.disjoint


@dataclass(frozen=True)
class TermShape:
    """What a term turned out to be for some examples.

    Attributes:
        kind: OUTER for a sum of outer products, LOOKUP for rows of a table, VECTOR else.
        left: m, or rows of the table.
        right: n.
        positions: how many outer products or rows.
    """

    kind: BlockKind
    left: int = 0
    right: int = 0
    positions: int = 1


@dataclass(frozen=True)
class Analysis:
    """A model, looked at for its gradients.

    Attributes:
        frozen: its graph, with names of tensors as TensorFlow has them.
        imported: the same, imported.
        output: the tensor that the loss reads.
        logits: the tensor that the output's softmax or sigmoid reads; empty if there is none to use.
        head: ``Softmax`` or ``Sigmoid`` if there is such a tensor; else empty.
        sources: one per parameter, in the order of evaluation.
    """

    frozen: FrozenGraph
    imported: ImportedGraph
    output: str
    logits: str
    head: str
    sources: tuple[Source, ...]


def analyse(model: Graph, frozen: FrozenGraph, output: TensorSpec, layers: LayerSelection) -> Analysis:
    """Looks at a model.

    Args:
        model: its description.
        frozen: its graph.
        output: the output that the loss reads.
        layers: the layers whose parameters count.

    Raises:
        InvalidField: a layer has no parameters that the output depends on; UnknownLayer if there is no such layer.
        MethodNotSupported: the model has no parameters.
    """
    raw = FrozenGraph(frozen.graph_def, frozen.inputs, {}, frozen.parameters)
    tensor = frozen.tensor(output.tensor)
    imported = import_for_analysis(raw.graph_def, raw.inputs.values(), tensor)
    found = find_readings(imported, frozen.parameters, model)
    if not found:
        raise MethodNotSupported(
            "gradient similarity", f"its output {output.name!r} depends on no learned numbers, so it has no gradients"
        )
    if layers.names:
        found = _chosen(found, layers, model)
    logits = model.logits.get(output.name, "")
    # Softmax is over the last axis of two for certain; of more, early ONNX flattens.
    usable = logits and len(output.shape) == 2
    return Analysis(
        raw,
        imported,
        tensor,
        frozen.tensor(logits) if usable else "",
        model.head_ops[output.name] if usable else "",
        tuple(_source(imported, readings) for readings in found),
    )


def _chosen(found: Sequence[ParameterReadings], layers: LayerSelection, model: Graph) -> tuple[ParameterReadings, ...]:
    wanted = set()
    for position, name in enumerate(layers.names):
        path = f"parameters.layers.names[{position}]"
        layer = model.layer(name, path).name
        if not any(readings.layer == layer for readings in found):
            raise InvalidField(path, f"layer {layer!r} has no parameters", "name layers that have")
        wanted.add(layer)
    return tuple(readings for readings in found if readings.layer in wanted)


def _source(imported: ImportedGraph, readings: ParameterReadings) -> Source:
    try:
        return Source(readings, tuple(find_term(imported, reading) for reading in readings.readings))
    except NotFactorableError as error:
        return Source(readings, (), str(error))


def choose_layout(analysis: Analysis, shapes: Mapping[str, TermShape], by_row: Mapping[str, str]) -> Layout:
    """Chooses the smallest form for each gradient.

    Args:
        analysis: the model.
        shapes: name of the tensor that a term makes -> what the term turned out to be.
        by_row: parameters whose gradients must come row by row -> why.

    Returns:
        The layout.
    """
    parameters = tuple(
        Parameter(source.readings.parameter, source.readings.layer, math.prod(source.readings.shape))
        for source in analysis.sources
    )
    position = {parameter.name: i for i, parameter in enumerate(parameters)}
    factored: dict[str, Block] = {}
    biases = _biases(analysis)
    carried: set[str] = set()
    for source in analysis.sources:
        name = source.readings.parameter
        if name in by_row or source.pulled_back or len(source.terms) != 1:
            continue
        shape = shapes[source.terms[0].made]
        whole = shape.left * shape.right
        if shape.kind is BlockKind.OUTER and shape.positions * (shape.left + shape.right) < whole:
            bias = biases.get(source.terms[0].made, "")
            parts = [name, bias] if bias and bias not in by_row and bias not in carried else [name]
            carried.update(parts)
            factored[name] = _block(shape, [position[part] for part in parts])
        elif shape.kind is BlockKind.LOOKUP and shape.positions * (1 + shape.right) < whole:
            factored[name] = _block(shape, [position[name]])
            carried.add(name)
    blocks: dict[tuple[str, bool], list[Block]] = {}
    vectors: dict[tuple[str, bool], list[Part]] = {}
    for parameter in parameters:
        key = (parameter.layer, parameter.name in by_row)
        if parameter.name in factored:
            blocks.setdefault(key, []).append(factored[parameter.name])
        elif parameter.name not in carried:
            vectors.setdefault(key, []).append(Part(position[parameter.name], parameter.size))
            blocks.setdefault(key, [])
    for key, parts_of_layer in vectors.items():
        size = sum(part.size for part in parts_of_layer)
        blocks[key].append(Block(BlockKind.VECTOR, tuple(parts_of_layer), size, by_row=key[1]))
    ordered = sorted(blocks.items(), key=lambda item: item[0][1])
    materialised = [
        source.readings.layer
        for source in analysis.sources
        if source.readings.parameter in by_row
        or (source.pulled_back and any(shapes[term.made].kind is not BlockKind.VECTOR for term in source.terms))
    ]
    return Layout(
        parameters, tuple(block for _, group in ordered for block in group), tuple(dict.fromkeys(materialised))
    )


def _block(shape: TermShape, parameters: Sequence[int]) -> Block:
    parts = tuple(Part(parameter) for parameter in parameters)
    return Block(shape.kind, parts, shape.left, shape.right, shape.positions)


def _biases(analysis: Analysis) -> dict[str, str]:
    """The tensor that a matrix product makes -> the parameter that is added to it along its last axis."""
    found = {}
    for source in analysis.sources:
        term = source.terms[0] if len(source.terms) == 1 and source.readings.disjoint else None
        if not isinstance(term, ElementwiseTerm) or term.operands or term.sign != 1 or len(term.shape) != 1:
            continue
        op = analysis.imported.graph.get_operation_by_name(source.readings.readings[0].op)
        if term.per_channel is not None and term.per_channel != op.outputs[0].shape.rank - 1:
            continue
        tensor = op.inputs[1 - source.readings.readings[0].position]
        while tensor.op.type in _BETWEEN and _readers(analysis, tensor) == 1:
            tensor = tensor.op.inputs[0]
        if _readers(analysis, tensor) == 1:
            found[tensor.name] = source.readings.parameter
    return found


def _readers(analysis: Analysis, tensor: Any) -> int:
    return sum(op.name in analysis.imported.needed for op in tensor.consumers())
