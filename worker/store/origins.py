"""What a job must be that another one takes its items from."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, update

from worker.errors import RefusedRequest
from worker.job import FINAL, JobId, JobState, NewJob, moment_text
from worker.store.tables import jobs
from worker.store.transaction import Tx, job_row


def check_plan(tx: Tx, job: NewJob, plan: JobId) -> None:
    """Refuse a plan that is none, or that was made for something else."""
    row = job_row(tx, plan)
    check_kept(row)
    if not (row.dry_run and row.state == JobState.COMPLETED):
        raise RefusedRequest(
            "wrong_state",
            f"job {plan} is no plan: only a completed dry run can be executed",
            data={"job": plan},
        )
    if (row.target, row.fingerprint) != (job.target, job.fingerprint):
        raise RefusedRequest(
            "wrong_state",
            f"the plan {plan} was made for target '{row.target}' as it was configured then: "
            "make a new dry run",
            data={"job": plan},
        )
    check_fresh(row, job.found_valid_for, tx.now())


def check_parent(tx: Tx, job: NewJob, parent: JobId) -> None:
    """Refuse to try a job again that has not ended, or on something else."""
    row = job_row(tx, parent)
    check_kept(row)
    if JobState(row.state) not in FINAL or row.dry_run:
        raise RefusedRequest(
            "wrong_state",
            f"job {parent} cannot be tried again: it is {row.state}"
            + (", a dry run" if row.dry_run else ""),
            data={"job": parent, "state": row.state},
        )
    if (row.target, row.fingerprint) != (job.target, job.fingerprint):
        raise RefusedRequest(
            "wrong_state",
            f"job {parent} was for target '{row.target}' as it was configured then: "
            "submit its items anew",
            data={"job": parent},
        )
    check_fresh(row, job.found_valid_for, tx.now())


def take_query(tx: Tx, row: Row[Any], source: Row[Any]) -> None:
    """What was found stays what a query found, whichever job executes it."""
    if source.query is None:
        return
    found_at = source.found_at or source.created_at
    values = {"query": source.query, "frozen": source.frozen, "found_at": found_at}
    tx.execute(update(jobs).where(jobs.c.seq == row.seq).values(**values))


def check_kept(row: Row[Any]) -> None:
    """Refuse what asks for items that were dropped. Raises RefusedRequest: `wrong_state`."""
    if row.pruned_at is None:
        return
    raise RefusedRequest(
        "wrong_state",
        f"the items of job {row.id} were dropped at {row.pruned_at:%Y-%m-%d %H:%M} UTC: "
        "they had been kept for long enough",
        data={"job": row.id, "pruned_at": moment_text(row.pruned_at)},
    )


def check_fresh(row: Row[Any], valid_for: timedelta | None, now: datetime) -> None:
    """Refuse what may not be what its query would find now. Raises RefusedRequest."""
    if row.found_at is None or valid_for is None or now - row.found_at <= valid_for:
        return
    raise RefusedRequest(
        "wrong_state",
        f"what job {row.id} found was found too long ago, at {row.found_at:%Y-%m-%d %H:%M} UTC: "
        "submit its query anew",
        data={"job": row.id},
    )


def check_digest(known: str | None, wanted: str | None, *, job: JobId) -> None:
    """Refuse to approve other items than those that were looked at. Raises RefusedRequest."""
    if wanted is None or wanted == known:
        return
    raise RefusedRequest(
        "wrong_state",
        f"the items of job {job} have the digest {known}, not {wanted}: look at them again",
        data={"job": job, "digest": known},
    )
