"""How linear a model is around an instance.

For samples v_s around an instance x and coefficients a_s,

    L = || sum_s a_s M(v_s) - M(sum_s a_s v_s) ||

is 0 for a linear M, and for an affine one if the coefficients sum to 1. M is the model's output, for a
classifier its logarithm, or any inner layer. The definition is that of the linearity measure of
alibi 0.9.4 (`alibi/confidence/model_linearity.py`); what differs: all layers come from the same samples
in one forward pass, layers that are affine in others follow from those, and memory does not grow with the work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import fsum

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.graph.graph import Graph
from sidelight_engines.linearity.evaluation import Evaluator
from sidelight_engines.linearity.global_aggregation import GlobalAggregation
from sidelight_engines.linearity.intervals import confidence_interval
from sidelight_engines.linearity.measurement import Measurement, Scores
from sidelight_engines.linearity.pairwise_aggregation import PairwiseAggregation
from sidelight_engines.linearity.parameters import Aggregation, Chunking, GridSampling, LinearityParameters
from sidelight_engines.linearity.plan import Plan, make_plan
from sidelight_engines.linearity.result import LayerLinearity, LinearityResult, ZeroReason
from sidelight_engines.linearity.rounding import AFFINE_FACTOR, NOISE_FACTOR
from sidelight_engines.linearity.sampling import Sampler
from sidelight_engines.linearity.schedule import Lane, measure_groups
from sidelight_engines.linearity.sources import make_sampler
from sidelight_engines.linearity.superposed_aggregation import (
    FEWEST_SAMPLES,
    SuperposedAggregation,
    most_instances,
)
from sidelight_engines.linearity.superposition import Superposition, divide
from sidelight_engines.linearity.targets import Target
from sidelight_engines.runtime.runtime import Array, Runtime

_UNWATCHED = Control()
_CHUNKING = Chunking()
# Fewer do not make up for compiling two parts of the model.
_FEWEST_SPARED_ROWS = 500
# Coefficients that are given as float32 add up to 1 up to this.
_ROUNDED = 1e-6


def measure_linearity(
    graph: Graph,
    runtime: Runtime,
    instances: Array,
    parameters: LinearityParameters,
    control: Control = _UNWATCHED,
    *,
    instances_field: str = "instances.inline.inputs[0].tensor",
    chunking: Chunking = _CHUNKING,
) -> LinearityResult:
    """Measures how linear a model is around each instance, at an output and at any of its layers.

    Args:
        graph: the model; it must have one input of floating-point numbers.
        runtime: evaluates the model.
        instances: of the input's dtype, (instances, ...), finite, at least one.
        parameters: how to measure.
        control: asked for a stop before every forward pass, told of progress in instances.
        instances_field: the request field that the instances came from, for errors.
        chunking: how the work is cut into forward passes. No result depends on it but by rounding.

    Returns:
        The linearity of the output and of each layer asked for, for each instance.

    Raises:
        MethodNotSupported: the model has not exactly one floating-point input, or does not end in a softmax or
            sigmoid where exact log-probabilities are asked for.
        InvalidField: a value is not one that may be given; the error names the field.
        NonFiniteOutput: the model gave NaN or infinity.
        MemoryLimitExceeded: three rows take more memory than is granted.
        Stopped: `control` asked for it.
    """
    plan = make_plan(graph, instances, instances_field, parameters)
    sampler, notices = make_sampler(plan, control, chunking.memory_bytes)
    several = len(instances) > 1
    evaluator = Evaluator(plan, graph, runtime, chunking, control, side_by_side=several)
    superposition = _superposition(plan, graph, runtime, evaluator, side_by_side=several)
    lanes = _lanes(plan, sampler, evaluator, control, len(instances), superposition)
    if several and not lanes:
        # Each instance takes several passes, which wait for each other.
        evaluator = Evaluator(plan, graph, runtime, chunking, control, side_by_side=False)
        lanes = _lanes(plan, sampler, evaluator, control, len(instances), None)
    aggregator = lanes[0].aggregation
    # As many for each lane: the last ones would wait for each other's leftovers otherwise.
    share = -(-len(instances) // evaluator.lanes)
    size = -(-share // -(-share // aggregator.instances_per_group))
    groups = [(first, min(size, len(instances) - first)) for first in range(0, len(instances), size)]
    tables = [_Table.empty(len(instances), parameters.confidence_level is not None) for _ in evaluator.targets]
    for first, scores in measure_groups(lanes, groups, evaluator):
        for table, score in zip(tables, scores, strict=True):
            table.put(first, score, parameters)
        control.progress(first + len(scores[0].linearity), len(instances))
    layers = [
        table.layer(target, eps)
        for table, target, eps in zip(tables, evaluator.targets, evaluator.spacings, strict=True)
    ]
    return LinearityResult(
        layers=tuple(layers),
        instance_count=len(instances),
        next_word_offset=sampler.finish(),
        forward_rows=evaluator.forward_rows,
        warnings=(*plan.notices, *notices, *evaluator.notices),
        parameters=plan.parameters,
    )


def _superposition(
    plan: Plan, graph: Graph, runtime: Runtime, evaluator: Evaluator, *, side_by_side: bool
) -> Superposition | None:
    """What spares the outputs of each sample; None where they are needed, or sparing them takes longer."""
    parameters = plan.parameters
    samples = parameters.samples
    if parameters.aggregation is not Aggregation.GLOBAL or parameters.confidence_level is not None:
        # Intervals are made from the outputs of each sample.
        return None
    rows = len(plan.instances) * samples
    if samples < FEWEST_SAMPLES or samples + 1 > evaluator.capacity or rows < _FEWEST_SPARED_ROWS:
        return None
    division = divide(graph, evaluator.targets)
    if division is None:
        return None
    inputs = plan.spec.tensor, plan.spec.name, plan.instance_shape
    return Superposition(
        division,
        evaluator.targets,
        inputs,
        runtime,
        evaluator.capacity,
        plan.coefficients,
        amid=_amid(plan),
        side_by_side=side_by_side,
    )


def _amid(plan: Plan) -> bool:
    """Whether a superposition is a weighted mean of samples around an instance: one that is no smaller than they are.

    That of neighbours may be: far ones on all sides have a small mean.
    """
    mean = bool((plan.coefficients >= 0).all()) and abs(fsum(plan.coefficients.tolist()) - 1) < _ROUNDED
    return mean and isinstance(plan.parameters.sampling, GridSampling)


def _lanes(
    plan: Plan,
    sampler: Sampler,
    evaluator: Evaluator,
    control: Control,
    instances: int,
    superposition: Superposition | None,
) -> tuple[Lane, ...]:
    """The lanes of the work; none if they would have to wait for each other."""
    parameters = plan.parameters
    rows = evaluator.capacity
    if superposition is not None:
        most = min(instances, most_instances(evaluator, superposition, parameters.samples))
        rows = max(rows, most * (parameters.samples + 1))
    measurement = Measurement(
        instances=plan.instances,
        sampler=sampler,
        samples=parameters.samples,
        coefficients=plan.coefficients,
        repeats=parameters.confidence_level is not None,
        amid=_amid(plan),
        targets=tuple(target.name for target in evaluator.targets),
        buffer=np.empty((rows, plan.instances.shape[1]), plan.instances.dtype),
        control=control,
    )

    def make(measurement: Measurement) -> Lane:
        if superposition is not None:
            return Lane(SuperposedAggregation(measurement, superposition, evaluator), measurement.buffer)
        kind = GlobalAggregation if parameters.aggregation is Aggregation.GLOBAL else PairwiseAggregation
        return Lane(kind(measurement), measurement.buffer)

    lane = make(measurement)
    if not lane.aggregation.single_pass:
        return () if evaluator.lanes > 1 else (lane,)
    # One more than run at a time, whose rows are written and whose results are summed up meanwhile. Behind a single
    # pass at a time, summing up many layers is worth a thread; one small output is not: handing over costs more.
    count = evaluator.lanes + 1 if evaluator.lanes > 1 or (len(evaluator.targets) > 1 and instances > 1) else 1
    return lane, *(make(replace(measurement, buffer=np.empty_like(measurement.buffer))) for _ in range(count - 1))


@dataclass
class _Table:
    """The scores of one target for all instances."""

    linearity: Array
    magnitude: Array
    rounded: Array
    low: Array | None
    high: Array | None

    @staticmethod
    def empty(instances: int, intervals: bool) -> _Table:
        columns = [np.empty(instances) for _ in range(5 if intervals else 3)]
        low, high = (columns[3], columns[4]) if intervals else (None, None)
        return _Table(columns[0], columns[1], columns[2], low, high)

    def put(self, first: int, score: Scores, parameters: LinearityParameters) -> None:
        part = slice(first, first + len(score.linearity))
        self.linearity[part] = score.linearity
        self.magnitude[part] = score.magnitude
        self.rounded[part] = score.rounded
        level = parameters.confidence_level
        if self.low is not None and self.high is not None and score.repeats is not None and level is not None:
            low, high = confidence_interval(score.linearity, score.repeats, parameters.aggregation, level)
            self.low[part] = low
            self.high[part] = high

    def layer(self, target: Target, eps: float) -> LayerLinearity:
        """The scores as they are given back: rounding taken for 0, normalized, summed up."""
        floor = NOISE_FACTOR * eps * self.rounded
        if target.affine:
            below = self.linearity <= AFFINE_FACTOR * eps * self.rounded
        else:
            below = (self.linearity > 0) & (self.linearity < floor)
        linearity = np.where(below, 0.0, self.linearity)
        reason = ZeroReason.AFFINE if target.affine else ZeroReason.BELOW_NOISE_FLOOR
        low, high = self.low, self.high
        if low is not None and high is not None:
            low = np.where(below, 0.0, low)
            # Where a layer only seems linear, the upper bound still tells how non-linear it may be.
            high = np.where(below, 0.0, high) if target.affine else high
        return LayerLinearity(
            name=target.name,
            is_output=target.is_output,
            linearity=linearity,
            normalized=np.divide(linearity, self.magnitude, out=np.zeros_like(linearity), where=self.magnitude > 0),
            noise_floor=floor,
            confidence_low=low,
            confidence_high=high,
            mean=float(linearity.mean()),
            standard_deviation=float(linearity.std(ddof=1)) if len(linearity) > 1 else 0.0,
            zero_reason=reason if below.any() else ZeroReason.NONE,
            zero_count=int(np.count_nonzero(below)),
        )
