"""How ranges are read with their open items."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, literal, or_, select, union_all

from api_adapters.base import Verdict
from worker.batch import Batch, Claimed
from worker.item import Mark, OpenItem, from_json
from worker.job import JobId
from worker.store.tables import OPEN_STRAYS, STRAY_COLUMNS, items, strays
from worker.store.transaction import Tx, as_mark

#: Ranges whose items are read by one statement.
RANGES_AT_ONCE = 50
#: Rows that are named one by one in one statement.
NAMES_AT_ONCE = 200

_Name = tuple[int, int]


def claimed_of(tx: Tx, rows: Sequence[Row[Any]]) -> list[Claimed]:
    """Ranges with their open items; `rows` are of `batches`, with the `job_id`."""
    found = _single_items(tx, [row for row in rows if row.first == row.last])
    found |= _items(tx, [row for row in rows if row.first != row.last])
    return [_claimed(tx, row, found.get((row.job, row.first), [])) for row in rows]


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


def is_among(names: Sequence[_Name], job: ColumnElement[int], place: ColumnElement[int]) -> Any:
    """The condition that a row is one of these, which the primary key answers.

    For a list of pairs SQLite reads the whole table.
    """
    places_by_job: dict[int, list[int]] = {}
    for one, position in names:
        places_by_job.setdefault(one, []).append(position)
    return or_(*(and_(job == one, place.in_(some)) for one, some in places_by_job.items()))


def _single_items(tx: Tx, rows: Sequence[Row[Any]]) -> dict[_Name, list[Row[Any]]]:
    """The items of ranges of one position, of which thousands may share a call."""
    names = [(row.job, row.first) for row in rows]
    found: dict[_Name, list[Row[Any]]] = {}
    for start in range(0, len(names), NAMES_AT_ONCE):
        some = is_among(names[start : start + NAMES_AT_ONCE], items.c.job, items.c.position)
        for item in tx.execute(select(items.c.job, items.c.position, items.c.item).where(some)):
            found[item.job, item.position] = [item]
    return found


def _items(tx: Tx, rows: Sequence[Row[Any]]) -> dict[_Name, list[Row[Any]]]:
    """The items of ranges, by range and in order.

    One index scan a range, and one statement for many of them: a join by
    BETWEEN turned a job of 10 s into 346 s.
    """
    found: dict[_Name, list[Row[Any]]] = {}
    for start in range(0, len(rows), RANGES_AT_ONCE):
        parts = [_items_of(row) for row in rows[start : start + RANGES_AT_ONCE]]
        for item in tx.execute(union_all(*parts)):
            found.setdefault((item.job, item.first), []).append(item)
    for one in found.values():
        one.sort(key=lambda item: item.position)
    return found


def _items_of(row: Row[Any]) -> Select[Any]:
    """The items of one range; only its open strays where the rest is decided."""
    chosen = select(
        items.c.job, literal(row.first).label("first"), items.c.position, items.c.item
    ).where(items.c.job == row.job, items.c.position.between(row.first, row.last))
    if not row.verdict:
        return chosen
    is_open_stray = and_(
        strays.c.job == items.c.job,
        strays.c.position == items.c.position,
        strays.c.verdict.is_(None),
    )
    return chosen.join(strays, is_open_stray)


def _claimed(tx: Tx, row: Row[Any], found: Sequence[Row[Any]]) -> Claimed:
    """One range with the open ones of its items."""
    batch = batch_of(row)
    marks = _stray_marks(tx, row) if batch.strays else {}
    open_items = tuple(
        OpenItem(item.position, from_json(item.item), marks.get(item.position, batch.mark))
        for item in found
        if not marks.get(item.position, batch.mark).is_final
    )
    open_strays = frozenset(place for place, mark in marks.items() if not mark.is_final)
    return Claimed(batch, open_items, open_strays)


def _stray_marks(tx: Tx, row: Row[Any]) -> Mapping[int, Mark]:
    """The marks of a range's strays, by position."""
    within = strays.c.position.between(row.first, row.last)
    found = tx.execute(select(strays).where(strays.c.job == row.job, within))
    return {stray.position: as_mark(stray) for stray in found}
