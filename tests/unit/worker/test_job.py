"""A job: its moves, its counts and how it is shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api_adapters.base import Verdict
from worker.job import (
    FINAL,
    MOVES,
    Job,
    JobId,
    JobState,
    JobStatus,
    NewJob,
    are_all_gone,
    empty_tally,
    moment_text,
    sources_of,
)

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB = Job(
    id=JobId("j"),
    seq=1,
    target="crm",
    fingerprint="f1",
    state=JobState.RUNNING,
    reason=None,
    dry_run=False,
    approved=False,
    items=10,
    duplicates=2,
    plan=None,
    requested_by="billing",
    notify=None,
    parent=None,
    chunk_items=10_000,
    query=None,
    frozen=None,
    found_at=None,
    needs_approval=False,
    created_at=START,
    started_at=START,
    finished_at=None,
)


def status(*, deleted: int = 0, seconds: int = 2, **changes: object) -> JobStatus:
    return JobStatus(
        job=replace(JOB, **changes),  # type: ignore[arg-type]
        tally=empty_tally() | {Verdict.DELETED: deleted},
        batches={"ready": 1, "leased": 0, "done": 0, "split": 0},
        children=(),
        waiting_for=None,
        seen_at=START + timedelta(seconds=seconds),
    )


def test_every_state_ends_somewhere() -> None:
    reached = {JobState.OPEN}
    while (further := reached.union(*(MOVES.get(state, set()) for state in reached))) != reached:
        reached = further

    assert reached == set(JobState)
    assert {JobState.COMPLETED, JobState.CANCELLED, JobState.STOPPED} == FINAL


def test_a_job_can_be_cancelled_from_every_state_that_is_not_ending() -> None:
    assert sources_of(JobState.CANCELLING) == set(JobState) - FINAL - {JobState.CANCELLING}


@pytest.mark.parametrize("state", JobState)
def test_a_job_has_ended_when_it_moves_no_more(state: JobState) -> None:
    assert replace(JOB, state=state).is_final == (state not in MOVES)


def test_what_has_no_outcome_is_pending() -> None:
    assert status(deleted=4).pending == 6


def test_the_rate_is_reckoned_from_the_start() -> None:
    assert status(deleted=4).rate_per_second == 2.0
    assert status(deleted=4).eta_seconds == 3.0


def test_the_rate_of_an_ended_job_stands_still() -> None:
    ended = status(
        deleted=10,
        seconds=999,
        state=JobState.COMPLETED,
        finished_at=START + timedelta(seconds=5),
    )

    assert (ended.rate_per_second, ended.eta_seconds) == (2.0, None)


@pytest.mark.parametrize("unknown", [status(started_at=None), status(seconds=0), status(deleted=0)])
def test_nobody_can_say_when_a_job_ends_that_has_no_rate(unknown: JobStatus) -> None:
    assert unknown.eta_seconds is None


def test_a_status_is_shown_as_the_contract_says() -> None:
    shown = status(deleted=4).as_json()

    assert set(shown["tally"]) == {verdict.value for verdict in Verdict}
    assert (shown["state"], shown["pending"], shown["finished_at"]) == ("running", 6, None)
    assert shown["created_at"] == "2026-01-02T03:04:05.000Z"
    assert list(shown) == [
        "id",
        "target",
        "state",
        "reason",
        "items",
        "duplicates",
        "pending",
        "tally",
        "batches",
        "requested_by",
        "parent",
        "children",
        "created_at",
        "started_at",
        "finished_at",
        "rate_per_second",
        "eta_seconds",
        "waiting_for",
    ]


@pytest.mark.parametrize(
    ("verdict", "strictly", "leniently"),
    [
        (Verdict.DELETED, True, True),
        (Verdict.ABSENT, True, True),
        (Verdict.ACCEPTED, False, True),
        (Verdict.FAILED, False, False),
        (Verdict.UNKNOWN, False, False),
        (Verdict.SKIPPED, False, False),
        (Verdict.DENIED, False, False),
        (Verdict.REJECTED, False, False),
    ],
)
def test_what_counts_as_gone(verdict: Verdict, strictly: bool, leniently: bool) -> None:  # noqa: FBT001
    tally = empty_tally() | {verdict: 1}

    assert are_all_gone(tally, accepted_counts=False) is strictly
    assert are_all_gone(tally, accepted_counts=True) is leniently


def test_nothing_is_all_gone() -> None:
    assert are_all_gone(empty_tally(), accepted_counts=False)


def test_two_requests_are_told_apart_by_their_options() -> None:
    new = NewJob(id=JobId("j"), target="crm", fingerprint="f1")
    changes: list[dict[str, object]] = [
        {"target": "erp"},
        {"dry_run": True},
        {"requested_by": "x"},
        {"notify": "x"},
        {"chunk_items": 5},
        {"plan": JobId("p")},
        {"query": {"keyword": "old"}},
        {"needs_approval": True},
    ]

    assert all(replace(new, **one).options != new.options for one in changes)  # type: ignore[arg-type]


def test_moments_are_shown_in_milliseconds() -> None:
    assert moment_text(START + timedelta(microseconds=123_999)) == "2026-01-02T03:04:05.123Z"
    assert moment_text(None) is None
