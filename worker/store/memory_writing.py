"""How the in-memory twin gives batches back, parts them and ends them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice

from api_adapters.base import Verdict
from worker.batch import BatchState, Returned
from worker.errors import DoesNotAddUp
from worker.item import Mark
from worker.job import JobState
from worker.judging import judge_end
from worker.store.memory_rows import EPOCH, BatchRow, JobRow, Rows, StrayRow

#: What most items of a job may be called when it ends early, and how the job ends.
END_STATES = {
    "cancelled": JobState.CANCELLED,
    "declined": JobState.CANCELLED,
    "stopped": JobState.STOPPED,
}


def give_back(job: JobRow, row: BatchRow, returned: Returned, now: datetime) -> None:
    """Write what became of a leased batch; it is ready or done then."""
    _write(job, row, returned, now)
    if row.state is BatchState.DONE:
        return
    if job.job.state is JobState.CANCELLING:
        end(job, row, now)
    elif returned.split_at is not None:
        _split(job, row, returned.split_at)


def end(job: JobRow, row: BatchRow, now: datetime) -> None:
    """End the open items of a batch of a job that ends early."""
    _write(job, row, judge_end(job.claimed(row), code=_code(job), message=_reason(job)), now)


def end_job(job: JobRow, now: datetime, *, limit: int) -> int:
    """End what was never cut, and up to so many ready batches; how many ranges."""
    places = job.positions(job.last_cut + 1)
    if places:
        job.batches[places[0]] = BatchRow(job.batch(places[0], places[-1]), BatchState.READY)
        job.count()
    ready = [row for row in job.batches.values() if row.state is BatchState.READY][:limit]
    for row in ready:
        end(job, row, now)
    return len(ready)


def add_done_range(job: JobRow, mark: Mark, now: datetime) -> bool:
    """Give everything that was never cut one final range; whether there was any."""
    places = job.positions(job.last_cut + 1)
    if not places:
        return False
    batch = replace(job.batch(places[0], places[-1]), mark=mark)
    job.batches[batch.first] = BatchRow(batch, BatchState.DONE, decided_at=now)
    return True


def finish(rows: Rows, job: JobRow, state: JobState, now: datetime) -> None:
    """Move a job to a final state with its tally.

    Raises:
        DoesNotAddUp: nothing is written then.
    """
    job.tally = counted(job)
    job.move(state, now, reason=job.job.reason)
    job.job = replace(job.job, finished_at=now)
    job.is_owing = job.job.notify is not None
    rows.note("job.settled", now, job=job.job, state=state.value)


def counted(job: JobRow) -> dict[Verdict, int]:
    """The tally of a job that is done. Raises DoesNotAddUp."""
    tally = job.count_tally()
    if sum(tally.values()) != len(job.items) or len(job.items) != job.job.items:
        raise DoesNotAddUp(
            f"job {job.job.id} has {job.job.items} items and {sum(tally.values())} outcomes"
        )
    return tally


def open_positions(job: JobRow, limit: int, after: int) -> Iterator[tuple[int, int, bool]]:
    """(position, bytes, is open) beyond a position."""
    for position in islice(job.positions(after + 1), limit):
        item = job.items[position]
        yield position, len(item.text), item.key is not None


def _write(job: JobRow, row: BatchRow, returned: Returned, now: datetime) -> None:
    """Write marks where no verdict stands, and the numbers of the batch."""
    old = row.batch
    for position in job.positions(old.first, old.last):
        mark = returned.strays.get(position)
        stray = job.strays.get(position)
        is_decided = (stray.mark if stray else old.mark).is_final
        if mark is not None and not is_decided:
            job.strays[position] = StrayRow(mark, now if mark.is_final else None)
    mark = old.mark if old.mark.is_final else returned.batch.mark
    if mark.is_final and not old.mark.is_final:
        row.decided_at = now
    row.batch = job.batch(old.first, old.last, like=replace(returned.batch, mark=mark))
    row.lease = None
    row.not_before = now + returned.rest if returned.rest else EPOCH
    row.state = _state(row)


def _split(job: JobRow, row: BatchRow, at: int) -> None:
    """Leave the left part to the row, and put the right part into a new one."""
    whole = row.batch
    right = replace(row, batch=job.batch(at, whole.last, like=whole))
    row.batch = job.batch(whole.first, at - 1, like=whole)
    row.state, right.state = _state(row), _state(right)
    job.batches[at] = right
    job.splits += 1


def _state(row: BatchRow) -> BatchState:
    return BatchState.READY if row.batch.open_items else BatchState.DONE


def _code(job: JobRow) -> str:
    return job.end_code or "cancelled"


def _reason(job: JobRow) -> str:
    return job.job.reason or ""
