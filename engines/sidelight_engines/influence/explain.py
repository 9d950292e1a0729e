"""How predictions, and metrics of them, change when the mean of a feature moves.

Bachoc, Gamboa, Halford, Loubes and Risser, Explaining machine learning models using entropic variable projection
(2018): the data are reweighted as little as possible so that a feature's mean reaches a target, and predictions are
averaged under these weights. `parameters.py` says what may be asked, `dual.py` and `tilting.py` have the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.errors import InvalidField
from sidelight_engines.influence.answers import Answers, read_answers, read_groups
from sidelight_engines.influence.dual import solve_tilts
from sidelight_engines.influence.ethik import ethik_tilts
from sidelight_engines.influence.levels import Grid, Levels, as_slice, column_levels, find_grid, grid_levels
from sidelight_engines.influence.measures import Measures
from sidelight_engines.influence.metrics import column_count
from sidelight_engines.influence.notices import notices
from sidelight_engines.influence.parameters import InfluenceParameters, Rows, UnattainableTarget
from sidelight_engines.influence.result import InfluenceResult
from sidelight_engines.influence.tilting import Scaled, Tilted, scale, slopes, tilt, unattainable
from sidelight_engines.influence.validation import (
    MOST_GROUPS,
    check_memory,
    check_request,
    chosen_features,
)
from sidelight_engines.runtime.runtime import Array

_NUMBER = 8
# What gathering takes per entry that is not background: positions, levels, cells, a one, and copies.
_BYTES_PER_ENTRY = 72
# More features at a time make the sums leave the cache, and stopping slow.
_MOST_FEATURES = 64


def explain_influence(
    examples: Rows,
    predictions: Rows,
    parameters: InfluenceParameters,
    *,
    labels: Rows | None = None,
    groups: Rows | None = None,
    control: Control | None = None,
    memory_bytes: int = 512 * 2**20,
) -> InfluenceResult:
    """Tilts every feature to every target and measures mean predictions and metrics.

    Args:
        examples: (n, ...) numbers, n at least 2. May be memory-mapped.
        predictions: (n,) or (n, labels), finite.
        parameters: what is tilted and measured.
        labels: (n,) class indices, (n, labels) one-hot rows, or targets of the predictions' shape, for metrics.
        groups: (n,) whole numbers: metrics are measured within each group too.
        control: progress, in features, and stopping.
        memory_bytes: about what the result, and the sums that are at work at a time, may take each.

    Returns:
        Numbers for every feature, target and label or metric.

    Raises:
        InvalidField: something given is out of its limits, not finite, or does not go together; or a target can not
            be reached and `unattainable` is ERROR.
        MemoryLimitExceeded: the result would be too large.
        Stopped: `control` asked for it.
    """
    value_range = check_request(examples, parameters, labels, groups)
    shape = examples.values.shape
    answers = read_answers(predictions, labels, parameters.metrics, shape[0])
    found, members = (None, ()) if groups is None else read_groups(groups, shape[0], MOST_GROUPS)
    _check_sizes(parameters, shape, answers, len(members), memory_bytes)
    work = _Work.make(examples, parameters, answers, found, members, memory_bytes)
    return work.run(*value_range, control or Control())


def _check_sizes(
    parameters: InfluenceParameters, shape: tuple[int, ...], answers: Answers, groups: int, memory_bytes: int
) -> None:
    features = len(parameters.features) or math.prod(shape[1:])
    labels = answers.predictions.shape[1]
    columns = column_count(parameters.metrics, len(answers.scored_classes), groups)
    numbers = 4 * labels + 2 * (1 + groups) * len(parameters.metrics) + 4
    check_memory(
        _NUMBER * features * len(parameters.aims) * numbers,
        memory_bytes,
        "ask for fewer features, taus or labels at a time",
    )
    check_memory(_NUMBER * shape[0] * (2 * labels + columns), memory_bytes, "give fewer examples, groups or metrics")


@dataclass(frozen=True, eq=False)
class _Work:
    """One explanation while it is computed.

    Attributes:
        rows: (examples, all features).
        features: (features,), those that count.
        measures: what is measured under each tilt.
    """

    rows: Array
    example_shape: tuple[int, ...]
    features: Array
    parameters: InfluenceParameters
    measures: Measures
    groups: Array | None
    memory_bytes: int

    @classmethod
    def make(
        cls,
        examples: Rows,
        parameters: InfluenceParameters,
        answers: Answers,
        groups: Array | None,
        members: tuple[Array, ...],
        memory_bytes: int,
    ) -> _Work:
        values = examples.values
        rows = values.reshape(len(values), -1)
        return cls(
            rows=rows,
            example_shape=values.shape[1:],
            features=chosen_features(parameters, values.shape[1:]),
            parameters=parameters,
            measures=Measures.make(parameters.metrics, answers, members),
            groups=groups,
            memory_bytes=memory_bytes,
        )

    @cached_property
    def _by_column(self) -> Array:
        # Column after column, which products along the examples are fastest with.
        return np.asfortranarray(self.measures.columns)

    def run(self, low: float, high: float, control: Control) -> InfluenceResult:
        grid = find_grid(self.rows, self.features, low, high)
        solve = ethik_tilts if self.parameters.ethik_compatible else solve_tilts
        means, slope, targets = [], [], []
        tilted: list[Tilted] = []
        done = 0
        for features in self._blocks(grid):
            control.checkpoint()
            for levels in self._gather(features, grid):
                control.checkpoint()
                scaled = scale(levels, self.parameters)
                self._refuse_unattainable(scaled, self.features[done:])
                means.append(scaled.low + scaled.span * scaled.means)
                slope.append(slopes(levels, scaled, self.measures.labels))
                targets.append(scaled.targets)
                tilted.append(tilt(levels, scaled, self.parameters, self.measures, solve))
                done += len(levels.values)
                control.progress(done, len(self.features))
        return self._result(np.concatenate(means), np.concatenate(slope), np.concatenate(targets), tilted)

    def _blocks(self, grid: Grid | None) -> Iterator[Array]:
        """Features that are gathered together, as the memory allows."""
        each = self.rows.dtype.itemsize * len(self.rows)
        if grid is not None:
            keep = 4 * len(self.rows) if self.measures.needs_examples else 0
            each = grid.size * _NUMBER * (3 * self.measures.columns.shape[1] + 8) + keep
        count = max(1, min(_MOST_FEATURES, self.memory_bytes // 2 // each))
        for first in range(0, len(self.features), count):
            yield self.features[first : first + count]

    def _chunk_rows(self, features: Array) -> int:
        return max(1, self.memory_bytes // 2 // (_BYTES_PER_ENTRY * len(features)))

    def _gather(self, features: Array, grid: Grid | None) -> Iterator[Levels]:
        chosen = as_slice(features)
        if grid is not None:
            levels = grid_levels(
                self.rows,
                chosen,
                grid,
                self.measures.columns,
                chunk_rows=self._chunk_rows(features),
                keep_examples=self.measures.needs_examples,
            )
            if levels is not None:
                yield levels
                return
        for column in np.ascontiguousarray(np.asarray(self.rows[:, chosen]).T):
            yield column_levels(column, self._by_column)

    def _refuse_unattainable(self, scaled: Scaled, features: Array) -> None:
        if self.parameters.unattainable is not UnattainableTarget.ERROR or self.parameters.ethik_compatible:
            return
        beyond = unattainable(scaled)
        if beyond.any():
            row, aim = np.argwhere(beyond)[0]
            low, high = scaled.low[row], scaled.low[row] + scaled.span[row]
            name = "taus" if self.parameters.targets is None else "targets"
            raise InvalidField(
                f"parameters.{name}[{aim}]",
                f"feature {self.parameters.name_of(int(features[row]))} can not have mean "
                f"{scaled.targets[row, aim]:g}: its values lie from {low:g} to {high:g}, and a mean lies strictly "
                "between",
                "leave out the feature, aim within, or let `unattainable` be BOUNDARY or MISSING",
            )

    def _result(self, means: Array, slope: Array, targets: Array, tilted: list[Tilted]) -> InfluenceResult:
        def column(name: str) -> Array:
            return np.concatenate([getattr(part, name) for part in tilted])

        errors, effective = column("errors"), column("effective")
        influences = column("means") + self.measures.centre
        measured, measured_errors = column("performances"), column("performance_errors")
        low, high = self._interval(influences, errors, effective)
        attained = column("attained")
        names = self.parameters.feature_names
        return InfluenceResult(
            features=self.features,
            feature_names=tuple(names[feature] for feature in self.features) if names else (),
            example_shape=self.example_shape,
            aims=self.parameters.aims,
            feature_means=means,
            targets=targets,
            influences=influences,
            standard_errors=errors,
            confidence_low=low,
            confidence_high=high,
            slopes=slope,
            performances=measured[:, :, 0],
            performance_errors=measured_errors[:, :, 0],
            group_performances=None if self.groups is None else measured[:, :, 1:],
            group_performance_errors=None if self.groups is None else measured_errors[:, :, 1:],
            attained=attained,
            attained_means=column("attained_means"),
            effective_sample_sizes=effective,
            metrics=self.parameters.metrics,
            groups=self.groups,
            baseline_predictions=self.measures.centre,
            baseline_performances=self.measures.untilted(),
            warnings=notices(attained, effective, means, targets, self.parameters),
        )

    def _interval(self, influences: Array, errors: Array, effective: Array) -> tuple[Array | None, Array | None]:
        """Student's t with one degree of freedom less than examples count: wide where few do."""
        level = self.parameters.confidence_level
        if level is None:
            return None, None
        from scipy.special import stdtrit

        freedom = np.maximum(effective - 1, 1.0)
        half = np.asarray(stdtrit(freedom, (1 + level) / 2))[:, :, None] * errors
        return influences - half, influences + half
