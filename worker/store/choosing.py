"""What of a target is ready, whether it waits for more, and how much of it one claim takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import Row, bindparam, func, or_, select

from worker.batch import BatchState
from worker.job import JobState
from worker.store.base import Appetite, Busy
from worker.store.ranges import has_ready, is_ready, open_count, ready_of, rest_of
from worker.store.tables import Moment, batches, jobs, leases, protected
from worker.store.transaction import Tx, moment_of

#: Batches of one claim: bounds the transaction where jobs of one item queue up.
MOST_BATCHES = 2_000


def glance(tx: Tx, target: str, fingerprint: str) -> Busy | None:
    """Why there is nothing to claim, as far as can be seen without waiting for anybody."""
    now = tx.now()
    if rest := rest_of(tx, target, now):
        return Busy(rest)
    if has_ready(tx, target, now, jobs.c.fingerprint == fingerprint):
        return None
    return Busy(until_ready(tx, target, fingerprint, now))


def gathers(ready: Sequence[Row[Any]], wanted: Appetite, live: int, now: datetime) -> timedelta:
    """How long these are to wait for others with which they share a call.

    What fills a call does not wait, nor what has waited for long enough, nor a
    job that is alone on its target; and whatever may have little company has
    nobody to wait for.
    """
    if not ready or wanted.call_items == 1 or any(row.company is not None for row in ready):
        return timedelta()
    if sum(map(open_count, ready)) >= wanted.call_items:
        return timedelta()
    if not live and len({row.job for row in ready}) == 1:
        return timedelta()
    came = [max(row.not_before, row.job_released_at or row.not_before) for row in ready]
    return wanted.gathers(min(came), max(came), now)


@dataclass(frozen=True, slots=True)
class Seen:
    """How a target stands, whose row is held."""

    now: datetime
    #: How many of its places are taken.
    live: int
    #: How many batches are ready, as far as it makes a difference; None if nobody asked.
    ready: int | None
    #: Whether any of its keys is protected.
    has_protected: bool


def seen(tx: Tx, target: str, fingerprint: str, wanted: Appetite) -> Seen:
    """All that a claim asks before it chooses, with the clock, in one statement.

    Others wait for the target meanwhile, and a statement is a round trip.
    """
    is_shared = wanted.calls > wanted.least
    clock, given = tx.moment()
    given["of_target"] = target
    if is_shared:
        given.update(of_fingerprint=fingerprint, most=2 * wanted.places * wanted.calls)
    row = tx.execute(_question(clock, is_shared=is_shared), given).one()
    ready = row.ready if is_shared else None
    return Seen(row.now, row.live, ready, bool(row.has_protected))


@cache
def _question(clock: str, *, is_shared: bool) -> Any:
    """The statement of `seen`, made once."""
    asked = select(moment_of(clock).label("now")).cte("asked")
    now: Any = select(asked.c.now).scalar_subquery()
    target: Any = bindparam("of_target")
    live = select(func.count()).where(leases.c.target == target, leases.c.until > now)
    still = or_(protected.c.until.is_(None), protected.c.until > now)
    held = select(protected.c.key).where(protected.c.target == target, still)
    columns = [
        asked.c.now,
        live.scalar_subquery().label("live"),
        held.exists().label("has_protected"),
    ]
    if is_shared:
        some = ready_of(target, now, jobs.c.fingerprint == bindparam("of_fingerprint"))
        counted = select(func.count()).select_from(some.limit(bindparam("most")).subquery())
        columns.append(counted.scalar_subquery().label("ready"))
    return select(*columns)


def ready_batches(
    tx: Tx, target: str, fingerprint: str, now: datetime, wanted: Appetite, *, hands: int
) -> Sequence[Row[Any]]:
    """Ready batches in the order of their turn, more than the hands take where there are.

    Most batches fill a call, so that a few are read; only where they turn out
    to be small is the limit that of items.
    """
    calls = hands * wanted.calls
    rows = _ready_rows(tx, target, fingerprint, now, calls + 1)
    room = calls * wanted.call_items
    if len(rows) == calls + 1 and sum(map(open_count, rows)) <= room:
        return _ready_rows(tx, target, fingerprint, now, min(room + 1, MOST_BATCHES))
    return rows


def _ready_rows(
    tx: Tx, target: str, fingerprint: str, now: datetime, most: int
) -> Sequence[Row[Any]]:
    """At most so many ready batches in the order of their turn."""
    asked = _ready_of_turn(has_lateral=tx.dialect.has_lateral)
    given = {"of_target": target, "of_fingerprint": fingerprint, "moment": now, "most": most}
    rows: Sequence[Row[Any]] = tx.execute(asked, given).all()
    return rows


@cache
def _ready_of_turn(*, has_lateral: bool) -> Any:
    """The statement of `_ready_rows`, made once: making it takes longer than running it."""
    now: Any = bindparam("moment", type_=Moment)
    most: Any = bindparam("most")
    ready: Any = batches
    if has_lateral:
        # PostgreSQL would read and sort all that is ready of the first job.
        of_job = select(batches).where(batches.c.job == jobs.c.seq, is_ready(now))
        of_job = of_job.order_by(batches.c.not_before, batches.c.first).limit(most)
        ready = of_job.lateral("ready")
    return (
        select(
            ready,
            jobs.c.id.label("job_id"),
            jobs.c.round.label("job_round"),
            jobs.c.released_at.label("job_released_at"),
        )
        .select_from(jobs.join(ready, ready.c.job == jobs.c.seq))
        .where(
            jobs.c.state == JobState.RUNNING.value,
            jobs.c.target == bindparam("of_target"),
            jobs.c.fingerprint == bindparam("of_fingerprint"),
            ready.c.state == BatchState.READY.value,
            ready.c.not_before <= now,
        )
        .order_by(jobs.c.round, jobs.c.seq, ready.c.not_before, ready.c.first)
        .limit(most)
    )


def take_some(ready: Sequence[Row[Any]], wanted: Appetite) -> Sequence[Row[Any]]:
    """The first of them that fill the wanted calls; one at least."""
    room = wanted.calls * wanted.call_items
    taken: list[Row[Any]] = []
    for row in ready:
        open_items = open_count(row)
        if taken and open_items > room:
            break
        taken.append(row)
        room -= open_items
    return taken


def until_ready(tx: Tx, target: str, fingerprint: str, now: datetime) -> timedelta | None:
    """How long until the next batch has had its rest."""
    moment = tx.execute(
        select(func.min(batches.c.not_before))
        .join(jobs, jobs.c.seq == batches.c.job)
        .where(
            jobs.c.state == JobState.RUNNING.value,
            jobs.c.target == target,
            jobs.c.fingerprint == fingerprint,
            batches.c.state == BatchState.READY.value,
        )
    ).scalar_one()
    return None if moment is None else max(moment - now, timedelta())
