"""What the in-memory twin tells of jobs and items."""

from datetime import datetime, timedelta

from api_adapters.base import Verdict
from worker.batch import BatchState
from worker.item import Outcome
from worker.job import JobState, JobStatus
from worker.store.base import BELL_PATIENCE, JobNote, Mention, Page
from worker.store.memory_rows import JobRow, Rows


def job_note_of(row: JobRow, now: datetime) -> JobNote:
    """What holds a job back."""
    ready = [one for one in row.batches.values() if one.state is BatchState.READY]
    first = min(ready, key=lambda one: one.not_before, default=None)
    rests = first.not_before - now if first else timedelta()
    return JobNote(
        chunks_landed=len(row.chunks),
        chunks_wanted=row.sealed,
        is_planned=row.is_being_planned(now),
        next_try=rests if rests > timedelta() else None,
        cause=first.batch.mark.message if first else None,
    )


def status_of(rows: Rows, row: JobRow, now: datetime) -> JobStatus:
    """A job with its counts."""
    states = [batch.state for batch in row.batches.values()]
    children = (child.job for child in rows.jobs.values())
    return JobStatus(
        job=row.job,
        tally=row.tally if row.tally is not None else row.count_tally(),
        batches={state.value: states.count(state) for state in BatchState} | {"split": row.splits},
        children=tuple(child.id for child in children if child.parent == row.job.id),
        waiting_for=_waiting_for(rows, row, now),
        seen_at=now,
    )


def results_of(row: JobRow, *, verdict: Verdict | None, after: int, limit: int, size: int) -> Page:
    """A page of decided items."""
    found: list[Outcome] = []
    for position in row.positions(after + 1):
        outcome = _outcome(row, position)
        if not outcome.mark.is_final or verdict not in {None, outcome.mark.verdict}:
            continue
        size -= len(row.items[position].text)
        if found and (len(found) == limit or size < 0):
            return Page(tuple(found), found[-1].position)
        found.append(outcome)
    return Page(tuple(found), None)


def mentions_of(rows: Rows, key: bytes) -> list[Mention]:
    """Every job that named a key, newest first."""
    newest = sorted(rows.jobs.values(), key=lambda row: -row.job.seq)
    named = (
        (row, next((p for p in row.positions() if row.items[p].key == key), None)) for row in newest
    )
    return [
        Mention(
            job=row.job.id,
            state=row.job.state,
            outcome=_outcome(row, position),
            requested_by=row.job.requested_by,
            created_at=row.job.created_at,
        )
        for row, position in named
        if position is not None
    ]


def _outcome(row: JobRow, position: int) -> Outcome:
    mark, decided_at = row.mark(position)
    return Outcome(position, row.items[position].text, mark, decided_at)


def _waiting_for(rows: Rows, row: JobRow, now: datetime) -> str | None:
    """The one thing that a job waits for."""
    match row.job.state:
        case JobState.OPEN:
            return "seal"
        case JobState.AWAITING_APPROVAL:
            return "approval"
        case JobState.PLANNING:
            is_late = row.moved_at + BELL_PATIENCE < now
            return "workers" if is_late and row.waits_for_planning(now) else None
        case JobState.RUNNING:
            return _waiting_for_turn(rows, row, now)
        case _:
            return None


def _waiting_for_turn(rows: Rows, row: JobRow, now: datetime) -> str | None:
    """What a running job waits for."""
    target = rows.target(row.job.target)
    is_out = any(one.state is BatchState.LEASED for one in row.batches.values())
    if target.closed_at is not None or (target.circuit.is_open and not is_out):
        return "circuit"
    if target.rests_for(now) is not None:
        return "pace"
    states = {batch.state for batch in row.batches.values()}
    if BatchState.READY not in states or BatchState.LEASED in states:
        return None
    if not any(batch.is_due(now) for batch in row.batches.values()):
        return "retry_at"
    if rows.live_leases(row.job.target, now):
        return "target_busy"
    has_been_rung = target.rung_at is not None or target.answered_at is not None
    return None if has_been_rung and not target.is_bell_overdue(now) else "workers"
