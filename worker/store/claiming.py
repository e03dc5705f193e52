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
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, select, update

from worker.batch import BatchState
from worker.job import JobId, JobState
from worker.store.base import Appetite, Busy, Claim, LeaseId
from worker.store.choosing import (
    MOST_BATCHES,
    ready_batches,
    seen,
    take_some,
    taken_of_calls,
    until_ready,
)
from worker.store.gathering import gathers
from worker.store.ranges import (
    change_ranges,
    claimed_of,
    guarded,
    protected_in,
    unnested,
)
from worker.store.ringing import answer_and_ring, ring
from worker.store.tables import Moment, batches, jobs, leases, targets
from worker.store.transaction import JOBS_AT_ONCE, Tx, is_one_of

#: A target that answered a call within this is taken to be well.
ANSWERS_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Taken:
    """Claims whose items are still to be read."""

    #: Each with its rows of `batches`, with the id of their job, as they were
    #: before they were taken.
    claims: Sequence[tuple[Claim, Sequence[Row[Any]]]]
    #: The places in them that must stay, as (job, position); None if no key must.
    kept: set[tuple[int, int]] | None
    #: What hands are told for whom there was none.
    others: Busy


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
    hands: int,
    fingerprint: str,
    holder: str,
    lasting: timedelta,
    appetite: Callable[[timedelta | None], Appetite],
    stop_failing: Callable[[Sequence[Row[Any]], Appetite, datetime], frozenset[int]],
    answers_bell: bool,
) -> Taken | Busy:
    """Take ready batches of a target's jobs for so many hands, each under a new lease.

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
    stands = seen(tx, target, fingerprint, wanted, holder=holder, hands=hands)
    now, live = stands.now, stands.live
    if row.not_before > now:
        return Busy(row.not_before - now)
    if live >= wanted.places:
        return Busy()
    if stands.ready is not None:
        undone = stands.undone / row.call_time if row.call_time else 0
        wanted = wanted.shared(stands.ready, live, undone)
    # Jobs take turns from claim to claim, and protected keys are looked for while
    # all who work on the target wait.
    is_simple = stands.is_one_job and not stands.has_protected
    hands = min(hands, wanted.places - live) if is_simple else 1
    ready = ready_batches(tx, target, fingerprint, now, wanted, hands=hands)
    if not ready:
        return Busy(until_ready(tx, target, fingerprint, now))
    shares = _shares(ready, wanted, live, now, hands=hands)
    if isinstance(shares, Busy):
        return shares
    asked = [one for share in shares for one in share]
    served = _serve(tx, row, asked, now)
    stopped = stop_failing(list(served.values()), wanted, now)
    shares = [
        left
        for share in shares
        if (left := [one for one in share if one.job in served and one.job not in stopped])
    ]
    if not shares:
        # Other jobs may be ready.
        return Busy(timedelta()) if stopped else Busy()
    taken = [one for share in shares for one in share]
    new = {"target": target, "holder": holder, "until": now + lasting, "lasting": lasting}
    given = [
        new
        | {"expected_end": wanted.expected_end(now, taken_of_calls(share, wanted), row.call_time)}
        for share in shares
    ]
    names = tx.execute(_NEW_LEASES, given).scalars().all()
    _mark_taken(tx, dict(zip(names, shares, strict=True)))
    is_more = len(taken) < len(ready) or len(taken) == MOST_BATCHES
    live += len(shares)
    bells = wanted.bells(live, claims=len(shares)) if is_more else 0
    if answers_bell:
        answer_and_ring(tx, target, now, is_due=bells > 0)
    else:
        bells = int(bells > 0 and ring(tx, target, now))
    kept = _kept(tx, taken, target=target, now=now) if stands.has_protected else None
    first = Claim(
        lease=LeaseId(names[0]),
        target=target,
        batches=(),
        call_time=row.call_time,
        target_answers=bool(row.succeeded_at and now - row.succeeded_at < ANSWERS_WITHIN),
        bells=bells,
        is_more=is_more,
        beside=stands.beside,
        queries={
            JobId(name): json.loads(query)
            for name, seq in {one.job_id: one.job for one in taken}.items()
            if (query := served[seq].frozen) is not None
        },
        has_protected=kept is not None,
    )
    others = [replace(first, lease=LeaseId(name), bells=0) for name in names[1:]]
    told = wanted.turned(live, is_more=is_more, is_answered=answers_bell)
    return Taken(list(zip([first, *others], shares, strict=True)), kept, told)


def _shares(
    ready: Sequence[Row[Any]], wanted: Appetite, live: int, now: datetime, *, hands: int
) -> list[Sequence[Row[Any]]] | Busy:
    """What each hand takes of what is ready; Busy while the first waits for more."""
    shares: list[Sequence[Row[Any]]] = []
    while ready and len(shares) < hands:
        if wait := gathers(ready, wanted, live + len(shares), now):
            return shares or Busy(wait, is_gathering=True)
        shares.append(take_some(ready, wanted.of_hand(len(shares), hands=hands)))
        ready = ready[len(shares[-1]) :]
    return shares


def with_items(tx: Tx, taken: Taken) -> list[Claim]:
    """The claims with their batches and open items."""
    rows = [row for _, share in taken.claims for row in share]
    claimed = iter(guarded(claimed_of(tx, rows), taken.kept))
    return [
        replace(claim, batches=tuple(islice(claimed, len(share)))) for claim, share in taken.claims
    ]


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
        tx.execute(_NEXT_ROUND, {"of_target": row.name, "present": present})
    serve = _serving(has_arrays=tx.dialect.has_arrays)
    running: dict[int, Row[Any]] = {}
    for start in range(0, len(served), JOBS_AT_ONCE):
        given = {"of_jobs": served[start : start + JOBS_AT_ONCE], "next": present + 1, "now": now}
        running.update((one.seq, one) for one in tx.execute(serve, given))
    return running


_NEXT_ROUND = (
    update(targets)
    .where(targets.c.name == bindparam("of_target"))
    .values(round=bindparam("present"))
)


@cache
def _serving(*, has_arrays: bool) -> Any:
    """The statement of `_serve`, made once."""
    some = is_one_of(jobs.c.seq, "of_jobs", has_arrays=has_arrays)
    started = func.coalesce(jobs.c.started_at, bindparam("now", type_=Moment))
    return (
        update(jobs)
        .where(some, jobs.c.state == JobState.RUNNING.value)
        .values(round=bindparam("next"), started_at=started)
        .returning(jobs.c.seq, jobs.c.id, jobs.c.frozen, jobs.c["items"], jobs.c.checked_at)
    )


#: The number of a lease is never used again.
_NEW_LEASES = insert(leases).returning(leases.c.id, sort_by_parameter_order=True)


def _mark_taken(tx: Tx, shares: Mapping[int, Sequence[Row[Any]]]) -> None:
    """ready -> leased, each share under its lease."""
    if tx.dialect.has_arrays:
        taken = [(row.job, row.first, name) for name, share in shares.items() for row in share]
        seqs, firsts, names = map(list, zip(*taken, strict=True))
        given = {"of_jobs": seqs, "of_firsts": firsts, "of_leases": names}
        tx.execute(_TAKE_MANY, given)
        return
    for name, share in shares.items():
        change_ranges(tx, _TAKE, [(row.job, row.first) for row in share], {"new_lease": name})


_TAKE = (
    update(batches)
    .where(batches.c.state == BatchState.READY.value)
    .values(state=BatchState.LEASED.value, lease=bindparam("new_lease"))
)
_NAMED = unnested(job="of_jobs", first="of_firsts", lease="of_leases")
_TAKE_MANY = (
    update(batches)
    .where(batches.c.job == _NAMED.c.job, batches.c.first == _NAMED.c.first)
    .where(batches.c.state == BatchState.READY.value)
    .values(state=BatchState.LEASED.value, lease=_NAMED.c.lease)
)
