"""How the in-memory twin keeps protected keys, and stops jobs that mostly fail."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from worker.batch import BatchState, Claimed
from worker.errors import RefusedRequest
from worker.failing import Tolerance, wait_between
from worker.guarding import PROTECTED
from worker.job import JobId
from worker.store.base import Appetite, Protected, Protection, Unprotected, Who
from worker.store.memory_rows import BatchRow, JobRow, Rows


def protect(
    rows: Rows,
    target: str,
    texts: Mapping[bytes, str],
    who: Who,
    *,
    until: datetime | timedelta | None,
    now: datetime,
) -> Protected:
    """Keep keys; how many are new, and how many may be sent still."""
    end = now + until if isinstance(until, timedelta) else until
    if end is not None and end <= now:
        raise RefusedRequest("invalid_message", f"until: {end} has passed")
    known = held_keys(rows, target, now)
    for key, text in texts.items():
        rows.protected[target, key] = Protection(
            key, text, who.reason, end, who.os_user, who.by, now
        )
    rows.note("keys.protected", now, job=None, target=target, who=who, keys=len(texts))
    out = {
        job.items[item.position].key
        for job in rows.jobs.values()
        for row in job.batches.values()
        if row.state is BatchState.LEASED and job.job.target == target
        for item in job.claimed(row).items
    }
    return Protected(len(texts.keys() - known), len(out & texts.keys()))


def unprotect(
    rows: Rows, target: str, keys: Collection[bytes], who: Who, now: datetime
) -> Unprotected:
    """Keep keys no longer; what they kept back stays as it was decided."""
    found = held_keys(rows, target, now) & set(keys)
    for key in found:
        del rows.protected[target, key]
    rows.note("keys.unprotected", now, job=None, target=target, who=who, keys=len(found))
    parents = {job.job.parent for job in rows.jobs.values()}
    kept: Counter[JobId] = Counter()
    for job in rows.jobs.values():
        if not job.job.is_final or job.job.dry_run or job.job.id in parents:
            continue
        for position, item in job.items.items():
            if item.key in found and job.mark(position)[0].code == PROTECTED:
                kept[job.job.id] += 1
    return Unprotected(len(found), dict(kept))


def held_keys(rows: Rows, target: str, now: datetime) -> set[bytes]:
    """The keys of a target that must stay."""
    return {
        key
        for (name, key), one in rows.protected.items()
        if name == target and (one.until is None or one.until > now)
    }


def protections(
    rows: Rows, target: str, now: datetime, *, after: bytes, limit: int
) -> Sequence[Protection]:
    """Protected keys beyond one, by key."""
    chosen = sorted(key for key in held_keys(rows, target, now) if key > after)
    return [rows.protected[target, key] for key in chosen[:limit]]


def guarded(rows: Rows, job: JobRow, batch: BatchRow, now: datetime) -> Claimed:
    """A range with its open items, and those of them that must stay."""
    held = held_keys(rows, job.job.target, now)
    claimed = job.claimed(batch)
    places = (item.position for item in claimed.items)
    return replace(claimed, protected=frozenset(p for p in places if job.items[p].key in held))


def reason_to_stop(
    job: JobRow, tolerance: Tolerance | None, wanted: Appetite, now: datetime
) -> str | None:
    """Why a job is stopped that mostly fails; looked at now and then."""
    if tolerance is None or not tolerance.is_for(job.job.items):
        return None
    wait = wait_between(job.job.items, call_items=wanted.call_items)
    if job.checked_at is not None and now - job.checked_at < wait:
        return None
    job.checked_at = now
    return tolerance.reason_to_stop(job.count_tally())
