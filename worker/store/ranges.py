"""How ranges are read with their open items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from itertools import compress
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Row,
    Select,
    Update,
    and_,
    bindparam,
    func,
    or_,
    select,
    tuple_,
)

from worker.batch import Batch, BatchState, Claimed
from worker.item import Mark, all_from_json
from worker.job import JobId, JobState
from worker.store.packing import NO_TEXTS, Texts
from worker.store.paging import keys_of_stretches, texts_of
from worker.store.tables import (
    STRAY_VERDICTS,
    batches,
    counts_of_strays,
    jobs,
    protected,
    strays,
    targets,
)
from worker.store.transaction import Tx, as_mark

#: Rows that are named one by one in one statement.
NAMES_AT_ONCE = 200

#: (job, first) of a range.
_Name = tuple[int, int]


def claimed_of(tx: Tx, rows: Sequence[Row[Any]]) -> list[Claimed]:
    """Ranges with their open items; `rows` are of `batches`, with the `job_id`."""
    texts = texts_of(tx, [(row.job, row.first, row.last) for row in rows])
    return [_claimed(tx, row, texts.get(row.job, NO_TEXTS)) for row in rows]


def reached_by_ranges(tx: Tx, seq: int) -> int:
    """The last position of a job that a range covers, or -1."""
    ranges = select(batches.c.last).where(batches.c.job == seq)
    found = tx.first(ranges.order_by(batches.c.first.desc()).limit(1))
    return -1 if found is None else int(found.last)


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
    """The (job, position, key) of all places of ranges whose key is protected.

    The keys of the ranges are asked for, however many are protected.
    """
    places_by_key: dict[bytes, list[tuple[int, int]]] = {}
    packed = keys_of_stretches(tx, [(row.job, row.first, row.last) for row in rows])
    for row in rows:
        for position, key in packed[row.job].between(row.first, row.last):
            places_by_key.setdefault(key, []).append((row.job, position))
    return [
        (job, position, key)
        for key in _held(tx, list(places_by_key), target, now)
        for job, position in places_by_key[key]
    ]


def _held(tx: Tx, keys: Sequence[bytes], target: str, now: datetime) -> Iterator[bytes]:
    """Those of some keys that are protected."""
    for start in range(0, len(keys), NAMES_AT_ONCE):
        some = protected.c.key.in_(keys[start : start + NAMES_AT_ONCE])
        yield from tx.execute(select(protected.c.key).where(is_held(target, now), some)).scalars()


def guarded(claimed: Sequence[Claimed], kept: set[tuple[int, int]] | None) -> list[Claimed]:
    """Ranges with which of their open items must stay."""
    return [_guarded(one, kept) for one in claimed] if kept else list(claimed)


def _guarded(one: Claimed, kept: set[tuple[int, int]]) -> Claimed:
    """A range with which of its open items must stay."""
    held = frozenset(at for at in one.positions if (one.batch.seq, at) in kept)
    return replace(one, protected=held) if held else one


def batch_of(row: Row[Any]) -> Batch:
    """A row of `batches`, joined with its job's id, as a thing."""
    counts = counts_of_strays(row)
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
        strays={one: count for one, count in zip(STRAY_VERDICTS, counts, strict=True) if count}
        if any(counts)
        else {},
    )


def change_ranges(
    tx: Tx, change: Update, names: Sequence[_Name], values: Mapping[str, Any]
) -> None:
    """Run an update of `batches`, made once, for ranges by their names."""
    if tx.dialect.has_arrays:
        seqs, firsts = zip(*names, strict=True)
        named = {"of_jobs": list(seqs), "of_firsts": list(firsts)}
        tx.execute(_for_named(change), {**values, **named})
        return
    # For a list of pairs SQLite reads the whole table.
    for start in range(0, len(names), NAMES_AT_ONCE):
        places_by_job: dict[int, list[int]] = {}
        for one, first in names[start : start + NAMES_AT_ONCE]:
            places_by_job.setdefault(one, []).append(first)
        some = (
            and_(batches.c.job == one, batches.c.first.in_(firsts))
            for one, firsts in places_by_job.items()
        )
        tx.execute(change.where(or_(*some)), values)


@cache
def _for_named(change: Update) -> Update:
    """An update of `batches` for the ranges whose names two lists hold."""
    named = unnested(job="of_jobs", first="of_firsts")
    pairs = tuple_(batches.c.job, batches.c.first)
    return change.where(pairs.in_(select(named.c.job, named.c.first)))


def unnested(**parameters: str) -> Any:
    """Lists of numbers side by side as a table, by the parameters that hold its columns."""
    given = (bindparam(name, type_=ARRAY(BigInteger)) for name in parameters.values())
    return func.unnest(*given).table_valued(*parameters).render_derived()


def _claimed(tx: Tx, row: Row[Any], texts: Texts) -> Claimed:
    """One range with the open ones of its items."""
    batch = batch_of(row)
    positions, found = texts.between(row.first, row.last)
    if not batch.strays:
        return Claimed(batch, positions, all_from_json(found))
    known = _stray_marks(tx, row)
    is_open = [not known.get(position, batch.mark).is_final for position in positions]
    return Claimed(
        batch,
        list(compress(positions, is_open)),
        all_from_json(compress(found, is_open)),
        {position: mark for position, mark in known.items() if not mark.is_final},
    )


def _stray_marks(tx: Tx, row: Row[Any]) -> Mapping[int, Mark]:
    """The marks of a range's strays, by position."""
    within = strays.c.position.between(row.first, row.last)
    found = tx.execute(select(strays).where(strays.c.job == row.job, within))
    return {stray.position: as_mark(stray) for stray in found}
