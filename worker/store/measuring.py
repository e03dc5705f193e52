"""What waits on every target and what has become of all, for whoever measures.

Nothing here takes longer the more items there are: it is read every few seconds
beside the workers. Ready batches are counted by the totals, since to count the
rows of a job of ten million takes seconds.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, case, func, select

from worker.batch import BatchState
from worker.job import JobState
from worker.store.base import Backlog, Measures, TargetNote
from worker.store.looking import WORKERS
from worker.store.noting import note_of
from worker.store.purging import CLOCK
from worker.store.tables import batches, bells, jobs, leases, looks, targets, totals
from worker.store.totalling import totals_of
from worker.store.transaction import Tx


def measure(tx: Tx) -> Measures:
    """What waits and what has become of all, by target."""
    now = tx.now()
    rows = {row.name: row for row in tx.execute(select(targets))}
    parts: dict[str, list[Row[Any]]] = defaultdict(list)
    for part in tx.execute(select(totals)):
        parts[part.target].append(part)
    oldest, live, leased = _oldest(tx, now), _live_leases(tx, now), _leased(tx)
    answered = {row.target: row.answered_at for row in tx.execute(select(bells))}
    backlogs = {}
    for name in sorted({*rows, *parts, *oldest}):
        row = rows.get(name)
        open_batches = sum(part.open_batches for part in parts[name])
        backlogs[name] = Backlog(
            note=_note(row, live.get(name, 0), now),
            totals=totals_of(parts[name]),
            ready=max(0, open_batches - leased.get(name, 0)),
            leased=leased.get(name, 0),
            oldest=oldest.get(name),
            answered=now - answered[name] if answered.get(name) else None,
        )
    looked = {row.id: now - row.at for row in tx.execute(select(looks))}
    return Measures(
        backlogs,
        ticked=looked.get(CLOCK),
        looked=looked.get(WORKERS),
        lost_for=_lost_for(tx, now),
    )


def _note(row: Row[Any] | None, live: int, now: datetime) -> TargetNote:
    """What holds a target back."""
    return TargetNote(live_leases=live) if row is None else note_of(row, live, now)


def _oldest(tx: Tx, now: datetime) -> Mapping[str, timedelta]:
    """For how long a batch of a running job has been free to be claimed, by target.

    One look into the index for each running job, however many batches it has.
    """
    first = (
        select(func.min(batches.c.not_before))
        .where(batches.c.job == jobs.c.seq, batches.c.state == BatchState.READY.value)
        .scalar_subquery()
    )
    released = func.coalesce(jobs.c.released_at, jobs.c.fed_at)
    running = (
        select(jobs.c.target, released.label("released"), first.label("first"))
        .where(jobs.c.state == JobState.RUNNING.value)
        .subquery()
    )
    since = case((running.c.first > running.c.released, running.c.first), else_=running.c.released)
    found = tx.execute(
        select(running.c.target, func.min(since).label("since"))
        .where(running.c.first <= now)
        .group_by(running.c.target)
    )
    return {row.target: max(timedelta(), now - row.since) for row in found}


def _live_leases(tx: Tx, now: datetime) -> Mapping[str, int]:
    """How many places are taken, by target."""
    number = func.count().label("number")
    live = select(leases.c.target, number).where(leases.c.until > now).group_by(leases.c.target)
    return {row.target: row.number for row in tx.execute(live)}


def _leased(tx: Tx) -> Mapping[str, int]:
    """How many batches the leases of a target have."""
    found = tx.execute(
        select(leases.c.target, func.count().label("number"))
        .join(batches, batches.c.lease == leases.c.id)
        .group_by(leases.c.target)
    )
    return {row.target: row.number for row in found}


def _lost_for(tx: Tx, now: datetime) -> timedelta | None:
    """For how long the oldest lease that ran out has waited to be taken over."""
    until: datetime | None = tx.execute(
        select(func.min(leases.c.until)).where(leases.c.until < now)
    ).scalar_one()
    return None if until is None else now - until
