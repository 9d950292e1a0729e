"""What both aggregations work with."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.errors import NonFiniteOutput
from sidelight_engines.linearity.sampling import Sampler
from sidelight_engines.linearity.targets import Values
from sidelight_engines.runtime.runtime import Array

Evaluated = list[Values]
"""The values of each target."""


@dataclass
class Scores:
    """What was measured at one target for a group of instances; float64.

    Attributes:
        linearity: L, (instances,).
        magnitude: the norm of the superposed outputs (PAIRWISE: its mean over samples), (instances,).
        rounded: the size of what was rounded on the way to L, (instances,).
        repeats: the L that intervals are made from, (instances, samples): PAIRWISE, of each sample; GLOBAL,
            without each sample. None unless asked for.
    """

    linearity: Array
    magnitude: Array
    rounded: Array
    repeats: Array | None


Passes = Generator[Array, Evaluated, list[Scores]]
"""Forward passes as a coroutine.

It yields rows, (rows, features), most often of its buffer; is sent what they evaluate to; and in the end returns one
`Scores` per target. So the next rows can be written, and the last ones summed up, while a runtime works.
"""


class Aggregator(Protocol):
    """A way of combining samples.

    It goes over a group of instances in one forward pass if the rows fit, and otherwise over one instance
    in several, keeping sums only; so memory does not grow with instances, samples or layers.

    Attributes:
        instances_per_group: the most instances to measure at a time.
        single_pass: whether a group takes one forward pass only.
    """

    instances_per_group: int
    single_pass: bool

    def measure(self, first: int, count: int) -> Passes:
        """Measures consecutive instances, at most `instances_per_group`."""
        ...


@dataclass(frozen=True)
class Measurement:
    """The task of an aggregation.

    Attributes:
        instances: (instances, features).
        sampler: makes the samples.
        samples: S, the samples per instance.
        coefficients: the a_s, float64.
        repeats: whether `Scores.repeats` is wanted.
        amid: whether superpositions lie amid the samples, so that their outputs are as large as those of samples.
        targets: the names of the targets.
        buffer: where rows to evaluate are written; of the input's type, (capacity, features).
        control: asked for a stop before every forward pass.
    """

    instances: Array
    sampler: Sampler
    samples: int
    coefficients: Array
    repeats: bool
    amid: bool
    targets: tuple[str, ...]
    buffer: Array
    control: Control

    @property
    def capacity(self) -> int:
        """The most rows per forward pass."""
        return len(self.buffer)

    def draw(self, first: int, count: int, start: int, stop: int) -> Array:
        """Writes samples to the head of the buffer.

        Returns:
            The samples, (count, stop - start, features): float64 as drawn where the sampler works in
            float64, and as the model sees them otherwise.
        """
        rows = self.buffer[: count * (stop - start)]
        shape = (count, stop - start, rows.shape[1])
        if self.sampler.dtype == rows.dtype:
            samples = rows.reshape(shape)
            self.sampler.fill(samples, first, start)
            return samples
        samples = np.empty(shape, self.sampler.dtype)
        self.sampler.fill(samples, first, start)
        rows[...] = samples.reshape(rows.shape)
        return samples if self.sampler.dtype == np.float64 else rows.reshape(shape)

    def require_finite(self, found: Array, target: int, first: int) -> None:
        """Raises NonFiniteOutput if a result is not finite.

        Args:
            found: results of consecutive instances, (instances, ...).
            target: the position of the target.
            first: the number of the first instance.
        """
        finite = np.isfinite(found).reshape(len(found), -1).all(axis=1)
        if not finite.all():
            raise NonFiniteOutput(self.targets[target], first + int(np.argmin(finite)))


def blocks(samples: int, per_sample: int, extra: int, capacity: int) -> list[tuple[int, int]]:
    """Cuts the samples of an instance into blocks of about equal length: (start, stop) each.

    Args:
        samples: how many there are.
        per_sample: rows that each takes in a forward pass.
        extra: rows that one block takes in addition.
        capacity: the most rows of a forward pass.
    """
    longest = max(1, (capacity - extra) // per_sample)
    count = -(-samples // longest)
    edges = [samples * position // count for position in range(count + 1)]
    return list(itertools.pairwise(edges))
