"""How jobs that are done are closed, many of them by the same few statements.

Ten thousand jobs of one item end in calls that they share. Closed one by one,
each costs a transaction of nine statements.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, select, update

from api_adapters.base import Verdict
from worker.job import JobId, JobState
from worker.store.base import Closing, Settled
from worker.store.ending import check_sum, has_open_ranges
from worker.store.reading import tallies_of
from worker.store.tables import batches, jobs
from worker.store.transaction import JOBS_AT_ONCE, Tx, is_one_of

#: States in which a job is closed as soon as no range of it is open.
_AT_WORK = (JobState.RUNNING.value, JobState.PAUSED.value)
_IS_DONE = jobs.c.is_cut & ~has_open_ranges(jobs.c.seq)
_KNOWN = (jobs.c.seq, jobs.c.id, jobs.c.target, jobs.c["items"], jobs.c.notify)


def settle_done(tx: Tx, names: Sequence[JobId]) -> Closing:
    """Close those of the jobs that are at work and done; which others are ending.

    Asked after the records have committed, as `ending.settle` is.
    """
    done, ending = _seen(tx, names)
    if not done:
        return Closing(ending=ending)
    held = _hold(tx, done)
    return Closing(_close(tx, held), ending)


def _seen(tx: Tx, names: Sequence[JobId]) -> tuple[list[int], tuple[JobId, ...]]:
    """Jobs that look done, by their short numbers, and jobs that are ending."""
    done: list[int] = []
    ending: list[JobId] = []
    for start in range(0, len(names), JOBS_AT_ONCE):
        some = _is_one_of(tx, jobs.c.id, names[start : start + JOBS_AT_ONCE])
        asked = select(jobs.c.seq, jobs.c.id, jobs.c.state, _IS_DONE.label("is_done"))
        unfinished = (*_AT_WORK, JobState.CANCELLING.value)
        for row in tx.execute(asked.where(some, jobs.c.state.in_(unfinished))):
            if row.state == JobState.CANCELLING.value:
                ending.append(JobId(row.id))
            elif row.is_done:
                done.append(row.seq)
    return sorted(done), tuple(ending)


def _hold(tx: Tx, seqs: Sequence[int]) -> list[Row[Any]]:
    """Those of the jobs that are still to be closed, held, and in one order.

    So of two who close the same ones, neither waits for the other's second.
    """
    held: list[Row[Any]] = []
    for start in range(0, len(seqs), JOBS_AT_ONCE):
        some = _is_one_of(tx, jobs.c.seq, seqs[start : start + JOBS_AT_ONCE])
        chosen = select(*_KNOWN).where(some, jobs.c.state.in_(_AT_WORK)).order_by(jobs.c.seq)
        held += tx.execute(tx.locked(chosen)).all()
    return held


def _close(tx: Tx, held: Sequence[Row[Any]]) -> tuple[Settled, ...]:
    """Write state, tally, event and what is owed of jobs that are held.

    A range that is done stays so, and of a job that is cut no others come: what
    was seen of them before the jobs were held still holds.
    """
    if not held:
        return ()
    tallies = _tallies_of(tx, [row.seq for row in held])
    for row in held:
        check_sum(row, tallies[row.seq])
    now = tx.now()
    alike: dict[str, list[int]] = {}
    for row in held:
        alike.setdefault(_told(tallies[row.seq]), []).append(row.seq)
    for told, seqs in alike.items():
        for start in range(0, len(seqs), JOBS_AT_ONCE):
            some = _is_one_of(tx, jobs.c.seq, seqs[start : start + JOBS_AT_ONCE])
            tx.execute(
                update(jobs)
                .where(some)
                .values(
                    state=JobState.COMPLETED.value,
                    finished_at=now,
                    planner=None,
                    planner_until=None,
                    owed=jobs.c.notify.is_not(None),
                    tally=told,
                )
            )
    for row in held:
        detail = {"state": JobState.COMPLETED.value, "tally": _by_name(tallies[row.seq])}
        tx.note("job.settled", now=now, job=JobId(row.id), target=row.target, detail=detail)
    return tuple(
        Settled(JobId(row.id), row.target, JobState.COMPLETED, tallies[row.seq], row.notify)
        for row in held
    )


def _tallies_of(tx: Tx, seqs: Sequence[int]) -> dict[int, dict[Verdict, int]]:
    """Items by verdict of several jobs."""
    tallies: dict[int, dict[Verdict, int]] = {}
    for start in range(0, len(seqs), JOBS_AT_ONCE):
        some = seqs[start : start + JOBS_AT_ONCE]
        tallies |= tallies_of(tx, some, _is_one_of(tx, batches.c.job, some))
    return tallies


def _told(tally: Mapping[Verdict, int]) -> str:
    """A tally as it stands in its job's row."""
    return json.dumps(_by_name(tally))


def _by_name(tally: Mapping[Verdict, int]) -> dict[str, int]:
    """A tally as JSON has it."""
    return {verdict.value: count for verdict, count in tally.items()}


def _is_one_of(tx: Tx, column: Any, values: Sequence[Any]) -> ColumnElement[bool]:
    """A condition that a column has one of these values."""
    has_arrays = tx.dialect.has_arrays
    among: ColumnElement[bool] = is_one_of(column, "named", has_arrays=has_arrays, values=values)
    return among
