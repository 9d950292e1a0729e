"""Per-example gradients of a model: traced once for a layout, then called with any number of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sidelight_engines.errors import InvalidField
from sidelight_engines.runtime.feeds import checked_feed
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.gradients.analysis import TermShape, choose_layout
from sidelight_engines.similarity.gradients.layout import Layout
from sidelight_engines.similarity.gradients.pairs import pair_products
from sidelight_engines.similarity.gradients.rows import NO_CLASS, GradientRows, join_rows
from sidelight_engines.similarity.gradients.traced import (
    Problem,
    shape_of_term,
    trace_rows,
    trace_shapes,
    trace_whole,
)
from sidelight_engines.similarity.labels import predicted_classes
from sidelight_engines.similarity.parameters import Precision

# Inner products of factored gradients must come this close to those of whole ones, relative to the norms. Rounding
# alone gives 1e-5; it may move an activation across the kink of a ReLU. A wrong factor is off by the order of 1.
_TOLERANCE = 2e-2
_PROBE_ROWS = 3


@dataclass(frozen=True)
class Signature:
    """What a traced function takes: the model's inputs and the targets of the loss.

    Attributes:
        dtypes: input name -> NumPy type name.
        shapes: input name -> length of each axis, None where it is free; None if nothing is known.
        target: the shape of the targets; None where the model's own prediction takes their place.
        fixed_batch: the one batch length that the file allows; None if any.
    """

    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int | None, ...] | None]
    target: tuple[int | None, ...] | None
    fixed_batch: int | None


def signature_of(problem: Problem) -> Signature:
    """What a traced function of a problem takes."""
    graph = problem.analysis.imported.graph
    dtypes, shapes = {}, {}
    for name, tensor_name in problem.analysis.frozen.inputs.items():
        tensor = graph.get_tensor_by_name(tensor_name)
        dtypes[name] = tensor.dtype.name
        shapes[name] = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    output = graph.get_tensor_by_name(problem.analysis.output)
    target = None if problem.predicted else (None, *output.shape.as_list()[1:])
    fixed = [shape[0] for shape in shapes.values() if shape and shape[0] is not None]
    return Signature(dtypes, shapes, target, fixed[0] if fixed else None)


class GradientExtractor:
    """Computes per-example gradients in factors.

    Args:
        problem: what is differentiated.
        layout: how gradients are laid out.
        precision: how they are stored.
        row_values: numbers that a pass holds per example beside those of the layout.

    Attributes:
        layout: how gradients are laid out.
        row_bytes: about what a pass takes per example, beside what the model itself does.
    """

    def __init__(self, problem: Problem, layout: Layout, precision: Precision, row_values: int = 0) -> None:
        self.layout = layout
        # Factors, their scaled copies, and the copy that leaves TensorFlow.
        self.row_bytes = 4 * (2 * row_values + 3 * layout.values_per_example)
        self._problem = problem
        self._signature = signature_of(problem)
        self._batched = any(not block.by_row for block in layout.blocks)
        self._function = _compile(
            self._signature, lambda inputs, target: trace_rows(problem, layout, precision, inputs, target)
        )
        self._precision = precision
        by_row = [part.parameter for block in layout.blocks if block.by_row for part in block.parts]
        self._by_row = (
            WholeGradients(problem, [layout.parameters[parameter].name for parameter in by_row]) if by_row else None
        )

    def __call__(self, inputs: Mapping[str, Array], targets: Array | None) -> GradientRows:
        """Computes the gradients of some examples, in one pass but for what comes row by row.

        Args:
            inputs: input name -> (n, ...).
            targets: in the output's shape; None where the model's own prediction takes their place.

        Returns:
            Their gradients, without labels.

        Raises:
            InvalidField: an input is missing, or has a shape that the model does not take.
        """
        parts = [self._pass(feed, target, rows) for feed, target, rows in _chunks(self._signature, inputs, targets)]
        return join_rows(parts)

    def _pass(self, feed: dict[str, Array], targets: Array | None, rows: int) -> GradientRows:
        made = _run(self._function, self._signature, feed, targets)
        fields = [np.asarray(field)[:rows] for field in made.fields]
        scales, norms = np.asarray(made.scales)[:rows], np.asarray(made.norms, np.float64)[:rows]
        output = np.asarray(made.output)[:rows]
        squared = np.zeros((rows, len(self.layout.parameters)))
        column = field = 0
        for block in (block for block in self.layout.blocks if not block.by_row):
            wide = scales[:, field : field + len(block.field_widths)].astype(np.float64) ** 2
            for position, part in enumerate(block.parts):
                factor = wide[:, -1] if position and block.has_bias else wide.prod(axis=1)
                squared[:, part.parameter] = norms[:, column] * factor
                column += 1
            field += len(block.field_widths)
        if self._by_row is not None:
            extra, extra_scales = self._row_by_row(feed, targets, rows, squared)
            fields.extend(extra)
            scales = np.concatenate([scales, extra_scales], axis=1)
        classes = predicted_classes(self._problem.loss, output)
        return GradientRows(
            self.layout,
            tuple(fields),
            scales,
            squared,
            np.full(rows, NO_CLASS, np.int64),
            classes,
        )

    def _row_by_row(
        self, feed: dict[str, Array], targets: Array | None, rows: int, squared: Array
    ) -> tuple[list[Array], Array]:
        blocks = [block for block in self.layout.blocks if block.by_row]
        kind = np.float16 if self._precision is Precision.FLOAT16 else np.float32
        fields = [np.empty((rows, block.left), kind) for block in blocks]
        scales = np.ones((rows, len(blocks)), np.float32)
        if self._by_row is None:
            return fields, scales
        for row in range(rows):
            given = None if targets is None else targets[row : row + 1]
            gradients = iter(self._by_row({name: array[row : row + 1] for name, array in feed.items()}, given))
            for position, block in enumerate(blocks):
                parts = [next(gradients) for _ in block.parts]
                largest = max(float(np.abs(part).max(initial=0)) for part in parts)
                scale = largest if largest > 0 else 1.0
                scales[row, position] = scale
                fields[position][row] = np.concatenate(parts) / scale
                for part, values in zip(block.parts, parts, strict=True):
                    squared[row, part.parameter] = np.square(values, dtype=np.float64).sum()
        return fields, scales


def _compile(signature: Signature, build: Any) -> Any:
    """Traces a function of (inputs, target); what it builds may be any nest of tensors."""
    import tensorflow as tf

    names = tuple(signature.dtypes)
    specs = [tf.TensorSpec(signature.shapes[name], signature.dtypes[name]) for name in names]
    if signature.target is not None:
        specs.append(tf.TensorSpec(signature.target, tf.float32))
    form: list[Any] = []

    def compute(*values: Any) -> list[Any]:
        made = build(dict(zip(names, values, strict=False)), None if signature.target is None else values[len(names)])
        form[:] = [made]
        flat: list[Any] = tf.nest.flatten(_as_nest(made))
        return flat

    function = tf.function(compute, autograph=False, input_signature=specs).get_concrete_function()
    template = form[0]

    def call(*values: Any) -> Any:
        return _rebuild(template, iter(function(*values)))

    return call


def _as_nest(made: Any) -> Any:
    return [made.fields, made.scales, made.norms, made.output] if hasattr(made, "fields") else made


def _rebuild(template: Any, flat: Any) -> Any:
    if hasattr(template, "fields"):
        return type(template)([next(flat) for _ in template.fields], next(flat), next(flat), next(flat))
    return list(flat)


def _chunks(
    signature: Signature, inputs: Mapping[str, Array], targets: Array | None
) -> list[tuple[dict[str, Array], Array | None, int]]:
    """The rows as batches that the file allows, and how many of each count."""
    feed = checked_feed(inputs, signature.dtypes, signature.shapes)
    rows = min(len(array) for array in feed.values() if array.ndim)
    batch = signature.fixed_batch
    if batch is None or batch == rows:
        return [(feed, targets, rows)]
    chunks = []
    for start in range(0, rows, batch):
        count = min(batch, rows - start)
        at = np.minimum(np.arange(start, start + batch), rows - 1)
        part = {name: array[at] for name, array in feed.items()}
        chunks.append((part, None if targets is None else targets[at], count))
    return chunks


def _run(function: Any, signature: Signature, feed: Mapping[str, Array], targets: Array | None) -> Any:
    import tensorflow as tf

    values = [tf.convert_to_tensor(feed[name], dtype) for name, dtype in signature.dtypes.items()]
    if signature.target is not None:
        values.append(tf.convert_to_tensor(targets, tf.float32))
    try:
        return function(*values)
    except (tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError) as error:
        problem = f"the model can not be differentiated at them: {error.message.partition(chr(10))[0]}"
        raise InvalidField("inputs", problem, "check their shapes") from error


class WholeGradients:
    """Whole gradients of one example at a time."""

    def __init__(self, problem: Problem, parameters: Sequence[str]) -> None:
        self._signature = signature_of(problem)
        self._function = _compile(
            self._signature, lambda inputs, target: trace_whole(problem, parameters, inputs, target)
        )

    def __call__(self, inputs: Mapping[str, Array], targets: Array | None) -> list[Array]:
        """The gradient by each parameter at the first row, float32 and flat."""
        one = {name: array[:1] for name, array in inputs.items()}
        feed, target, _ = _chunks(self._signature, one, None if targets is None else targets[:1])[0]
        return [np.asarray(gradient) for gradient in _run(self._function, self._signature, feed, target)]


def make_extractor(
    problem: Problem, precision: Precision, inputs: Mapping[str, Array], targets: Array | None
) -> GradientExtractor:
    """Chooses the smallest layout for a model and makes its extractor.

    The layout is tried on a few examples against whole gradients: a parameter whose factors do not give the same
    inner products gets its gradients row by row.

    Args:
        problem: what is differentiated.
        precision: how gradients are stored.
        inputs: examples to try it on: input name -> (n, ...).
        targets: theirs; None where the model's own prediction takes their place.

    Raises:
        InvalidField: an input is missing, or has a shape that the model does not take.
    """
    probe = {name: array[:_PROBE_ROWS] for name, array in inputs.items()}
    target = None if targets is None else targets[:_PROBE_ROWS]
    shapes = _term_shapes(problem, probe, target)
    by_row = {
        source.readings.parameter: source.reason
        for source in problem.analysis.sources
        if not source.terms or not any(term.made in shapes for term in source.terms)
    }
    layout = choose_layout(problem.analysis, shapes, by_row)
    values = sum(shape.positions * (shape.left + shape.right) for shape in shapes.values() if shape.right)
    extractor = GradientExtractor(problem, layout, precision, values)
    wrong = _disagreeing(extractor, problem, probe, target)
    if wrong:
        by_row.update(dict.fromkeys(wrong, "its factors do not give its gradient"))
        extractor = GradientExtractor(problem, choose_layout(problem.analysis, shapes, by_row), precision, values)
    return extractor


def _term_shapes(problem: Problem, inputs: Mapping[str, Array], targets: Array | None) -> dict[str, TermShape]:
    signature = signature_of(problem)
    names: list[str] = []

    def build(values: Mapping[str, Any], target: Any) -> list[Any]:
        made, shapes = trace_shapes(problem, values, target)
        names[:] = made
        return shapes

    function = _compile(signature, build)
    feed, target, _ = _chunks(signature, inputs, targets)[0]
    rows = _run(function, signature, feed, target)
    return {name: shape_of_term(np.asarray(row).tolist()) for name, row in zip(names, rows, strict=True)}


def _disagreeing(
    extractor: GradientExtractor, problem: Problem, inputs: Mapping[str, Array], targets: Array | None
) -> list[str]:
    """The parameters whose factors give other inner products than their whole gradients."""
    layout = extractor.layout
    doubtful = [part.parameter for block in layout.blocks if not block.by_row for part in block.parts]
    whole = WholeGradients(problem, [layout.parameters[parameter].name for parameter in doubtful])
    found = extractor(inputs, targets)
    rows = len(found)
    factored = np.stack([pair_products(found.take(slice(i, i + 1)), found) for i in range(rows)])
    each = [
        whole(
            {name: array[i : i + 1] for name, array in inputs.items()}, None if targets is None else targets[i : i + 1]
        )
        for i in range(rows)
    ]
    wrong = []
    for position, parameter in enumerate(doubtful):
        vectors = np.stack([gradients[position] for gradients in each]).astype(np.float64)
        exact = vectors @ vectors.T
        norms = np.sqrt(np.diag(exact))
        if not np.isfinite(exact).all():
            continue
        error = np.abs(factored[:, :, parameter] - exact)
        if np.any(error > _TOLERANCE * np.outer(norms, norms)):
            wrong.append(layout.parameters[parameter].name)
    return wrong
