"""How every store keeps what a query finds."""

from datetime import timedelta

import pytest

from tests.contract.stores.steps import Steps, refusal
from tests.factories import MINUTE, SECOND, Clock, chunk_of, keys, new_job, refused_at_the_door
from worker.errors import LeaseLost
from worker.job import JobId, JobState
from worker.store.base import Store, Who

QUERY = {"keyword": "old"}


def begun(store: Store, holder: str = "w1") -> JobId:
    """A job that this holder finds the items of."""
    job = store.open(new_job(query=QUERY)).id
    assert store.begin_planning(job, holder=holder, lasting=MINUTE)
    return job


def found(store: Store, steps: Steps, count: int = 4, **changes: object) -> JobId:
    """A job whose items were found and cut."""
    job = store.open(new_job(query=QUERY, **changes)).id
    store.begin_planning(job, holder="w1", lasting=MINUTE)
    store.freeze(job, {**QUERY, "moment": 7}, holder="w1")
    store.land_found(job, chunk_of(keys(count)), holder="w1")
    store.end_find(job, holder="w1")
    return job


def test_a_job_by_query_is_planned_at_once_and_has_no_items(store: Store) -> None:
    job = store.open(new_job(query=QUERY))

    assert (job.state, job.items, job.query) == (JobState.PLANNING, 0, QUERY)
    assert job.is_to_be_found


def test_finds_are_counted(store: Store) -> None:
    job = begun(store)

    assert [store.begin_find(job, holder="w1") for _ in range(3)] == [0, 1, 2]


def test_a_query_is_frozen_once(store: Store) -> None:
    job = begun(store)
    store.freeze(job, {"moment": 1}, holder="w1")

    again = store.freeze(job, {"moment": 2}, holder="w1")

    assert again.frozen == {"moment": 1}


def test_what_is_found_lands_once(store: Store) -> None:
    job = begun(store)
    for _ in range(2):
        store.land_found(job, chunk_of([*keys(3), refused_at_the_door(3, {})]), holder="w1")
    store.land_found(job, chunk_of(["k0"], number=1, start=10), holder="w1")

    first = store.end_find(job, holder="w1")
    counted = store.drop_duplicates(job)

    assert store.end_find(job, holder="w1") == store.job(job)
    assert (first.items, first.is_to_be_found) == (5, False)
    assert (counted.items, counted.duplicates) == (4, 1)


def test_what_an_earlier_find_left_is_dropped_in_strides(store: Store, steps: Steps) -> None:
    job = begun(store)
    store.land_found(job, chunk_of([*keys(4), refused_at_the_door(4, {})]), holder="w1")

    strides = [store.clear_found(job, holder="w1", limit=2) for _ in range(3)]
    store.land_found(job, chunk_of(["a", "b"]), holder="w1")
    store.end_find(job, holder="w1")
    steps.planned(job)

    assert strides == [False, False, True]
    assert (store.job(job).items, store.job(job).duplicates) == (2, 0)
    assert [item.item for one in steps.claim().batches for item in one.items] == ["a", "b"]


@pytest.mark.parametrize("why", ["taken over", "cancelled"])
def test_who_lost_the_right_writes_nothing(store: Store, clock: Clock, why: str) -> None:
    job = begun(store)
    if why == "cancelled":
        store.cancel(job, Who())
    else:
        clock.advance(MINUTE + SECOND)
        store.begin_planning(job, holder="w2", lasting=MINUTE)

    for write in (
        lambda: store.begin_find(job, holder="w1"),
        lambda: store.freeze(job, {}, holder="w1"),
        lambda: store.clear_found(job, holder="w1", limit=1),
        lambda: store.land_found(job, chunk_of(["a"]), holder="w1"),
        lambda: store.end_find(job, holder="w1"),
    ):
        with pytest.raises(LeaseLost):
            write()

    assert store.job(job).items == 0


def test_a_right_that_is_given_up_is_free(store: Store) -> None:
    job = begun(store)
    store.give_up_planning(job, holder="somebody else")
    assert store.begin_planning(job, holder="w2", lasting=MINUTE) is None

    store.give_up_planning(job, holder="w1")

    assert store.begin_planning(job, holder="w2", lasting=MINUTE) is not None


def test_a_claim_brings_the_frozen_query_of_each_job(store: Store, steps: Steps) -> None:
    plain = steps.running(["x"])
    job = steps.planned(found(store, steps))

    claim = steps.claim()

    assert {one.batch.job for one in claim.batches} == {plain, job}
    assert claim.queries == {job: {**QUERY, "moment": 7}}


def test_whoever_executes_or_retries_it_repeats_the_query(store: Store, steps: Steps) -> None:
    plan = found(store, steps, dry_run=True)
    store.drop_duplicates(plan)
    store.finish_dry(plan)
    executed = store.open(new_job(plan=plan))
    ended = found(store, steps)
    store.cancel(ended, Who())
    while store.end_ready(ended, limit=9):
        pass
    store.settle(ended)

    retried = store.open(new_job(parent=ended))

    for job in (executed, retried):
        assert (job.query, job.frozen) == (QUERY, {**QUERY, "moment": 7})
        assert not job.is_to_be_found


def test_what_was_found_too_long_ago_goes_nowhere(store: Store, steps: Steps, clock: Clock) -> None:
    day = timedelta(days=1)
    plan = found(store, steps, dry_run=True)
    store.drop_duplicates(plan)
    store.finish_dry(plan)
    held = found(store, steps)
    store.hold(held, reason="too many")
    paused = steps.planned(found(store, steps))
    store.pause(paused, Who())
    clock.advance(day + SECOND)

    too_old = new_job(plan=plan, found_valid_for=day)
    with refusal("wrong_state"):
        store.open(too_old)
    with refusal("wrong_state"):
        store.approve(held, Who(), valid_for=day)
    with refusal("wrong_state"):
        store.resume(paused, Who(), valid_for=day)
    with refusal("unknown_job"):
        store.status(too_old.id)
    store.approve(held, Who(), valid_for=2 * day)
    store.resume(paused, Who())


def test_a_target_that_said_so_rests(store: Store, steps: Steps, clock: Clock) -> None:
    steps.running()
    store.rest("crm", length=MINUTE)
    store.rest("crm", length=SECOND)

    assert store.target_note("crm").rests_for == MINUTE
    clock.advance(MINUTE + SECOND)
    assert store.target_note("crm").rests_for is None
