"""How a job that mostly fails is stopped at a claim."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, update

from worker.failing import Tolerance, wait_between
from worker.job import JobId
from worker.store.base import Appetite, Who
from worker.store.ending import wish_to_end
from worker.store.reading import tally_of
from worker.store.tables import jobs
from worker.store.transaction import Tx


def stop_failing(
    tx: Tx,
    served: Sequence[Row[Any]],
    wanted: Appetite,
    now: datetime,
    *,
    tolerance: Tolerance | None,
) -> frozenset[int]:
    """Stop those of the jobs that have failed too much; their short numbers.

    Their rows are held by the claim. Each is added up now and then, and not at
    every claim: the sum takes longer the more ranges there are.
    """
    if tolerance is None:
        return frozenset()
    due = [row for row in served if _is_due(row, tolerance, wanted, now)]
    return frozenset(row.seq for row in due if _is_stopped(tx, row, tolerance, now))


def _is_due(row: Row[Any], tolerance: Tolerance, wanted: Appetite, now: datetime) -> bool:
    """Whether a job has to be looked at now."""
    if not tolerance.is_for(row.items):
        return False
    wait = wait_between(row.items, call_items=wanted.call_items)
    # A clock that was set back must not keep it from being looked at.
    return row.checked_at is None or abs(now - row.checked_at) >= wait


def _is_stopped(tx: Tx, row: Row[Any], tolerance: Tolerance, now: datetime) -> bool:
    """Look at one job, and stop it if it has failed too much."""
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(checked_at=now))
    reason = tolerance.reason_to_stop(tally_of(tx, row.seq))
    return reason is not None and wish_to_end(tx, JobId(row.id), "stop", reason, Who())
