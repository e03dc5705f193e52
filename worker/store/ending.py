"""How a job comes to its end: the wish, the ranges ended for it, the close."""

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, exists, func, insert, or_, select, update

from worker.batch import BatchState
from worker.errors import DoesNotAddUp, RefusedRequest
from worker.job import FINAL, JobId, JobState, JobStatus, Tally, sources_of
from worker.store import duplicates, paging, purging
from worker.store.base import Owed, Who
from worker.store.claiming import lock_target
from worker.store.origins import check_digest, check_fresh
from worker.store.ranges import reached_by_ranges
from worker.store.reading import status_of, tally_of
from worker.store.recording import counts_of, end_code, end_ranges
from worker.store.tables import EPOCH, batches, jobs, targets
from worker.store.transaction import Tx, job_row, locked_job_row

#: The state in which a job ends that was ended with a wish.
_END_BY_WISH = {
    "cancel": JobState.CANCELLED,
    "decline": JobState.CANCELLED,
    "stop": JobState.STOPPED,
}


def wish_to_end(tx: Tx, job: JobId, wish: str, reason: str, who: Who) -> bool:
    """-> cancelling; False for a job that has ended or is ending."""
    row = locked_job_row(tx, job)
    if JobState(row.state) not in sources_of(JobState.CANCELLING):
        return False
    tx.execute(
        update(jobs)
        .where(jobs.c.seq == row.seq)
        .values(
            state=JobState.CANCELLING.value,
            wish=wish,
            reason=reason,
            planner=None,
            planner_until=None,
        )
    )
    kind = {"cancel": "job.cancelled", "decline": "job.declined", "stop": "job.stopped"}[wish]
    detail = {"reason": reason}
    tx.note(kind, now=tx.now(), job=job, target=row.target, who=who, detail=detail)
    return True


def decline(tx: Tx, job: JobId, reason: str, who: Who) -> None:
    """awaiting_approval -> cancelling. Raises RefusedRequest: `wrong_state`."""
    _expect(locked_job_row(tx, job), JobState.AWAITING_APPROVAL)
    wish_to_end(tx, job, "decline", reason, who)


def move(
    tx: Tx,
    job: JobId,
    *,
    origin: JobState,
    goal: JobState,
    kind: str,
    who: Who,
    valid_for: timedelta | None = None,
    digest: str | None = None,
) -> None:
    """One legal move on a command; what was found longer ago than `valid_for` goes nowhere.

    Raises:
        RefusedRequest: `wrong_state`; the job's items are not those of `digest`.
    """
    row = locked_job_row(tx, job)
    _expect(row, origin)
    check_digest(row.items_digest, digest, job=job)
    check_fresh(row, valid_for, tx.now())
    values: dict[str, Any] = {"state": goal.value}
    if goal is JobState.RUNNING:
        values["released_at"] = tx.now()
    detail = {}
    if goal is JobState.PLANNING:
        purging.approve(tx, row)
        values.update(approved=True, reason=None)
        detail = {"digest": row.items_digest, "items": row.items}
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(**values))
    tx.note(kind, now=tx.now(), job=job, target=row.target, who=who, detail=detail)


def accept_target(tx: Tx, job: JobId, who: Who, fingerprint: str) -> None:
    """Let a job go on with its target as it is now. Raises RefusedRequest: `wrong_state`."""
    row = locked_job_row(tx, job)
    if JobState(row.state) in FINAL:
        raise RefusedRequest(
            "wrong_state", f"job {job} has ended: it is {row.state}", data={"job": job}
        )
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(fingerprint=fingerprint))
    detail = {"before": row.fingerprint, "after": fingerprint}
    kind = "job.target_accepted"
    tx.note(kind, now=tx.now(), job=job, target=row.target, who=who, detail=detail)


def _expect(row: Row[Any], state: JobState) -> None:
    """Refuse a command that comes at the wrong time."""
    if row.state != state:
        raise RefusedRequest(
            "wrong_state",
            f"job {row.id} is {row.state}, not {state.value}",
            data={"job": row.id, "state": row.state},
        )


def close_target(tx: Tx, target: str, reason: str, rest: timedelta) -> timedelta:
    """Let nothing of a target be claimed for a while; how long it is closed by now."""
    row = lock_target(tx, target)
    now = tx.now()
    since = row.closed_at or now
    tx.execute(
        update(targets)
        .where(targets.c.name == target)
        .values(closed_at=since, closed_reason=reason, not_before=max(row.not_before, now + rest))
    )
    if row.closed_at is None:
        tx.note("target.closed", now=now, target=target, detail={"reason": reason})
    closed_for: timedelta = now - since
    return closed_for


def open_target(tx: Tx, target: str, who: Who) -> bool:
    """Let a closed target be claimed from at once; False if it was not closed."""
    opened = tx.changed(
        update(targets)
        .where(targets.c.name == target, targets.c.closed_at.is_not(None))
        .values(closed_at=None, closed_reason=None, not_before=EPOCH)
    )
    if opened:
        tx.note("target.opened", now=tx.now(), target=target, who=who)
    return bool(opened)


def end_ready(tx: Tx, job: JobId, limit: int) -> int:
    """End up to so many ready ranges of a job that is ending; how many."""
    # Of nearly all jobs that are asked about; whoever ends one asks afterwards.
    if job_row(tx, job).state != JobState.CANCELLING:
        return 0
    row = locked_job_row(tx, job)
    if row.state != JobState.CANCELLING:
        return 0
    now = tx.now()
    if not row.is_cut:
        if not duplicates.drop_some(tx, row.seq):
            return 1
        _cover_the_rest(tx, row, now, code=end_code(row), message=row.reason)
    ready = select(batches.c.first).where(batches.c.job == row.seq, batches.c.state == "ready")
    firsts = list(tx.execute(tx.locked(ready.limit(limit))).scalars())
    if firsts:
        end_ranges(tx, row, firsts, now, code=end_code(row), message=row.reason)
    return len(firsts)


def end_unplanned(tx: Tx, row: Row[Any], *, code: str, message: str) -> None:
    """Complete a job none of whose items was sent: one range, all skipped."""
    _cover_the_rest(tx, row, tx.now(), code=code, message=message)
    _close(tx, row, JobState.COMPLETED)


def _cover_the_rest(
    tx: Tx, row: Row[Any], now: datetime, *, code: str, message: str | None
) -> None:
    """One range over all positions that no range covers, ended at once."""
    first = paging.first_beyond(tx, row.seq, reached_by_ranges(tx, row.seq))
    last = paging.last_of(tx, row.seq)
    if first is not None and last is not None:
        new: dict[str, Any] = {"state": "ready", **counts_of(tx, row.seq, first, last)}
        tx.execute(insert(batches).values(job=row.seq, first=first, last=last, **new))
        tx.gained.add_range(row.target, new)
        end_ranges(tx, row, [first], now, code=code, message=message)
    covered = tx.execute(
        select(func.coalesce(func.sum(batches.c["items"]), 0)).where(batches.c.job == row.seq)
    ).scalar_one()
    values = duplicates.counts(row, covered)
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(is_cut=True, **values))


def settle(tx: Tx, job: JobId) -> JobStatus | None:
    """Close a job none of whose ranges is open; None where there is nothing to do.

    One conditional update decides, after the records have committed: asked
    inside the recording transaction, two workers with the last two batches
    each see the other's as open, and nobody settles.
    """
    row = job_row(tx, job)
    match JobState(row.state):
        case JobState.RUNNING | JobState.PAUSED:
            goal = JobState.COMPLETED
        case JobState.CANCELLING:
            goal = _END_BY_WISH[row.wish]
        case _:
            return None
    return _close(tx, row, goal)


def has_open_ranges(seq: Any) -> Any:
    """Whether a range of a job is ready or leased.

    Two questions, each answered by an index of its own: asked as one, all
    ranges of a job are read before the last open one is found.
    """
    ready = exists().where(batches.c.job == seq, batches.c.state == BatchState.READY.value)
    leased = exists().where(batches.c.job == seq, batches.c.lease.is_not(None))
    return or_(ready, leased)


def _close(tx: Tx, row: Row[Any], goal: JobState) -> JobStatus | None:
    """Write state, tally, event and what is owed, in one conditional move."""
    now = tx.now()
    closed = tx.first(
        update(jobs)
        .where(
            jobs.c.seq == row.seq,
            jobs.c.state == row.state,
            jobs.c.is_cut,
            ~has_open_ranges(row.seq),
        )
        .values(
            state=goal.value,
            finished_at=now,
            planner=None,
            planner_until=None,
            owed=jobs.c.notify.is_not(None),
        )
        .returning(jobs)
    )
    if closed is None:
        return None
    tally = tally_of(tx, row.seq)
    check_sum(closed, tally)
    named = {verdict.value: count for verdict, count in tally.items()}
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(tally=json.dumps(named)))
    detail = {"state": goal.value, "tally": named}
    tx.note("job.settled", now=now, job=JobId(row.id), target=row.target, detail=detail)
    return status_of(tx, closed, now, tally=tally)


def check_sum(row: Row[Any], tally: Tally) -> None:
    """A job ends only with as many outcomes as items. Raises DoesNotAddUp."""
    counted = sum(tally.values())
    if counted != row.items:
        raise DoesNotAddUp(
            f"job {row.id} has {row.items} items but {counted} outcomes: it is left as it is"
        )


def owed(tx: Tx, limit: int) -> list[Owed]:
    """Notifications that were not sent yet, oldest first."""
    rows = tx.execute(
        select(jobs.c.id, jobs.c.notify, jobs.c.state, jobs.c.tally)
        .where(jobs.c.owed)
        .order_by(jobs.c.seq)
        .limit(limit)
    )
    return [
        Owed(JobId(row.id), row.notify, JobState(row.state), json.loads(row.tally)) for row in rows
    ]


def pay(tx: Tx, job: JobId) -> None:
    """A notification was sent."""
    tx.execute(update(jobs).where(jobs.c.id == job).values(owed=False))
