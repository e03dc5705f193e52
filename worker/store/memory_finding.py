"""How the in-memory twin takes what a query finds."""

from dataclasses import replace
from datetime import datetime, timedelta

from worker.errors import LeaseLost, RefusedRequest
from worker.job import JobState
from worker.store.base import Chunk
from worker.store.memory_rows import JobRow


def held(row: JobRow, holder: str) -> JobRow:
    """A job that this holder still plans. Raises LeaseLost."""
    if row.job.state is not JobState.PLANNING or row.planner != holder:
        raise LeaseLost(f"the right to plan job {row.job.id} is somebody else's now")
    return row


def clear(row: JobRow, *, limit: int) -> bool:
    """Drop up to so many items; True when none is left."""
    positions = row.positions()[:limit]
    for position in positions:
        del row.items[position]
        row.strays.pop(position, None)
    row.given -= len(positions)
    row.count()
    return len(positions) < limit


def land(row: JobRow, chunk: Chunk, now: datetime) -> None:
    """Take some of what was found, unless it is there already."""
    if chunk.first in row.items:
        return
    for item in chunk.items:
        row.put(item, now)
    row.given += chunk.given
    row.fed_at = now
    row.count()


def take_query(row: JobRow, source: JobRow) -> None:
    """What was found stays what a query found, whichever job executes it."""
    job = source.job
    if job.query is not None:
        found_at = job.found_at or job.created_at
        row.job = replace(row.job, query=job.query, frozen=job.frozen, found_at=found_at)


def check_fresh(row: JobRow, valid_for: timedelta | None, now: datetime) -> None:
    """Refuse what may not be what its query would find now. Raises RefusedRequest."""
    found_at = row.job.found_at
    if found_at is not None and valid_for is not None and now - found_at > valid_for:
        raise RefusedRequest("wrong_state", f"what job {row.job.id} found was found too long ago")
