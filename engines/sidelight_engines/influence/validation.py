"""What is refused before anything is computed."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from sidelight_engines.errors import InvalidField, MemoryLimitExceeded
from sidelight_engines.influence.answers import check_labels, read_groups
from sidelight_engines.influence.levels import as_slice
from sidelight_engines.influence.parameters import InfluenceParameters, Rows
from sidelight_engines.runtime.runtime import Array

MOST_AIMS = 201
MOST_GROUPS = 256
_FEWEST_EXAMPLES = 2
_CHUNK_BYTES = 32 * 2**20
"""Of examples that are looked through at a time."""
_PATH = "parameters"


def check_request(
    examples: Rows, parameters: InfluenceParameters, labels: Rows | None = None, groups: Rows | None = None
) -> tuple[float, float]:
    """Checks everything that needs no predictions.

    Returns:
        The least and the greatest value of the features that count.

    Raises:
        InvalidField: something given is out of its limits, or does not go together.
    """
    check_examples(examples)
    shape = examples.values.shape
    check_parameters(parameters, shape[1:])
    check_labels(labels, parameters.metrics, shape[0])
    if groups is not None:
        if not parameters.metrics:
            problem = "is empty, and groups are compared by metrics"
            raise InvalidField(f"{_PATH}.metrics", problem, "give at least one")
        read_groups(groups, shape[0], MOST_GROUPS)
    return _value_range(examples, parameters)


def check_parameters(parameters: InfluenceParameters, example_shape: tuple[int, ...]) -> None:
    """Checks everything that needs no numbers of examples.

    Args:
        parameters: to be checked.
        example_shape: of one example.

    Raises:
        InvalidField: a value is out of its limits, or two exclude each other.
    """
    _check_aims(parameters)
    low, high = parameters.low_quantile, parameters.high_quantile
    for name, value in (("low_quantile", low), ("high_quantile", high)):
        if not 0 <= value <= 1:
            raise InvalidField(f"{_PATH}.{name}", f"{value} is outside 0 to 1", "give a share of the examples")
    if low >= high:
        raise InvalidField(f"{_PATH}.low_quantile", f"{low} is not below the high quantile {high}", "give a lower one")
    _check_features(parameters, math.prod(example_shape))
    repeated = [metric.name for metric, times in Counter(parameters.metrics).items() if times > 1]
    if repeated:
        raise InvalidField(f"{_PATH}.metrics", f"has {repeated[0]} more than once", "give each metric once")
    level = parameters.confidence_level
    if level is not None and not 0 < level < 1:
        raise InvalidField(f"{_PATH}.confidence_level", f"{level} is outside (0, 1)", "give a level such as 0.95")


def _check_aims(parameters: InfluenceParameters) -> None:
    if parameters.taus is not None and parameters.targets is not None:
        raise InvalidField(f"{_PATH}.targets", "are given although taus are", "give one of the two")
    name = "taus" if parameters.targets is None else "targets"
    aims = parameters.aims
    if not 1 <= len(aims) <= MOST_AIMS:
        raise InvalidField(f"{_PATH}.{name}", f"has {len(aims)} values", f"give 1 to {MOST_AIMS}")
    for place, aim in enumerate(aims):
        if name == "taus" and not -1 <= aim <= 1:
            raise InvalidField(f"{_PATH}.taus[{place}]", f"{aim} is outside -1 to 1", "give one within")
        if not math.isfinite(aim):
            raise InvalidField(f"{_PATH}.{name}[{place}]", f"{aim} is not finite", "give a finite number")


def _check_features(parameters: InfluenceParameters, count: int) -> None:
    seen: set[int] = set()
    for place, feature in enumerate(parameters.features):
        if not 0 <= feature < count:
            raise InvalidField(
                f"{_PATH}.features[{place}]", f"{feature} is no feature", f"give flat positions from 0 to {count - 1}"
            )
        if feature in seen:
            raise InvalidField(f"{_PATH}.features[{place}]", f"{feature} is given twice", "give each feature once")
        seen.add(feature)
    if parameters.feature_names and len(parameters.feature_names) != count:
        raise InvalidField(
            f"{_PATH}.feature_names",
            f"has {len(parameters.feature_names)} names where an example has {count} features",
            "name every feature in flat order, or none",
        )


def check_examples(examples: Rows) -> None:
    """Checks that examples are at least two rows of numbers.

    Raises:
        InvalidField: they are not.
    """
    values = examples.values
    if values.dtype.kind not in "fiub":
        raise InvalidField(examples.field, f"are {values.dtype}", "give numbers")
    if values.ndim == 0 or len(values) < _FEWEST_EXAMPLES:
        count = len(values) if values.ndim else 0
        raise InvalidField(
            examples.field, f"has {count} examples", f"give at least {_FEWEST_EXAMPLES}: a single mean can not move"
        )
    if math.prod(values.shape[1:]) == 0:
        raise InvalidField(examples.field, f"has shape {list(values.shape)}", "give at least one feature")


def chosen_features(parameters: InfluenceParameters, example_shape: tuple[int, ...]) -> Array:
    """The features that count, int64."""
    return np.asarray(parameters.features or range(math.prod(example_shape)), np.int64)


def _value_range(examples: Rows, parameters: InfluenceParameters) -> tuple[float, float]:
    rows = examples.values.reshape(len(examples.values), -1)
    features = chosen_features(parameters, examples.values.shape[1:])
    chunk_rows = max(1, _CHUNK_BYTES // (rows.dtype.itemsize * rows.shape[1]))
    low, high = math.inf, -math.inf
    for first in range(0, len(rows), chunk_rows):
        part = rows[first : first + chunk_rows][:, as_slice(features)]
        least, most = float(part.min()), float(part.max())
        if not (math.isfinite(least) and math.isfinite(most)):
            row, place = np.argwhere(~np.isfinite(part))[0]
            feature = parameters.name_of(int(features[place]))
            raise InvalidField(
                examples.field,
                f"feature {feature} is {part[row, place]} in example {first + row}",
                "leave out the example, leave out the feature, or fill it in",
            )
        low, high = min(low, least), max(high, most)
    return low, high


def check_memory(needed: int, limit: int, remedy: str) -> None:
    """Refuses what would take too much memory.

    Raises:
        MemoryLimitExceeded: it would.
    """
    if needed > limit:
        raise MemoryLimitExceeded(needed, limit, remedy)
