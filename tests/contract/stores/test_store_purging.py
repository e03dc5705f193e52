"""How every store decides about standing orders: once, whoever comes second."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from api_adapters.base import Verdict
from tests.contract.stores.steps import Steps, refusal
from tests.factories import MINUTE, SECOND, Clock, chunk_of, keys, new_job
from worker.job import JobId, JobState
from worker.purge import Decision, PurgeNote, RunOutcome, run_id
from worker.store.base import Store, Who

ANN = Who(os_user="ann", by="Ann")
HOUR = timedelta(hours=1)

Decide = Callable[[PurgeNote], Decision | None]


def begin(*, digest: str = "d1", outcome: RunOutcome = RunOutcome.BEGUN) -> Decide:
    """Begin a run that is due at this moment."""

    def decide(note: PurgeNote) -> Decision:
        job = new_job(
            id=run_id("old", note.seen_at), query={"age": 1}, purge="old", purge_digest=digest
        )
        return Decision(note.seen_at, outcome, job=job if outcome is RunOutcome.BEGUN else None)

    return decide


def begun(store: Store, **named: str) -> JobId:
    """The job of a run that begins now."""
    store.register_purge("old", digest="d1")
    run = store.run_purge("old", begin(**named), who=Who())
    assert run is not None
    assert run.job is not None
    return run.job


def held(store: Store, steps: Steps, **named: str) -> JobId:
    """The job of a run that found something and waits for approval."""
    job = begun(store, **named)
    store.begin_planning(job, holder="w1", lasting=MINUTE)
    assert store.hold(job, reason="look at it")
    return job


def test_a_purge_that_nobody_saw_is_told_as_such(store: Store, clock: Clock) -> None:
    assert store.purge("old") == PurgeNote("old", clock())


def test_a_purge_starts_when_it_is_first_seen(store: Store, clock: Clock) -> None:
    registered = store.register_purge("old", digest="d1")
    clock.advance(HOUR)
    again = store.register_purge("old", digest="d1")

    assert registered.registered_at == again.registered_at == clock() - HOUR
    assert (again.digest, again.approved, again.due_at) == ("d1", None, None)
    assert [one.kind for one in store.events(None, limit=9)] == ["purge.registered"]


def test_a_purge_that_was_changed_is_noted(store: Store) -> None:
    store.register_purge("old", digest="d1")

    assert store.register_purge("old", digest="d2").digest == "d2"
    assert [one.kind for one in store.events(None, limit=9)] == [
        "purge.changed",
        "purge.registered",
    ]


def test_a_run_begins_with_its_job(store: Store, clock: Clock) -> None:
    job = begun(store)

    found = store.job(job)
    assert (found.purge, found.purge_digest, found.state) == ("old", "d1", JobState.PLANNING)
    assert found.is_to_be_found
    note = store.purge("old")
    assert (note.due_at, note.busy) == (clock(), job)


def test_a_due_moment_is_decided_once(store: Store, clock: Clock) -> None:
    begun(store)

    assert store.run_purge("old", begin(), who=Who()) is None
    assert len(store.purge_runs("old", limit=9)) == len(store.jobs(limit=9)) == 1


def test_a_moment_that_is_passed_over_is_told_of_nowhere(store: Store, clock: Clock) -> None:
    store.register_purge("old", digest="d1")

    run = store.run_purge("old", lambda note: Decision(note.seen_at, None), who=Who())

    assert run is None
    assert store.purge("old").due_at == clock()
    assert store.purge_runs("old", limit=9) == []


def test_nothing_is_decided_about_a_purge_that_is_not_registered(store: Store) -> None:
    assert store.run_purge("old", begin(), who=Who()) is None
    assert store.jobs(limit=9) == []


def test_a_run_that_waits_begins_later_with_the_same_due_moment(store: Store, clock: Clock) -> None:
    store.register_purge("old", digest="d1")
    due = clock()
    store.run_purge("old", begin(outcome=RunOutcome.WAITING), who=Who())
    clock.advance(HOUR)
    assert store.purge("old").waiting == due

    run = store.run_purge("old", lambda n: replace(begin()(n), due_at=due), who=Who())

    assert run is not None
    assert (run.due_at, run.outcome) == (due, RunOutcome.BEGUN)
    assert store.purge("old").waiting is None
    assert len(store.purge_runs("old", limit=9)) == 1


def test_a_run_by_hand_says_who_and_leaves_the_schedule_alone(store: Store, clock: Clock) -> None:
    store.register_purge("old", digest="d1")

    run = store.run_purge("old", lambda n: replace(begin()(n), by_hand=True), who=ANN)

    assert run is not None
    assert run.by_hand
    assert store.purge("old").due_at is None
    (event,) = [one for one in store.events(run.job, limit=9) if one.kind == "purge.run"]
    assert (event.os_user, event.by, event.detail["purge"]) == ("ann", "Ann", "old")


def test_runs_are_told_newest_first_with_their_jobs(
    store: Store, steps: Steps, clock: Clock
) -> None:
    first = begun(store)
    clock.advance(HOUR)
    store.run_purge("old", begin(outcome=RunOutcome.SKIPPED), who=Who())
    store.stop(first, reason="its query could not be answered")
    steps.end(first)

    skipped, ended = store.purge_runs("old", limit=9)

    assert (skipped.run.outcome, skipped.run.job, skipped.word) == (
        RunOutcome.SKIPPED,
        None,
        "skipped",
    )
    assert (ended.run.job, ended.state, ended.word) == (first, JobState.STOPPED, "stopped")
    assert not ended.has_succeeded
    assert store.purge_runs("old", limit=1) == [skipped]


@pytest.mark.parametrize(
    "verdict", [Verdict.DELETED, Verdict.DENIED, Verdict.FAILED, Verdict.UNKNOWN]
)
def test_a_run_succeeds_without_failed_and_unknown_items(
    store: Store, steps: Steps, clock: Clock, verdict: Verdict
) -> None:
    is_good = verdict not in {Verdict.FAILED, Verdict.UNKNOWN}
    job = begun(store)
    assert store.begin_planning(job, holder="w1", lasting=MINUTE)
    store.land_found(job, chunk_of(keys(3)), holder="w1")
    steps.planned(store.end_find(job, holder="w1").id)
    clock.advance(MINUTE)

    steps.record(steps.claim(), verdict)
    store.settle(job)

    assert store.purge_succeeded_at("old") == (clock() if is_good else None)
    (status,) = store.purge_runs("old", limit=9)
    assert (status.items, status.tally) == (3, store.status(job).tally)
    assert store.purge("old").busy is None


def test_a_dry_run_keeps_nobody_waiting(store: Store) -> None:
    store.register_purge("old", digest="d1")
    store.open(new_job(query={"age": 1}, purge="old", purge_digest="d1", dry_run=True))

    assert store.purge("old").busy is None


def test_an_approval_is_for_the_purge_as_it_was_then(store: Store, steps: Steps) -> None:
    job = held(store, steps)

    store.approve(job, ANN)

    assert store.purge("old").approved == "d1"
    assert store.job(job).state is JobState.PLANNING


def test_an_approval_after_a_change_is_refused(store: Store, steps: Steps) -> None:
    job = held(store, steps)
    store.register_purge("old", digest="d2")

    with refusal("wrong_state"):
        store.approve(job, ANN)

    assert store.purge("old").approved is None
    assert store.job(job).state is JobState.AWAITING_APPROVAL


def test_what_is_declined_stays_unapproved(store: Store, steps: Steps) -> None:
    job = held(store, steps)

    store.decline(job, ANN)

    assert store.purge("old").approved is None


def test_the_clock_is_seen_to_tick(store: Store, clock: Clock) -> None:
    assert store.ticked() is None

    store.note_tick()
    clock.advance(7 * SECOND)

    assert store.ticked() == 7 * SECOND
    store.note_tick()
    assert store.ticked() == timedelta()
    # It is no look: that one is won by whoever looks.
    assert store.look(every=MINUTE) is not None
