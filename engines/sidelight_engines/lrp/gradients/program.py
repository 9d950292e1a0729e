"""The traced function of gradient methods: TensorFlow's own gradient of what is explained.

f is the sum of the logits, each times what it counts: 1 for the class; for a margin, also -1 for the largest other.
Guided backpropagation and deconvnet change the backward rule of ReLUs. Convolutions go back as relevance does, in the
way that was measured to be the fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sidelight_engines.errors import InvalidField
from sidelight_engines.lrp.maps.convolutions import Convolution
from sidelight_engines.lrp.parameters import GradientKind, TargetValue
from sidelight_engines.lrp.request.start import StartKind, start_weights
from sidelight_engines.lrp.structure.prepared import PreparedGraph
from sidelight_engines.lrp.walk.node import wide
from sidelight_engines.runtime.first_alone import FirstAlone
from sidelight_engines.runtime.runtime import Array

_RECTIFIERS = ("Relu", "Relu6")

# The registry of TensorFlow is one per process.
_REGISTERED: set[str] = set()


@dataclass(frozen=True)
class GradientRecipe:
    """What decides how a gradient function is traced.

    Attributes:
        start: how the explained logits are chosen.
        margin: whether the margin is explained.
        targets: targets per instance.
        layers: tensors to differentiate by, beside the inputs.
        everything: whether those that are not on the way are left out, not refused.
        rectifier: whose backward rule ReLUs have; None for their own.
        times_input: multiplies each gradient by what it was taken by.
    """

    start: StartKind
    margin: bool
    targets: int
    layers: tuple[str, ...]
    everything: bool
    rectifier: GradientKind | None
    times_input: bool


class GradientProgram:
    """A traced gradient.

    Args:
        prepared: the graph.
        recipe: what is differentiated.

    Attributes:
        row_bytes: about what one instance takes in a run.
        rectifiers: how many ReLUs the graph has.
    """

    def __init__(self, prepared: PreparedGraph, recipe: GradientRecipe) -> None:
        import tensorflow as tf

        self.row_bytes = 0
        self.rectifiers = sum(node.op in _RECTIFIERS for node in prepared.frozen.graph_def.node)
        self._prepared = prepared
        self._recipe = recipe
        self._layer_names: tuple[str, ...] = ()
        self._names = tuple(prepared.frozen.inputs)
        specs = [tf.TensorSpec(prepared.shapes[name], prepared.dtypes[name]) for name in self._names]
        if recipe.start is StartKind.CLASSES:
            specs.append(tf.TensorSpec([recipe.targets, None], tf.int32))
        elif recipe.start is StartKind.GIVEN:
            specs.append(tf.TensorSpec(None, tf.float64))
        traced = tf.function(self._trace, autograph=False, input_signature=specs).get_concrete_function()
        self._function = FirstAlone(traced)

    def __call__(
        self, feed: Mapping[str, Array], start: Array | None
    ) -> tuple[dict[str, Array], dict[str, Array], Array, Array, Array]:
        """Differentiates at some points.

        Args:
            feed: input name -> (rows, ...).
            start: CLASSES: (targets, rows) int32; GIVEN: (targets, rows, ...logits) float64; else None.

        Returns:
            Gradients by input and by layer tensor, (targets, rows, ...); logits, classes and f, (targets, rows).
        """
        import tensorflow as tf

        values = [tf.convert_to_tensor(feed[name], self._prepared.dtypes[name]) for name in self._names]
        if start is not None:
            values.append(tf.convert_to_tensor(start))
        try:
            logits, classes, explained, *rest = (np.asarray(tensor) for tensor in self._function(*values))
        except (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError) as error:
            problem = f"the model can not be run on them: {error.message.partition(chr(10))[0]}"
            raise InvalidField("inputs", problem, "check their shapes") from error
        inputs = dict(zip(self._names, rest, strict=False))
        return inputs, dict(zip(self._layer_names, rest[len(inputs) :], strict=True)), logits, classes, explained

    def _trace(self, *values: Any) -> list[Any]:
        import tensorflow as tf

        prepared, recipe = self._prepared, self._recipe
        inputs = dict(zip(self._names, values, strict=False))
        known = {node.name for node in prepared.frozen.graph_def.node}
        names = [name for name in recipe.layers if name.partition(":")[0] in known]
        graph_def = _overridden(prepared.frozen.graph_def, recipe.rectifier)
        (target, *tapped), _ = prepared.imported(inputs, [prepared.target, *names], graph_def)
        rows = tf.shape(next(iter(inputs.values())))[0]
        start = start_weights(
            recipe.start,
            TargetValue.MARGIN if recipe.margin else TargetValue.ONE,
            recipe.targets,
            target,
            rows,
            values[-1] if len(values) > len(inputs) else None,
        )
        weights = tf.reshape(start.relevance, tf.concat([[recipe.targets], tf.shape(target)], 0))
        wanted = [*inputs.values(), *tapped]
        by_target = [
            tf.gradients(target, wanted, grad_ys=weights[i], unconnected_gradients="zero")
            for i in range(recipe.targets)
        ]
        stacked = [
            _stacked(parts, by if recipe.times_input else None)
            for parts, by in zip(zip(*by_target, strict=True), wanted, strict=True)
        ]
        self._layer_names = tuple(names)
        missing = [name for name in recipe.layers if name not in names]
        if missing and not recipe.everything:
            raise InvalidField(
                "parameters.layers.names",
                f"the explained output does not depend on {missing[0]!r}",
                "leave it out, or name a layer on the way",
            )
        self.row_bytes = _row_bytes(target.graph, recipe.targets)
        explained = tf.reduce_sum(
            tf.reshape(tf.cast(weights * target[None], tf.float64), [recipe.targets, rows, -1]), axis=2
        )
        return [start.logits, start.classes, explained, *stacked]


def _stacked(gradients: Any, factor: Any) -> Any:
    """Gradients by one tensor, (targets, ...); those by whole numbers are 0."""
    import tensorflow as tf

    stacked = wide(tf.stack([tf.convert_to_tensor(part) for part in gradients]))
    return stacked if factor is None else stacked * wide(factor)[None]


def _row_bytes(graph: Any, targets: int) -> int:
    sizes = []
    for op in graph.get_operations():
        for made in op.outputs:
            lengths = [] if made.shape.rank is None else made.shape.as_list()
            if lengths and lengths[0] is None and made.dtype.size:
                sizes.append(made.dtype.size * int(np.prod([length or 1 for length in lengths[1:]], dtype=np.int64)))
    # Forward and backward tensors alike; the last are freed as they are used.
    bytes_per_row: int = sum(sizes) // 2 + targets * max(sizes, default=0)
    return max(1, bytes_per_row)


def _overridden(graph_def: Any, kind: GradientKind | None) -> Any:
    """A copy of a graph whose convolutions, and ReLUs if a kind is given, have backward rules of ours."""
    rules = {"Conv2D": "SidelightConvolution"}
    _register("SidelightConvolution", _back_through_convolution)
    if kind is not None:
        name = f"Sidelight{''.join(part.capitalize() for part in kind.value.split('_'))}"
        _register(name, _back_through_deconvnet if kind is GradientKind.DECONVNET else _back_through_guided)
        rules |= dict.fromkeys(_RECTIFIERS, name)
    changed = type(graph_def)()
    changed.CopyFrom(graph_def)
    for node in changed.node:
        # To ask a map of a message for a key is to make it.
        if node.op in rules and not ("data_format" in node.attr and node.attr["data_format"].s == b"NCHW"):
            node.attr["_gradient_op_type"].s = rules[node.op].encode()
    return changed


def _register(name: str, backward: Callable[[Any, Any], Any]) -> None:
    import tensorflow as tf

    if name not in _REGISTERED:
        tf.RegisterGradient(name)(backward)
        _REGISTERED.add(name)


def _back_through_deconvnet(op: Any, gradient: Any) -> Any:
    import tensorflow as tf

    return tf.nn.relu(gradient)


def _back_through_guided(op: Any, gradient: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.ReluGrad(gradients=tf.nn.relu(gradient), features=op.inputs[0])


def _back_through_convolution(op: Any, gradient: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    x, kernel = op.inputs
    same = {name: op.get_attr(name) for name in ("strides", "padding", "explicit_paddings", "dilations")}
    by_kernel = tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=tf.shape(kernel), out_backprop=gradient, **same)
    if kernel.shape.is_fully_defined():
        return Convolution(op).transposed_sum([(1.0, gradient, kernel)]), by_kernel
    by_input = tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(x), filter=kernel, out_backprop=gradient, **same)
    return by_input, by_kernel
