"""What the in-memory twin tells whoever measures: counted anew each time, from all that it has."""

from collections import Counter
from datetime import datetime, timedelta

from worker.batch import BatchState
from worker.call import BOUNDS, Answer, bucket_of
from worker.job import JobState, empty_tally
from worker.store.base import Backlog, Measures, TargetNote, Totals
from worker.store.memory_rows import JobRow, Rows


def measures_of(rows: Rows, now: datetime) -> Measures:
    """What waits and what has become of all, by target."""
    names = {*rows.targets, *(row.job.target for row in rows.jobs.values() if row.batches)}
    lost = [now - row.until for row in rows.leases.values() if row.until < now]
    return Measures(
        backlogs={name: _backlog(rows, name, now) for name in sorted(names)},
        ticked=_since(rows.ticked_at, now),
        looked=_since(rows.looked_at, now),
        lost_for=max(lost, default=None),
    )


def note_of(rows: Rows, target: str, now: datetime) -> TargetNote:
    """What holds a target back."""
    row = rows.target(target)
    return TargetNote(
        closed_reason=row.closed_reason,
        closed_for=_since(row.closed_at, now),
        rests_for=row.rests_for(now),
        live_leases=len(rows.live_leases(target, now)),
        circuit=row.circuit,
    )


def _backlog(rows: Rows, target: str, now: datetime) -> Backlog:
    """What waits on a target, and what has become of its items."""
    jobs = [row for row in rows.jobs.values() if row.job.target == target]
    states = Counter(batch.state for row in jobs for batch in row.batches.values())
    oldest = [age for row in jobs if (age := _oldest(row, now)) is not None]
    return Backlog(
        note=note_of(rows, target, now),
        totals=_totals(rows, target, jobs),
        ready=states[BatchState.READY],
        leased=states[BatchState.LEASED],
        oldest=max(oldest, default=None),
        answered=_since(rows.target(target).answered_at, now),
    )


def _totals(rows: Rows, target: str, jobs: list[JobRow]) -> Totals:
    """What has become of a target's items and calls."""
    items = empty_tally()
    for row in jobs:
        for verdict, count in (row.tally or row.count_tally()).items():
            items[verdict] += count
    calls = rows.target(target).calls
    timed = [call.took for call in calls if call.is_timed]
    lengths = Counter(map(bucket_of, timed))
    return Totals(
        items=items,
        calls={answer: sum(call.answer is answer for call in calls) for answer in Answer},
        lengths=tuple(lengths[place] for place in range(len(BOUNDS) + 1)),
        took=sum(timed, timedelta()),
    )


def _oldest(row: JobRow, now: datetime) -> timedelta | None:
    """For how long a batch of a running job has been free to be claimed."""
    ready = [one.not_before for one in row.batches.values() if one.state is BatchState.READY]
    first = min(ready, default=None)
    if row.job.state is not JobState.RUNNING or first is None or first > now:
        return None
    return now - max(first, row.moved_at)


def _since(moment: datetime | None, now: datetime) -> timedelta | None:
    """How long ago something was."""
    return None if moment is None else now - moment
