"""The draws: streams that never change, random access, uniformity, NumPy's legacy stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sidelight_engines.control import Control
from sidelight_engines.errors import Stopped
from sidelight_engines.linearity.draws import CounterDraws, MersenneDraws

NEVER = Control()


def counter_steps(draws: CounterDraws, instance: int, first: int, samples: int, features: int) -> np.ndarray:
    out = np.empty((samples, features))
    draws.fill(out, instance, first)
    return out


@pytest.mark.parametrize(("steps", "bits"), [(2, 8), (4, 8), (64, 8), (3, 32), (5, 32), (128, 32), (700, 32)])
def test_counter_draws_are_the_top_of_philox_words_sample_by_sample(steps: int, bits: int) -> None:
    features, seed, instance = 37, 12345678901234567890, 9
    blocks = -(-features * bits // 8 // 32)
    expected = []
    for sample in range(3):
        philox = np.random.Philox(key=np.array([seed, instance], np.uint64), counter=sample * blocks)
        stream = b"".join(int(word).to_bytes(8, "little") for word in philox.random_raw(blocks * 4))
        width = bits // 8
        words = [int.from_bytes(stream[width * f : width * (f + 1)], "little") for f in range(features)]
        numbers = [word * 2 * steps >> bits for word in words]
        expected.append([v - steps if v < steps else v - steps + 1 for v in numbers])
    np.testing.assert_array_equal(counter_steps(CounterDraws(seed, 7, features, steps), 2, 0, 3, features), expected)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**62),
    instance=st.integers(0, 1000),
    sample=st.integers(0, 50),
    steps=st.sampled_from([2, 3, 4, 7, 200]),
    features=st.integers(1, 70),
)
def test_counter_draws_do_not_depend_on_what_was_drawn_before(
    seed: int, first: int, instance: int, sample: int, steps: int, features: int
) -> None:
    together = counter_steps(CounterDraws(seed, first, features, steps), instance, 0, sample + 2, features)
    alone = counter_steps(CounterDraws(seed, first + instance, features, steps), 0, sample, 2, features)
    np.testing.assert_array_equal(together[sample:], alone)


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 10, 64])
def test_counter_draws_are_uniform_over_all_steps_but_0(steps: int) -> None:
    drawn = counter_steps(CounterDraws(1, 0, 500, steps), 0, 0, 400, 500)
    found, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(found, [step for step in range(-steps, steps + 1) if step])
    expected = drawn.size / (2 * steps)
    # Six standard deviations of a binomial count.
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected)


def test_counter_draws_of_instances_and_features_are_uncorrelated() -> None:
    drawn = np.stack([counter_steps(CounterDraws(1, 0, 20, 4), i, 0, 1, 20)[0] for i in range(2000)])
    correlation = np.corrcoef(np.concatenate([drawn[:-1], drawn[1:]], axis=1).T)
    assert np.abs(correlation - np.eye(40)).max() < 6 / np.sqrt(2000)


def alibi_steps(random: np.random.RandomState, shape: tuple[int, int, int], steps: int) -> np.ndarray:
    """The two draws of alibi 0.9.4, `_sample_grid`."""
    signs = 2 * random.randint(2, size=shape) - 1
    return np.asarray(signs * (random.randint(steps, size=shape) + 1))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.sampled_from([2, 3, 4, 5, 7, 8, 10, 16, 100, 1000]),
    shape=st.tuples(st.integers(1, 6), st.integers(2, 5), st.integers(1, 9)),
    calls=st.integers(1, 3),
    data=st.data(),
)
def test_mersenne_draws_equal_numpys_legacy_stream_over_calls_and_windows(
    seed: int, steps: int, shape: tuple[int, int, int], calls: int, data: st.DataObject
) -> None:
    total, samples, features = shape
    random = np.random.RandomState(seed)
    offset = 0
    for _ in range(calls):
        expected = alibi_steps(random, shape, steps)
        first = data.draw(st.integers(0, total - 1))
        draws = MersenneDraws(seed, offset, first, total, samples, features, steps, NEVER)
        for instance in range(total - first):
            cut = data.draw(st.integers(1, samples))
            out = np.empty((samples, features))
            # Parts of an instance may be drawn a second time.
            for _ in range(2):
                draws.fill(out[:cut], instance, 0)
                if cut < samples:
                    draws.fill(out[cut:], instance, cut)
                np.testing.assert_array_equal(out, expected[first + instance])
                if cut == samples:
                    break
        offset = draws.finish()


def test_mersenne_draws_of_a_power_of_two_take_one_word_each() -> None:
    draws = MersenneDraws(0, 100, 0, 6, 5, 7, 4, NEVER)
    assert draws.finish() == 100 + 2 * 6 * 5 * 7


def test_skipping_far_into_the_stream_can_be_stopped() -> None:
    with pytest.raises(Stopped):
        MersenneDraws(0, 2**60, 0, 1, 2, 3, 4, Control(should_stop=lambda: True))
