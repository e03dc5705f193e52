"""How a job's items are looked through and cut into batches."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

from sqlalchemy import Row, func, or_, select, update

from api_adapters.base import Evidence
from worker.batch import BatchState
from worker.job import Job, JobId, JobState
from worker.store import duplicates, paging
from worker.store.base import Cut, Part
from worker.store.ending import end_unplanned
from worker.store.entering import Entered
from worker.store.ranges import reached_by_ranges
from worker.store.tables import (
    OPEN_STRAYS,
    PLACES_OF_A_PAGE,
    STRAY_COLUMNS,
    batches,
    jobs,
    pages,
    strays,
    targets,
)
from worker.store.transaction import Tx, as_job, job_row, locked_job_row

#: Pages without a hole of which parts are reckoned at once: a few numbers each.
MOST_PAGES_RECKONED = 200


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
    values = duplicates.counts(row, paging.count_of(tx, row.seq))
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(**values))
    return as_job(job_row(tx, job))


def places(tx: Tx, job: JobId, after: int, limit: int) -> Sequence[tuple[int, int, bool]]:
    """(position, bytes, is open) beyond a position."""
    seq = job_row(tx, job).seq
    return [
        (place.position, len(place.text), place.key is not None)
        for place in paging.items_beyond(tx, seq, after, limit)
    ]


def parts(tx: Tx, job: JobId, after: int, *, size: int, limit: int) -> Sequence[Part]:
    """Full parts of `size` items beyond a position.

    Of pages without a hole the texts are not read: what a part holds of them is
    reckoned, and its bytes are those of all its pages. Of such pages more are
    looked at than hold the `limit` of items that are read.
    """
    seq = job_row(tx, job).seq
    most = max(min(MOST_PAGES_RECKONED, size), 1 + limit // PLACES_OF_A_PAGE)
    known = (pages.c.first, pages.c.last, pages.c["items"], pages.c.keyed, pages.c.bytes)
    rows = paging.rows_beyond(tx, seq, after, most, *known)
    even = list(takewhile(_is_even, rows))
    if not even:
        return _exact_parts(tx, seq, after, size=size, limit=limit)
    # Whoever asks again goes on behind the last full part.
    return list(_even_parts(even, after, size)) or _exact_parts(
        tx, seq, after, size=size, limit=limit
    )


def _is_even(row: Row[Any]) -> bool:
    """Whether every place of a page holds an item that can be sent."""
    return bool(row.keyed == row.items == row.last - row.first + 1)


def _even_parts(rows: Sequence[Row[Any]], after: int, size: int) -> Iterator[Part]:
    """Full parts of pages without a hole."""
    first, count, weight = 0, 0, 0
    for row in rows:
        position = max(row.first, after + 1)
        while position <= row.last:
            first = position if not count else first
            weight = weight + row.bytes if count else row.bytes
            taken = min(size - count, row.last - position + 1)
            count += taken
            position += taken
            if count == size:
                yield Part(first, position - 1, size, size, weight)
                count = 0


def _exact_parts(tx: Tx, seq: int, after: int, *, size: int, limit: int) -> list[Part]:
    """Full parts, each item looked at."""
    read = list(paging.items_beyond(tx, seq, after, limit))
    # Large holes are not looked beyond, so that what is read of a part is bounded.
    read = [place for place in read if place.position < read[0].position + limit]
    return [
        Part(
            first=some[0].position,
            last=some[-1].position,
            items=size,
            open_items=sum(place.key is not None for place in some),
            bytes=sum(len(place.text) for place in some),
        )
        for start in range(0, len(read) - size + 1, size)
        for some in [read[start : start + size]]
    ]


def last_cut(tx: Tx, job: JobId) -> int:
    """The last position that a batch covers, or -1."""
    return reached_by_ranges(tx, job_row(tx, job).seq)


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
    known = [(stray.position, stray.verdict) for stray in found]
    tx.dialect.insert_rows(tx.connection, batches, _ranges(tx, row, cuts, known))


def add_first_batches(tx: Tx, entered: Iterable[Entered]) -> None:
    """The ranges of jobs that landed in this transaction and run from here on."""
    ranges: list[tuple[Any, ...]] = []
    for one in entered:
        refused = [
            (item.position, item.refusal.verdict.value)
            for item in one.submission.chunk.items
            if item.refusal is not None and item.refusal.verdict is not None
        ]
        ranges += _ranges(tx, one.row, one.submission.cuts, refused)
        _note_planned(tx, one.row, one.row.created_at)
    if ranges:
        tx.dialect.insert_rows(tx.connection, batches, ranges)


def _ranges(
    tx: Tx, row: Row[Any], cuts: Sequence[Cut], found: Iterable[tuple[int, str | None]]
) -> list[tuple[Any, ...]]:
    """New ranges with the counts of their strays, each given as (position, verdict)."""
    firsts = [cut.first for cut in cuts]
    tallies: dict[int, Counter[str | None]] = {}
    for position, verdict in found:
        place = bisect_right(firsts, position) - 1
        tallies.setdefault(place, Counter())[verdict] += 1
    rows = []
    for place, cut in enumerate(cuts):
        own = (row.seq, cut.first, cut.last, cut.items)
        if (counts := tallies.get(place)) is None:
            rows.append((*own, *NEW_RANGE.values()))
            continue
        values = NEW_RANGE | _strayed(cut, counts)
        rows.append((*own, *values.values()))
        tx.gained.add_range(row.target, values)
    # Most have none of their own, and are counted at once.
    tx.gained.open(row.target, len(cuts) - len(tallies))
    return rows


#: What a range begins with beside its place and its items, in the order of the
#: columns and as they are kept.
NEW_RANGE: dict[str, Any] = {
    **dict.fromkeys([column.name for column in batches.c][4:]),
    "state": BatchState.READY.value,
    "evidence": Evidence.NONE.value,
    **dict.fromkeys(("is_half", "doubt"), False),
    **dict.fromkeys(("not_before", "failures", "told_to_wait", "calls"), 0),
    **dict.fromkeys((*STRAY_COLUMNS.values(), OPEN_STRAYS), 0),
}


def _strayed(cut: Cut, counts: Counter[str | None]) -> dict[str, Any]:
    """What is different in a range that has strays from the start."""
    is_done = sum(counts.values()) - counts[None] == cut.items
    return {
        "state": (BatchState.DONE if is_done else BatchState.READY).value,
        OPEN_STRAYS: counts[None],
        **{name: counts[verdict.value] for verdict, name in STRAY_COLUMNS.items()},
    }


def _note_planned(tx: Tx, row: Row[Any], now: datetime) -> None:
    """A job runs from here on."""
    detail = noted_of_plan(row.items)
    tx.note("job.planned", now=now, job=JobId(row.id), target=row.target, detail=detail)


def noted_of_plan(items: int) -> dict[str, Any]:
    """The detail of the event of a job that is planned."""
    return {"items": items}


def _first_uncut(tx: Tx, seq: int) -> int | None:
    """The first position that no range covers: where a plan goes on.

    A planner that lost its right, with other settings, cuts at other places;
    what it brings late must not overlap what is there.
    """
    return paging.first_beyond(tx, seq, reached_by_ranges(tx, seq))


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
    return list(paging.items_beyond(tx, seq, after, limit))


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
