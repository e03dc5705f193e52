"""How long every store lets small batches wait for others to share a call with."""

from dataclasses import replace
from datetime import timedelta

from tests.contract.stores.steps import Steps
from tests.factories import MINUTE, SECOND, Clock, appetite
from worker.batch import Returned
from worker.store.base import Appetite, Claim, Store, Who

QUARTER = timedelta(milliseconds=250)
NONE = timedelta()


def wants(call_items: int = 10, *, calls: int = 1, patience: timedelta = QUARTER) -> Appetite:
    return replace(appetite(call_items=call_items, calls=calls), patience=patience)


def wait_of(store: Store, wanted: Appetite | None = None) -> timedelta:
    """How long a claim says it waits; zero where it takes something."""
    claim = store.claim(
        "crm",
        fingerprint="f1",
        holder="w1",
        lasting=MINUTE,
        appetite=lambda _: wanted or wants(),
    )
    if isinstance(claim, Claim):
        return NONE
    assert claim.wait is not None
    return claim.wait


def test_a_job_that_is_alone_goes_at_once(store: Store, steps: Steps) -> None:
    steps.running(["a"])

    assert wait_of(store) == NONE


def test_small_jobs_wait_for_more_until_the_oldest_has_waited_long_enough(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(["a"])
    clock.advance(timedelta(milliseconds=100))
    steps.running(["b"])

    assert wait_of(store) == timedelta(milliseconds=150)
    clock.advance(timedelta(milliseconds=149))
    assert wait_of(store) == timedelta(milliseconds=1)
    clock.advance(timedelta(milliseconds=1))
    assert wait_of(store) == NONE


def test_while_others_keep_coming_a_call_waits_for_a_second(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(["a"])
    waits = []
    for number in range(11):
        steps.running([f"b{number}"])
        waits.append(wait_of(store, wants(1000)) / timedelta(milliseconds=1))
        clock.advance(timedelta(milliseconds=100))

    assert waits == [250, 150, 125, 125, 125, 125, 125, 125, 125, 100, 0]


def test_once_no_more_come_a_call_goes_before_the_second_is_over(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(["a"])
    clock.advance(timedelta(milliseconds=200))
    steps.running(["b"])
    clock.advance(timedelta(milliseconds=124))

    assert wait_of(store) == timedelta(milliseconds=1)
    clock.advance(timedelta(milliseconds=1))
    assert wait_of(store) == NONE


def test_a_job_that_comes_while_a_call_is_out_waits_for_others(store: Store, steps: Steps) -> None:
    steps.running(["a"])
    steps.claim()
    steps.running(["b"])

    assert wait_of(store) == QUARTER


def test_what_fills_a_call_goes_at_once(store: Store, steps: Steps) -> None:
    steps.running(4)
    steps.running(6)

    assert wait_of(store) == NONE


def test_what_fills_one_of_several_calls_goes_at_once(store: Store, steps: Steps) -> None:
    steps.running(4)
    steps.running(6)

    assert wait_of(store, wants(calls=5)) == NONE


def test_where_a_call_takes_one_item_nobody_waits(store: Store, steps: Steps) -> None:
    steps.running(["a"])
    steps.running(["b"])

    assert wait_of(store, wants(1)) == NONE


def test_without_patience_nobody_waits(store: Store, steps: Steps) -> None:
    steps.running(["a"])
    steps.running(["b"])

    assert wait_of(store, wants(patience=NONE)) == NONE


def test_what_may_have_little_company_waits_for_none(store: Store, steps: Steps) -> None:
    steps.running(["a"])
    steps.running(["b"])
    claim = steps.claim(appetite(call_items=2))
    alone = [replace(one.batch, company=1) for one in claim.batches]
    store.record(claim.lease, [Returned(one) for one in alone])

    assert wait_of(store) == NONE


def test_a_job_that_is_resumed_waits_anew(store: Store, steps: Steps, clock: Clock) -> None:
    jobs = [steps.running(["a"]), steps.running(["b"])]
    for job in jobs:
        store.pause(job, Who())
    clock.advance(SECOND * 9)
    for job in jobs:
        store.resume(job, Who())

    assert wait_of(store) == QUARTER


def test_a_batch_whose_rest_is_over_waits_from_then_on(
    store: Store, steps: Steps, clock: Clock
) -> None:
    steps.running(["a"])
    claim = steps.claim()
    store.record(claim.lease, [Returned(claim.batches[0].batch, rest=SECOND * 5)])
    clock.advance(SECOND * 5)
    steps.running(["b"])

    assert wait_of(store) == QUARTER
