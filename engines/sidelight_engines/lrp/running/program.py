"""The traced function: forward pass, backward walk and ledger as one TensorFlow graph, run per chunk of instances."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sidelight_engines.errors import InvalidField, MethodNotSupported
from sidelight_engines.lrp.parameters import (
    AttentionRule,
    EmptyBranchPolicy,
    LrpFallback,
    RuleMap,
    TargetValue,
)
from sidelight_engines.lrp.presets import PRESETS, LrpPreset
from sidelight_engines.lrp.request.start import StartKind, start_relevance
from sidelight_engines.lrp.result import AppliedRule
from sidelight_engines.lrp.structure.prepared import PreparedGraph
from sidelight_engines.lrp.structure.view import GraphView
from sidelight_engines.lrp.walk.assignment import Assignment
from sidelight_engines.lrp.walk.backward import find_chains, walk
from sidelight_engines.lrp.walk.node import Options, Walking, wide
from sidelight_engines.lrp.walk.replicas import Replicas
from sidelight_engines.runtime.first_alone import FirstAlone
from sidelight_engines.runtime.runtime import Array


@dataclass(frozen=True)
class Recipe:
    """What decides how a walk is traced: two requests with the same recipe share a traced function.

    Attributes:
        method: the preset or the map.
        empty_branch: what becomes of relevance in empty branches.
        fallback: what becomes of operations without an entry.
        attention: how products in attention are treated.
        layers: tensors to return relevance at, by their names in the graph.
        everything: returns relevance at all of them that relevance passes, and none is refused.
        start: how relevance starts.
        value: with which value.
        targets: targets per instance.
        box: the least and greatest values of inputs, as bytes, for the key; the arrays are given to the program.
        nonnegative: the inputs of which no instance has a negative number: rules take fewer products then.
    """

    method: LrpPreset | RuleMap
    empty_branch: EmptyBranchPolicy
    fallback: LrpFallback
    attention: AttentionRule
    layers: tuple[str, ...]
    everything: bool
    start: StartKind
    value: TargetValue
    targets: int
    box: Hashable = None
    nonnegative: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passed:
    """What one run gives; axes (targets, rows, ...).

    Attributes:
        inputs: input name -> relevance.
        layers: tensor name -> relevance.
        ledger: (layers, columns, targets, rows) float64; the layers are those of the program.
        logits: the logit of each target; NaN for a given start.
        classes: the class of each target; -1 for a given start.
        start: the relevance that started.
    """

    inputs: dict[str, Array]
    layers: dict[str, Array]
    ledger: Array
    logits: Array
    classes: Array
    start: Array


class LrpProgram:
    """A traced walk.

    Args:
        prepared: the graph.
        recipe: how it is walked.
        box: input name -> least and greatest values, scalars or one instance; None if not given.

    Attributes:
        applied: the rule of each operation, in the order of propagation.
        ledger_layers: names of the layers in the ledger; the total, whose name is empty, among them.
        row_bytes: about what one instance takes in a run.

    Raises:
        UnsupportedOp: an operation has no entry.
        InvalidField: a layer is not passed by relevance, or an entry of the map matches nothing.
    """

    def __init__(self, prepared: PreparedGraph, recipe: Recipe, box: Mapping[str, tuple[Array, Array]] | None) -> None:
        import tensorflow as tf

        self.applied: tuple[AppliedRule, ...] = ()
        self.ledger_layers: tuple[str, ...] = ()
        self.row_bytes = 0
        self._prepared = prepared
        self._recipe = recipe
        self._box = box
        self._input_names: tuple[str, ...] = ()
        self._layer_names: tuple[str, ...] = ()
        self._names = tuple(prepared.frozen.inputs)
        self._given: dict[str, Any] = {}
        specs = [tf.TensorSpec(prepared.shapes[name], prepared.dtypes[name]) for name in self._names]
        if recipe.start is StartKind.CLASSES:
            specs.append(tf.TensorSpec([recipe.targets, None], tf.int32))
        elif recipe.start is StartKind.GIVEN:
            specs.append(tf.TensorSpec(None, tf.float64))
        traced = tf.function(self._trace, autograph=False, input_signature=specs).get_concrete_function()
        self._function = FirstAlone(traced)

    def __call__(self, feed: Mapping[str, Array], start: Array | None) -> Passed:
        """Walks some instances.

        Args:
            feed: input name -> (rows, ...), for the inputs of the prepared graph.
            start: CLASSES: (targets, rows) int32; GIVEN: (targets, rows, ...logits) float64; else None.

        Raises:
            InvalidField: the graph can not be run on inputs of these shapes.
        """
        import tensorflow as tf

        values = [tf.convert_to_tensor(feed[name], self._prepared.dtypes[name]) for name in self._names]
        if start is not None:
            values.append(tf.convert_to_tensor(start))
        try:
            made = [np.asarray(tensor) for tensor in self._function(*values)]
        except (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError) as error:
            problem = f"the model can not be run on them: {error.message.partition(chr(10))[0]}"
            raise InvalidField("inputs", problem, "check their shapes") from error
        ledger, logits, classes, begun, *rest = made
        inputs = dict(zip(self._input_names, rest, strict=False))
        layers = dict(zip(self._layer_names, rest[len(self._input_names) :], strict=True))
        return Passed(inputs, layers, ledger, logits, classes, begun)

    def _trace(self, *values: Any) -> list[Any]:
        import tensorflow as tf

        prepared, recipe = self._prepared, self._recipe
        inputs = self._given = dict(zip(self._names, values, strict=False))
        names = [prepared.target, *(name for name in recipe.layers if self._known(name))]
        (target, *tapped), constants = prepared.imported(inputs, names)
        view = GraphView(inputs, target, prepared.origins.layer, recipe.nonnegative, constants)
        where = view.batch_axis(target)
        if where is None or where.axis != 0 or where.outer != 1:
            raise MethodNotSupported(
                "layer-wise relevance propagation",
                "the first axis of the explained output is not that of the instances",
            )
        rows = tf.shape(next(iter(inputs.values())))[0]
        replicas = Replicas(recipe.targets, rows)
        start = start_relevance(
            recipe.start,
            recipe.value,
            recipe.targets,
            wide(target),
            rows,
            values[-1] if len(values) > len(inputs) else None,
            positive=isinstance(recipe.method, LrpPreset) and PRESETS[recipe.method].positive_start,
        )
        chains = find_chains(view)
        assignment = Assignment(recipe.method, prepared.graph, view, chains, prepared.origins)
        options = Options(
            rule_of=assignment.rule_of,
            sums=assignment.sums,
            averages=assignment.averages,
            empty_branch=recipe.empty_branch,
            fallback=recipe.fallback,
            attention=recipe.attention,
            box=self._box_at,
        )
        walking = Walking(view, replicas, options)
        found = walk(walking, chains, start.relevance)
        self._given = {}
        self.applied = tuple(walking.applied)
        self.ledger_layers = walking.ledger.layers
        self.row_bytes = _row_bytes(view, walking, recipe.targets)
        self._input_names = tuple(inputs)
        relevance = [found[name] if name in found else _nothing(inputs[name], replicas) for name in inputs]
        layers = self._passed(recipe, tapped, names[1:], walking)
        self._layer_names = tuple(layers)
        return [
            walking.ledger.stacked(recipe.targets, rows),
            start.logits,
            start.classes,
            replicas.total(start.relevance, where),
            *(replicas.apart(tensor) for tensor in relevance),
            *layers.values(),
        ]

    def _known(self, tensor: str) -> bool:
        return any(node.name == tensor.partition(":")[0] for node in self._prepared.frozen.graph_def.node)

    def _passed(self, recipe: Recipe, tapped: Sequence[Any], names: Sequence[str], walking: Walking) -> dict[str, Any]:
        found = {}
        for name, tensor in zip(names, tapped, strict=True):
            relevance = walking.passed.get(tensor.name)
            where = walking.view.batch_axis(tensor)
            if relevance is not None and where is not None and where.axis == 0 and where.outer == 1:
                found[name] = walking.replicas.apart(relevance)
        missing = [name for name in recipe.layers if name not in found]
        if missing and not recipe.everything:
            layer = next(
                (layer.name for layer in self._prepared.graph.layers if self._is(layer.tensor, missing[0])), ""
            )
            raise InvalidField(
                "parameters.layers.names",
                f"no relevance passes layer {layer or missing[0]!r} on its way from the explained output to the inputs",
                "leave it out, or name a layer on the way",
            )
        return found

    def _is(self, tensor: str, name: str) -> bool:
        return self._prepared.frozen.tensor(tensor) == name

    def _box_at(self, tensor: Any) -> tuple[Array, Array]:
        """The least and greatest value that a tensor can have, by sending those of the inputs to it."""
        import tensorflow as tf

        if self._box is None:
            raise InvalidField(
                "parameters.input_minimum",
                "it is missing, and a z-box needs it",
                "give input_minimum and input_maximum, or low and high with the rule",
            )
        with tf.init_scope():
            ends = [self._sent(tensor, end) for end in (0, 1)]
        return np.minimum(*ends), np.maximum(*ends)

    def _sent(self, tensor: Any, end: int) -> Array:
        import tensorflow as tf

        prepared, box = self._prepared, self._box or {}
        feed = {name: _one(box[name][end], prepared, name) for name in prepared.frozen.inputs}
        own = next((name for name, given in self._given.items() if given is tensor), None)
        if own is not None:
            return feed[own]

        def compute() -> Any:
            given = {name: tf.constant(value) for name, value in feed.items()}
            return prepared.imported(given, [tensor.name])[0]

        return np.asarray(tf.function(compute, autograph=False)()[0])


def _one(value: Array, prepared: PreparedGraph, name: str) -> Array:
    lengths = [length or 1 for length in (prepared.shapes[name] or (1,))[1:]]
    shape = np.shape(value) if np.ndim(value) else tuple(lengths)
    return np.broadcast_to(np.asarray(value, prepared.dtypes[name]), shape)[None]


def _nothing(tensor: Any, replicas: Replicas) -> Any:
    """The relevance of an input that none came to."""
    import tensorflow as tf

    from sidelight_engines.lrp.structure.batch_axis import BatchAxis

    like = tensor if tensor.dtype.is_floating else tf.cast(tensor, tf.float32)
    return replicas.repeated(wide(tf.zeros_like(like)), BatchAxis(0))


def _row_bytes(view: GraphView, walking: Walking, targets: int) -> int:
    """About what one instance takes: what the walk reads of the forward pass, and relevance at the widest places."""
    forward = {op.name for op in view.order}
    kept, sizes = 0, []
    for op in view.order:
        for made in op.outputs:
            where = view.batch_axis(made)
            if where is None or made.shape.rank is None:
                continue
            size = made.dtype.size or 4
            for axis, length in enumerate(made.shape.as_list()):
                size *= where.outer if axis == where.axis else (length or 1)
            sizes.append(size)
            if any(reader.name not in forward for reader in made.consumers()):
                kept += size
    widest = sorted(sizes, reverse=True)[:4]
    return kept + 2 * targets * sum(widest)
