"""Repeating a write while the store is away."""

import pytest

from worker.errors import LeaseLost, StoreUnavailable
from worker.insisting import Insistence


class Time:
    """Passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


@pytest.fixture
def time() -> Time:
    return Time()


def away(times: int, then: object = "done") -> object:
    """A write that fails so many times."""
    left = [times]

    def write() -> object:
        left[0] -= 1
        if left[0] >= 0:
            raise StoreUnavailable("away")
        if isinstance(then, Exception):
            raise then
        return then

    return write


def test_what_is_written_at_once_takes_no_pause(time: Time) -> None:
    assert Insistence(clock=time, sleep=time.sleep)(away(0)) == "done"
    assert time.pauses == []


def test_pauses_grow_to_a_bound(time: Time) -> None:
    assert Insistence(clock=time, sleep=time.sleep)(away(200)) == "done"
    assert time.pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(time.pauses) == 5.0


def test_a_refused_fence_ends_it(time: Time) -> None:
    with pytest.raises(LeaseLost):
        Insistence(clock=time, sleep=time.sleep)(away(3, LeaseLost("gone")))


def test_a_process_that_is_to_end_gives_up_in_time(time: Time) -> None:
    insist = Insistence(is_ending=lambda: time.now > 60, clock=time, sleep=time.sleep)

    with pytest.raises(StoreUnavailable):
        insist(away(1_000))

    assert 80 <= time.now <= 92
