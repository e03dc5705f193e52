"""When a job that mostly fails is stopped."""

from datetime import timedelta

import pytest

from api_adapters.base import Verdict
from worker.failing import CHECK_EVERY, Tolerance, wait_between

HALF = Tolerance(share=0.5, after=10)


@pytest.mark.parametrize("verdict", ["denied", "failed", "unknown", "rejected"])
def test_more_than_half_of_enough_items_is_too_much(verdict: str) -> None:
    bad = Verdict(verdict)

    assert HALF.reason_to_stop({bad: 6, Verdict.DELETED: 4}) is not None
    assert HALF.reason_to_stop({bad: 5, Verdict.DELETED: 5}) is None
    assert HALF.reason_to_stop({bad: 9}) is None


def test_what_was_accepted_is_no_failure() -> None:
    assert HALF.reason_to_stop({Verdict.ACCEPTED: 90, Verdict.FAILED: 10}) is None


def test_the_reason_says_the_counts() -> None:
    tally = {Verdict.DELETED: 400, Verdict.DENIED: 600, Verdict.UNKNOWN: 1_000}

    assert HALF.reason_to_stop(tally) == (
        "of 2,000 decided items 1,600 are not gone (600 denied, 1,000 unknown), "
        "and max_failures is 0.5"
    )


def test_a_share_of_one_stops_nothing() -> None:
    assert Tolerance(share=1.0, after=1).reason_to_stop({Verdict.FAILED: 9}) is None


def test_only_large_jobs_are_looked_at() -> None:
    assert [HALF.is_for(items) for items in (10, 11)] == [False, True]


def test_the_more_ranges_a_job_has_the_seldomer_it_is_added_up() -> None:
    assert wait_between(1_500, call_items=100) == CHECK_EVERY
    assert wait_between(10**6, call_items=10) == timedelta(seconds=1.6)
