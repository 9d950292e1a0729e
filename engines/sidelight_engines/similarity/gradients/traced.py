"""The functions that TensorFlow runs: gradients in factors for a batch, and whole for one example.

All rows of a field are divided by their own largest magnitude, the row's scale, before they leave TensorFlow:
then products of float32 numbers neither over- nor underflow, however small the gradients of confident
predictions are, and float16 loses no range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sidelight_engines.runtime.tensorflow_import import import_frozen
from sidelight_engines.similarity.gradients.analysis import Analysis, Source, TermShape
from sidelight_engines.similarity.gradients.layout import Block, BlockKind, Layout
from sidelight_engines.similarity.gradients.terms import Factors, Lookup, Product, Term, whole
from sidelight_engines.similarity.losses import loss_from_logits, loss_per_example
from sidelight_engines.similarity.parameters import Loss, Precision


@dataclass(frozen=True)
class Problem:
    """What is differentiated.

    Attributes:
        analysis: the model.
        loss: resolved.
        predicted: whether the model's own prediction takes the place of labels.
    """

    analysis: Analysis
    loss: Loss
    predicted: bool


class _Backward:
    """One copy of the graph with the loss on top, in the function that is being traced."""

    def __init__(self, problem: Problem, inputs: Mapping[str, Any], target: Any, names: Sequence[str]) -> None:
        import tensorflow as tf

        analysis = problem.analysis
        unique = list(dict.fromkeys([analysis.output, *([analysis.logits] if analysis.logits else []), *names]))
        tensors = import_frozen(analysis.frozen, inputs, unique)
        self.tensors = dict(zip(unique, tensors, strict=True))
        self.output = self.tensors[analysis.output]
        if problem.predicted:
            target = _own_prediction(problem.loss, self.output)
        loss, read = problem.loss, self.output
        from_logits = loss_from_logits(loss, analysis.head)
        if from_logits is not loss:
            loss, read = from_logits, self.tensors[analysis.logits]
        self.losses = loss_per_example(loss, read, target)
        self.batch = tf.shape(self.output)[0]

    def gradients(self, names: Sequence[str]) -> dict[str, Any]:
        """The gradient of the summed losses by each tensor; None where there is none."""
        import tensorflow as tf

        unique = list(dict.fromkeys(names))
        return dict(
            zip(unique, tf.gradients(tf.reduce_sum(self.losses), [self.tensors[n] for n in unique]), strict=True)
        )


def _own_prediction(loss: Loss, output: Any) -> Any:
    import tensorflow as tf

    if loss.categorical:
        return tf.one_hot(tf.argmax(output, axis=-1), output.shape[-1], dtype=output.dtype)
    threshold = 0.0 if loss is Loss.BINARY_CROSS_ENTROPY_FROM_LOGITS else 0.5
    return tf.cast(output >= threshold, output.dtype)


def _names(sources: Sequence[Source]) -> list[str]:
    names = []
    for source in sources:
        for term, reading in zip(source.terms, source.readings.readings, strict=True):
            names.extend([*term.operands, term.made])
            if source.pulled_back:
                names.append(reading.tensor)
        names.append(f"{source.readings.parameter}:0")
    return names


def _single(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor


def _factors(backward: _Backward, term: Term, gradient: Any) -> Factors:
    operands = [_single(backward.tensors[name]) for name in term.operands]
    return term.factors(operands, _single(gradient), backward.batch)


def trace_shapes(problem: Problem, inputs: Mapping[str, Any], target: Any) -> tuple[list[str], list[Any]]:
    """Builds what tells the shapes of terms.

    Returns:
        Names of the tensors that terms make, by which the loss has a gradient, and for each
        (kind, left, right, positions), whole numbers; kind 0 is VECTOR, 1 OUTER, 2 LOOKUP.
    """
    import tensorflow as tf

    sources = [source for source in problem.analysis.sources if source.terms]
    backward = _Backward(problem, inputs, target, _names(sources))
    terms = {term.made: term for source in sources for term in source.terms}
    gradients = backward.gradients(list(terms))
    names, shapes = [], []
    for made, term in terms.items():
        if gradients[made] is None:
            continue
        factors = _factors(backward, term, gradients[made])
        names.append(made)
        if isinstance(factors, Product):
            shapes.append(tf.stack([1, factors.left.shape[-1], factors.right.shape[-1], tf.shape(factors.left)[1]]))
        elif isinstance(factors, Lookup):
            shapes.append(tf.stack([2, factors.rows, factors.right.shape[-1], tf.shape(factors.ids)[1]]))
        else:
            shapes.append(tf.constant([0, 0, 0, 1]))
    return names, shapes


def shape_of_term(row: Sequence[int]) -> TermShape:
    """What one row of `trace_shapes` says."""
    kind = (BlockKind.VECTOR, BlockKind.OUTER, BlockKind.LOOKUP)[int(row[0])]
    return TermShape(kind, int(row[1]), int(row[2]), int(row[3]))


@dataclass(frozen=True)
class TracedRows:
    """What the batched function gives.

    Attributes:
        fields: per field of the blocks that do not come row by row, (batch, width).
        scales: (batch, fields), what each row was divided by; 1 for whole numbers.
        norms: (batch, parameters of those blocks in order), squared, of the divided factors.
        output: (batch, ...).
    """

    fields: list[Any]
    scales: Any
    norms: Any
    output: Any


def trace_rows(
    problem: Problem, layout: Layout, precision: Precision, inputs: Mapping[str, Any], target: Any
) -> TracedRows:
    """Builds the gradients of a batch, in factors."""
    import tensorflow as tf

    by_name = {source.readings.parameter: source for source in problem.analysis.sources}
    blocks = [block for block in layout.blocks if not block.by_row]
    used = {layout.parameters[part.parameter].name for block in blocks for part in block.parts}
    sources = [source for source in problem.analysis.sources if source.readings.parameter in used]
    backward = _Backward(problem, inputs, target, _names(sources))
    gradients = backward.gradients([term.made for source in sources for term in source.terms])
    fields, scales, norms = [], [], []
    for block in blocks:
        own = [by_name[layout.parameters[part.parameter].name] for part in block.parts]
        made, squares = _block_fields(backward, gradients, block, own)
        for values, is_ids in zip(made, (block.kind is BlockKind.LOOKUP, False), strict=False):
            flat, scale = (values, tf.ones([backward.batch])) if is_ids else values
            flat = tf.reshape(flat, [backward.batch, -1])
            fields.append(tf.cast(flat, tf.float16) if precision is Precision.FLOAT16 and not is_ids else flat)
            scales.append(scale)
        norms.extend(squares)
    empty = tf.zeros([backward.batch, 0])
    return TracedRows(
        fields,
        tf.stack(scales, axis=1) if scales else empty,
        tf.stack(norms, axis=1) if norms else empty,
        backward.output,
    )


def _block_fields(
    backward: _Backward, gradients: Mapping[str, Any], block: Block, sources: Sequence[Source]
) -> tuple[list[Any], list[Any]]:
    """Fields (ids as they are, values with their scale) and squared norms of the parts."""
    import tensorflow as tf

    if block.kind is BlockKind.VECTOR:
        parts = [tf.reshape(_gradient(backward, gradients, source), [backward.batch, -1]) for source in sources]
        values, scale = _scaled(parts[0] if len(parts) == 1 else tf.concat(parts, axis=1), [1])
        pieces = tf.split(values, [part.size for part in block.parts], axis=1)
        return [(values, scale)], [tf.reduce_sum(tf.square(piece), axis=1) for piece in pieces]
    term = sources[0].terms[0]
    factors = _factors(backward, term, gradients[term.made])
    if isinstance(factors, Lookup):
        right, scale = _scaled(factors.right, [1, 2])
        same = tf.cast(factors.ids[:, :, None] == factors.ids[:, None, :], tf.float32)
        square = tf.reduce_sum(same * tf.matmul(right, right, transpose_b=True), axis=[1, 2])
        return [factors.ids, (right, scale)], [square]
    if not isinstance(factors, Product):
        raise TypeError(f"{term.made} has no factors")
    left, left_scale = _scaled(factors.left, [1, 2])
    right, right_scale = _scaled(factors.right, [1, 2])
    if block.positions == 1:
        square = tf.reduce_sum(tf.square(left), axis=[1, 2]) * tf.reduce_sum(tf.square(right), axis=[1, 2])
    else:
        # |sum_t u_t d_t'|^2 = sum_st (u_s.u_t)(d_s.d_t)
        grams = tf.matmul(left, left, transpose_b=True) * tf.matmul(right, right, transpose_b=True)
        square = tf.reduce_sum(grams, axis=[1, 2])
    squares = [square]
    if block.has_bias:
        squares.append(tf.reduce_sum(tf.square(tf.reduce_sum(right, axis=1)), axis=1))
    return [(left, left_scale), (right, right_scale)], squares


def _scaled(values: Any, axes: Sequence[int]) -> tuple[Any, Any]:
    import tensorflow as tf

    largest = tf.reduce_max(tf.abs(values), axis=axes, keepdims=True)
    scale = tf.where(largest > 0, largest, tf.ones_like(largest))
    # NaN is not above 0; it must show in the norm.
    return values / scale, tf.reshape(scale, [-1])


def _gradient(backward: _Backward, gradients: Mapping[str, Any], source: Source) -> Any:
    """The gradient by a parameter, (batch, ...), up to a rearrangement that is the same for all examples."""
    import tensorflow as tf

    parts = []
    for term in source.terms:
        gradient = gradients[term.made]
        parts.append(None if gradient is None else whole(_factors(backward, term, gradient)))
    if not source.pulled_back:
        flat = [tf.reshape(part, [backward.batch, -1]) for part in parts if part is not None]
        return flat[0] if len(flat) == 1 else tf.concat(flat, axis=1)
    given: dict[str, Any] = {}
    for reading, part in zip(source.readings.readings, parts, strict=True):
        if part is not None:
            given[reading.tensor] = given[reading.tensor] + part if reading.tensor in given else part
    parameter = backward.tensors[f"{source.readings.parameter}:0"]
    read = [backward.tensors[name] for name in given]
    if all(tensor is parameter for tensor in read):
        return given[next(iter(given))]

    def pull_back(rows: tuple[Any, ...]) -> Any:
        through = [tf.cast(row, tensor.dtype) for row, tensor in zip(rows, read, strict=True)]
        return _single(tf.gradients(read, parameter, grad_ys=through)[0])

    return tf.vectorized_map(pull_back, tuple(given.values()))


def trace_whole(problem: Problem, parameters: Sequence[str], inputs: Mapping[str, Any], target: Any) -> list[Any]:
    """Builds the gradients of the first example of a batch by whole parameters, float32 and flat."""
    import tensorflow as tf

    names = [f"{parameter}:0" for parameter in parameters]
    backward = _Backward(problem, inputs, target, names)
    gradients = tf.gradients(backward.losses[0], [backward.tensors[name] for name in names])
    flat = []
    for name, gradient in zip(names, gradients, strict=True):
        dense = tf.zeros_like(backward.tensors[name]) if gradient is None else tf.convert_to_tensor(gradient)
        flat.append(tf.reshape(_single(dense), [-1]))
    return flat
