"""The first call of a function that is made ready by it has no other beside it."""

from __future__ import annotations

import threading

import pytest
from sidelight_engines.runtime.first_alone import FirstAlone


def test_no_call_begins_before_the_first_has_ended_and_then_calls_run_beside_each_other():
    entered, leave = threading.Semaphore(0), threading.Event()
    together = threading.Barrier(2, timeout=30)
    order = []

    def compute(number):
        order.append(number)
        entered.release()
        if number == 0:
            assert leave.wait(30)
        else:
            together.wait()
        return number * 2

    alone = FirstAlone(compute)
    made = {}
    threads = [threading.Thread(target=lambda n=n: made.update({n: alone(n)})) for n in range(3)]
    threads[0].start()
    assert entered.acquire(timeout=30)
    threads[1].start()
    threads[2].start()
    assert not entered.acquire(timeout=0.2)
    leave.set()
    for thread in threads:
        thread.join(30)
    assert order[0] == 0
    assert made == {0: 0, 1: 2, 2: 4}


def test_a_first_call_that_raises_leaves_the_next_one_the_first():
    alone = FirstAlone(lambda fail: 1 / (0 if fail else 1))
    with pytest.raises(ZeroDivisionError):
        alone(True)
    assert alone(False) == 1
