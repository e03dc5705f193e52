"""How jobs, counts and outcomes are read; nothing here writes.

Ranges are looked up from their first position, as the last range at or before
a place, never joined by BETWEEN: the obvious view took 1.6 s for the last page
of a million, this takes milliseconds.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select

from api_adapters.base import Verdict
from worker.item import Mark, Outcome, outcomes
from worker.job import JobId, JobState, JobStatus, Tally, empty_tally
from worker.store import printing
from worker.store.base import BELL_PATIENCE, Event, Mention, Page
from worker.store.origins import check_kept
from worker.store.packing import NO_TEXTS, Place
from worker.store.paging import is_more, items_beyond, reach, texts_of
from worker.store.ranges import is_ready
from worker.store.tables import (
    PLACES_OF_A_PAGE,
    STRAY_COLUMNS,
    STRAYED,
    batches,
    bells,
    counts_of_strays,
    events,
    jobs,
    leases,
    strays,
    targets,
)
from worker.store.transaction import Tx, as_job, as_mark, job_row

#: Ranges looked at in one go.
RANGES_AT_ONCE = 200
#: Pages of items looked at in one go; each is bounded in places and in bytes.
PAGES_AT_ONCE = 6


def tally_of(tx: Tx, seq: int) -> dict[Verdict, int]:
    """Items by verdict of one job."""
    return tallies_of(tx, [seq], batches.c.job == seq)[seq]


def tallies_of(
    tx: Tx, seqs: Iterable[int], are_theirs: ColumnElement[bool]
) -> dict[int, dict[Verdict, int]]:
    """Items by verdict of jobs: sums over their ranges and the counts of their strays."""
    sums = [func.sum(batches.c[name]).label(name) for name in STRAY_COLUMNS.values()]
    plain = func.sum(batches.c["items"] - STRAYED).label("plain")
    tallies = {seq: empty_tally() for seq in seqs}
    for row in tx.execute(
        select(batches.c.job, batches.c.verdict, plain, *sums)
        .where(are_theirs)
        .group_by(batches.c.job, batches.c.verdict)
    ):
        tally = tallies[row.job]
        if row.verdict:
            tally[Verdict(row.verdict)] += int(row.plain)
        for verdict, name in STRAY_COLUMNS.items():
            tally[verdict] += int(getattr(row, name))
    return tallies


def status_of(tx: Tx, row: Row[Any], now: datetime, *, tally: Tally | None = None) -> JobStatus:
    """A job with its counts; the tally is read where it is not known."""
    if tally is None and row.tally is not None:
        tally = {Verdict(name): count for name, count in json.loads(row.tally).items()}
    if tally is None:
        tally = tally_of(tx, row.seq)
    counts = _batch_counts(tx, row.seq)
    children = tx.execute(
        select(jobs.c.id).where(jobs.c.parent == row.id).order_by(jobs.c.seq)
    ).scalars()
    return JobStatus(
        job=as_job(row),
        tally=tally,
        batches=counts,
        children=tuple(JobId(child) for child in children),
        waiting_for=_waiting_for(tx, row, counts, now),
        seen_at=now,
    )


def _batch_counts(tx: Tx, seq: int) -> dict[str, int]:
    """Ranges by state, and how many of them came from a split."""
    counts = {"ready": 0, "leased": 0, "done": 0, "split": 0}
    for row in tx.execute(
        select(batches.c.state, batches.c.is_half, func.count().label("number"))
        .where(batches.c.job == seq)
        .group_by(batches.c.state, batches.c.is_half)
    ):
        counts[row.state] += row.number
        counts["split"] += row.number if row.is_half else 0
    return counts


def _waiting_for(tx: Tx, row: Row[Any], counts: Mapping[str, int], now: datetime) -> str | None:
    """The one thing a job waits for."""
    match JobState(row.state):
        case JobState.OPEN:
            return "seal"
        case JobState.AWAITING_APPROVAL:
            return "approval"
        case JobState.PLANNING:
            is_planned = row.planner_until is not None and row.planner_until > now
            is_late = now - row.fed_at > BELL_PATIENCE
            return "workers" if is_late and not is_planned else None
        case JobState.RUNNING if counts["ready"]:
            return _running_waits_for(tx, row, counts, now)
        case _:
            return None


def _running_waits_for(
    tx: Tx, row: Row[Any], counts: Mapping[str, int], now: datetime
) -> str | None:
    """What a running job waits for that has ready batches."""
    target = tx.first(select(targets).where(targets.c.name == row.target))
    if target is not None and target.closed_at is not None:
        return "circuit"
    if target is not None and target.openings and not counts["leased"]:
        return "circuit"
    if target is not None and target.not_before > now:
        return "pace"
    if counts["leased"]:
        return None
    if not tx.first(
        select(batches.c.first).where(batches.c.job == row.seq, is_ready(now)).limit(1)
    ):
        return "retry_at"
    if tx.first(
        select(leases.c.id).where(leases.c.target == row.target, leases.c.until > now).limit(1)
    ):
        return "target_busy"
    bell = tx.first(select(bells).where(bells.c.target == row.target))
    return "workers" if _is_unheard(bell, now) else None


def _is_unheard(bell: Row[Any] | None, now: datetime) -> bool:
    """Whether nobody comes to the target's bell."""
    if bell is None or bell.rung_at is None:
        return bell is None or bell.answered_at is None
    is_late: bool = now - bell.rung_at > BELL_PATIENCE
    return is_late


def newest_jobs(tx: Tx, limit: int, now: datetime) -> Sequence[JobStatus]:
    """The newest jobs with their counts."""
    rows = tx.execute(select(jobs).order_by(jobs.c.seq.desc()).limit(limit)).all()
    return [status_of(tx, row, now) for row in rows]


def page(tx: Tx, job: JobId, verdict: Verdict | None, *, after: int, limit: int, size: int) -> Page:
    """Decided items beyond a position, by position."""
    row = job_row(tx, job)
    check_kept(row)
    seq = row.seq
    rows: list[Outcome] = []
    room = size
    while (read := _read(tx, seq, verdict, after, most=limit - len(rows))) is not None:
        after, found = read
        taken = _fitting(found, limit - len(rows), room, is_first=not rows)
        rows += found[:taken]
        if taken < len(found):
            return Page(tuple(rows), rows[-1].position)
        room -= sum(len(one.text) for one in found)
        if len(rows) >= limit or room <= 0:
            return Page(tuple(rows), after if is_more(tx, seq, after) else None)
    return Page(tuple(rows), None)


def _fitting(found: Sequence[Outcome], limit: int, room: int, *, is_first: bool) -> int:
    """How many of some outcomes a page has room for; one at least, where it is the first."""
    for count, one in enumerate(found):
        room -= len(one.text)
        if count == limit or (room < 0 and (count or not is_first)):
            return count
    return len(found)


def _read(
    tx: Tx, seq: int, verdict: Verdict | None, after: int, *, most: int
) -> tuple[int, list[Outcome]] | None:
    """The outcomes of the next places, about so many, and the last of these; None at the end."""
    count = min(max(1, most // PLACES_OF_A_PAGE), PAGES_AT_ONCE)
    last = reach(tx, seq, after, count)
    if last is None:
        return None
    ranges = _ranges(tx, seq, verdict, after, None if verdict else last)
    if not ranges:
        return None
    first = max(after + 1, ranges[0].first)
    if first > last:
        # Those between have other verdicts.
        last = reach(tx, seq, first - 1, count) or first
    last = min(ranges[-1].last, last)
    # Where ranges between them were left out, their items are not read.
    ranges = [row for row in ranges if row.first <= last]
    spans = [(max(first, row.first), min(row.last, last)) for row in ranges]
    texts = texts_of(tx, [(seq, *span) for span in spans]).get(seq, NO_TEXTS)
    strays = _stray_marks(tx, seq, first, last) if any(map(_has_strays, ranges)) else {}
    found: list[Outcome] = []
    for row, span in zip(ranges, spans, strict=True):
        positions, own = texts.between(*span)
        if _has_strays(row):
            found += _mixed(row, positions, own, strays, verdict)
        elif row.verdict and (verdict is None or row.verdict == verdict.value):
            found += outcomes(positions, own, as_mark(row), row.decided_at)
    return last, found


def _has_strays(row: Row[Any]) -> bool:
    """Whether some outcome of a range is not the range's."""
    return any(counts_of_strays(row))


def _mixed(
    row: Row[Any],
    positions: Sequence[int],
    texts: Sequence[str],
    strays: Mapping[int, tuple[Mark, datetime | None]],
    verdict: Verdict | None,
) -> Iterator[Outcome]:
    """The outcomes of a range, each with the mark of its stray, else with the range's."""
    common = (as_mark(row), row.decided_at)
    for position, text in zip(positions, texts, strict=True):
        mark, decided_at = strays.get(position, common)
        if mark.verdict is not None and verdict in {None, mark.verdict}:
            yield Outcome(position, text, mark, decided_at)


def _ranges(
    tx: Tx, seq: int, verdict: Verdict | None, after: int, last: int | None
) -> Sequence[Row[Any]]:
    """Ranges from the one at or before the place behind `after` on, some at once."""
    before = select(func.max(batches.c.first))
    before = before.where(batches.c.job == seq, batches.c.first <= after + 1)
    start = func.coalesce(before.scalar_subquery(), 0)
    chosen = select(batches).where(
        batches.c.job == seq, batches.c.first >= start, batches.c.last > after
    )
    if last is not None:
        chosen = chosen.where(batches.c.first <= last)
    if verdict is not None:
        has_strays = batches.c[STRAY_COLUMNS[verdict]] > 0
        chosen = chosen.where(or_(batches.c.verdict == verdict.value, has_strays))
    rows: Sequence[Row[Any]] = tx.execute(
        chosen.order_by(batches.c.first).limit(RANGES_AT_ONCE)
    ).all()
    return rows


def _stray_marks(
    tx: Tx, seq: int, first: int, last: int
) -> dict[int, tuple[Mark, datetime | None]]:
    """Marks of strays by position."""
    found = tx.execute(
        select(strays).where(strays.c.job == seq, strays.c.position.between(first, last))
    )
    return {row.position: (as_mark(row), row.decided_at) for row in found}


def mentions(tx: Tx, key: bytes, limit: int) -> Sequence[Mention]:
    """Every job that named a key, newest first."""
    told: list[Mention] = []
    for job, place in printing.found(tx, key):
        row = tx.execute(select(jobs).where(jobs.c.seq == job)).one()
        told.append(
            Mention(
                job=JobId(row.id),
                state=JobState(row.state),
                outcome=_outcome_at(tx, job, place),
                requested_by=row.requested_by,
                created_at=row.created_at,
            )
        )
        if len(told) == limit:
            break
    return told


def _outcome_at(tx: Tx, job: int, place: Place) -> Outcome:
    """What is known of one place."""
    found = row_at(tx, job, place.position)
    mark, moment = (as_mark(found), found.decided_at) if found else (Mark(), None)
    return Outcome(place.position, place.text, mark, moment)


def row_at(tx: Tx, job: int, position: int) -> Row[Any] | None:
    """The stray or else the range that tells of a place; None where nothing is known."""
    stray = tx.first(select(strays).where(strays.c.job == job, strays.c.position == position))
    return stray or tx.first(
        select(batches)
        .where(batches.c.job == job, batches.c.first <= position)
        .order_by(batches.c.first.desc())
        .limit(1)
    )


def sample(tx: Tx, job: JobId, limit: int) -> Sequence[str]:
    """The first items of a job, as JSON texts."""
    seq = job_row(tx, job).seq
    return [place.text for place in items_beyond(tx, seq, -1, limit)]


def newest_events(tx: Tx, job: JobId | None, limit: int) -> Sequence[Event]:
    """What was changed and by whom, newest first."""
    chosen: Select[Any] = select(events).order_by(events.c.id.desc()).limit(limit)
    if job is not None:
        chosen = chosen.where(and_(events.c.job == job))
    return [
        Event(
            at=row.at,
            kind=row.kind,
            job=row.job,
            target=row.target,
            os_user=row.os_user,
            by=row.by,
            detail=json.loads(row.detail),
        )
        for row in tx.execute(chosen)
    ]
