"""What holds a target or a job back, for whoever asks why it is not further on."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, select

from worker.batch import BatchState
from worker.breaking import Circuit
from worker.job import JobId
from worker.store.base import JobNote, TargetNote
from worker.store.tables import batches, chunks, leases, targets
from worker.store.transaction import Tx, job_row


def target_note(tx: Tx, target: str, now: datetime) -> TargetNote:
    """What holds a target back."""
    row = tx.first(select(targets).where(targets.c.name == target))
    live = tx.execute(
        select(func.count()).where(leases.c.target == target, leases.c.until > now)
    ).scalar_one()
    if row is None:
        return TargetNote(live_leases=live)
    return note_of(row, live, now)


def note_of(row: Row[Any], live: int, now: datetime) -> TargetNote:
    """A row of `targets` as a thing, with how many leases of it live."""
    rests = row.not_before - now
    return TargetNote(
        closed_reason=row.closed_reason,
        closed_for=now - row.closed_at if row.closed_at else None,
        rests_for=rests if rests > timedelta() else None,
        live_leases=live,
        circuit=Circuit(row.failing, row.openings),
    )


def job_note(tx: Tx, job: JobId) -> JobNote:
    """What holds a job back."""
    row, now = job_row(tx, job), tx.now()
    landed = tx.execute(
        select(func.count()).select_from(chunks).where(chunks.c.job == row.seq)
    ).scalar_one()
    first = tx.first(
        select(batches.c.not_before, batches.c.message)
        .where(batches.c.job == row.seq, batches.c.state == BatchState.READY.value)
        .order_by(batches.c.not_before)
        .limit(1)
    )
    rests = first.not_before - now if first else timedelta()
    return JobNote(
        chunks_landed=landed,
        chunks_wanted=row.chunks,
        is_planned=row.planner_until is not None and row.planner_until > now,
        next_try=rests if rests > timedelta() else None,
        cause=first.message if first else None,
    )
