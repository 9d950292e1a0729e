"""The samples around each instance."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sidelight_engines.linearity.draws import StepDraws
from sidelight_engines.runtime.runtime import Array


class Sampler(Protocol):
    """Makes the samples of the instances of one request.

    Attributes:
        dtype: the floating-point type in which samples are made.
    """

    dtype: np.dtype[np.floating]

    def fill(self, out: Array, instance: int, first_sample: int) -> None:
        """Writes consecutive samples of consecutive instances.

        Args:
            out: of `dtype`, (instances, samples, features).
            instance: the position of the first instance in the request; ascends from call to call.
            first_sample: the number of the first sample; 0 unless `out` holds one instance.
        """
        ...

    def finish(self) -> int:
        """Ends the sampling; returns the word offset at which a next call goes on, 0 if there is none."""
        ...


class GridSampler:
    """Samples x_f + step * width_f, step drawn.

    Args:
        instances: (instances, features).
        draws: makes the steps.
        widths: the width of a grid step, one for all features or (features,).
        bounds: the least and greatest value of each feature, likewise, to stay within; None for no bounds.
        dtype: the floating-point type in which samples are made.
    """

    def __init__(
        self,
        instances: Array,
        draws: StepDraws,
        widths: Array,
        bounds: tuple[Array, Array] | None,
        dtype: np.dtype[np.floating],
    ) -> None:
        self.dtype = dtype
        self._instances = instances
        self._draws = draws
        # In float64 a product of a step and a float32 width is exact, as in the reference method.
        self._widths = widths.astype(dtype)
        self._bounds = None if bounds is None else (bounds[0].astype(dtype), bounds[1].astype(dtype))

    def fill(self, out: Array, instance: int, first_sample: int) -> None:
        """See `Sampler.fill`."""
        for position in range(len(out)):
            self._draws.fill(out[position], instance + position, first_sample)
        out *= self._widths
        out += self._instances[instance : instance + len(out), None, :]
        if self._bounds is not None:
            np.clip(out, *self._bounds, out=out)

    def finish(self) -> int:
        """See `Sampler.finish`."""
        return self._draws.finish()


class NeighbourSampler:
    """Samples that are rows of some data.

    Args:
        data: (rows, features).
        rows: row numbers, (instances, samples), the nearest first.
        dtype: the floating-point type of the samples.
        word_offset: what `finish` returns, since nothing is drawn.
    """

    def __init__(self, data: Array, rows: Array, dtype: np.dtype[np.floating], word_offset: int) -> None:
        self.dtype = dtype
        self._data = data
        self._rows = rows
        self._word_offset = word_offset

    def fill(self, out: Array, instance: int, first_sample: int) -> None:
        """See `Sampler.fill`."""
        wanted = self._rows[instance : instance + len(out), first_sample : first_sample + out.shape[1]]
        out[...] = self._data[wanted.reshape(-1)].reshape(out.shape)

    def finish(self) -> int:
        """See `Sampler.finish`."""
        return self._word_offset
