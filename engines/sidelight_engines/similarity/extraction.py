"""Gradients of examples: labels checked, extractors kept with the model, work cut into passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField, NonFiniteGradient
from sidelight_engines.graph.graph import TensorSpec
from sidelight_engines.model import Model
from sidelight_engines.runtime.feeds import checked_feed
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.gradients.analysis import Analysis, analyse
from sidelight_engines.similarity.gradients.extractor import GradientExtractor, make_extractor, signature_of
from sidelight_engines.similarity.gradients.layout import Layout
from sidelight_engines.similarity.gradients.rows import GradientRows
from sidelight_engines.similarity.gradients.traced import Problem
from sidelight_engines.similarity.labels import label_classes, make_targets, resolve_loss, resolve_output
from sidelight_engines.similarity.parameters import Chunking, Examples, GradientOptions, LayerSelection, Loss, Precision

_METHOD = "similarity"


@dataclass(frozen=True)
class Task:
    """Which gradients of which model.

    Attributes:
        model: the model.
        output: the output that the loss reads.
        options: output and loss resolved.
    """

    model: Model
    output: TensorSpec
    options: GradientOptions

    @property
    def loss(self) -> Loss:
        """The loss."""
        return self.options.loss

    def analysis(self) -> Analysis:
        """The model, looked at for its gradients.

        Raises:
            InvalidField: a layer has no parameters; UnknownLayer if there is no such layer.
            MethodNotSupported: the model has no parameters.
            UnsupportedOp: the model has operations that are not covered.
            GradientCheckFailed: the model's TensorFlow form is wrong.
        """
        key = (_METHOD, "analysis", self.output.name, self.options.layers)
        frozen = self.model.frozen()
        return self.model.derived(key, lambda: analyse(self.model.graph, frozen, self.output, self.options.layers))

    def extractor(self, examples: Examples, precision: Precision, layout: Layout | None = None) -> GradientExtractor:
        """The extractor for such examples.

        Args:
            examples: what the layout is tried on, if it is still to be chosen.
            precision: how gradients are stored.
            layout: the layout that must be kept to; None for the smallest.
        """
        # A layout names its parameters, whichever of them count this time.
        task = self if layout is None else replace(self, options=replace(self.options, layers=LayerSelection()))
        problem = Problem(task.analysis(), self.loss, examples.labels is None)
        key = (_METHOD, "extractor", self.output.name, task.options, problem.predicted, precision, layout)

        def make() -> GradientExtractor:
            if layout is not None:
                return GradientExtractor(problem, layout, precision)
            first = head(examples, 3)
            return make_extractor(problem, precision, first.inputs, self.targets(first))

        return self.model.derived(key, make)

    def targets(self, examples: Examples, first: int = 0) -> Array | None:
        """The targets of some examples; None where the model's own prediction takes their place.

        Args:
            examples: the examples.
            first: the position of the first of them in a longer list, for errors.

        Raises:
            InvalidField: labels do not go with the output, or a regression has none.
        """
        if examples.labels is not None:
            return make_targets(self.loss, examples.labels, self.output.shape, first)
        if not (self.loss.categorical or self.loss.binary):
            raise InvalidField(
                "parameters.label_source",
                f"is PREDICTION, whose gradient is zero for the loss {self.loss.name}",
                "give targets",
            )
        return None


def make_task(model: Model, options: GradientOptions) -> Task:
    """Resolves which gradients are meant.

    Raises:
        InvalidField: the model has no such output.
    """
    output = resolve_output(model.graph, options.output)
    loss = resolve_loss(model.graph, output, options.loss)
    names = tuple(dict.fromkeys(options.layers.names))
    return Task(
        model, output, replace(options, output=output.name, loss=loss, layers=replace(options.layers, names=names))
    )


def head(examples: Examples, count: int) -> Examples:
    """The first few of some examples."""
    return part_of(examples, slice(0, count))


def part_of(examples: Examples, rows: slice | Array) -> Examples:
    """Some of the examples."""
    labels = examples.labels
    return Examples(
        {name: np.asarray(array[rows]) for name, array in examples.inputs.items()},
        None if labels is None else replace(labels, values=np.asarray(labels.values[rows])),
        examples.field,
    )


def check_examples(examples: Examples) -> None:
    """Raises InvalidField if there are no examples, or not as many labels."""
    count = len(examples)
    if count == 0:
        raise InvalidField(examples.field, "hold no example", "give at least one")
    lengths: Mapping[str, int] = {name: len(array) for name, array in examples.inputs.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        raise InvalidField(examples.field, f"differ in length: {dict(lengths)}", "give as many of each")
    if examples.labels is not None and len(examples.labels.values) != count:
        raise InvalidField(
            examples.labels.field, f"are {len(examples.labels.values)} for {count} examples", "give one for each"
        )


def check_inputs(task: Task, examples: Examples) -> None:
    """Raises InvalidField if the model does not take such examples."""
    signature = signature_of(Problem(task.analysis(), task.loss, examples.labels is None))
    with _named_by(examples):
        checked_feed({name: array[:1] for name, array in examples.inputs.items()}, signature.dtypes, signature.shapes)


@contextmanager
def _named_by(examples: Examples) -> Iterator[None]:
    """Gives what is wrong with an input the path by which the caller knows it."""
    try:
        yield
    except InvalidField as error:
        if not error.field.startswith("inputs"):
            raise
        raise InvalidField(examples.field, error.problem, error.remedy) from error


def gradients_of(
    task: Task,
    extractor: GradientExtractor,
    examples: Examples,
    chunking: Chunking,
    control: Control,
    *,
    called: str,
    start: int = 0,
    offset: int = 0,
) -> Iterator[GradientRows]:
    """Computes gradients pass by pass.

    Args:
        task: which gradients.
        extractor: computes them.
        examples: n examples.
        chunking: how many at a time.
        control: asked for a stop before each pass.
        called: what an example is called in errors: ``reference``.
        start: the example to begin with.
        offset: the position of the first example in a longer list, for errors.

    Yields:
        The gradients of the next examples, with their labels.

    Raises:
        NonFiniteGradient: a gradient is NaN or infinite.
        InvalidField: an input or a label does not go with the model.
        Stopped: `control` asked for it.
    """
    count = len(examples)
    step = max(1, min(chunking.rows, chunking.memory_bytes // max(1, extractor.row_bytes)))
    for first in range(start, count, step):
        control.checkpoint()
        part = part_of(examples, slice(first, min(first + step, count)))
        with _named_by(examples):
            rows = extractor(part.inputs, task.targets(part, offset + first))
        finite = np.isfinite(rows.norms)
        if not finite.all():
            row, parameter = np.argwhere(~finite)[0]
            raise NonFiniteGradient(called, offset + first + int(row), rows.layout.parameters[int(parameter)].layer)
        labels = rows.predictions if part.labels is None else label_classes(task.loss, np.asarray(part.labels.values))
        yield replace(rows, labels=labels)
