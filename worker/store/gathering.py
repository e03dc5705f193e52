"""Whether what is ready waits for company: for more with which it shares a call."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import accumulate
from typing import Any

from sqlalchemy import Row, bindparam, case, func, select, type_coerce

from worker.store.base import Appetite, Busy
from worker.store.choosing import until_ready
from worker.store.ranges import ready_of
from worker.store.tables import OPEN_ITEMS, Moment, batches, jobs, leases, targets
from worker.store.transaction import Tx, moment_of


def glance(
    tx: Tx, target: str, fingerprint: str, appetite: Callable[[timedelta | None], Appetite]
) -> Busy | None:
    """Why there is nothing to claim, as far as can be seen without waiting for anybody."""
    clock, given = tx.moment()
    row = tx.execute(
        _glancing(clock), {**given, "of_target": target, "of_fingerprint": fingerprint}
    ).one()
    if row.not_before is not None and row.not_before > row.now:
        return Busy(row.not_before - row.now)
    if not row.has_ready:
        return Busy(until_ready(tx, target, fingerprint, row.now))
    wanted = appetite(row.call_time)
    if wanted.call_items == 1 or not wanted.patience:
        return None
    given = {"of_target": target, "of_fingerprint": fingerprint, "moment": row.now}
    summed = tx.execute(_SUMMED, {**given, "most": wanted.call_items}).one()
    wait = _wait(Waiting(*summed), wanted, row.live, row.now)
    return Busy(wait, is_gathering=True) if wait else None


@cache
def _glancing(clock: str) -> Any:
    """The first statement of `glance`, made once."""
    asked = select(moment_of(clock).label("now")).cte("asked")
    now: Any = select(asked.c.now).scalar_subquery()
    target: Any = bindparam("of_target")
    some = ready_of(target, now, jobs.c.fingerprint == bindparam("of_fingerprint"))
    live = select(func.count()).where(leases.c.target == target, leases.c.until > now)
    of_target = asked.outerjoin(targets, targets.c.name == target)
    return select(
        asked.c.now,
        targets.c.not_before,
        targets.c.call_time,
        live.scalar_subquery().label("live"),
        some.exists().label("has_ready"),
    ).select_from(of_target)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Ready batches that may share a call, summed up."""

    open_items: int
    #: When the first and the last of them came.
    oldest: datetime | None
    newest: datetime | None
    #: The lowest and the highest number of a job.
    first_job: int
    last_job: int
    #: How many of them may have little company.
    limited: int


def gathers(ready: Sequence[Row[Any]], wanted: Appetite, live: int, now: datetime) -> timedelta:
    """How long these are to wait for others with which they share a call."""
    if not ready or wanted.call_items == 1 or _fill_a_call(ready, wanted):
        return timedelta()
    came = [max(row.not_before, row.job_released_at or row.not_before) for row in ready]
    waiting = Waiting(
        sum(row.open_items for row in ready),
        min(came),
        max(came),
        min(row.job for row in ready),
        max(row.job for row in ready),
        sum(row.company is not None for row in ready),
    )
    return _wait(waiting, wanted, live, now)


def _fill_a_call(ready: Iterable[Row[Any]], wanted: Appetite) -> bool:
    """Whether the first of them do, which is soon told of large jobs."""
    counts = accumulate(row.open_items for row in ready)
    return any(count >= wanted.call_items for count in counts)


def _wait(waiting: Waiting, wanted: Appetite, live: int, now: datetime) -> timedelta:
    """How long batches that may share a call are to wait for others.

    What fills a call does not wait, nor what has waited for long enough, nor a
    job that is alone on its target; and whatever may have little company has
    nobody to wait for.
    """
    is_full = waiting.open_items >= wanted.call_items
    is_alone = not live and waiting.first_job == waiting.last_job
    if is_full or is_alone or waiting.limited:
        return timedelta()
    if waiting.oldest is None or waiting.newest is None:
        return timedelta()
    return wanted.gathers(waiting.oldest, waiting.newest, now)


def _summing() -> Any:
    """The second statement of `glance`: its row is a `Waiting`."""
    now: Any = bindparam("moment", type_=Moment)
    target: Any = bindparam("of_target")
    released = func.coalesce(jobs.c.released_at, batches.c.not_before)
    came = case((released > batches.c.not_before, released), else_=batches.c.not_before)
    some = (
        ready_of(target, now, jobs.c.fingerprint == bindparam("of_fingerprint"))
        .with_only_columns(
            OPEN_ITEMS.label("open"),
            type_coerce(came, Moment).label("came"),
            batches.c.job,
            batches.c.company,
        )
        .limit(bindparam("most"))
        .subquery()
    )
    return select(
        func.coalesce(func.sum(some.c.open), 0),
        func.min(some.c.came),
        func.max(some.c.came),
        func.min(some.c.job),
        func.max(some.c.job),
        func.count(some.c.company),
    )


_SUMMED = _summing()
