"""How what became of batches is written: only while they are still ours."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from itertools import compress
from typing import Any

from sqlalchemy import Row, bindparam, case, delete, func, insert, literal, select, update

from api_adapters.base import Verdict
from worker.batch import BatchState, Claimed, Returned
from worker.breaking import Circuit
from worker.errors import LeaseLost
from worker.job import JobId, JobState
from worker.store.base import Breached, CallNote, LeaseId, Noted, Record, Renewed
from worker.store.paging import count_between
from worker.store.ranges import change_ranges, claimed_of, has_protected, protected_in
from worker.store.tables import (
    EPOCH,
    OPEN_STRAYS,
    STRAY_COLUMNS,
    Moment,
    batches,
    breaches,
    jobs,
    leases,
    protected,
    strays,
    targets,
)
from worker.store.totalling import decided_by, standing
from worker.store.transaction import JOBS_AT_ONCE, Tx, is_one_of, mark_values, moment_of

#: How much of the last call's time enters the smoothed one.
CALL_TIME_SHARE = 0.3
MOST_BREACHES_KEPT = 10
#: A target of which nobody heard anything but good is written of so often.
NEWS_LAST = timedelta(seconds=1)
#: Of call times below this a claim takes as much as it may, whatever they are.
QUICK = timedelta(milliseconds=10)


def record(tx: Tx, records: Sequence[Record]) -> list[Noted | LeaseLost]:
    """Write batches that are still their lease's; a lease ends with its last one."""
    of_leases = {"of_leases": [one.lease for one in records]}
    chosen = _LEASES_HELD if tx.dialect.locks_rows else _LEASES
    target_of = {row.id: row.target for row in tx.execute(chosen, of_leases)}
    held = _held(tx, of_leases["of_leases"])
    ours = [_still_ours(one, held) for one in records]
    known, now = _known_targets(
        tx, {target_of[one.lease] for one in records if one.lease in target_of}
    )
    ended = _write(tx, [one for some in ours for one in some], now, held)
    left = Counter(row.lease for row in held.values())
    lost = [one for one in records if one.returned and not left[one.lease]]
    for one, some in zip(records, ours, strict=True):
        left[one.lease] -= len(some)
    over = [lease for lease in target_of if not left[lease]]
    if over:
        tx.execute(_END_OF_LEASES, {"of_leases": over})
    written = [one for one in records if one not in lost]
    for one in written:
        if one.call is not None and one.lease in target_of:
            row = known[target_of[one.lease]]
            _note_call(tx, row, one.call, now)
            tx.gained.call(row.name, one.call.calls)
    # In one order, so that two records cannot wait for each other.
    breached = [breach for one in written for breach in one.breaches]
    for breach in sorted(breached, key=lambda one: (one.job, one.warned.breach)):
        _note_breach(tx, breach, now)
    return [
        _lost(one) if one in lost else Noted(_done(some, ended), lost=len(one.returned) - len(some))
        for one, some in zip(records, ours, strict=True)
    ]


def _still_ours(record: Record, held: Mapping[tuple[int, int], Row[Any]]) -> list[Returned]:
    """What of a record is still its lease's."""
    rows = ((one, held.get((one.batch.seq, one.batch.first))) for one in record.returned)
    return [one for one, row in rows if row is not None and row.lease == record.lease]


def _lost(record: Record) -> LeaseLost:
    """The answer to a record whose lease has no batches any more."""
    count = len(record.returned)
    return LeaseLost(f"lease {record.lease} has none of its {count} batches any more")


def _done(returned: Sequence[Returned], ended: Collection[JobId]) -> tuple[JobId, ...]:
    """The jobs of which a range became done."""
    is_done = (one.state is BatchState.DONE or one.batch.job in ended for one in returned)
    return tuple(sorted({one.batch.job for one in compress(returned, is_done)}))


def _known_targets(tx: Tx, names: Collection[str]) -> tuple[dict[str, Row[Any]], datetime]:
    """The rows of targets, not held, and the store's clock."""
    if not names:
        return {}, tx.now()
    clock, given = tx.moment()
    rows = tx.execute(_targets_now(clock), {**given, "of_targets": sorted(names)}).all()
    return {row.name: row for row in rows}, rows[0].now


@cache
def _targets_now(clock: str) -> Any:
    """The statement of `_known_targets`, made once."""
    named = targets.c.name.in_(bindparam("of_targets", expanding=True))
    return select(targets, moment_of(clock).label("now")).where(named)


_OF_LEASES = leases.c.id.in_(bindparam("of_leases", expanding=True))
_LEASES = select(leases.c.id, leases.c.target).where(_OF_LEASES).order_by(leases.c.id)
_LEASES_HELD = _LEASES.with_for_update()
_END_OF_LEASES = delete(leases).where(_OF_LEASES)


def renew(tx: Tx, lease: LeaseId, lasting: timedelta) -> Renewed:
    """Lengthen a lease; what `see` tells of it."""
    lengthened = update(leases).where(leases.c.id == lease).values(until=tx.now() + lasting)
    if not tx.changed(lengthened):
        raise LeaseLost(f"lease {lease} ran out and was taken over")
    return see(tx, [lease])[lease]


def see(tx: Tx, names: Collection[LeaseId]) -> dict[LeaseId, Renewed]:
    """What is still wanted of the batches of some leases, and what must stay."""
    served: dict[LeaseId, list[Row[Any]]] = {lease: [] for lease in names}
    for row in tx.execute(_SERVED, {"of_leases": list(served)}):
        served[row.lease].append(row)
    return {lease: _seen(tx, lease, rows) for lease, rows in served.items()}


def _seen(tx: Tx, lease: LeaseId, served: Sequence[Row[Any]]) -> Renewed:
    """The same of one lease, by the jobs that it serves."""
    wanted = frozenset(JobId(row.id) for row in served if row.state == JobState.RUNNING.value)
    if not served or not served[0].has_keys:
        return Renewed(wanted)
    target, now = served[0].target, tx.now()
    if not has_protected(tx, target, now):
        return Renewed(wanted)
    return Renewed(wanted, _protected(tx, lease, target, now), has_protected=True)


_HAS_KEYS = select(protected.c.key).where(protected.c.target == jobs.c.target).exists()
_SERVED = (
    select(
        batches.c.lease,
        jobs.c.id,
        jobs.c.state,
        jobs.c.target,
        _HAS_KEYS.label("has_keys"),
    )
    .join(batches, batches.c.job == jobs.c.seq)
    .where(batches.c.lease.in_(bindparam("of_leases", expanding=True)))
    .distinct()
)


def _protected(tx: Tx, lease: LeaseId, target: str, now: datetime) -> frozenset[tuple[JobId, int]]:
    """The places of a lease's batches whose key is protected."""
    held = tx.execute(
        select(batches.c.job, batches.c.first, batches.c.last, jobs.c.id)
        .join(jobs, jobs.c.seq == batches.c.job)
        .where(batches.c.lease == lease)
    ).all()
    ids = {row.job: JobId(row.id) for row in held}
    found = protected_in(tx, held, target=target, now=now)
    return frozenset((ids[job], position) for job, position, _ in found)


def rescue(tx: Tx, decide: Callable[[str, Claimed], Returned], limit: int) -> Noted:
    """Give back what leases that ran out had."""
    now = tx.now()
    late = select(leases).where(leases.c.until < now).order_by(leases.c.until).limit(limit)
    if tx.dialect.locks_rows:
        late = late.with_for_update(skip_locked=True)
    lost = {row.id: row for row in tx.execute(late)}
    if not lost:
        return Noted(())
    held = _held(tx, list(lost))
    claimed = claimed_of(tx, list(held.values()))
    returned = [
        decide(lost[row.lease].target, one) for row, one in zip(held.values(), claimed, strict=True)
    ]
    done = _done(returned, _write(tx, returned, now, held))
    tx.execute(_END_OF_LEASES, {"of_leases": list(lost)})
    for row in lost.values():
        detail = {"holder": row.holder, "lease": row.id}
        tx.note("lease.lost", now=now, target=row.target, detail=detail)
    return Noted(done)


def _held(tx: Tx, lease_ids: Sequence[int]) -> dict[tuple[int, int], Row[Any]]:
    """The batches of these leases by (job, first), held."""
    chosen = _RANGES_HELD if tx.dialect.locks_rows else _RANGES
    found = tx.execute(chosen, {"of_leases": lease_ids})
    return {(row.job, row.first): row for row in found}


_RANGES = (
    select(batches, jobs.c.id.label("job_id"), jobs.c.target.label("job_target"))
    .join(jobs, jobs.c.seq == batches.c.job)
    .where(batches.c.lease.in_(bindparam("of_leases", expanding=True)))
)
_RANGES_HELD = _RANGES.with_for_update(of=batches)


#: Writes ranges. A verdict that stands is never overwritten, nor its moment.
_WRITE_RANGES = update(batches).values(
    state=bindparam("new_state"),
    lease=None,
    not_before=bindparam("new_not_before"),
    failures=bindparam("new_failures"),
    company=bindparam("new_company"),
    told_to_wait=bindparam("new_told_to_wait"),
    decided_at=func.coalesce(batches.c.decided_at, bindparam("new_decided_at", type_=Moment)),
    **{
        name: case(
            (batches.c.verdict.is_(None), bindparam(f"new_{name}", type_=column.type)),
            else_=column,
        )
        for name in ("verdict", "evidence", "code", "message", "doubt", "calls")
        for column in [batches.c[name]]
    },
    **{name: bindparam(f"new_{name}") for name in (*STRAY_COLUMNS.values(), OPEN_STRAYS)},
)


def _write(
    tx: Tx, returned: Sequence[Returned], now: datetime, held: Mapping[tuple[int, int], Row[Any]]
) -> set[JobId]:
    """Write ranges and strays; the jobs that are ending, of which nothing went back.

    `held` are the rows of the ranges as they were before.
    """
    if not returned:
        return set()
    _write_ranges(tx, returned, now)
    _write_strays(tx, returned, now)
    for one in returned:
        row = held[one.batch.seq, one.batch.first]
        tx.gained.decide(row.job_target, decided_by(row, one))
        still_open = int(one.state is BatchState.READY)
        if one.split_at is not None:
            still_open = split(tx, one.batch.seq, one.batch.first, one.split_at)
        tx.gained.open(row.job_target, still_open - 1)
    return _end_where_ending(tx, [one for one in returned if one.state is BatchState.READY], now)


def _write_ranges(tx: Tx, returned: Sequence[Returned], now: datetime) -> None:
    """Write ranges; those of which the same is written, as of most claims, by one statement."""
    alike: dict[tuple[Any, ...], tuple[dict[str, Any], list[tuple[int, int]]]] = {}
    for one in returned:
        values = _range_values(one, now)
        _, names = alike.setdefault(tuple(values.values()), (values, []))
        names.append((one.batch.seq, one.batch.first))
    for values, names in alike.values():
        change_ranges(tx, _WRITE_RANGES, names, values)


def _range_values(one: Returned, now: datetime) -> dict[str, Any]:
    """The parameters of `_WRITE_RANGES`."""
    batch = one.batch
    values: dict[str, Any] = {
        "state": one.state.value,
        "not_before": now + one.rest if one.rest else EPOCH,
        "failures": batch.failures,
        "company": batch.company,
        "told_to_wait": batch.told_to_wait,
        **mark_values(batch.mark, now),
        **{name: batch.strays.get(verdict, 0) for verdict, name in STRAY_COLUMNS.items()},
        OPEN_STRAYS: batch.strays.get(None, 0),
    }
    return {f"new_{name}": value for name, value in values.items()}


def _write_strays(tx: Tx, returned: Sequence[Returned], now: datetime) -> None:
    """Insert strays, or update those on which no verdict stands."""
    values = [
        {"job": one.batch.seq, "position": position, **mark_values(mark, now)}
        for one in returned
        for position, mark in one.strays.items()
    ]
    if not values:
        return
    new = tx.insert(strays)
    names = ("verdict", "evidence", "code", "message", "doubt", "calls", "decided_at")
    tx.execute(
        new.on_conflict_do_update(
            index_elements=[strays.c.job, strays.c.position],
            set_={name: new.excluded[name] for name in names},
            where=strays.c.verdict.is_(None),
        ),
        values,
    )


def split(tx: Tx, seq: int, first: int, middle: int) -> int:
    """The row keeps the left part, a new row takes the right; how many of them are ready."""
    row = tx.execute(select(batches).where(batches.c.job == seq, batches.c.first == first)).one()
    right = {column.name: getattr(row, column.name) for column in batches.c}
    right.update(first=middle, is_half=True, **counts_of(tx, seq, middle, row.last))
    right["state"] = _state_of(right)
    tx.execute(insert(batches).values(**right))
    left: dict[str, Any] = {"last": middle - 1, **counts_of(tx, seq, first, middle - 1)}
    left["state"] = _state_of({**left, "verdict": row.verdict})
    tx.execute(update(batches).where(batches.c.job == seq, batches.c.first == first).values(**left))
    return [left["state"], right["state"]].count(BatchState.READY.value)


def counts_of(tx: Tx, seq: int, first: int, last: int) -> dict[str, int]:
    """The items and strays of a part, counted."""
    found = tx.execute(
        select(strays.c.verdict, func.count().label("number"))
        .where(strays.c.job == seq, strays.c.position.between(first, last))
        .group_by(strays.c.verdict)
    )
    by_verdict = {row.verdict: row.number for row in found}
    return {
        "items": count_between(tx, seq, first, last),
        **{name: by_verdict.get(verdict.value, 0) for verdict, name in STRAY_COLUMNS.items()},
        OPEN_STRAYS: by_verdict.get(None, 0),
    }


def _state_of(values: dict[str, Any]) -> str:
    """ready where a part has open items, else done."""
    strayed = sum(values[name] for name in STRAY_COLUMNS.values())
    outside = 0 if values.get("verdict") else values["items"] - strayed - values[OPEN_STRAYS]
    is_open = outside + values[OPEN_STRAYS] > 0
    return (BatchState.READY if is_open else BatchState.DONE).value


def _end_where_ending(tx: Tx, ready: Sequence[Returned], now: datetime) -> set[JobId]:
    """End what goes back to a job that is ending; the jobs of it."""
    if not ready:
        return set()
    seqs = sorted({one.batch.seq for one in ready})
    chosen = _ending(has_arrays=tx.dialect.has_arrays)
    strides = (seqs[start : start + JOBS_AT_ONCE] for start in range(0, len(seqs), JOBS_AT_ONCE))
    ending = {row.seq: row for some in strides for row in tx.execute(chosen, {"of_jobs": some})}
    for seq, job in ending.items():
        firsts = [one.batch.first for one in ready if one.batch.seq == seq]
        firsts += [one.split_at for one in ready if one.batch.seq == seq and one.split_at]
        end_ranges(tx, job, firsts, now, code=end_code(job), message=job.reason)
    return {JobId(row.id) for row in ending.values()}


@cache
def _ending(*, has_arrays: bool) -> Any:
    """The statement that reads which of some jobs are ending, made once."""
    some = is_one_of(jobs.c.seq, "of_jobs", has_arrays=has_arrays)
    return select(jobs).where(some, jobs.c.state == JobState.CANCELLING.value)


def end_code(job: Row[Any]) -> str:
    """The code of items that a job which ends early leaves undone."""
    return {"cancel": "cancelled", "decline": "declined"}.get(job.wish, "stopped")


def end_ranges(
    tx: Tx, job: Row[Any], firsts: Sequence[int], now: datetime, *, code: str, message: str | None
) -> None:
    """End ready ranges of a job: what is open is skipped, or unknown in doubt.

    Set-based, so that a job of a million is not read in order to be cancelled.
    """
    before = standing(tx.execute, job.seq, firsts)
    named = (
        batches.c.job == job.seq,
        batches.c.first.in_(firsts),
        batches.c.state == BatchState.READY.value,
    )
    for row in tx.execute(select(batches).where(*named, batches.c[OPEN_STRAYS] > 0)).all():
        _end_open_strays(tx, row, now, code=code, message=message)
    verdict = case((batches.c.doubt, Verdict.UNKNOWN.value), else_=Verdict.SKIPPED.value)
    undecided = batches.c.verdict.is_(None)
    tx.execute(
        update(batches)
        .where(*named)
        .values(
            state=BatchState.DONE.value,
            verdict=func.coalesce(batches.c.verdict, verdict),
            # Calls that cannot have run, such as refused connections, sent nothing.
            calls=case((undecided & ~batches.c.doubt, 0), else_=batches.c.calls),
            code=case((undecided, code), else_=batches.c.code),
            message=case((undecided, message), else_=batches.c.message),
            decided_at=func.coalesce(batches.c.decided_at, literal(now, Moment)),
        )
    )
    after = standing(tx.execute, job.seq, firsts)
    tx.gained.decide(job.target, after.tally - before.tally)
    tx.gained.open(job.target, after.open_batches - before.open_batches)


def _end_open_strays(
    tx: Tx, row: Row[Any], now: datetime, *, code: str, message: str | None
) -> None:
    """End the open strays of one range and count its strays anew."""
    within = (strays.c.job == row.job, strays.c.position.between(row.first, row.last))
    verdict = case((strays.c.doubt, Verdict.UNKNOWN.value), else_=Verdict.SKIPPED.value)
    tx.execute(
        update(strays)
        .where(*within, strays.c.verdict.is_(None))
        .values(
            verdict=verdict,
            code=code,
            message=message,
            decided_at=now,
            calls=case((strays.c.doubt, strays.c.calls), else_=0),
        )
    )
    tx.execute(
        update(batches)
        .where(batches.c.job == row.job, batches.c.first == row.first)
        .values(**counts_of(tx, row.job, row.first, row.last))
    )


def _note_call(tx: Tx, known: Row[Any], call: CallNote, now: datetime) -> None:
    """Remember how long a call took, that it was answered, and a wait that was told.

    All who work on the target wait for its row, so that of a target that is well
    no more than the last second's news is written.
    """
    if _is_no_news(call, known, now):
        return
    target = known.name
    row = tx.execute(tx.locked(_TARGET), {"of_target": target}).one()
    before = row.call_time if row.call_time is not None else call.took
    values: dict[str, Any] = {
        "call_time": before * (1 - CALL_TIME_SHARE) + call.took * CALL_TIME_SHARE
    }
    if call.answered:
        values.update(succeeded_at=now, closed_at=None, closed_reason=None)
    before_it = Circuit(row.failing, row.openings)
    circuit, rest = before_it.after(
        call.failures,
        is_alive=call.answered or call.is_alive,
        is_resting=row.not_before > now,
    )
    values.update(failing=circuit.failing, openings=circuit.openings)
    if longest := max(call.rest, rest):
        values.update(not_before=max(row.not_before, now + longest))
    tx.execute(update(targets).where(targets.c.name == target).values(**values))
    if circuit.is_open != before_it.is_open:
        kind = "circuit.opened" if circuit.is_open else "circuit.closed"
        tx.note(kind, now=now, target=target, detail={"failing": circuit.failing})


_TARGET = select(targets).where(targets.c.name == bindparam("of_target"))


def _is_no_news(call: CallNote, row: Row[Any], now: datetime) -> bool:
    """Whether a target is known to be as well, and as quick, as a call says."""
    if not call.answered or call.failures or call.rest:
        return False
    if row.failing or row.openings or row.closed_at or row.call_time is None:
        return False
    is_as_quick = abs(call.took - row.call_time) < max(row.call_time / 3, QUICK)
    is_fresh = row.succeeded_at is not None and now - row.succeeded_at < NEWS_LAST
    return is_as_quick and is_fresh


def lengthen_lost(tx: Tx) -> int:
    """Give leases that ran out one more length; how many."""
    now = tx.now()
    # In one order, as whoever records together locks them.
    late = select(leases.c.id, leases.c.lasting).where(leases.c.until < now)
    lost = tx.execute(tx.locked(late.order_by(leases.c.id))).all()
    for lease in lost:
        longer = update(leases).where(leases.c.id == lease.id)
        tx.execute(longer.values(until=now + lease.lasting))
    return len(lost)


def _note_breach(tx: Tx, one: Breached, now: datetime) -> None:
    """Count a contract violation; the first ten messages are kept."""
    seq = tx.execute(select(jobs.c.seq).where(jobs.c.id == one.job)).scalar_one()
    kind = one.warned.breach.value
    new = tx.insert(breaches).values(job=seq, breach=kind, times=0, first_ten="[]")
    tx.execute(new.on_conflict_do_nothing())
    named = (breaches.c.job == seq, breaches.c.breach == kind)
    row = tx.execute(tx.locked(select(breaches).where(*named))).one()
    if not row.times:
        tx.note("answer.breached", now=now, job=one.job, detail={"breach": kind})
    kept = json.loads(row.first_ten)
    if len(kept) < MOST_BREACHES_KEPT:
        kept.append(one.warned.message)
    tx.execute(
        update(breaches).where(*named).values(times=row.times + 1, first_ten=json.dumps(kept))
    )
