"""What is to become of a due moment, decided without a store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.job import JobId
from worker.purge import (
    CatchUp,
    Decision,
    Overlap,
    Purge,
    PurgeNote,
    RunOutcome,
    decide,
    is_overdue,
)
from worker.scheduling import Schedule

START = datetime(2026, 1, 2, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
BUSY = JobId("7b2f8c1e-0000-4000-8000-000000000001")


def purge(**changes: Any) -> Purge:
    """A purge of every hour."""
    order = Purge("old", "crm", "f1", {"age": 1}, Schedule(every=HOUR))
    return replace(order, **changes)


def note(after: timedelta, **changes: Any) -> PurgeNote:
    """What the store knows so long after the purge was registered."""
    known = PurgeNote("old", START + after, digest="d1", registered_at=START)
    return replace(known, **changes)


def test_nothing_is_due_before_the_first_moment() -> None:
    assert decide(purge(), note(HOUR - SECOND)) is None
    assert decide(purge(), note(HOUR)) == Decision(START + HOUR, RunOutcome.BEGUN)


def test_nothing_is_decided_about_a_purge_that_was_never_seen() -> None:
    assert decide(purge(), PurgeNote("old", START)) is None


def test_what_was_decided_is_not_due_again() -> None:
    assert decide(purge(), note(HOUR + SECOND, due_at=START + HOUR)) is None


def test_of_missed_runs_the_last_one_is_made_up_for() -> None:
    assert decide(purge(), note(30 * HOUR + 59 * 60 * SECOND)) == Decision(
        START + 30 * HOUR, RunOutcome.BEGUN
    )


@pytest.mark.parametrize(("seconds", "outcome"), [(60, RunOutcome.BEGUN), (61, RunOutcome.MISSED)])
def test_without_catching_up_a_run_is_at_most_a_minute_late(
    seconds: int, outcome: RunOutcome
) -> None:
    found = decide(purge(catch_up=CatchUp.NONE), note(HOUR + seconds * SECOND))

    assert found is not None
    assert (found.due_at, found.outcome) == (START + HOUR, outcome)


def test_a_run_is_skipped_while_an_earlier_job_has_not_ended() -> None:
    found = decide(purge(), note(HOUR, busy=BUSY))

    assert found == Decision(START + HOUR, RunOutcome.SKIPPED, f"job {BUSY} has not ended")


def test_a_run_may_wait_for_the_end_of_an_earlier_job() -> None:
    order = purge(overlap=Overlap.QUEUE)
    waiting = note(HOUR + SECOND, busy=BUSY, waiting=START + HOUR, due_at=START + HOUR)

    assert decide(order, note(HOUR, busy=BUSY)) == Decision(
        START + HOUR, RunOutcome.WAITING, f"job {BUSY} has not ended"
    )
    assert decide(order, waiting) is None
    assert decide(order, replace(waiting, busy=None)) == Decision(START + HOUR, RunOutcome.BEGUN)


def test_one_run_waits_at_most() -> None:
    order = purge(overlap=Overlap.QUEUE)

    found = decide(order, note(2 * HOUR, busy=BUSY, waiting=START + HOUR, due_at=START + HOUR))

    assert found is not None
    assert (found.due_at, found.outcome) == (START + 2 * HOUR, RunOutcome.SKIPPED)


def test_what_was_due_while_it_was_disabled_is_passed_over() -> None:
    assert decide(purge(enabled=False), note(HOUR)) == Decision(START + HOUR, None)
    assert decide(purge(enabled=True), note(HOUR + SECOND, due_at=START + HOUR)) is None


def test_a_run_that_waits_does_not_begin_once_the_purge_is_disabled() -> None:
    found = decide(purge(enabled=False), note(HOUR, waiting=START + HOUR, due_at=START + HOUR))

    assert found is not None
    assert found.outcome is RunOutcome.SKIPPED


def test_a_clock_that_was_set_back_begins_nothing() -> None:
    assert decide(purge(), note(HOUR, due_at=START + 5 * HOUR)) is None


def test_another_query_or_target_is_another_digest() -> None:
    digests = {
        purge().digest,
        purge(query={"age": 2}).digest,
        purge(fingerprint="f2").digest,
        purge(query={"age": 1, "kind": "x"}).digest,
    }

    assert len(digests) == 4
    assert purge(query={"b": 1, "a": 2}).digest == purge(query={"a": 2, "b": 1}).digest


@pytest.mark.parametrize(
    "changes", [{"schedule": Schedule(cron="0 0 * * *")}, {"max_items": 5}, {"enabled": False}]
)
def test_what_does_not_decide_what_is_deleted_leaves_the_digest_alone(
    changes: dict[str, Any],
) -> None:
    assert purge(**changes).digest == purge().digest


def test_a_purge_is_approved_as_it_is_or_trusted() -> None:
    known = note(HOUR, approved=purge().digest)

    assert not known.needs_approval(purge())
    assert known.needs_approval(purge(query={"age": 2}))
    assert not known.needs_approval(purge(query={"age": 2}, trusted=True))


def test_a_purge_is_overdue_once_it_has_not_succeeded_for_too_long() -> None:
    order = purge(alert_after=2 * HOUR)

    assert not is_overdue(order, note(2 * HOUR), succeeded_at=None)
    assert is_overdue(order, note(2 * HOUR + SECOND), succeeded_at=None)
    assert not is_overdue(order, note(5 * HOUR), succeeded_at=START + 3 * HOUR)
    assert not is_overdue(purge(), note(50 * HOUR), succeeded_at=None)
    assert not is_overdue(replace(order, enabled=False), note(50 * HOUR), succeeded_at=None)
