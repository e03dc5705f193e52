"""How due moments are decided: once, however many clocks tick.

A purge's row is held while one of its due moments is decided, and the row of
the run is inserted in one transaction with its job: whoever comes second finds
both.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, select, update

from api_adapters.base import Verdict
from worker.errors import RefusedRequest
from worker.job import JobId, JobState
from worker.purge import Decision, PurgeNote, PurgeRun, RunOutcome, RunStatus
from worker.store.base import Who
from worker.store.landing import open_job
from worker.store.tables import EPOCH, jobs, looks, purge_runs, purges
from worker.store.transaction import Tx

#: The row of `looks` that says when the clock last ticked.
CLOCK = 2
#: Runs that are looked through for the last one that succeeded.
RUNS_LOOKED_AT = 1_000


def register(tx: Tx, name: str, digest: str) -> PurgeNote:
    """Note what a purge is now; one that was never seen starts here."""
    now = tx.now()
    new = tx.insert(purges).values(name=name, digest=digest, registered_at=now)
    is_new = tx.first(new.on_conflict_do_nothing().returning(purges.c.name)) is not None
    changed = update(purges).where(purges.c.name == name, purges.c.digest != digest)
    if is_new or tx.changed(changed.values(digest=digest)):
        kind = "purge.registered" if is_new else "purge.changed"
        tx.note(kind, now=now, detail={"purge": name, "digest": digest})
    return note(tx, name)


def note(tx: Tx, name: str) -> PurgeNote:
    """What is known of a purge."""
    return _note_of(tx, name, tx.first(select(purges).where(purges.c.name == name)))


def run(
    tx: Tx, name: str, decide: Callable[[PurgeNote], Decision | None], who: Who
) -> PurgeRun | None:
    """Decide about a purge and write it down; None where nothing was to be decided."""
    row = tx.first(tx.locked(select(purges).where(purges.c.name == name)))
    known = _note_of(tx, name, row)
    decision = decide(known)
    if decision is None or row is None:
        return None
    if not decision.by_hand and decision.due_at != known.waiting:
        tx.execute(update(purges).where(purges.c.name == name).values(due_at=decision.due_at))
    if decision.outcome is None or not _write(tx, known, decision):
        return None
    if decision.job is not None:
        open_job(tx, decision.job)
    if decision.by_hand and (job := decision.job) is not None:
        detail = {"purge": name, "dry_run": job.dry_run}
        at = known.seen_at
        tx.note("purge.run", now=at, job=job.id, target=job.target, who=who, detail=detail)
    return PurgeRun(
        purge=name,
        due_at=decision.due_at,
        outcome=decision.outcome,
        reason=decision.reason,
        job=decision.job.id if decision.job else None,
        by_hand=decision.by_hand,
    )


def _write(tx: Tx, known: PurgeNote, decision: Decision) -> bool:
    """Write the row of a run; False if its due moment was decided before."""
    values = {
        "job": decision.job.id if decision.job else None,
        "outcome": (decision.outcome or RunOutcome.SKIPPED).value,
        "reason": decision.reason,
    }
    place = {"purge": known.name, "due_at": decision.due_at}
    if decision.due_at == known.waiting:
        waits = update(purge_runs).where(
            purge_runs.c.purge == known.name,
            purge_runs.c.due_at == decision.due_at,
            purge_runs.c.outcome == RunOutcome.WAITING.value,
        )
        return bool(tx.changed(waits.values(**values)))
    new = tx.insert(purge_runs).values(
        **place, **values, by_hand=decision.by_hand, created_at=known.seen_at
    )
    returned = new.on_conflict_do_nothing().returning(purge_runs.c.purge)
    return tx.first(returned) is not None


def _note_of(tx: Tx, name: str, row: Row[Any] | None) -> PurgeNote:
    """A row of `purges` as a thing, with what its runs are about."""
    # Asked after the row was waited for.
    now = tx.now()
    if row is None:
        return PurgeNote(name, now)
    open_jobs = select(jobs.c.id).where(
        jobs.c.finished_at.is_(None), jobs.c.purge == name, ~jobs.c.dry_run
    )
    busy = tx.first(open_jobs.limit(1))
    waiting = tx.first(
        select(purge_runs.c.due_at)
        .where(purge_runs.c.purge == name, purge_runs.c.outcome == RunOutcome.WAITING.value)
        .order_by(purge_runs.c.due_at.desc())
        .limit(1)
    )
    return PurgeNote(
        name=name,
        seen_at=now,
        digest=row.digest,
        approved=row.approved,
        registered_at=row.registered_at,
        due_at=row.due_at,
        busy=JobId(busy.id) if busy else None,
        waiting=waiting.due_at if waiting else None,
    )


def approve(tx: Tx, row: Row[Any]) -> None:
    """With the job of a purge, the purge is approved as it was then.

    Raises:
        RefusedRequest: `wrong_state`, it is another one by now.
    """
    if row.purge is None:
        return
    same = update(purges).where(purges.c.name == row.purge, purges.c.digest == row.purge_digest)
    if not tx.changed(same.values(approved=row.purge_digest)):
        raise RefusedRequest(
            "wrong_state",
            f"purge '{row.purge}' was changed since job {row.id} found its items: decline it, "
            "and look at what the purge finds now",
            data={"job": row.id, "purge": row.purge},
        )


def runs(tx: Tx, name: str, limit: int) -> Sequence[RunStatus]:
    """The newest runs of a purge, newest first, and how their jobs stand."""
    known = (jobs.c.state, jobs.c.dry_run, jobs.c["items"], jobs.c.tally, jobs.c.finished_at)
    found = tx.execute(
        select(purge_runs, *known)
        .outerjoin(jobs, jobs.c.id == purge_runs.c.job)
        .where(purge_runs.c.purge == name)
        .order_by(purge_runs.c.due_at.desc())
        .limit(limit)
    )
    return [_status_of(row) for row in found]


def _status_of(row: Row[Any]) -> RunStatus:
    """A run joined with its job as a thing."""
    tally = json.loads(row.tally) if row.tally else None
    return RunStatus(
        run=PurgeRun(
            purge=row.purge,
            due_at=row.due_at,
            outcome=RunOutcome(row.outcome),
            reason=row.reason,
            job=JobId(row.job) if row.job else None,
            by_hand=row.by_hand,
        ),
        state=JobState(row.state) if row.state else None,
        dry_run=bool(row.dry_run),
        items=row.items or 0,
        tally={Verdict(name): count for name, count in tally.items()} if tally else None,
        finished_at=row.finished_at,
    )


def succeeded_at(tx: Tx, name: str) -> datetime | None:
    """When the last job of a purge ended that deleted for good."""
    ended = (one.finished_at for one in runs(tx, name, RUNS_LOOKED_AT) if one.has_succeeded)
    return next(ended, None)


def note_tick(tx: Tx) -> None:
    """The clock lives."""
    new = tx.insert(looks).values(id=CLOCK, at=EPOCH).on_conflict_do_nothing()
    tx.execute(new)
    tx.execute(update(looks).where(looks.c.id == CLOCK).values(at=tx.now()))


def ticked(tx: Tx) -> timedelta | None:
    """How long ago the clock ticked; None if it never did."""
    row = tx.first(select(looks.c.at).where(looks.c.id == CLOCK))
    return None if row is None else tx.now() - row.at


def drop_old_runs(tx: Tx, before: timedelta, limit: int) -> int:
    """Drop up to so many runs that never had a job and are older; how many."""
    old = (
        select(purge_runs.c.purge, purge_runs.c.due_at)
        .where(
            purge_runs.c.job.is_(None),
            purge_runs.c.outcome != RunOutcome.WAITING.value,
            purge_runs.c.created_at < tx.now() - before,
        )
        .limit(limit)
    )
    found = tx.execute(old).all()
    for row in found:
        tx.execute(
            delete(purge_runs).where(
                purge_runs.c.purge == row.purge, purge_runs.c.due_at == row.due_at
            )
        )
    return len(found)
