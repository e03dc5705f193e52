"""How every store drops what was kept for long enough, and what it keeps."""

from datetime import timedelta

import pytest

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps, refusal
from tests.factories import MINUTE, SECOND, Clock, chunk_of, keys, new_job, some_id
from worker.item import digest_of_key
from worker.job import LEFTOVERS, JobId, JobState, retry_id
from worker.purge import Decision, RunOutcome
from worker.store.base import Outdated, Store, Who

DAY = timedelta(days=1)
ANN = Who(os_user="ann", by="Ann")


def settled(steps: Steps, count: int = 5, *, days: int | None = 30, size: int = 2) -> JobId:
    """A completed job whose items are kept for so many days."""
    length = None if days is None else days * DAY
    return steps.work_off(steps.running(count, size=size, retain_for=length)).job.id


def pruned(store: Store, job: JobId, *, limit: int = 2) -> JobId:
    """Drop all of a job in strides."""
    while not store.prune(job, limit=limit):
        pass
    return job


def held(store: Store, steps: Steps) -> JobId:
    """A job that waits for approval."""
    job = steps.submitted(3)
    assert store.hold(job, reason="too many")
    return job


# -- what is due --------------------------------------------------------------------


def test_a_settled_job_is_pruned_once_it_is_old_enough(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = settled(steps)
    clock.advance(30 * DAY - SECOND)
    assert store.outdated(limit=9) == Outdated((), ())

    clock.advance(SECOND)

    assert store.outdated(limit=9).prune == (job,)


def test_each_job_is_kept_as_long_as_it_was_told_when_it_came(
    store: Store, steps: Steps, clock: Clock
) -> None:
    settled(steps, days=None)
    briefly = settled(steps, days=1)
    settled(steps, days=90)
    clock.advance(60 * DAY)

    assert store.outdated(limit=9).prune == (briefly,)


def test_a_job_that_has_not_ended_is_kept(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.running(3, retain_for=DAY)
    clock.advance(90 * DAY)

    assert store.outdated(limit=9).prune == ()
    with refusal("wrong_state"):
        store.prune(job, limit=9)


def test_a_dry_run_is_kept_for_a_week(store: Store, steps: Steps, clock: Clock) -> None:
    job = steps.submitted(3, dry_run=True)
    store.drop_duplicates(job)
    store.finish_dry(job)
    clock.advance(7 * DAY - SECOND)
    assert store.outdated(limit=9).prune == ()

    clock.advance(SECOND)

    assert store.outdated(limit=9).prune == (job,)


def test_what_was_never_approved_is_kept_for_a_week(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = held(store, steps)
    store.decline(job, ANN)
    steps.end(job)
    clock.advance(7 * DAY)

    assert store.outdated(limit=9).prune == (job,)


def test_what_nobody_approves_is_to_be_declined_after_a_week(
    store: Store, steps: Steps, clock: Clock
) -> None:
    clock.advance(DAY)
    job = held(store, steps)
    clock.advance(7 * DAY)
    assert store.outdated(limit=9).decline == ()

    clock.advance(SECOND)

    assert store.outdated(limit=9).decline == (job,)


def test_a_job_that_another_is_copying_from_is_kept(
    store: Store, steps: Steps, clock: Clock
) -> None:
    parent = settled(steps)
    clock.advance(30 * DAY)
    child = new_job(id=retry_id(parent), parent=parent, leftovers=LEFTOVERS)
    store.open(child)
    assert store.outdated(limit=9).prune == ()

    store.cancel(child.id, ANN)

    assert store.outdated(limit=9).prune == (parent,)


def test_so_many_are_named_at_most(store: Store, steps: Steps, clock: Clock) -> None:
    jobs = [settled(steps, 1) for _ in range(3)]
    clock.advance(30 * DAY)

    assert store.outdated(limit=2).prune == tuple(jobs[:2])


# -- what is left -------------------------------------------------------------------


def test_a_pruned_job_is_told_as_before(store: Store, steps: Steps, clock: Clock) -> None:
    job = settled(steps)
    before, events = store.status(job), list(store.events(job, limit=99))
    clock.advance(30 * DAY)

    pruned(store, job)

    after = store.status(job)
    told_before, told_after = before.as_json(), after.as_json()
    assert told_after == told_before
    assert after.job.pruned_at == clock()
    assert store.tally(job) == before.tally
    assert list(store.events(job, limit=99)) == events
    assert [one.job.id for one in store.jobs(limit=9)] == [job]


def test_the_items_of_a_pruned_job_are_refused_and_not_told_as_none(
    store: Store, steps: Steps
) -> None:
    job = pruned(store, settled(steps))

    with refusal("wrong_state"):
        store.results(job, verdict=None, after=-1, limit=9, size=999)
    assert store.sample(job, limit=9) == []
    assert store.mentions(digest_of_key("crm", "k1"), limit=9) == []


def test_pruning_goes_in_strides_and_goes_on_where_it_broke_off(
    store: Store, steps: Steps, clock: Clock
) -> None:
    job = settled(steps, 5)
    clock.advance(30 * DAY)

    assert not store.prune(job, limit=2)
    assert len(store.sample(job, limit=9)) == 3
    # Whoever asks in between is not shown a part as if it were all.
    with refusal("wrong_state"):
        store.results(job, verdict=None, after=-1, limit=9, size=999)
    assert store.outdated(limit=9).prune == (job,)

    pruned(store, job)
    assert store.outdated(limit=9).prune == ()
    assert store.prune(job, limit=2)


def test_the_query_of_a_pruned_job_is_dropped(store: Store, steps: Steps) -> None:
    job = store.open(new_job(query={"name": "somebody"})).id
    store.begin_planning(job, holder="w1", lasting=MINUTE)
    store.freeze(job, {"name": "somebody", "before": 7}, holder="w1")
    store.land_found(job, chunk_of(keys(3)), holder="w1")
    store.end_find(job, holder="w1")
    steps.work_off(steps.planned(job))

    pruned(store, job)

    found = store.job(job)
    assert (found.query, found.frozen, found.items) == (None, None, 3)
    assert not found.is_to_be_found


def test_a_pruned_job_is_not_tried_again(store: Store, steps: Steps) -> None:
    parent = pruned(store, settled(steps))

    with refusal("wrong_state"):
        store.open(new_job(id=retry_id(parent), parent=parent, leftovers=LEFTOVERS))


def test_a_pruned_plan_is_not_executed(store: Store, steps: Steps) -> None:
    plan = steps.submitted(3, dry_run=True)
    store.drop_duplicates(plan)
    store.finish_dry(plan)
    pruned(store, plan)

    with refusal("wrong_state"):
        store.open(new_job(id=some_id(), plan=plan))


def test_a_retry_whose_parent_is_pruned_meanwhile_is_refused_its_items(
    store: Store, steps: Steps
) -> None:
    parent = settled(steps)
    child = store.open(new_job(id=retry_id(parent), parent=parent, leftovers=LEFTOVERS)).id
    store.begin_planning(child, holder="w1", lasting=MINUTE)
    pruned(store, parent)

    with refusal("wrong_state"):
        store.copy_leftovers(child, limit=9)


def test_other_jobs_with_the_same_keys_stay(store: Store, steps: Steps) -> None:
    old, young = settled(steps), settled(steps)

    pruned(store, old)

    assert len(steps.outcomes(young)) == 5
    assert [one.job for one in store.mentions(digest_of_key("crm", "k1"), limit=9)] == [young]


def test_it_is_noted_who_pruned(store: Store) -> None:
    store.note_pruning(ANN, pruned=3, declined=1)

    (event,) = store.events(None, limit=9)
    assert (event.kind, event.os_user, event.by) == ("store.pruned", "ann", "Ann")
    assert event.detail == {"jobs": 3, "declined": 1}


@pytest.mark.parametrize("outcome", [RunOutcome.SKIPPED, RunOutcome.WAITING])
def test_runs_without_a_job_are_dropped_once_they_are_old(
    store: Store, clock: Clock, outcome: RunOutcome
) -> None:
    store.register_purge("old", digest="d1")
    store.run_purge("old", lambda note: Decision(note.seen_at, outcome), who=Who())
    assert store.prune_runs(before=DAY, limit=9) == 0
    clock.advance(DAY + SECOND)

    dropped = store.prune_runs(before=DAY, limit=9)

    assert dropped == (0 if outcome is RunOutcome.WAITING else 1)
    # What was decided stays so.
    assert store.purge("old").due_at == clock() - DAY - SECOND


def test_strays_go_with_their_items(store: Store, steps: Steps) -> None:
    job = steps.running(4)
    claim = steps.claim()
    steps.record(claim, Verdict.FAILED)
    store.settle(job)
    assert store.job(job).state is JobState.COMPLETED

    pruned(store, job)

    assert store.status(job).tally[Verdict.FAILED] == 4
