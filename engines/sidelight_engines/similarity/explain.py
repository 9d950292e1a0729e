"""Which references a model treats like an instance: those whose loss has a similar gradient by its parameters.

The definition is that of alibi 0.9.4 (`alibi/explainers/similarity/grad.py`; Charpiat et al. 2019, Hanawa et al.
2021, arXiv:2006.04528). What differs: gradients are exact factors computed in batches, never the full vectors;
cosines are true ones unless an offset is asked for; the order is stable; and scores may be summed over
checkpoints (TracIn, Pruthi et al. 2020, arXiv:2002.08484).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField
from sidelight_engines.model import Model
from sidelight_engines.runtime.runtime import Array
from sidelight_engines.similarity.comparison import Comparison
from sidelight_engines.similarity.extraction import (
    Task,
    check_examples,
    check_inputs,
    gradients_of,
    make_task,
)
from sidelight_engines.similarity.gradients.rows import NO_CLASS, join_rows
from sidelight_engines.similarity.index.opened import GradientIndex
from sidelight_engines.similarity.parameters import Chunking, Examples, Precision, SimilarityParameters
from sidelight_engines.similarity.ranking import select
from sidelight_engines.similarity.references import ReferenceRows, ready_references
from sidelight_engines.similarity.result import (
    ClassMeanScore,
    ClassSource,
    SimilarExample,
    SimilarityRanking,
    SimilarityResult,
)

_UNWATCHED = Control()
_CHUNKING = Chunking()
_MOST_RANKED = 10_000

References = GradientIndex | Examples


@dataclass(frozen=True)
class Checkpoint:
    """A version of the model whose scores are added.

    Attributes:
        model: of the same architecture.
        weight: of its scores, finite; such as the learning rate then.
        references: the same reference set.
    """

    model: Model
    weight: float
    references: References


def explain_similarity(
    model: Model,
    instances: Examples,
    parameters: SimilarityParameters,
    references: References,
    control: Control = _UNWATCHED,
    *,
    selection: Array | None = None,
    checkpoints: Sequence[Checkpoint] = (),
    chunking: Chunking = _CHUNKING,
    threads: int | None = None,
) -> SimilarityResult:
    """Ranks references by how similar the model's gradients at them are to those at each instance.

    Args:
        model: the model; its scores have weight 1.
        instances: what to explain, at least one.
        parameters: how to compare.
        references: an index of a reference set, or examples whose gradients are computed for this call.
        control: asked for a stop between passes and blocks; told of progress in instances.
        selection: (n,) the indices of the references that count, in the order of the scores; None for all.
        checkpoints: further versions of the model.
        chunking: how the work is cut, and what references that are not indexed may take.
        threads: how many blocks of references are compared at a time; None for one per processor.

    Returns:
        One ranking per instance, or one in all if they are aggregated.

    Raises:
        InvalidField: a value is not one that may be given; UnknownLayer for the name of a layer.
        MethodNotSupported: the model has no parameters.
        UnsupportedOp: the model has operations that are not covered.
        GradientCheckFailed: the model's TensorFlow form disagrees with ONNX Runtime.
        NonFiniteGradient: a gradient is NaN or infinite.
        IndexStale: an index was built for something else.
        MemoryLimitExceeded: gradients of references that are not indexed take more memory than is granted.
        Stopped: `control` asked for it.
    """
    _check(parameters, checkpoints)
    check_examples(instances)
    task = make_task(model, parameters.gradients)
    resolved = replace(parameters, gradients=task.options)
    versions = [(task, 1.0, references)]
    versions += [(make_task(c.model, parameters.gradients), c.weight, c.references) for c in checkpoints]
    # The work of long preparations is not counted in instances.
    silent = Control(control.should_stop)
    ready = [ready_references(each, given, selection, chunking, silent) for each, _, given in versions]
    if len({len(each) for each in ready}) > 1:
        raise InvalidField("parameters.checkpoints", "have references of different numbers", "give the same set")
    layers = _layers(task, ready[0])
    for position, (version, rows) in enumerate(zip(versions[1:], ready[1:], strict=True)):
        if (others := _layers(version[0], rows)) != layers:
            raise InvalidField(
                f"parameters.checkpoints[{position}].model",
                f"its layers with parameters are {', '.join(others)}; the model's are {', '.join(layers)}",
                "give versions of the same architecture",
            )
    queries = max(1, min(len(instances), chunking.memory_bytes // (16 * max(1, len(ready[0])))))
    if parameters.aggregate_instances:
        queries = len(instances)
    rankings: list[SimilarityRanking] = []
    for first in range(0, len(instances), queries):
        part = _slice(instances, first, first + queries)
        comparisons = [
            (_compare(each, part, rows, resolved, chunking, silent, threads, first), weight)
            for (each, weight, _), rows in zip(versions, ready, strict=True)
        ]
        rankings.extend(_rank(comparisons, ready[0], resolved))
        control.progress(min(first + queries, len(instances)), len(instances))
    main = ready[0]
    return SimilarityResult(
        rankings=tuple(rankings),
        layers=layers,
        materialised_layers=main.rows.layout.materialised_layers,
        reference_digest=main.digest,
        reference_count=len(main),
        values_per_reference=main.rows.layout.values_per_example,
        parameters=resolved,
    )


def check_similarity(
    model: Model, instances: Examples, parameters: SimilarityParameters, *, checkpoints: Sequence[Checkpoint] = ()
) -> None:
    """Refuses what `explain_similarity` would refuse before it computes: of all instances at once.

    Args:
        model: as there, and so are the others.
        instances: what is to be explained.
        parameters: how to compare.
        checkpoints: further versions of the model.

    Raises:
        InvalidField, MethodNotSupported, UnsupportedOp, GradientCheckFailed: see there.
    """
    _check(parameters, checkpoints)
    check_examples(instances)
    for each in (model, *(checkpoint.model for checkpoint in checkpoints)):
        task = make_task(each, parameters.gradients)
        task.targets(instances)
        check_inputs(task, instances)


def _check(parameters: SimilarityParameters, checkpoints: Sequence[Checkpoint]) -> None:
    for name, value in (("top", parameters.top), ("bottom", parameters.bottom)):
        if not 0 <= value <= _MOST_RANKED:
            raise InvalidField(f"parameters.{name}", f"is {value}", f"give 0 to {_MOST_RANKED}")
    offset = parameters.norm_offset
    if not (math.isfinite(offset) and offset >= 0):
        raise InvalidField("parameters.norm_offset", f"is {offset}", "give a finite number of at least 0")
    for position, checkpoint in enumerate(checkpoints):
        if not math.isfinite(checkpoint.weight):
            field = f"parameters.checkpoints[{position}].weight"
            raise InvalidField(field, f"is {checkpoint.weight}", "give a finite number")


def _slice(instances: Examples, first: int, last: int) -> Examples:
    labels = instances.labels
    return Examples(
        {name: array[first:last] for name, array in instances.inputs.items()},
        None if labels is None else replace(labels, values=labels.values[first:last]),
        instances.field,
    )


def _compare(
    task: Task,
    instances: Examples,
    references: ReferenceRows,
    parameters: SimilarityParameters,
    chunking: Chunking,
    control: Control,
    threads: int | None,
    first: int,
) -> Comparison:
    extractor = references.extractor
    if extractor is None or references.predicted != (instances.labels is None):
        extractor = task.extractor(instances, Precision.FLOAT32, references.rows.layout)
    rows = join_rows(list(gradients_of(task, extractor, instances, chunking, control, called="instance", offset=first)))
    return Comparison(rows, references, _layers(task, references), parameters, control, threads)


def _layers(task: Task, references: ReferenceRows) -> tuple[str, ...]:
    """The layers that count, in the order of evaluation."""
    known = references.rows.layout.layers
    names = task.options.layers.names
    if not names:
        return known
    wanted = set()
    for position, name in enumerate(names):
        field = f"parameters.layers.names[{position}]"
        layer = task.model.graph.layer(name, field).name
        if layer not in known:
            raise InvalidField(field, f"layer {layer!r} has no parameters", "name layers that have")
        wanted.add(layer)
    return tuple(name for name in known if name in wanted)


def _rank(
    comparisons: Sequence[tuple[Comparison, float]], references: ReferenceRows, parameters: SimilarityParameters
) -> list[SimilarityRanking]:
    main = comparisons[0][0]
    everything = parameters.all_scores or parameters.class_means or len(comparisons) > 1
    scores = np.sum([weight * comparison.scores for comparison, weight in comparisons], axis=0) if everything else None

    def layered(ranking: int, chosen: Array) -> Array:
        each = [weight * comparison.layer_scores(ranking, chosen) for comparison, weight in comparisons]
        return np.asarray(np.sum(each, axis=0))

    def exact(ranking: int, chosen: Array) -> Array:
        return np.asarray(layered(ranking, chosen).sum(axis=1))

    def ends(count: int, *, least: bool) -> list[tuple[Array, Array]]:
        if scores is None:
            return main.best(count, least=least)
        return [
            select(row, references.positions, count, partial(exact, i), least=least) for i, row in enumerate(scores)
        ]

    most, fewest = ends(parameters.top, least=False), ends(parameters.bottom, least=True)
    rankings = []
    for i in range(len(main.norms)):
        own = float(sum(weight * comparison.self_scores[i] for comparison, weight in comparisons))
        prediction = int(main.predictions[i])
        found = []
        for chosen, values in (most[i], fewest[i]):
            split = layered(i, chosen) if parameters.layer_contributions else np.empty((len(chosen), 0))
            found.append(_examples(chosen, values, split, references))
        row = None if scores is None else scores[i]
        rankings.append(
            SimilarityRanking(
                most_similar=found[0],
                least_similar=found[1],
                scores=row.astype(np.float32) if row is not None and parameters.all_scores else None,
                class_means=_class_means(row, references) if row is not None and parameters.class_means else (),
                self_influence=own if parameters.self_influence else None,
                prediction=None if prediction == NO_CLASS else prediction,
                gradient_norm=float(main.norms[i]),
            )
        )
    return rankings


def _examples(chosen: Array, values: Array, split: Array, references: ReferenceRows) -> tuple[SimilarExample, ...]:
    at = references.at(chosen)
    labels, predictions = references.rows.labels[at], references.rows.predictions[at]
    return tuple(
        SimilarExample(
            index=int(references.positions[i]),
            score=float(score),
            label=None if label == NO_CLASS else int(label),
            prediction=None if prediction == NO_CLASS else int(prediction),
            layer_scores=tuple(map(float, parts)),
        )
        for i, score, label, prediction, parts in zip(chosen, values, labels, predictions, split, strict=True)
    )


def _class_means(scores: Array, references: ReferenceRows) -> tuple[ClassMeanScore, ...]:
    means: list[ClassMeanScore] = []
    rows = references.rows
    for source, column in ((ClassSource.LABEL, rows.labels), (ClassSource.PREDICTION, rows.predictions)):
        classes = np.asarray(column if references.selection is None else column[references.selection])
        known, place, counts = np.unique(classes, return_inverse=True, return_counts=True)
        sums = np.bincount(place, weights=scores, minlength=len(known))
        means.extend(
            ClassMeanScore(int(c), source, float(total / count), int(count))
            for c, total, count in zip(known, sums, counts, strict=True)
            if c != NO_CLASS
        )
    return tuple(means)
