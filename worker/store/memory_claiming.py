"""How the in-memory twin chooses what a claim takes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

from worker.batch import BatchState
from worker.store.base import Appetite, CallNote, LeaseId
from worker.store.memory_rows import BatchRow, JobRow, LeaseRow, Rows

#: A claim takes no more batches than this, however small they are.
MAX_CLAIMED_BATCHES = 2_000


def choose(jobs: Sequence[JobRow], wants: Appetite, now: datetime) -> list[tuple[JobRow, BatchRow]]:
    """The due batches of these jobs in turn, until the appetite is stilled."""
    capacity: Fraction | int = wants.calls * wants.call_items
    chosen: list[tuple[JobRow, BatchRow]] = []
    for job in jobs:
        due = (row for row in job.batches.values() if row.is_due(now))
        for row in sorted(due, key=lambda row: (row.not_before, row.batch.first)):
            capacity -= wants.share_of(row.batch.open_items, row.batch.company)
            if chosen and (capacity < 0 or len(chosen) == MAX_CLAIMED_BATCHES):
                return chosen
            chosen.append((job, row))
    return chosen


def gathers(
    chosen: Sequence[tuple[JobRow, BatchRow]], wants: Appetite, live: int, now: datetime
) -> timedelta:
    """How long what fills no call is to wait for more."""
    is_full = sum(row.batch.open_items for _, row in chosen) >= wants.call_items
    has_limit = any(row.batch.company is not None for _, row in chosen)
    is_alone = not live and len({job.job.id for job, _ in chosen}) == 1
    if not chosen or wants.call_items == 1 or is_full or has_limit or is_alone:
        return timedelta()
    came = [max(row.not_before, job.moved_at) for job, row in chosen]
    return wants.gathers(min(came), max(came), now)


def earliest_moment(jobs: Sequence[JobRow], now: datetime) -> timedelta | None:
    """How long until the first of the ready batches may be claimed."""
    batches = (row for job in jobs for row in job.batches.values())
    moments = [row.not_before for row in batches if row.state is BatchState.READY]
    return min(moments) - now if moments else None


def take(
    rows: Rows,
    chosen: Sequence[tuple[JobRow, BatchRow]],
    target: str,
    *,
    holder: str,
    lasting: timedelta,
    expected_end: datetime | None,
    now: datetime,
) -> LeaseId:
    """Put the chosen batches under a new lease; their jobs go to the next round."""
    rows.leases_given += 1
    lease = LeaseId(rows.leases_given)
    rows.leases[lease] = LeaseRow(target, holder, now + lasting, lasting, expected_end)
    place = rows.target(target)
    # A job that rested for long must not be served until it has caught up.
    place.round = max(place.round, chosen[0][0].round)
    for job, row in chosen:
        row.state, row.lease = BatchState.LEASED, lease
        job.round = place.round + 1
        job.job = replace(job.job, started_at=job.job.started_at or now)
    return lease


def note_call(rows: Rows, name: str, call: CallNote, now: datetime) -> None:
    """Keep what one call told of its target."""
    target = rows.target(name)
    target.calls += call.calls
    was_open = target.circuit.is_open
    old = target.call_time
    target.call_time = call.took if old is None else old * 0.7 + call.took * 0.3
    if call.answered:
        target.succeeded_at = now
        target.closed_at = target.closed_reason = None
    target.circuit, rest = target.circuit.after(
        call.failures,
        is_alive=call.answered or call.is_alive,
        is_resting=target.rests_for(now) is not None,
    )
    if longest := max(call.rest, rest):
        rested = now + longest
        target.not_before = max(target.not_before or rested, rested)
    if target.circuit.is_open != was_open:
        kind = "circuit.closed" if was_open else "circuit.opened"
        rows.note(kind, now, job=None, target=name, failing=target.circuit.failing)
