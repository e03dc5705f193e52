"""How the in-memory twin decides about purges, and drops what was kept for long enough."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from worker.errors import RefusedRequest
from worker.job import Job, JobState, NewJob, moment_text
from worker.purge import Decision, PurgeNote, PurgeRun, RunOutcome, RunStatus
from worker.store.base import APPROVAL_PATIENCE, KEPT_BRIEFLY, Outdated, Who
from worker.store.memory_orders import PurgeRow
from worker.store.memory_rows import JobRow, Rows


def register(rows: Rows, name: str, digest: str, now: datetime) -> PurgeNote:
    """Note what a purge is now."""
    row = rows.purges.get(name)
    if row is None or row.digest != digest:
        kind = "purge.registered" if row is None else "purge.changed"
        rows.note(kind, now, job=None, purge=name, digest=digest)
    row = rows.purges.setdefault(name, PurgeRow(digest, registered_at=now))
    row.digest = digest
    return note_of(rows, name, now)


def note_of(rows: Rows, name: str, now: datetime) -> PurgeNote:
    """What is known of a purge."""
    row = rows.purges.get(name)
    if row is None:
        return PurgeNote(name, now)
    jobs = (one.job for one in rows.jobs.values() if one.job.purge == name)
    busy = (job.id for job in jobs if not job.is_final and not job.dry_run)
    waiting = (due for due, run in row.runs.items() if run.outcome is RunOutcome.WAITING)
    return PurgeNote(
        name=name,
        seen_at=now,
        digest=row.digest,
        approved=row.approved,
        registered_at=row.registered_at,
        due_at=row.due_at,
        busy=next(busy, None),
        waiting=max(waiting, default=None),
    )


def run(
    rows: Rows,
    name: str,
    decide: Callable[[PurgeNote], Decision | None],
    *,
    who: Who,
    now: datetime,
    open_job: Callable[[NewJob], Job],
) -> PurgeRun | None:
    """Decide about a purge and write it down."""
    row, known = rows.purges.get(name), note_of(rows, name, now)
    decision = decide(known)
    if decision is None or row is None:
        return None
    is_waiting = decision.due_at == known.waiting
    if decision.outcome is not None and decision.due_at in row.runs and not is_waiting:
        return None
    if decision.job is not None:
        job = open_job(decision.job)
        if decision.by_hand:
            rows.note("purge.run", now, job=job, who=who, purge=name, dry_run=job.dry_run)
    if not decision.by_hand and not is_waiting:
        row.due_at = decision.due_at
    if decision.outcome is None:
        return None
    made = PurgeRun(
        purge=name,
        due_at=decision.due_at,
        outcome=decision.outcome,
        reason=decision.reason,
        job=decision.job.id if decision.job else None,
        by_hand=decision.by_hand,
    )
    row.runs[made.due_at] = made
    row.noted_at[made.due_at] = now
    return made


def runs_of(rows: Rows, name: str) -> list[RunStatus]:
    """The runs of a purge, newest first."""
    row = rows.purges.get(name)
    found = sorted(row.runs.items(), reverse=True) if row else []
    return [_status_of(rows, one) for _, one in found]


def _status_of(rows: Rows, one: PurgeRun) -> RunStatus:
    row = rows.jobs.get(one.job) if one.job else None
    if row is None:
        return RunStatus(one)
    job = row.job
    return RunStatus(one, job.state, job.dry_run, job.items, row.tally, job.finished_at)


def approve(rows: Rows, job: Job) -> None:
    """With the job of a purge, the purge is approved as it was then. Raises RefusedRequest."""
    if job.purge is None:
        return
    row = rows.purges[job.purge]
    if row.digest != job.purge_digest:
        data = {"job": job.id, "purge": job.purge}
        said = f"purge '{job.purge}' was changed since job {job.id} found its items: decline it"
        raise RefusedRequest("wrong_state", said, data=data)
    row.approved = job.purge_digest


def drop_old_runs(rows: Rows, *, before: datetime, limit: int) -> int:
    """Drop up to so many runs that never had a job."""
    dropped = 0
    for row in rows.purges.values():
        for due, one in list(row.runs.items()):
            is_old = row.noted_at[due] < before and one.outcome is not RunOutcome.WAITING
            if is_old and one.job is None and dropped < limit:
                del row.runs[due]
                dropped += 1
    return dropped


def outdated_of(rows: Rows, now: datetime, *, limit: int) -> Outdated:
    """Jobs that are to be declined or pruned."""
    held = [one for one in rows.jobs.values() if one.job.state is JobState.AWAITING_APPROVAL]
    old = [one for one in rows.jobs.values() if _is_old(one, now) and not _is_source(rows, one)]
    return Outdated(
        decline=tuple(o.job.id for o in held if o.moved_at < now - APPROVAL_PATIENCE)[:limit],
        prune=tuple(one.job.id for one in old)[:limit],
    )


def _is_old(row: JobRow, now: datetime) -> bool:
    job = row.job
    if job.finished_at is None or job.pruned_at is not None:
        return row.is_dropping
    never_approved = row.end_code == "declined" or (job.needs_approval and not job.approved)
    lengths = [KEPT_BRIEFLY] if job.dry_run or never_approved else []
    if row.retain_for is not None:
        lengths.append(row.retain_for)
    return any(now - job.finished_at >= length for length in lengths)


def _is_source(rows: Rows, row: JobRow) -> bool:
    planned = (o.job for o in rows.jobs.values() if o.job.state is JobState.PLANNING)
    return any(row.job.id in {job.plan, job.parent} for job in planned)


def prune(row: JobRow, now: datetime, *, limit: int) -> bool:
    """Drop a stride of a settled job's items; True when all of it is gone."""
    if not row.job.is_final:
        raise RefusedRequest("wrong_state", f"job {row.job.id} is {row.job.state}: it is needed")
    if row.job.pruned_at is None:
        row.job = replace(row.job, pruned_at=now, query=None, frozen=None)
        row.is_dropping = True
    positions = row.positions()[:limit]
    for position in positions:
        del row.items[position]
        row.strays.pop(position, None)
    if not positions:
        row.chunks.clear()
        row.breach_messages.clear()
        row.is_dropping = False
    return not positions


def check_kept(row: JobRow) -> None:
    """Refuse what asks for items that were dropped. Raises RefusedRequest: `wrong_state`."""
    if row.job.pruned_at is not None:
        at = moment_text(row.job.pruned_at)
        data = {"job": row.job.id, "pruned_at": at}
        said = f"the items of job {row.job.id} were dropped at {at}"
        raise RefusedRequest("wrong_state", said, data=data)
