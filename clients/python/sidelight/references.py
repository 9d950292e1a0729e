"""The reference sets of a server, as a client sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from numpy.typing import NDArray

from sidelight.arrays import from_tensor
from sidelight.decode import data_type
from sidelight.v1 import reference_pb2


@dataclass(frozen=True)
class ReferenceInput:
    """One input of the examples of a reference set.

    Attributes:
        name: of the model input that it feeds; empty where there is one input.
        data_type: the element type, by numpy's name: ``float32``.
        shape: of one example, without the batch axis.
        minimum: the least value over all examples and features.
        maximum: the greatest.
        feature_minimum: the least value of each feature, of the shape of one example; None unless asked for.
        feature_maximum: the greatest, likewise.
    """

    name: str
    data_type: str
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    feature_minimum: NDArray[Any] | None = field(default=None, compare=False)
    feature_maximum: NDArray[Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ReferenceSet:
    """A named, immutable set of examples that the server keeps.

    Attributes:
        name: its name.
        digest: over inputs and labels; equal examples have equal digests.
        count: the number of examples.
        inputs: what each example holds.
        labelled: whether the set has labels.
        class_counts: class -> number of examples; empty without labels, and for regression targets.
        size_bytes: on disk.
        create_time: when it was created (UTC).
    """

    name: str
    digest: str
    count: int
    inputs: tuple[ReferenceInput, ...]
    labelled: bool
    size_bytes: int
    create_time: datetime
    class_counts: Mapping[int, int] = field(default_factory=dict)


def decode_reference(message: reference_pb2.ReferenceSet) -> ReferenceSet:
    """One reference set."""
    return ReferenceSet(
        name=message.name,
        digest=message.digest,
        count=message.count,
        inputs=tuple(
            ReferenceInput(
                name=item.name,
                data_type=data_type(item.data_type),
                shape=tuple(item.shape),
                minimum=item.minimum,
                maximum=item.maximum,
                feature_minimum=from_tensor(item.feature_minimum) if item.HasField("feature_minimum") else None,
                feature_maximum=from_tensor(item.feature_maximum) if item.HasField("feature_maximum") else None,
            )
            for item in message.inputs
        ),
        labelled=message.labelled,
        size_bytes=message.size_bytes,
        create_time=message.create_time.ToDatetime(UTC),
        class_counts=dict(sorted(message.class_counts.items())),
    )
