"""The look at the store on which liveness rests: what nobody was told of."""

from datetime import timedelta

from sqlalchemy import exists, func, or_, select, update

from worker.job import JobId, JobState
from worker.store.base import SETTLING_TAKES, Look, Who
from worker.store.ending import has_open_ranges, wish_to_end
from worker.store.ranges import is_ready
from worker.store.ringing import may_ring
from worker.store.tables import EPOCH, batches, jobs, leases, looks
from worker.store.transaction import Tx

#: An open job that nobody has fed for so long is cancelled.
FEEDING_PATIENCE = timedelta(hours=24)
#: Jobs named by one look; the next one names the others.
MOST_JOBS = 500
#: The row of `looks` that says when a worker last looked.
WORKERS = 1


def win_the_look(tx: Tx, every: timedelta) -> bool:
    """Compare-and-set: one worker looks, the others need not."""
    now = tx.now()
    tx.execute(tx.insert(looks).values(id=WORKERS, at=EPOCH).on_conflict_do_nothing())
    # A clock that was set back must not keep everyone from looking.
    is_due = or_(looks.c.at <= now - every, looks.c.at > now + every)
    return bool(tx.changed(update(looks).where(looks.c.id == WORKERS, is_due).values(at=now)))


def look(tx: Tx) -> Look:
    """What is to be done; bells that are due count as rung."""
    now = tx.now()
    for job in _unfed(tx):
        wish_to_end(tx, job, "cancel", "nobody fed it for a day", Who())
    waiting = tx.execute(
        select(jobs.c.target)
        .where(
            jobs.c.state == JobState.RUNNING.value,
            exists().where(batches.c.job == jobs.c.seq, is_ready(now)),
        )
        .distinct()
    ).scalars()
    ring = tuple(target for target in sorted(waiting) if may_ring(tx, target))
    unplanned = or_(jobs.c.planner.is_(None), jobs.c.planner_until < now)
    plan = tx.execute(
        select(jobs.c.id)
        .where(jobs.c.finished_at.is_(None), jobs.c.state == JobState.PLANNING.value, unplanned)
        .limit(MOST_JOBS)
    ).scalars()
    lost = tx.first(select(leases.c.id).where(leases.c.until < now).limit(1))
    return Look(
        ring=ring,
        plan=tuple(JobId(job) for job in plan),
        settle=_to_settle(tx),
        has_lost_leases=lost is not None,
        is_owing=tx.first(select(jobs.c.seq).where(jobs.c.owed).limit(1)) is not None,
    )


def _unfed(tx: Tx) -> list[JobId]:
    """Open jobs that were left alone."""
    found = tx.execute(
        select(jobs.c.id)
        .where(
            jobs.c.finished_at.is_(None),
            jobs.c.state == JobState.OPEN.value,
            jobs.c.fed_at < tx.now() - FEEDING_PATIENCE,
        )
        .limit(MOST_JOBS)
    )
    return [JobId(job) for job in found.scalars()]


def _to_settle(tx: Tx) -> tuple[JobId, ...]:
    """Jobs that are ending, and those none of whose ranges is open.

    Whoever records the last of a job settles it at once: of many small ones,
    those that are in hand right now are left to him.
    """
    is_running = jobs.c.state == JobState.RUNNING.value
    is_old = func.coalesce(jobs.c.released_at, jobs.c.created_at) <= tx.now() - SETTLING_TAKES
    running = or_(jobs.c.state == JobState.PAUSED.value, is_running & is_old)
    found = tx.execute(
        select(jobs.c.id)
        .where(
            jobs.c.finished_at.is_(None),
            or_(jobs.c.state == JobState.CANCELLING.value, running & ~has_open_ranges(jobs.c.seq)),
        )
        .limit(MOST_JOBS)
    )
    return tuple(JobId(job) for job in found.scalars())
