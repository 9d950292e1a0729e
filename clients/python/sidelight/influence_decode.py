"""From an influence response to its result."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sidelight.arrays import from_tensor
from sidelight.decode import decode_picture, decode_provenance
from sidelight.influence import InfluenceExplanation
from sidelight.v1 import influence_pb2
from sidelight.words import word

_Optional = Literal[
    "confidence_low", "confidence_high", "performances", "performance_errors", "group_performances",
    "group_performance_errors", "baseline_performances",
]  # fmt: skip


def decode_influence(message: influence_pb2.ExplainInfluenceResponse) -> InfluenceExplanation:
    """Reads a response."""

    def optional(name: _Optional) -> NDArray[Any] | None:
        return from_tensor(getattr(message, name)) if message.HasField(name) else None

    return InfluenceExplanation(
        features=np.array(message.features, np.int64),
        feature_names=tuple(message.feature_names),
        example_shape=tuple(message.example_shape),
        taus=np.array(message.taus, np.float64),
        absolute_targets=message.absolute_targets,
        feature_means=from_tensor(message.feature_means),
        targets=from_tensor(message.targets),
        influences=from_tensor(message.influences),
        standard_errors=from_tensor(message.standard_errors),
        confidence_low=optional("confidence_low"),
        confidence_high=optional("confidence_high"),
        slopes=from_tensor(message.slopes),
        metrics=tuple(word(influence_pb2.Metric.DESCRIPTOR, metric) for metric in message.metrics),
        performances=optional("performances"),
        performance_errors=optional("performance_errors"),
        groups=np.array(message.groups, np.int64) if message.groups else None,
        group_performances=optional("group_performances"),
        group_performance_errors=optional("group_performance_errors"),
        attained=from_tensor(message.attained),
        attained_means=from_tensor(message.attained_means),
        effective_sample_sizes=from_tensor(message.effective_sample_sizes),
        baseline_predictions=from_tensor(message.baseline_predictions),
        baseline_performances=optional("baseline_performances"),
        provenance=decode_provenance(message.provenance),
        pictures=tuple(decode_picture(picture) for picture in message.pictures),
    )
