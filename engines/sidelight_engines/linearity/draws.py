"""Random steps on a grid: whole numbers from -m to m without 0, uniformly.

Two generators make them:

- `CounterDraws` is random access. Sample s of instance i is made by Philox 4x64-10 under the key
  (seed, i), from block s * b of the counter on, where b blocks of 32 bytes hold the draws of a sample. No
  result depends on how instances are batched or split, and more samples extend the draws of fewer.
  A word w of n bits becomes the step number v = floor(w * 2m / 2^n): the top bits of a byte where 2m is a
  power of two up to 128, which is exactly uniform, and 32-bit words otherwise, where the probability of a
  step is off by less than 2m / 2^32 of itself. v < m means the step v - m, otherwise v - m + 1.
- `MersenneDraws` repeats, bit for bit, what alibi 0.9.4 draws after ``numpy.random.seed(seed)``: signs
  ``randint(2, size=(N, S, d))`` for the whole batch, then sizes ``randint(m, size=(N, S, d)) + 1``. NumPy's
  legacy ``randint(m)`` takes a 32-bit word, masks it to the bits of m - 1, and takes another while the
  value exceeds m - 1.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sidelight_engines.control import Control
from sidelight_engines.runtime.runtime import Array

_BLOCK_BYTES = 32  # Philox 4x64 makes four 64-bit words per counter value.
_SKIP_WORDS = 1 << 22


class StepDraws(Protocol):
    """Makes the steps of a sample."""

    def fill(self, out: Array, instance: int, first_sample: int) -> None:
        """Writes the steps of consecutive samples of one instance.

        Args:
            out: floating point, (samples, features); receives whole numbers.
            instance: the position of the instance in this request.
            first_sample: the number of the first sample.
        """
        ...

    def finish(self) -> int:
        """Ends the draws; returns the word offset at which a next call goes on, 0 if there is none."""
        ...


class CounterDraws:
    """Steps from a counter-based generator.

    Args:
        seed: 0 to 2^64 - 1.
        first_instance: the number of the request's first instance in a longer list.
        features: features per sample.
        steps: m, the size of the largest step.
    """

    def __init__(self, seed: int, first_instance: int, features: int, steps: int) -> None:
        self._seed = seed
        self._first = first_instance
        self._features = features
        self._steps = steps
        values = 2 * steps
        self._bytewise = values <= 128 and values & (values - 1) == 0
        self._shift = 8 - (values.bit_length() - 1)
        width = 1 if self._bytewise else 4
        self._blocks = -(-features * width // _BLOCK_BYTES)
        self._bits = np.random.Philox(key=0)

    def fill(self, out: Array, instance: int, first_sample: int) -> None:
        """See `StepDraws.fill`."""
        samples = out.shape[0]
        words = self._words(instance, first_sample, samples)
        if self._bytewise:
            drawn = words.view(np.uint8).reshape(samples, -1)[:, : self._features]
            # In single bytes, which is several times faster than a table.
            number = (drawn >> self._shift).view(np.int8)
            number -= self._steps
            number += (number >= 0).view(np.int8)
            out[...] = number
        else:
            drawn = words.view("<u4").reshape(samples, -1)[:, : self._features]
            number = ((drawn.astype(np.uint64) * np.uint64(2 * self._steps)) >> np.uint64(32)).astype(np.int64)
            number -= self._steps
            number += number >= 0
            out[...] = number

    def finish(self) -> int:
        """See `StepDraws.finish`."""
        return 0

    def _words(self, instance: int, first_sample: int, samples: int) -> Array:
        """The 64-bit words of consecutive samples, little-endian, (samples * blocks * 4,)."""
        counter = np.zeros(4, np.uint64)
        counter[0] = first_sample * self._blocks
        # Setting the state is much cheaper than a new generator, which would first ask the system for entropy.
        self._bits.state = {
            "bit_generator": "Philox",
            "state": {"counter": counter, "key": np.array([self._seed, self._first + instance], np.uint64)},
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        return np.asarray(self._bits.random_raw(samples * self._blocks * 4)).astype("<u8", copy=False)


class MersenneDraws:
    """Steps as alibi 0.9.4 draws them.

    Two cursors run over the one stream: signs from `word_offset` on, sizes from behind the signs of all
    instances. So nothing is kept but the state of two generators.

    Args:
        seed: 0 to 2^32 - 1.
        word_offset: 32-bit words of the stream that earlier calls used.
        first_instance: the position of the request's first instance among `total_instances`.
        total_instances: instances whose signs come before the sizes.
        samples: samples per instance.
        features: features per sample.
        steps: m, the size of the largest step.
        control: asked for a stop while long stretches of the stream are skipped.
    """

    def __init__(
        self,
        seed: int,
        word_offset: int,
        first_instance: int,
        total_instances: int,
        samples: int,
        features: int,
        steps: int,
        control: Control,
    ) -> None:
        self._per_instance = samples * features
        self._samples = samples
        self._features = features
        self._first = first_instance
        self._total = total_instances
        self._signs = _MaskedWords(seed, 2, word_offset, control)
        self._sizes = _MaskedWords(seed, steps, word_offset + total_instances * self._per_instance, control)

    def fill(self, out: Array, instance: int, first_sample: int) -> None:
        """See `StepDraws.fill`. Instances must come in ascending order; samples of one instance may come again."""
        start = (self._first + instance) * self._per_instance + first_sample * self._features
        # A part of an instance: its other parts may be asked for a second time.
        remember = first_sample == 0 and out.shape[0] < self._samples
        signs = self._signs.take(start, out.size, remember).reshape(out.shape)
        sizes = self._sizes.take(start, out.size, remember).reshape(out.shape)
        np.multiply(signs, 2.0, out=out)
        out -= 1.0
        out *= sizes + np.uint32(1)

    def finish(self) -> int:
        """See `StepDraws.finish`."""
        self._sizes.skip_to(self._total * self._per_instance)
        return self._sizes.words


class _MaskedWords:
    """The values of ``RandomState(seed).randint(bound)`` from a word of the stream on.

    Attributes:
        words: the position in the stream, in 32-bit words.
    """

    def __init__(self, seed: int, bound: int, first_word: int, control: Control) -> None:
        self._bits = np.random.MT19937()
        legacy = np.random.RandomState(seed).get_state(legacy=False)
        self._bits.state = {"bit_generator": "MT19937", "state": legacy["state"]}
        self._largest = np.uint32(bound - 1)
        self._mask = np.uint32((1 << (bound - 1).bit_length()) - 1)
        self._control = control
        self._drawn = 0
        self.words = 0
        self._skip_words(first_word)
        self._remembered = (self._bits.state, self._drawn, self.words)

    def take(self, start: int, count: int, remember: bool) -> Array:
        """The values at `start` .. `start + count`; uint32, (count,).

        Args:
            start: the number of the first value; not before the last remembered one.
            count: how many.
            remember: makes it possible to come back to `start`.
        """
        self.skip_to(start)
        if remember:
            self._remembered = (self._bits.state, self._drawn, self.words)
        values = self._draw(count)
        return values

    def skip_to(self, start: int) -> None:
        """Moves to a value, forwards or back to what was remembered."""
        if start < self._drawn:
            self._bits.state, self._drawn, self.words = self._remembered
        if self._mask == self._largest:
            missing = start - self._drawn
            self._skip_words(missing)
            self._drawn += missing
        while self._drawn < start:
            # Whether a word is rejected can only be known by drawing it.
            self._control.checkpoint()
            self._draw(min(_SKIP_WORDS, start - self._drawn))

    def _draw(self, count: int) -> Array:
        values = self._words(count)
        if self._mask != self._largest:
            # As many words as values are missing never take a word too many.
            values = values[values <= self._largest]
            while values.size < count:
                more = self._words(count - values.size)
                values = np.concatenate([values, more[more <= self._largest]])
        self._drawn += count
        return values

    def _words(self, count: int) -> Array:
        self.words += count
        return np.asarray(self._bits.random_raw(count)).astype(np.uint32) & self._mask

    def _skip_words(self, count: int) -> None:
        self.words += count
        while count > 0:
            self._control.checkpoint()
            step = min(_SKIP_WORDS, count)
            self._bits.random_raw(step, output=False)
            count -= step
