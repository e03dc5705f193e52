"""How a job's items are looked through and cut into batches."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, or_, select, update

from worker.job import Job, JobId, JobState
from worker.store import duplicates
from worker.store.base import Chunk, Cut, Part
from worker.store.ending import end_unplanned
from worker.store.tables import OPEN_STRAYS, STRAY_COLUMNS, batches, items, jobs, strays, targets
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
    values = duplicates.counts(row, count)
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(**values))
    return as_job(job_row(tx, job))


def places(tx: Tx, job: JobId, after: int, limit: int) -> Sequence[tuple[int, int, bool]]:
    """(position, bytes, is open) beyond a position."""
    seq = job_row(tx, job).seq
    read: list[tuple[int, int, bool]] = []
    while len(read) < limit:
        first, last = stretch(tx, seq, read[-1][0] if read else after, limit - len(read))
        if last < first:
            break
        read += _places_between(tx, seq, first, last)
    return read


def _places_between(tx: Tx, seq: int, first: int, last: int) -> list[tuple[int, int, bool]]:
    """(position, bytes, is open) of a stretch."""
    found = tx.execute(
        select(items.c.position, func.length(items.c.item), items.c.key.is_not(None))
        .where(items.c.job == seq, items.c.position.between(first, last))
        .order_by(items.c.position)
    )
    return [(position, size, bool(is_open)) for position, size, is_open in found]


def parts(tx: Tx, job: JobId, after: int, *, size: int, limit: int) -> Sequence[Part]:
    """Full parts of `size` items beyond a position, summed up by the database."""
    seq = job_row(tx, job).seq
    first, last = stretch(tx, seq, after, limit)
    number = func.row_number().over(order_by=items.c.position)
    numbered = (
        select(
            items.c.position,
            func.length(items.c.item).label("length"),
            items.c.key,
            ((number - 1) // size).label("part"),
        )
        .where(items.c.job == seq, items.c.position.between(first, last))
        .subquery()
    )
    found = tx.execute(
        select(
            func.min(numbered.c.position).label("first"),
            func.max(numbered.c.position).label("last"),
            func.count().label("number"),
            func.count(numbered.c.key).label("open"),
            func.sum(numbered.c.length).label("bytes"),
        )
        .group_by(numbered.c.part)
        .having(func.count() == size)
        .order_by(func.min(numbered.c.position))
    )
    return [Part(one.first, one.last, one.number, one.open, int(one.bytes)) for one in found]


def stretch(tx: Tx, seq: int, after: int, length: int) -> tuple[int, int]:
    """From the first item beyond a position, so many places; (0, -1) at the end.

    What is read is bounded by its places: a limit on rows alone would let the
    database choose to sort all that is left of the job, once a stride.
    """
    beyond = (items.c.job == seq, items.c.position > after)
    first = tx.execute(select(func.min(items.c.position)).where(*beyond)).scalar_one()
    return (0, -1) if first is None else (first, first + length - 1)


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
    """Insert ready ranges, with the counts of the strays that are there already."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return
    edge = _first_uncut(tx, row.seq)
    cuts = [cut for cut in cuts if edge is not None and cut.first >= edge]
    if not cuts or cuts[0].first != edge:
        return
    # Refused at the door, or in doubt from a parent.
    found = tx.execute(
        select(strays.c.position, strays.c.verdict).where(
            strays.c.job == row.seq, strays.c.position.between(cuts[0].first, cuts[-1].last)
        )
    )
    _insert_ranges(tx, row, cuts, [(stray.position, stray.verdict) for stray in found])


def add_first_batches(tx: Tx, row: Row[Any], cuts: Sequence[Cut], chunk: Chunk) -> None:
    """The ranges of a job that landed in this transaction and runs from here on."""
    refused = [
        (item.position, item.refusal.verdict.value)
        for item in chunk.items
        if item.refusal is not None and item.refusal.verdict is not None
    ]
    _insert_ranges(tx, row, cuts, refused)
    _note_planned(tx, row, row.created_at)


def _insert_ranges(
    tx: Tx, row: Row[Any], cuts: Sequence[Cut], found: Iterable[tuple[int, str | None]]
) -> None:
    """Insert ranges with the counts of their strays, each given as (position, verdict)."""
    firsts = [cut.first for cut in cuts]
    tallies: list[Counter[str | None]] = [Counter() for _ in cuts]
    for position, verdict in found:
        tallies[bisect_right(firsts, position) - 1][verdict] += 1
    values = []
    for cut, counts in zip(cuts, tallies, strict=True):
        is_done = sum(counts.values()) - counts[None] == cut.items
        values.append(
            {
                "job": row.seq,
                "first": cut.first,
                "last": cut.last,
                "items": cut.items,
                "state": "done" if is_done else "ready",
                OPEN_STRAYS: counts[None],
                **{name: counts[verdict.value] for verdict, name in STRAY_COLUMNS.items()},
            }
        )
    tx.execute(tx.insert(batches).on_conflict_do_nothing(), values)
    for one in values:
        tx.gained.add_range(row.target, one)


def _note_planned(tx: Tx, row: Row[Any], now: datetime) -> None:
    """A job runs from here on."""
    detail = {"items": row.items}
    tx.note("job.planned", now=now, job=JobId(row.id), target=row.target, detail=detail)


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
            released_at=now,
            round=func.coalesce(present, 0),
            planner=None,
            planner_until=None,
        )
    )
    _note_planned(tx, row, now)
    return True


def content(tx: Tx, job: JobId, after: int, limit: int) -> Sequence[tuple[int, str, bytes | None]]:
    """(position, text, key) of the next places."""
    seq = job_row(tx, job).seq
    first, last = stretch(tx, seq, after, limit)
    found = tx.execute(
        select(items.c.position, items.c.item, items.c.key)
        .where(items.c.job == seq, items.c.position.between(first, last))
        .order_by(items.c.position)
    )
    return [(position, text, key) for position, text, key in found]


def hold(tx: Tx, job: JobId, reason: str, digest: str | None) -> bool:
    """planning -> awaiting_approval; what is approved will be these items and no others."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return False
    tx.execute(
        update(jobs)
        .where(jobs.c.seq == row.seq)
        .values(
            state=JobState.AWAITING_APPROVAL.value,
            reason=reason,
            items_digest=digest,
            planner=None,
            planner_until=None,
        )
    )
    detail = {"reason": reason, "items": row.items, "digest": digest}
    tx.note("job.held", now=tx.now(), job=job, target=row.target, detail=detail)
    return True


def finish_dry(tx: Tx, job: JobId) -> bool:
    """planning -> completed, everything skipped."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return False
    end_unplanned(tx, row, code="dry_run", message="a dry run sends nothing")
    return True
