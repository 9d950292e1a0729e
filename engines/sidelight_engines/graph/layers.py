"""Builds the description of a model from its operations, whichever file they were read from."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sidelight_engines.graph.affinity import Affinity, affinities, depends_on_values
from sidelight_engines.graph.graph import Graph, Layer, ModelFormat, TensorSpec
from sidelight_engines.graph.heads import find_head
from sidelight_engines.graph.naming import Place, place_nodes
from sidelight_engines.graph.step import Step, TensorType

# What only hands a value on; a layer only where the author's scopes make it one (dropout at inference).
_HANDS_ON = frozenset({"Cast", "CheckNumerics", "EnsureShape", "Identity", "PreventGradient", "StopGradient"})

# tf2onnx numbers the nodes that it adds to move axes about, and names them after a neighbour.
_ADDED = re.compile(r"__\d+$")
_MOVES = _HANDS_ON | {"Reshape", "Squeeze", "Transpose", "Unsqueeze"}

# Not values that anyone could read: by type, and what makes lists and dictionaries instead of tensors.
_OPAQUE = frozenset({"resource", "string", "variant"})
_MAKES_NO_TENSOR = frozenset({"SequenceConstruct", "SequenceInsert", "SplitToSequence", "ZipMap"})


@dataclass
class _Group:
    """One layer while it is being collected.

    Attributes:
        name: its name.
        key: its scopes as `Place` has them.
        steps: its steps, in order.
        tensor: its output; None as long as none is known.
    """

    name: str
    key: tuple[str, ...]
    steps: list[Step] = field(default_factory=list)
    tensor: str | None = None


def build_graph(
    format: ModelFormat,  # noqa: A002 - the name that Graph gives it
    producer: str,
    steps: Sequence[Step],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    parameters: Mapping[str, int],
    scopes: Collection[str] = (),
) -> Graph:
    """Describes a model as a graph of the author's layers.

    Args:
        format: the file format it came from.
        producer: what wrote the file; may be empty.
        steps: the operations, each after those that make what it reads. A tensor that is read but
            neither made nor an input is a constant of the file.
        inputs: the model's inputs, in the file's order.
        outputs: the outputs that can be explained, in the file's order.
        parameters: tensor name of each learned constant -> how many numbers it holds.
        scopes: the author's names of layers as far as the file tells them apart from its nodes' names
            (from the names of variables: ``conv_1``, ``block1/conv``).

    Returns:
        The graph. Every output that a step makes has a layer.
    """
    kinds = affinities(steps, [spec.tensor for spec in inputs])
    makers = {name: step for step in steps for name in step.outputs}
    carrying = [step for step in steps if any(depends_on_values(kinds, name) for name in step.outputs)]
    given = {spec.tensor for spec in inputs}
    carrying = [step for step in carrying if not given.intersection(step.outputs)]
    constants = {name for step in carrying for name in step.inputs if name and not depends_on_values(kinds, name)}
    places = place_nodes([_name(step) for step in carrying], constants, scopes)

    groups = _groups(carrying, places, kinds)
    owners = {id(step): group for group in groups for step in group.steps}
    output_groups: dict[str, _Group] = {}
    for spec in outputs:
        group = _group_behind(spec.tensor, makers, owners, given)
        if group is None and (maker := makers.get(spec.tensor)) is not None and spec.tensor not in given:
            # Nothing but plumbing makes it: then that is the layer.
            names = {other.name for other in groups}
            group = _Group(_free_name(_name(maker), names), (), [maker])
            groups.append(group)
            owners[id(maker)] = group
        if group is not None:
            output_groups[spec.name] = group

    _choose_tensors(groups, steps, owners, {spec.tensor for spec in outputs}, kinds)
    position = {name: i for i, step in enumerate(steps) for name in step.outputs}
    reached = _Reach(makers, kinds, parameters)
    layers = [
        _layer(group, group.tensor, makers[group.tensor], kinds, reached)
        for group in groups
        if group.tensor is not None
    ]
    heads = {spec.name: head for spec in outputs if (head := find_head(spec.tensor, makers)) is not None}
    return Graph(
        format=format,
        producer=producer,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        layers=tuple(sorted(layers, key=lambda layer: position[layer.tensor])),
        output_layers={name: group.name for name, group in output_groups.items()},
        logits={name: head.logits for name, head in heads.items() if head.logits is not None},
        head_ops={name: head.op for name, head in heads.items()},
        parameter_count=sum(parameters.values()),
        operations={_name(step): step.op for step in carrying},
        steps=tuple(steps),
    )


def _name(step: Step) -> str:
    return step.name or next(name for name in step.outputs if name)


def _free_name(name: str, taken: Collection[str]) -> str:
    count = 2
    free = name
    while free in taken:
        free, count = f"{name}_{count}", count + 1
    return free


def _groups(carrying: Iterable[Step], places: Mapping[str, Place], kinds: Mapping[str, Affinity]) -> list[_Group]:
    groups: dict[tuple[str, ...], _Group] = {}
    made_in: dict[str, tuple[str, ...]] = {}
    for step in carrying:
        place = places[_name(step)]
        if not place.scoped and step.op in _HANDS_ON:
            continue
        if _ADDED.search(step.name) and step.op in _MOVES:
            # It bears the name of the layer before or behind it; it belongs to the one that it reads from.
            source = next((name for name in step.inputs if depends_on_values(kinds, name)), "")
            if made_in.get(source) != place.key:
                continue
        groups.setdefault(place.key, _Group(place.name, place.key)).steps.append(step)
        made_in.update(dict.fromkeys(step.outputs, place.key))
    return list(groups.values())


def _group_behind(
    tensor: str, makers: Mapping[str, Step], owners: Mapping[int, _Group], given: Collection[str]
) -> _Group | None:
    step = makers.get(tensor)
    while step is not None and tensor not in given:
        owner = owners.get(id(step))
        if owner is not None:
            return owner
        if step.op not in _MOVES:
            return None
        tensor = step.inputs[0]
        step = makers.get(tensor)
    return None


def _choose_tensors(
    groups: Sequence[_Group],
    steps: Sequence[Step],
    owners: Mapping[int, _Group],
    outputs: Collection[str],
    kinds: Mapping[str, Affinity],
) -> None:
    """Takes the last tensor that leaves a group for its output; else, if nothing reads it, its last one."""
    readers: dict[str, list[_Group | None]] = {}
    for step in steps:
        for name in step.inputs:
            readers.setdefault(name, []).append(owners.get(id(step)))
    for group in groups:
        values = [
            name
            for step in group.steps
            for name in step.outputs
            if name in outputs or (depends_on_values(kinds, name) and _readable(step, name))
        ]
        leaving = [
            name for name in values if name in outputs or any(reader is not group for reader in readers.get(name, ()))
        ]
        unread = [name for name in values if name not in readers]
        if not leaving and not unread:
            continue
        group.tensor = (leaving or unread)[-1]
        others = [reader.key for reader in readers.get(group.tensor, ()) if reader is not None]
        inside = [key for key in others if key != group.key and key[: len(group.key)] == group.key]
        if group.tensor not in outputs and inside and len(inside) == len(others):
            # The author's layer goes on in the layers inside it, so its own name would promise its output.
            name = "/".join((group.name, *_name(group.steps[-1]).split("/")[-1:]))
            group.name = _free_name(name, {other.name for other in groups})


def _readable(step: Step, tensor: str) -> bool:
    return step.op not in _MAKES_NO_TENSOR and step.types.get(tensor, TensorType()).dtype not in _OPAQUE


class _Reach:
    """Finds the learned constants behind a tensor that is computed from constants alone."""

    def __init__(
        self, makers: Mapping[str, Step], kinds: Mapping[str, Affinity], parameters: Mapping[str, int]
    ) -> None:
        self._makers = makers
        self._kinds = kinds
        self._parameters = parameters

    def count(self, steps: Iterable[Step]) -> int:
        """How many learned numbers the steps read, each constant counted once."""
        waiting = [name for step in steps for name in step.inputs]
        seen: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name in seen or depends_on_values(self._kinds, name):
                continue
            seen.add(name)
            maker = self._makers.get(name)
            if maker is not None and name not in self._parameters:
                waiting.extend(maker.inputs)
        return sum(self._parameters.get(name, 0) for name in seen)


def _layer(group: _Group, tensor: str, maker: Step, kinds: Mapping[str, Affinity], reached: _Reach) -> Layer:
    known = maker.types.get(tensor, TensorType())
    return Layer(
        name=group.name,
        op=maker.op,
        tensor=tensor,
        dtype=known.dtype,
        shape=known.shape,
        parameter_count=reached.count(group.steps),
        affine=kinds.get(tensor, Affinity.CONSTANT) is not Affinity.NONLINEAR,
        nodes=tuple(_name(step) for step in group.steps),
    )
