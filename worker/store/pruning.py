"""How what was kept for long enough is dropped: in strides, and for good.

A settled job keeps what `status` tells. While its items are being dropped
`planner` says so, and a pruner that broke off is followed by another one.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, exists, func, literal, or_, select, update

from worker.errors import RefusedRequest
from worker.job import FINAL, JobId, JobState
from worker.store import paging
from worker.store.base import APPROVAL_PATIENCE, KEPT_BRIEFLY, Outdated, Who
from worker.store.printing import of_job
from worker.store.tables import (
    Moment,
    batches,
    breaches,
    chunks,
    events,
    jobs,
    prints,
    strays,
)
from worker.store.transaction import Tx, locked_job_row

#: Ranges that one statement names.
NAMES_AT_ONCE = 500
#: Whose right it is to work on the items of a settled job.
PRUNER = "pruner"


def outdated(tx: Tx, limit: int) -> Outdated:
    """Jobs that are to be declined or pruned."""
    now = tx.now()
    declined = select(jobs.c.id).where(_waited_in_vain(now)).order_by(jobs.c.seq)
    begun = and_(jobs.c.pruned_at.is_not(None), jobs.c.planner == PRUNER)
    pruned = (
        select(jobs.c.id)
        .where(jobs.c.finished_at.is_not(None), or_(begun, _is_old(now)), ~_is_source())
        .order_by(jobs.c.seq)
    )
    return Outdated(
        decline=tuple(map(JobId, tx.execute(declined.limit(limit)).scalars())),
        prune=tuple(map(JobId, tx.execute(pruned.limit(limit)).scalars())),
    )


def _waited_in_vain(now: datetime) -> ColumnElement[bool]:
    """A job that was held long ago."""
    held_at = (
        select(func.max(events.c.at))
        .where(events.c.job == jobs.c.id, events.c.kind == "job.held")
        .scalar_subquery()
    )
    return and_(
        jobs.c.finished_at.is_(None),
        jobs.c.state == JobState.AWAITING_APPROVAL.value,
        held_at < now - APPROVAL_PATIENCE,
    )


def _is_old(now: datetime) -> ColumnElement[bool]:
    """A settled job whose items were kept for long enough."""
    kept_until = jobs.c.finished_at + jobs.c.retain_for
    never_approved = or_(jobs.c.wish == "decline", and_(jobs.c.needs_approval, ~jobs.c.approved))
    brief = and_(or_(jobs.c.dry_run, never_approved), jobs.c.finished_at <= now - KEPT_BRIEFLY)
    is_over = kept_until <= literal(now, Moment)
    return and_(jobs.c.pruned_at.is_(None), or_(is_over, brief))


def _is_source() -> ColumnElement[bool]:
    """A job whose items another one is just about to copy."""
    other = jobs.alias()
    return exists().where(
        other.c.finished_at.is_(None),
        other.c.state == JobState.PLANNING.value,
        or_(other.c.plan == jobs.c.id, other.c.parent == jobs.c.id),
    )


def prune(tx: Tx, job: JobId, limit: int) -> bool:
    """Drop a stride of a settled job's items; True when all of it is gone.

    Raises:
        RefusedRequest: `wrong_state`, it has not ended.
    """
    row = locked_job_row(tx, job)
    if JobState(row.state) not in FINAL:
        raise RefusedRequest("wrong_state", f"job {job} is {row.state}: it is still needed")
    mine = update(jobs).where(jobs.c.seq == row.seq)
    if row.pruned_at is None:
        tx.execute(mine.values(pruned_at=tx.now(), planner=PRUNER, query=None, frozen=None))
    elif row.planner != PRUNER:
        return True
    if paging.drop_some(tx, row.seq, limit):
        return False
    if _drop_messages(tx, row.seq, limit):
        return False
    for table in (strays, chunks):
        tx.execute(delete(table).where(table.c.job == row.seq))
    tx.execute(delete(prints).where(of_job(row.seq)))
    tx.execute(update(breaches).where(breaches.c.job == row.seq).values(first_ten="[]"))
    tx.execute(mine.values(planner=None))
    return True


def _drop_messages(tx: Tx, seq: int, limit: int) -> int:
    """Drop what backends said of up to so many ranges; how many."""
    said = select(batches.c.first).where(batches.c.job == seq, batches.c.message.is_not(None))
    firsts = list(tx.execute(said.limit(min(limit, NAMES_AT_ONCE))).scalars())
    if firsts:
        some = update(batches).where(batches.c.job == seq, batches.c.first.in_(firsts))
        tx.execute(some.values(message=None))
    return len(firsts)


def note(tx: Tx, who: Who, *, pruned: int, declined: int) -> None:
    """One event of who pruned."""
    tx.note("store.pruned", now=tx.now(), who=who, detail={"jobs": pruned, "declined": declined})
