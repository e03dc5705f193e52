"""How what a query finds becomes a job's items.

All of it is written under the right to plan. A find that is taken over begins
again: its query stays as it was frozen, what had landed is dropped.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, delete, update

from worker.errors import LeaseLost
from worker.job import Job, JobId, JobState
from worker.store import paging
from worker.store.base import Chunk
from worker.store.entering import insert_landed
from worker.store.printing import of_job
from worker.store.tables import jobs, prints, targets
from worker.store.transaction import Tx, as_job, job_row, locked_job_row


def begin_find(tx: Tx, job: JobId, holder: str) -> int:
    """Count one more find; how many were begun before."""
    row = _held(tx, job, holder)
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(finds=row.finds + 1))
    return int(row.finds)


def freeze(tx: Tx, job: JobId, frozen: Mapping[str, Any], holder: str) -> Job:
    """Keep the query as it holds for the whole job, unless one was kept before."""
    row = _held(tx, job, holder)
    if row.frozen is None:
        values = {"frozen": json.dumps(frozen, allow_nan=False)}
        tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(**values))
    return as_job(job_row(tx, job))


def clear_found(tx: Tx, job: JobId, holder: str, limit: int) -> bool:
    """Drop up to so many items of an earlier find; True when none is left."""
    row = _held(tx, job, holder)
    dropped = paging.drop_some(tx, row.seq, limit)
    left = jobs.c["items"] - dropped
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(items=left))
    if paging.is_more(tx, row.seq, -1):
        return False
    tx.execute(delete(prints).where(of_job(row.seq)))
    return True


def land_found(tx: Tx, job: JobId, chunk: Chunk, holder: str) -> None:
    """Insert what a find brought, unless it is there from a try whose end was not heard."""
    row = _held(tx, job, holder)
    now = tx.now()
    reached = paging.last_of(tx, row.seq)
    if reached is not None and reached >= chunk.first:
        return
    insert_landed(tx, [(row.seq, chunk, now)])
    count = jobs.c["items"] + chunk.count
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(items=count, fed_at=now))


def end_find(tx: Tx, job: JobId, holder: str) -> Job:
    """All is there; from now on the job's items stay as they are."""
    row = _held(tx, job, holder)
    if row.found_at is not None:
        return as_job(row)
    now = tx.now()
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(found_at=now))
    detail = {"items": row.items, "finds": row.finds}
    tx.note("job.found", now=now, job=job, target=row.target, detail=detail)
    return as_job(job_row(tx, job))


def give_up_planning(tx: Tx, job: JobId, holder: str) -> None:
    """Let somebody else plan at once."""
    mine = update(jobs).where(jobs.c.id == job, jobs.c.planner == holder)
    tx.execute(mine.values(planner=None, planner_until=None))


def rest(tx: Tx, target: str, length: timedelta) -> None:
    """Let nothing of a target be claimed for a while."""
    tx.execute(tx.insert(targets).values(name=target).on_conflict_do_nothing())
    until = tx.now() + length
    later = update(targets).where(targets.c.name == target, targets.c.not_before < until)
    tx.execute(later.values(not_before=until))


def _held(tx: Tx, job: JobId, holder: str) -> Row[Any]:
    """The row of a job that this holder still plans. Raises LeaseLost."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING or row.planner != holder:
        raise LeaseLost(f"the right to plan job {job} is somebody else's now, or it has ended")
    return row
