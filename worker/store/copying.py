"""How a job takes its items from another one: a plan, or what a job left over."""

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, func, insert, literal, or_, select

from api_adapters.base import Verdict
from worker.errors import RefusedRequest
from worker.item import Mark
from worker.job import JobId, JobState
from worker.store import paging, printing
from worker.store.origins import check_kept
from worker.store.packing import Place, places_of
from worker.store.tables import (
    PLACES_OF_A_PAGE,
    STRAY_COLUMNS,
    batches,
    pages,
    prints,
    strays,
)
from worker.store.transaction import Tx, as_mark, job_row, locked_job_row, mark_values

#: Ranges of the parent looked at in one go, and about so many items.
RANGES_AT_ONCE = 1_000
ITEMS_AT_ONCE = 5_000


def copy_plan(tx: Tx, job: JobId, limit: int) -> bool:
    """Copy frozen items from the job's plan, by position; True when all are there."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return True
    plan = job_row(tx, row.plan)
    check_kept(plan)
    reached = _reached(tx, row.seq)
    known = (pages.c.first, pages.c.last)
    found = paging.rows_beyond(tx, plan.seq, reached, max(1, limit // PLACES_OF_A_PAGE), *known)
    if not found:
        return _is_copied(tx, row.seq, plan.items, job)
    edge = found[-1].last
    _copy_rows(tx, pages, plan.seq, row.seq, pages.c.first.between(reached + 1, edge))
    whole = and_(printing.of_job(plan.seq), prints.c.first.between(reached + 1, edge))
    _copy_rows(tx, prints, plan.seq, row.seq, whole)
    _copy_rows(tx, strays, plan.seq, row.seq, strays.c.position.between(reached + 1, edge))
    return False


def _copy_rows(tx: Tx, table: Table, plan: int, job: int, which: ColumnElement[bool]) -> None:
    """Copy some rows of a plan as they are."""
    names = [column.name for column in table.c]
    values = [literal(job) if name == "job" else table.c[name] for name in names]
    tx.execute(insert(table).from_select(names, select(*values).where(table.c.job == plan, which)))


def _is_copied(tx: Tx, seq: int, wanted: int, job: JobId) -> bool:
    """Whether all items of the plan are there; a pruned plan has none left."""
    count = paging.count_of(tx, seq)
    if count != wanted:
        raise RefusedRequest(
            "wrong_state",
            f"the plan of job {job} has {count} items left of {wanted}: make a new dry run",
            data={"job": job},
        )
    return True


def copy_leftovers(tx: Tx, job: JobId, limit: int) -> bool:
    """Copy what the job's parent left over, by position; True when all is there.

    Positions and doubt stay: what may have been deleted by the parent's calls
    may have been so for its child.
    """
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return True
    parent = job_row(tx, row.parent)
    check_kept(parent)
    wanted = frozenset(map(Verdict, json.loads(row.leftovers)))
    found: list[tuple[Place, Mark]] = []
    for some in _leftovers(tx, parent.seq, wanted, _reached(tx, row.seq)):
        found += some
        if len(found) >= limit:
            break
    paging.insert_places(tx, row.seq, [place for place, _ in found])
    printing.insert_places(tx, row.seq, [place for place, _ in found])
    _copy_marks(tx, row.seq, found)
    return len(found) < limit


def _reached(tx: Tx, seq: int) -> int:
    """The last position that was copied already, or -1."""
    copied = select(func.coalesce(func.max(pages.c.last), -1)).where(pages.c.job == seq)
    return int(tx.execute(copied).scalar_one())


def _leftovers(
    tx: Tx, parent: int, wanted: frozenset[Verdict], reached: int
) -> Iterator[list[tuple[Place, Mark]]]:
    """Items of the parent with a wanted verdict and their marks, some ranges at a time."""
    while ranges := _ranges(tx, parent, wanted, reached):
        yield list(_of_ranges(tx, parent, ranges, wanted, reached))
        reached = ranges[-1].last


def _ranges(tx: Tx, parent: int, wanted: frozenset[Verdict], reached: int) -> Sequence[Row[Any]]:
    """Ranges of the parent that hold a wanted verdict, some at once."""
    strayed = [batches.c[STRAY_COLUMNS[verdict]] > 0 for verdict in wanted]
    has_some = or_(batches.c.verdict.in_([verdict.value for verdict in wanted]), *strayed)
    rows: Sequence[Row[Any]] = tx.execute(
        select(batches)
        .where(batches.c.job == parent, batches.c.last > reached, has_some)
        .order_by(batches.c.first)
        .limit(RANGES_AT_ONCE)
    ).all()
    sizes = accumulate(row.items for row in rows)
    # Some at a time: the pages of all of them are in hand at once.
    return rows[: 1 + sum(size < ITEMS_AT_ONCE for size in sizes)]


def _of_ranges(
    tx: Tx, parent: int, ranges: Sequence[Row[Any]], wanted: frozenset[Verdict], reached: int
) -> Iterator[tuple[Place, Mark]]:
    """Items of some ranges with a wanted verdict, and their marks."""
    first, last = max(ranges[0].first, reached + 1), ranges[-1].last
    chosen = select(strays).where(strays.c.job == parent, strays.c.position.between(first, last))
    own = {row.position: as_mark(row) for row in tx.execute(chosen)}
    stretches = [(parent, row.first, row.last) for row in ranges]
    places = (place for row in paging.rows_of_stretches(tx, stretches) for place in places_of(row))
    following = iter(ranges)
    one = next(following)
    mark = as_mark(one)
    for place in places:
        while place.position > one.last and (beyond := next(following, None)) is not None:
            one, mark = beyond, as_mark(beyond)
        found = own.get(place.position, mark)
        if max(one.first, first) <= place.position <= one.last and found.verdict in wanted:
            yield place, found


def _copy_marks(tx: Tx, seq: int, found: Sequence[tuple[Place, Mark]]) -> None:
    """Open strays for what is in doubt; what was refused at the door stays so."""
    now = tx.now()
    values = []
    for place, mark in found:
        kept = mark if place.key is None else Mark(doubt=True) if mark.doubt else None
        if kept is not None:
            values.append({"job": seq, "position": place.position, **mark_values(kept, now)})
    if values:
        tx.execute(insert(strays), values)
