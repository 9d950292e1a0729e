"""The quantile of each unit's own activations: exact, in bounded memory.

The q-quantile of n numbers is taken to be the one at position floor(q (n - 1)) of them in order (NumPy's method
"lower"). Interpolating between it and the next would make the same units fire: what lies above a number between two
neighbours is what lies above the lower one, or they are equal.

Where all activations fit, they are kept, and counted from memory afterwards. Where they do not, the number at that
position is found digit by digit (radix selection): each pass over the examples counts, for each unit, the next few
bits of those activations that agree in all bits before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sidelight_engines.activation.taps import Observation, Tap
from sidelight_engines.errors import MemoryLimitExceeded
from sidelight_engines.runtime.runtime import Array

_MOST_BITS = 16
_FEWEST_BITS = 4
_COLUMNS = 256

Observe = Callable[[], Iterator[Observation]]
"""Goes over all examples once."""


def position_of(quantile: float, count: int) -> int:
    """The position of a quantile among so many numbers in order."""
    return math.floor(quantile * (count - 1))


def fits(taps: Sequence[Tap], count: int, memory_bytes: int) -> bool:
    """Whether all activations can be kept."""
    return sum(tap.units * tap.dtype.itemsize for tap in taps) * count <= memory_bytes


class KeptActivations:
    """All activations, in memory."""

    def __init__(self, taps: Sequence[Tap], count: int, observe: Observe) -> None:
        """Goes over all examples once.

        Args:
            taps: the layers.
            count: the number of examples.
            observe: goes over them.
        """
        self._values = [np.empty((count, tap.units), tap.dtype) for tap in taps]
        self._parts: list[tuple[slice, Array]] = []
        for observation in observe():
            rows = slice(observation.first, observation.first + len(observation.classes))
            self._parts.append((rows, observation.classes))
            for values, units in zip(self._values, observation.units, strict=True):
                values[rows] = units

    def thresholds(self, quantile: float) -> list[Array]:
        """The quantile of each unit, float64 (units,), for each layer."""
        found = []
        for values in self._values:
            position = position_of(quantile, len(values))
            thresholds = np.empty(values.shape[1])
            # A few columns at a time: each is copied to be put in order.
            for first in range(0, values.shape[1], _COLUMNS):
                part = slice(first, first + _COLUMNS)
                thresholds[part] = np.partition(values[:, part], position, axis=0)[position]
            found.append(thresholds)
        return found

    def observations(self) -> Iterator[Observation]:
        """Goes over all examples once more, without the model."""
        for rows, classes in self._parts:
            yield Observation(rows.start, [values[rows] for values in self._values], classes)


def passes_needed(taps: Sequence[Tap], memory_bytes: int) -> int:
    """How many passes `search` makes."""
    return math.ceil(max(_key_bits(tap) for tap in taps) / _digit_bits(taps, memory_bytes))


def search(taps: Sequence[Tap], count: int, quantile: float, memory_bytes: int, observe: Observe) -> list[Array]:
    """The quantile of each unit, digit by digit.

    Args:
        taps: the layers.
        count: the number of examples.
        quantile: 0 to 1.
        memory_bytes: what the counts of digits may take.
        observe: goes over all examples once; called once per digit.

    Returns:
        For each layer, float64 (units,).

    Raises:
        MemoryLimitExceeded: the counts take more, even for the smallest digits.
    """
    bits = _digit_bits(taps, memory_bytes)
    searches = [_UnitSearch(tap, position_of(quantile, count)) for tap in taps]
    while any(search.bits_left for search in searches):
        for unfinished in searches:
            unfinished.begin(bits)
        for observation in observe():
            for unfinished, units in zip(searches, observation.units, strict=True):
                unfinished.add(units)
        for unfinished in searches:
            unfinished.end()
    return [search.found() for search in searches]


def _digit_bits(taps: Sequence[Tap], memory_bytes: int) -> int:
    units = sum(tap.units for tap in taps)
    affordable = memory_bytes // (8 * units)
    bits = min(_MOST_BITS, int(math.log2(affordable)) if affordable else 0)
    if bits < _FEWEST_BITS:
        raise MemoryLimitExceeded(
            8 * units * 2**_FEWEST_BITS, memory_bytes, "observe fewer layers at a time, pool positions, or grant more"
        )
    return bits


def _key_bits(tap: Tap) -> int:
    return 32 if tap.dtype.kind == "f" and tap.dtype.itemsize <= 4 else 64


class _UnitSearch:
    """The search for one position of each unit of one layer.

    Floating-point numbers are turned into whole numbers in the same order: the bits of one that is not negative with
    the sign bit set, all bits of a negative one turned over.

    Attributes:
        bits_left: how many bits of the result are not known yet.
    """

    def __init__(self, tap: Tap, position: int) -> None:
        wide = _key_bits(tap) == 64
        self._float = np.dtype(np.float64 if wide else np.float32)
        self._key = np.dtype(np.uint64 if wide else np.uint32)
        self.bits_left = 64 if wide else 32
        self._left = np.full(tap.units, position, np.int64)
        self._prefix = np.zeros(tap.units, self._key)
        self._units = np.arange(tap.units)
        self._bits = 0
        self._histogram: Array = np.zeros((0, 0), np.int64)

    def begin(self, bits: int) -> None:
        """Starts on the next digit."""
        self._bits = min(bits, self.bits_left)
        self._histogram = np.zeros((len(self._units), 2**self._bits if self._bits else 0), np.int64)

    def add(self, activations: Array) -> None:
        """Counts the digits of some examples."""
        if not self._bits:
            return
        # Adding 0 turns -0 into 0, which it equals.
        values = activations.astype(self._float) + self._float.type(0)
        sign = self._key.type(1) << self._key.type(self._key.itemsize * 8 - 1)
        raw = values.view(self._key)
        keys = np.where(raw & sign, ~raw, raw | sign)
        below = self._key.type(self.bits_left - self._bits)
        digits = keys >> below
        known = self._key.itemsize * 8 - self.bits_left
        if known:
            agrees = (digits >> self._key.type(self._bits)) == self._prefix
            digits = digits & self._key.type(2**self._bits - 1)
        else:
            agrees = np.ones(keys.shape, bool)
        units = np.broadcast_to(self._units, keys.shape)[agrees]
        np.add.at(self._histogram, (units, digits[agrees].astype(np.int64)), 1)

    def end(self) -> None:
        """Takes the digit under which the wanted position falls."""
        if not self._bits:
            return
        sums = np.cumsum(self._histogram, axis=1)
        digits = (sums <= self._left[:, np.newaxis]).sum(axis=1)
        before = np.where(digits > 0, sums[self._units, np.maximum(digits - 1, 0)], 0)
        self._left -= before
        if self.bits_left == self._key.itemsize * 8:
            self._prefix = digits.astype(self._key)
        else:
            self._prefix = (self._prefix << self._key.type(self._bits)) | digits.astype(self._key)
        self.bits_left -= self._bits
        self._bits = 0
        self._histogram = np.zeros((0, 0), np.int64)

    def found(self) -> Array:
        """The activations at the wanted position, float64 (units,)."""
        sign = self._key.type(1) << self._key.type(self._key.itemsize * 8 - 1)
        raw = np.where(self._prefix & sign, self._prefix ^ sign, ~self._prefix)
        return raw.astype(self._key).view(self._float).astype(np.float64)
