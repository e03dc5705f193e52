"""How a job's items are looked through and cut into batches."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import and_, func, insert, literal, or_, select, update

from api_adapters.base import Verdict
from worker.errors import RefusedRequest
from worker.job import Job, JobId, JobState
from worker.store import duplicates
from worker.store.base import Cut
from worker.store.ending import end_unplanned
from worker.store.tables import STRAY_COLUMNS, batches, items, jobs, strays, targets
from worker.store.transaction import Tx, as_job, job_row, locked_job_row


def begin_planning(tx: Tx, job: JobId, holder: str, lasting: timedelta) -> Job | None:
    """Take the right to plan, which runs out by itself."""
    now = tx.now()
    is_free = or_(jobs.c.planner.is_(None), jobs.c.planner == holder, jobs.c.planner_until < now)
    taken = tx.changed(
        update(jobs)
        .where(jobs.c.id == job, jobs.c.state == JobState.PLANNING.value, is_free)
        .values(planner=holder, planner_until=now + lasting)
    )
    return as_job(job_row(tx, job)) if taken else None


def copy_plan(tx: Tx, job: JobId, limit: int) -> bool:
    """Copy frozen items from the job's plan, by position; True when all are there."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return True
    plan = job_row(tx, row.plan)
    reached = tx.execute(
        select(func.coalesce(func.max(items.c.position), -1)).where(items.c.job == row.seq)
    ).scalar_one()
    next_ones = (
        select(items.c.position)
        .where(items.c.job == plan.seq, items.c.position > reached)
        .order_by(items.c.position)
        .limit(limit)
        .subquery()
    )
    edge = tx.execute(select(func.max(next_ones.c.position))).scalar_one()
    if edge is None:
        return _is_copied(tx, row.seq, plan.items, job)
    source = and_(items.c.job == plan.seq, items.c.position > reached, items.c.position <= edge)
    names = ["job", "position", "item", "key"]
    chosen = select(literal(row.seq), items.c.position, items.c.item, items.c.key).where(source)
    tx.execute(insert(items).from_select(names, chosen))
    _copy_refused(tx, plan.seq, row.seq, reached, edge)
    return False


def _copy_refused(tx: Tx, plan: int, job: int, reached: int, edge: int) -> None:
    """Copy the strays of items that were refused at the door."""
    kept = [column for column in strays.c if column.name != "job"]
    chosen = select(literal(job), *kept).where(
        strays.c.job == plan, strays.c.position > reached, strays.c.position <= edge
    )
    names = ["job", *(column.name for column in kept)]
    tx.execute(insert(strays).from_select(names, chosen))


def _is_copied(tx: Tx, seq: int, wanted: int, job: JobId) -> bool:
    """Whether all items of the plan are there; a pruned plan has none left."""
    count = tx.execute(
        select(func.count()).select_from(items).where(items.c.job == seq)
    ).scalar_one()
    if count != wanted:
        raise RefusedRequest(
            "wrong_state",
            f"the plan of job {job} has {count} items left of {wanted}: make a new dry run",
            data={"job": job},
        )
    return True


def drop_some_duplicates(tx: Tx, job: JobId) -> bool:
    """Drop a stride of duplicates; True when none is left or it is not planned any more."""
    row = locked_job_row(tx, job)
    return row.state != JobState.PLANNING or duplicates.drop_some(tx, row.seq)


def count_items(tx: Tx, job: JobId) -> Job:
    """Write how many items are distinct, and how many were duplicates."""
    row = locked_job_row(tx, job)
    # A job that ended meanwhile was counted when it did.
    if row.state != JobState.PLANNING:
        return as_job(row)
    count = tx.execute(
        select(func.count()).select_from(items).where(items.c.job == row.seq)
    ).scalar_one()
    given = row.items + row.duplicates
    if row.plan is not None:
        given = count
    values = {"items": count, "duplicates": given - count}
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(**values))
    return as_job(job_row(tx, job))


def places(tx: Tx, job: JobId, after: int, limit: int) -> Sequence[tuple[int, int, bool]]:
    """(position, bytes, is open) beyond a position."""
    row = job_row(tx, job)
    found = tx.execute(
        select(items.c.position, func.length(items.c.item), items.c.key.is_not(None))
        .where(items.c.job == row.seq, items.c.position > after)
        .order_by(items.c.position)
        .limit(limit)
    )
    return [(position, size, bool(is_open)) for position, size, is_open in found]


def last_cut(tx: Tx, job: JobId) -> int:
    """The last position that a batch covers, or -1."""
    row = job_row(tx, job)
    found = tx.first(
        select(batches.c.last)
        .where(batches.c.job == row.seq)
        .order_by(batches.c.first.desc())
        .limit(1)
    )
    return -1 if found is None else int(found.last)


def add_batches(tx: Tx, job: JobId, cuts: Sequence[Cut]) -> None:
    """Insert ready ranges, with the counts of those refused at the door."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return
    edge = _first_uncut(tx, row.seq)
    cuts = [cut for cut in cuts if edge is not None and cut.first >= edge]
    if not cuts or cuts[0].first != edge:
        return
    refused = _refused_positions(tx, row.seq, cuts[0].first, cuts[-1].last)
    values = []
    for cut in cuts:
        count = sum(cut.first <= position <= cut.last for position in refused) if refused else 0
        values.append(
            {
                "job": row.seq,
                "first": cut.first,
                "last": cut.last,
                "items": cut.items,
                "state": "done" if count == cut.items else "ready",
                STRAY_COLUMNS[Verdict.REJECTED]: count,
            }
        )
    tx.execute(tx.insert(batches).on_conflict_do_nothing(), values)


def _first_uncut(tx: Tx, seq: int) -> int | None:
    """The first position that no range covers: where a plan goes on.

    A planner that lost its right, with other settings, cuts at other places;
    what it brings late must not overlap what is there.
    """
    reached = select(func.coalesce(func.max(batches.c.last), -1)).where(batches.c.job == seq)
    found: int | None = tx.execute(
        select(func.min(items.c.position)).where(
            items.c.job == seq, items.c.position > reached.scalar_subquery()
        )
    ).scalar_one()
    return found


def _refused_positions(tx: Tx, seq: int, first: int, last: int) -> Sequence[int]:
    """Positions that were refused at the door."""
    return list(
        tx.execute(
            select(strays.c.position).where(
                strays.c.job == seq, strays.c.position.between(first, last)
            )
        ).scalars()
    )


def start(tx: Tx, job: JobId) -> bool:
    """planning -> running; the job enters at the target's present round."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return False
    now = tx.now()
    present = select(targets.c.round).where(targets.c.name == row.target).scalar_subquery()
    tx.execute(
        update(jobs)
        .where(jobs.c.seq == row.seq)
        .values(
            state=JobState.RUNNING.value,
            is_cut=True,
            round=func.coalesce(present, 0),
            planner=None,
            planner_until=None,
        )
    )
    tx.note("job.planned", now=now, job=job, target=row.target, detail={"items": row.items})
    return True


def hold(tx: Tx, job: JobId, reason: str) -> bool:
    """planning -> awaiting_approval."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return False
    tx.execute(
        update(jobs)
        .where(jobs.c.seq == row.seq)
        .values(
            state=JobState.AWAITING_APPROVAL.value,
            reason=reason,
            planner=None,
            planner_until=None,
        )
    )
    tx.note("job.held", now=tx.now(), job=job, target=row.target, detail={"reason": reason})
    return True


def finish_dry(tx: Tx, job: JobId) -> bool:
    """planning -> completed, everything skipped."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return False
    end_unplanned(tx, row, code="dry_run", message="a dry run sends nothing")
    return True
