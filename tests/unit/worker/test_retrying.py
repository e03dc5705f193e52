"""How long to wait before an attempt, and how many there are."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.retrying import LONGEST_TOLD_WAIT, RetryRules, told_wait

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8)])
def test_the_longest_wait_doubles(failures: int, seconds: int) -> None:
    assert RetryRules().wait_after(failures, chance=1.0) == SECOND * seconds


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_wait_is_between_nothing_and_the_cap(failures: int, chance: float) -> None:
    rules = RetryRules()

    assert timedelta() <= rules.wait_after(failures, chance=chance) <= rules.cap


@given(st.integers(1, 50))
def test_the_longest_wait_never_gets_shorter(failures: int) -> None:
    rules = RetryRules()

    assert rules.wait_after(failures + 1, chance=1) >= rules.wait_after(failures, chance=1)


def test_attempts_are_used_up() -> None:
    rules = RetryRules(max_attempts=3)

    assert [rules.is_used_up(failures) for failures in (1, 2, 3, 4)] == [False, False, True, True]


@given(st.timedeltas(-timedelta(days=99), timedelta(days=9999)))
def test_a_told_wait_is_bounded(wait: timedelta) -> None:
    assert SECOND <= told_wait(wait) <= LONGEST_TOLD_WAIT


def test_a_told_wait_is_kept() -> None:
    assert told_wait(SECOND * 90) == SECOND * 90
