"""How ranges are read with their open items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Row,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    tuple_,
)

from api_adapters.base import Verdict
from worker.batch import Batch, BatchState, Claimed
from worker.item import Mark, OpenItem, from_json, open_items
from worker.job import JobId, JobState
from worker.store.tables import (
    OPEN_STRAYS,
    STRAY_COLUMNS,
    Moment,
    batches,
    items,
    jobs,
    protected,
    strays,
    targets,
)
from worker.store.transaction import Tx, as_mark

#: Ranges whose items are read by one statement.
RANGES_AT_ONCE = 50
#: Rows that are named one by one in one statement.
NAMES_AT_ONCE = 200

#: (job, first) of a range; (position, text) of an item.
_Name = tuple[int, int]
_Place = tuple[int, str]


def claimed_of(tx: Tx, rows: Sequence[Row[Any]]) -> list[Claimed]:
    """Ranges with their open items; `rows` are of `batches`, with the `job_id`."""
    single = [row for row in rows if row.first == row.last]
    decided = [row for row in rows if row.first != row.last and row.verdict]
    found = _single_items(tx, single) | _open_strays(tx, decided)
    whole = [row for row in rows if row.first != row.last and not row.verdict]
    for start in range(0, len(whole), RANGES_AT_ONCE):
        some = whole[start : start + RANGES_AT_ONCE]
        names = [(row.job, row.first, row.last) for row in some]
        found |= tx.dialect.items_of(tx.connection, names)
    return [_claimed(tx, row, found.get((row.job, row.first), [])) for row in rows]


def is_ready(now: datetime) -> Any:
    """A batch that may be claimed now."""
    return and_(batches.c.state == BatchState.READY.value, batches.c.not_before <= now)


def ready_of(target: str, now: datetime, *which: ColumnElement[bool]) -> Select[Any]:
    """The batches of a target's running jobs that may be claimed."""
    return (
        select(batches.c.first)
        .join(jobs, jobs.c.seq == batches.c.job)
        .where(jobs.c.state == JobState.RUNNING.value, jobs.c.target == target, is_ready(now))
        .where(*which)
    )


def has_ready(tx: Tx, target: str, now: datetime, *which: ColumnElement[bool]) -> bool:
    """Whether some batch of a running job of a target may be claimed."""
    return bool(tx.execute(select(ready_of(target, now, *which).exists())).scalar_one())


def rest_of(tx: Tx, target: str, now: datetime) -> timedelta:
    """How long a target is still to be left alone; zero for one that may be called."""
    row = tx.first(select(targets.c.not_before).where(targets.c.name == target))
    return timedelta() if row is None else max(timedelta(), row.not_before - now)


def has_protected(tx: Tx, target: str, now: datetime) -> bool:
    """Whether any key of a target is protected."""
    return tx.first(select(protected.c.key).where(is_held(target, now)).limit(1)) is not None


def is_held(target: str, now: datetime) -> ColumnElement[bool]:
    """A key of the target that is protected, and not only until a moment that has passed."""
    still = or_(protected.c.until.is_(None), protected.c.until > now)
    return and_(protected.c.target == target, still)


def protected_in(
    tx: Tx, rows: Sequence[Row[Any]], *, target: str, now: datetime
) -> list[tuple[int, int, bytes]]:
    """The (job, position, key) of all places of ranges whose key is protected."""
    names = [(row.job, row.first, row.last) for row in rows]
    moment = Moment().process_bind_param(now, tx.dialect.engine.dialect) or 0
    found: list[tuple[int, int, bytes]] = []
    for start in range(0, len(names), NAMES_AT_ONCE):
        some = names[start : start + NAMES_AT_ONCE]
        found += tx.dialect.protected_of(tx.connection, some, target=target, now=moment)
    return found


def kept_in(
    tx: Tx, rows: Sequence[Row[Any]], *, target: str, now: datetime
) -> set[tuple[int, int]] | None:
    """The (job, position) of all places of ranges that must stay; None if no key must.

    Whoever protects a key holds the target's row, as a claim does: what it did
    not see here was protected after the claim.
    """
    if not has_protected(tx, target, now):
        return None
    return {(job, at) for job, at, _ in protected_in(tx, rows, target=target, now=now)}


def guarded(claimed: Sequence[Claimed], kept: set[tuple[int, int]] | None) -> list[Claimed]:
    """Ranges with which of their open items must stay."""
    return [_guarded(one, kept) for one in claimed] if kept else list(claimed)


def _guarded(one: Claimed, kept: set[tuple[int, int]]) -> Claimed:
    """A range with which of its open items must stay."""
    held = frozenset(i.position for i in one.items if (one.batch.seq, i.position) in kept)
    return replace(one, protected=held) if held else one


def batch_of(row: Row[Any]) -> Batch:
    """A row of `batches`, joined with its job's id, as a thing."""
    counts: dict[Verdict | None, int] = {
        verdict: getattr(row, name) for verdict, name in STRAY_COLUMNS.items() if getattr(row, name)
    }
    if getattr(row, OPEN_STRAYS):
        counts[None] = getattr(row, OPEN_STRAYS)
    return Batch(
        job=JobId(row.job_id),
        seq=row.job,
        first=row.first,
        last=row.last,
        items=row.items,
        mark=as_mark(row),
        failures=row.failures,
        company=row.company,
        told_to_wait=row.told_to_wait,
        strays=counts,
    )


def open_count(row: Row[Any]) -> int:
    """How many items of a range have no outcome."""
    strayed = sum(getattr(row, name) for name in STRAY_COLUMNS.values())
    outside = 0 if row.verdict else row.items - strayed - getattr(row, OPEN_STRAYS)
    return int(outside + getattr(row, OPEN_STRAYS))


def among(
    tx: Tx, names: Sequence[_Name], job: ColumnElement[int], place: ColumnElement[int]
) -> Iterator[ColumnElement[bool]]:
    """Conditions that a row is one of these, which the primary key answers.

    Together they name all of them: one statement each.
    """
    if names and tx.dialect.has_arrays:
        # The same text for any number of them, which the server reads once.
        given = (
            bindparam(None, list(part), ARRAY(BigInteger)) for part in zip(*names, strict=True)
        )
        pairs = func.unnest(*given).table_valued("job", "place").render_derived()
        yield tuple_(job, place).in_(select(pairs.c.job, pairs.c.place))
        return
    # For a list of pairs SQLite reads the whole table.
    for start in range(0, len(names), NAMES_AT_ONCE):
        places_by_job: dict[int, list[int]] = {}
        for one, position in names[start : start + NAMES_AT_ONCE]:
            places_by_job.setdefault(one, []).append(position)
        yield or_(*(and_(job == one, place.in_(some)) for one, some in places_by_job.items()))


def _single_items(tx: Tx, rows: Sequence[Row[Any]]) -> dict[_Name, list[_Place]]:
    """The items of ranges of one position, of which thousands may share a call."""
    names = [(row.job, row.first) for row in rows]
    found: dict[_Name, list[_Place]] = {}
    for some in among(tx, names, items.c.job, items.c.position):
        for item in tx.execute(select(items.c.job, items.c.position, items.c.item).where(some)):
            found[item.job, item.position] = [(item.position, item.item)]
    return found


def _open_strays(tx: Tx, rows: Sequence[Row[Any]]) -> dict[_Name, list[_Place]]:
    """The items that are still open in ranges that have their verdict."""
    found: dict[_Name, list[_Place]] = {}
    for row in rows:
        is_open = and_(
            strays.c.job == row.job,
            strays.c.position.between(row.first, row.last),
            strays.c.verdict.is_(None),
        )
        chosen = (
            select(items.c.position, items.c.item)
            .join(strays, and_(strays.c.job == items.c.job, strays.c.position == items.c.position))
            .where(is_open)
            .order_by(items.c.position)
        )
        found[row.job, row.first] = [(position, text) for position, text in tx.execute(chosen)]
    return found


def _claimed(tx: Tx, row: Row[Any], found: Sequence[_Place]) -> Claimed:
    """One range with the open ones of its items."""
    batch = batch_of(row)
    if not batch.strays:
        return Claimed(batch, open_items(found, batch.mark))
    marks = _stray_marks(tx, row)
    still_open = tuple(
        OpenItem(at, from_json(text), marks.get(at, batch.mark))
        for at, text in found
        if not marks.get(at, batch.mark).is_final
    )
    open_strays = frozenset(place for place, mark in marks.items() if not mark.is_final)
    return Claimed(batch, still_open, open_strays)


def _stray_marks(tx: Tx, row: Row[Any]) -> Mapping[int, Mark]:
    """The marks of a range's strays, by position."""
    within = strays.c.position.between(row.first, row.last)
    found = tx.execute(select(strays).where(strays.c.job == row.job, within))
    return {stray.position: as_mark(stray) for stray in found}
