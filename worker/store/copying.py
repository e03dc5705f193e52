"""How a job takes its items from another one: a plan, or what a job left over."""

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import Row, func, insert, literal, or_, select

from api_adapters.base import Verdict
from worker.errors import RefusedRequest
from worker.item import Mark
from worker.job import JobId, JobState
from worker.store.origins import check_kept
from worker.store.planning import stretch
from worker.store.tables import STRAY_COLUMNS, batches, items, strays
from worker.store.transaction import Tx, as_mark, job_row, locked_job_row, mark_values

#: Ranges of the parent looked at in one go.
RANGES_AT_ONCE = 50


def copy_plan(tx: Tx, job: JobId, limit: int) -> bool:
    """Copy frozen items from the job's plan, by position; True when all are there."""
    row = locked_job_row(tx, job)
    if row.state != JobState.PLANNING:
        return True
    plan = job_row(tx, row.plan)
    check_kept(plan)
    reached = _reached(tx, row.seq)
    first, edge = stretch(tx, plan.seq, reached, limit)
    if edge < first:
        return _is_copied(tx, row.seq, plan.items, job)
    source = (items.c.job == plan.seq, items.c.position.between(first, edge))
    names = ["job", "position", "item", "key"]
    chosen = select(literal(row.seq), items.c.position, items.c.item, items.c.key).where(*source)
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
    reached = _reached(tx, row.seq)
    copied = 0
    for found in _leftovers(tx, parent.seq, wanted, reached):
        rows = [(row.seq, item.position, item.item, item.key) for item, _ in found]
        tx.dialect.insert_items(tx.connection, rows)
        _copy_marks(tx, row.seq, [(item.position, item.key, mark) for item, mark in found])
        copied += len(found)
        if copied >= limit:
            return False
    return True


def _reached(tx: Tx, seq: int) -> int:
    """The last position that was copied already, or -1."""
    found: int = tx.execute(
        select(func.coalesce(func.max(items.c.position), -1)).where(items.c.job == seq)
    ).scalar_one()
    return found


def _leftovers(
    tx: Tx, parent: int, wanted: frozenset[Verdict], reached: int
) -> Iterator[list[tuple[Row[tuple[int, str, bytes | None]], Mark]]]:
    """Items of the parent with a wanted verdict and their marks, range by range."""
    while ranges := _ranges(tx, parent, wanted, reached):
        for one in ranges:
            found = list(_of_range(tx, parent, one, wanted, reached))
            if found:
                yield found
        reached = ranges[-1].last


def _ranges(
    tx: Tx, parent: int, wanted: frozenset[Verdict], reached: int
) -> Sequence[Row[tuple[int, ...]]]:
    """Ranges of the parent that hold a wanted verdict, some at once."""
    strayed = [batches.c[STRAY_COLUMNS[verdict]] > 0 for verdict in wanted]
    has_some = or_(batches.c.verdict.in_([verdict.value for verdict in wanted]), *strayed)
    rows: Sequence[Row[tuple[int, ...]]] = tx.execute(
        select(batches)
        .where(batches.c.job == parent, batches.c.last > reached, has_some)
        .order_by(batches.c.first)
        .limit(RANGES_AT_ONCE)
    ).all()
    return rows


def _of_range(
    tx: Tx, parent: int, one: Row[tuple[int, ...]], wanted: frozenset[Verdict], reached: int
) -> Iterator[tuple[Row[tuple[int, str, bytes | None]], Mark]]:
    """Items of one range with a wanted verdict, and their marks."""
    within = (one.first, one.last)
    own = {
        row.position: as_mark(row)
        for row in tx.execute(
            select(strays).where(strays.c.job == parent, strays.c.position.between(*within))
        )
    }
    mark = as_mark(one)
    for item in tx.execute(
        select(items.c.position, items.c.item, items.c.key)
        .where(
            items.c.job == parent,
            items.c.position.between(*within),
            items.c.position > reached,
        )
        .order_by(items.c.position)
    ):
        found = own.get(item.position, mark)
        if found.verdict in wanted:
            yield item, found


def _copy_marks(tx: Tx, seq: int, found: Sequence[tuple[int, bytes | None, Mark]]) -> None:
    """Open strays for what is in doubt; what was refused at the door stays so."""
    now = tx.now()
    values = []
    for position, key, mark in found:
        kept = mark if key is None else Mark(doubt=True) if mark.doubt else None
        if kept is not None:
            values.append({"job": seq, "position": position, **mark_values(kept, now)})
    if values:
        tx.execute(insert(strays), values)
