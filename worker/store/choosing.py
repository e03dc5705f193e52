"""What of a target is ready, and how much of it one claim takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Row, bindparam, func, or_, select, type_coerce

from worker.batch import BatchState
from worker.job import JobState
from worker.store.base import Appetite
from worker.store.ranges import is_ready, ready_of
from worker.store.tables import (
    OPEN_ITEMS,
    Moment,
    batches,
    jobs,
    leases,
    protected,
)
from worker.store.transaction import Tx, moment_of

#: Batches of one claim: bounds the transaction where jobs of one item queue up.
MOST_BATCHES = 2_000


@dataclass(frozen=True, slots=True)
class Seen:
    """How a target stands, whose row is held."""

    now: datetime
    #: How many of its places are taken, and how many of them by other processes.
    live: int
    beside: int
    #: How many batches are ready, as far as it makes a difference; None if nobody asked.
    ready: int | None
    #: How long the calls are expected to take that are still to be made under its
    #: leases, one after the other, where the target is slow.
    undone: timedelta
    #: Whether any of its keys is protected.
    has_protected: bool
    #: Whether one job alone has something ready; not asked for unless it matters.
    is_one_job: bool


def seen(
    tx: Tx, target: str, fingerprint: str, wanted: Appetite, *, holder: str, hands: int
) -> Seen:
    """All that a claim asks before it chooses, with the clock, in one statement.

    Others wait for the target meanwhile, and a statement is a round trip.
    """
    is_shared = wanted.calls > wanted.least
    clock, given = tx.moment()
    given.update(of_target=target, of_fingerprint=fingerprint, of_holder=holder)
    if is_shared:
        given["most"] = 2 * wanted.places * wanted.calls
    is_slow = is_shared and wanted.is_slow
    question = _question(clock, is_shared=is_shared, is_slow=is_slow, is_joint=hands > 1)
    row = tx.execute(question, given).one()
    return Seen(
        row.now,
        row.live,
        row.beside,
        ready=row.ready if is_shared else None,
        undone=timedelta(milliseconds=int(row.undone or 0) if is_slow else 0),
        has_protected=bool(row.has_protected),
        is_one_job=hands == 1 or row.jobs_ready <= 1,
    )


@cache
def _question(clock: str, *, is_shared: bool, is_slow: bool, is_joint: bool) -> Any:
    """The statement of `seen`, made once."""
    asked = select(moment_of(clock).label("now")).cte("asked")
    now: Any = select(asked.c.now).scalar_subquery()
    target: Any = bindparam("of_target")
    is_live = (leases.c.target == target, leases.c.until > now)
    live = select(func.count()).where(*is_live)
    beside = live.where(leases.c.holder != bindparam("of_holder"))
    still = or_(protected.c.until.is_(None), protected.c.until > now)
    held = select(protected.c.key).where(protected.c.target == target, still)
    columns = [
        asked.c.now,
        live.scalar_subquery().label("live"),
        beside.scalar_subquery().label("beside"),
        held.exists().label("has_protected"),
    ]
    ours = jobs.c.fingerprint == bindparam("of_fingerprint")
    if is_shared:
        some = ready_of(target, now, ours)
        counted = select(func.count()).select_from(some.limit(bindparam("most")).subquery())
        columns.append(counted.scalar_subquery().label("ready"))
    if is_slow:
        left = type_coerce(leases.c.expected_end, BigInteger) - type_coerce(now, BigInteger)
        summed = select(func.sum(left)).where(*is_live, leases.c.expected_end > now)
        columns.append(summed.scalar_subquery().label("undone"))
    if is_joint:
        has_some = select(batches.c.first).where(batches.c.job == jobs.c.seq, is_ready(now))
        running = (jobs.c.state == JobState.RUNNING.value, jobs.c.target == target, ours)
        two = select(jobs.c.seq).where(*running, has_some.exists()).limit(2).subquery()
        columns.append(select(func.count()).select_from(two).scalar_subquery().label("jobs_ready"))
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
    if len(rows) == calls + 1 and taken_of_calls(rows, wanted) <= room:
        return _ready_rows(tx, target, fingerprint, now, min(room + 1, MOST_BATCHES))
    return rows


def _ready_rows(
    tx: Tx, target: str, fingerprint: str, now: datetime, most: int
) -> Sequence[Row[Any]]:
    """At most so many ready batches in the order of their turn, with their `open_items`."""
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
    columns: list[Any] = [batches, OPEN_ITEMS.label("open_items")]
    if has_lateral:
        # PostgreSQL would read and sort all that is ready of the first job.
        of_job = select(*columns).where(batches.c.job == jobs.c.seq, is_ready(now))
        of_job = of_job.order_by(batches.c.not_before, batches.c.first).limit(most)
        ready = of_job.lateral("ready")
        columns = [ready]
    return (
        select(
            *columns,
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
    room: Fraction | int = wanted.calls * wanted.call_items
    taken: list[Row[Any]] = []
    for row in ready:
        share = wanted.share_of(row.open_items, row.company)
        if taken and share > room:
            break
        taken.append(row)
        room -= share
    return taken


def taken_of_calls(ready: Sequence[Row[Any]], wanted: Appetite) -> Fraction | int:
    """How much of calls some ready batches take, in items."""
    return sum(wanted.share_of(row.open_items, row.company) for row in ready)


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
