"""How a worker takes batches: one lease a claim, in turns between jobs.

The target's row is locked first; only then, with a new snapshot and the clock
asked anew, are the live leases counted. In one statement the count would be
that from before the wait, and without the lock 32 leases went through a limit
of 8.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, literal, select, update

from worker.batch import BatchState
from worker.job import JobId, JobState
from worker.store.base import Appetite, Busy, Claim, LeaseId
from worker.store.choosing import (
    MOST_BATCHES,
    gathers,
    ready_batches,
    seen,
    take_some,
    until_ready,
)
from worker.store.ranges import (
    among,
    claimed_of,
    guarded,
    protected_in,
)
from worker.store.ringing import answer_and_ring, ring
from worker.store.tables import Moment, batches, jobs, leases, targets
from worker.store.transaction import Tx

#: A target that answered a call within this is taken to be well.
ANSWERS_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim whose items are still to be read."""

    claim: Claim
    #: Of `batches`, with the id of their job, as they were before they were taken.
    rows: Sequence[Row[Any]]
    #: The places in them that must stay, as (job, position); None if no key must.
    kept: set[tuple[int, int]] | None


def lock_target(tx: Tx, target: str) -> Row[Any]:
    """The row of a target, held until the end of the transaction."""
    chosen = _TARGET_HELD if tx.dialect.locks_rows else _TARGET
    row: Row[Any] | None = tx.execute(chosen, {"of_target": target}).first()
    if row is None:
        tx.execute(tx.insert(targets).values(name=target).on_conflict_do_nothing())
        row = tx.execute(chosen, {"of_target": target}).one()
    return row


_TARGET = select(targets).where(targets.c.name == bindparam("of_target"))
_TARGET_HELD = _TARGET.with_for_update()


def claim(
    tx: Tx,
    target: str,
    *,
    fingerprint: str,
    holder: str,
    lasting: timedelta,
    appetite: Callable[[timedelta | None], Appetite],
    stop_failing: Callable[[Sequence[Row[Any]], Appetite, datetime], frozenset[int]],
    answers_bell: bool,
) -> Taken | Busy:
    """Take ready batches of a target's jobs under one new lease.

    Their items are read later, by `with_items`: items never change, and all who
    work on the target wait for its row, which is held until this is committed.

    `stop_failing` is given the rows of the jobs that are served, and names
    those that it stopped.
    """
    row = lock_target(tx, target)
    wanted = appetite(row.call_time)
    if row.openings:
        # One call finds out whether the target is well again.
        wanted = replace(wanted, calls=1, places=1)
    stands = seen(tx, target, fingerprint, wanted)
    now, live = stands.now, stands.live
    if row.not_before > now:
        return Busy(row.not_before - now)
    if live >= wanted.places:
        return Busy()
    if stands.ready is not None:
        wanted = wanted.shared(stands.ready)
    ready = ready_batches(tx, target, fingerprint, now, wanted)
    if not ready:
        return Busy(until_ready(tx, target, fingerprint, now))
    if wait := gathers(ready, wanted, live, now):
        return Busy(wait)
    taken = take_some(ready, wanted)
    served = _serve(tx, row, taken, now)
    stopped = stop_failing(list(served.values()), wanted, now)
    taken = [one for one in taken if one.job in served and one.job not in stopped]
    if not taken:
        # Other jobs may be ready.
        return Busy(timedelta()) if stopped else Busy()
    lease = _lease(tx, target, holder, now, lasting)
    _mark_taken(tx, taken, lease)
    is_more = len(taken) < len(ready) or len(taken) == MOST_BATCHES
    bells = wanted.bells(live + 1, is_more=is_more)
    if answers_bell:
        answer_and_ring(tx, target, now, is_due=bells > 0)
    else:
        bells = int(bells > 0 and ring(tx, target, now))
    kept = _kept(tx, taken, target=target, now=now) if stands.has_protected else None
    claim = Claim(
        lease=lease,
        target=target,
        batches=(),
        call_time=row.call_time,
        target_answers=bool(row.succeeded_at and now - row.succeeded_at < ANSWERS_WITHIN),
        bells=bells,
        is_more=is_more,
        queries={
            JobId(name): json.loads(query)
            for name, seq in {one.job_id: one.job for one in taken}.items()
            if (query := served[seq].frozen) is not None
        },
        has_protected=kept is not None,
    )
    return Taken(claim, taken, kept)


def with_items(tx: Tx, taken: Taken) -> Claim:
    """The claim with its batches and their open items."""
    claimed = guarded(claimed_of(tx, taken.rows), taken.kept)
    return replace(taken.claim, batches=tuple(claimed))


def _kept(tx: Tx, rows: Sequence[Row[Any]], *, target: str, now: datetime) -> set[tuple[int, int]]:
    """The (job, position) of all places of ranges that must stay.

    Whoever protects a key holds the target's row, as a claim does: what it did
    not see here was protected after the claim.
    """
    return {(job, at) for job, at, _ in protected_in(tx, rows, target=target, now=now)}


def _serve(
    tx: Tx, row: Row[Any], taken: Sequence[Row[Any]], now: datetime
) -> Mapping[int, Row[Any]]:
    """Send the jobs that were served to the end of the queue.

    Those that still run are returned, each with what a claim has to know of it.

    Their rows are held from here on, before those of their batches: whoever
    ends a job does it in this order too, and what is read of a job that still
    runs cannot have been ended meanwhile.
    """
    present = max(row.round, taken[0].job_round)
    served = sorted({one.job for one in taken})
    if present != row.round:
        tx.execute(update(targets).where(targets.c.name == row.name).values(round=present))
    known = (jobs.c.seq, jobs.c.id, jobs.c.frozen, jobs.c["items"], jobs.c.checked_at)
    running: dict[int, Row[Any]] = {}
    for start in range(0, len(served), 500):
        some = jobs.c.seq.in_(served[start : start + 500])
        started = func.coalesce(jobs.c.started_at, literal(now, Moment))
        found = tx.execute(
            update(jobs)
            .where(some, jobs.c.state == JobState.RUNNING.value)
            .values(round=present + 1, started_at=started)
            .returning(*known)
        )
        running.update((one.seq, one) for one in found)
    return running


def _lease(tx: Tx, target: str, holder: str, now: datetime, lasting: timedelta) -> LeaseId:
    """A new lease; its number is never used again."""
    new = {"target": target, "holder": holder, "until": now + lasting, "lasting": lasting}
    return LeaseId(tx.execute(_NEW_LEASE, new).scalar_one())


_NEW_LEASE = insert(leases).returning(leases.c.id)


def _mark_taken(tx: Tx, taken: Sequence[Row[Any]], lease: LeaseId) -> None:
    """ready -> leased."""
    names = [(row.job, row.first) for row in taken]
    for some in among(tx, names, batches.c.job, batches.c.first):
        tx.execute(
            update(batches)
            .where(some, batches.c.state == BatchState.READY.value)
            .values(state=BatchState.LEASED.value, lease=lease)
        )
