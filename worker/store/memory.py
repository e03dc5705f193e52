"""The in-memory twin of the results store, for tests: the port in plain Python."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from threading import RLock
from typing import Any

from api_adapters.base import Evidence, Verdict
from worker.batch import BatchState, Claimed, Returned
from worker.errors import LeaseLost, RefusedRequest
from worker.failing import Tolerance
from worker.item import Mark
from worker.job import Job, JobId, JobState, JobStatus, NewJob, Tally
from worker.purge import Decision, PurgeNote, PurgeRun, RunStatus
from worker.store import memory_purging
from worker.store.base import (
    BELL_PATIENCE,
    DECLINED_FOR,
    Appetite,
    Busy,
    Chunk,
    Claim,
    Closing,
    Cut,
    Event,
    Forgotten,
    JobNote,
    LeaseId,
    Look,
    Measures,
    Mention,
    Noted,
    Outdated,
    Owed,
    Page,
    Part,
    Protected,
    Protection,
    Record,
    Renewed,
    Sealed,
    Settled,
    Store,
    TargetNote,
    Unprotected,
    Who,
)
from worker.store.memory_claiming import choose, earliest_moment, gathers, note_call, take
from worker.store.memory_copying import copy_leftovers
from worker.store.memory_finding import check_fresh, clear, held, land, take_query
from worker.store.memory_measuring import measures_of, note_of
from worker.store.memory_protecting import (
    guarded,
    held_keys,
    protect,
    protections,
    reason_to_stop,
    unprotect,
)
from worker.store.memory_reading import job_note_of, mentions_of, results_of, status_of
from worker.store.memory_rows import BatchRow, JobRow, Rows
from worker.store.memory_writing import (
    END_STATES,
    add_done_range,
    counted,
    end_job,
    finish,
    give_back,
    open_positions,
)

NOBODY_FED_IT = "nobody fed it for a day"


class MemoryStore(Store):
    """All tables as dictionaries, every method under one lock."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._rows = Rows()
        self._lock = RLock()

    @contextmanager
    def _now(self) -> Iterator[datetime]:
        """Hold the lock, at the moment at which it was taken."""
        with self._lock:
            yield self._clock()

    # -- how jobs come in ---------------------------------------------------

    def submit(self, job: NewJob, chunk: Chunk, *, cuts: Sequence[Cut] = ()) -> Job:
        """See the port."""
        with self._now() as now:
            row = self._rows.jobs.get(job.id)
            is_new = row is None
            if row is None:
                row = self._add(job, JobState.PLANNING, now)
                row.sealed = 1
                row.land(chunk, now)
            landed = row.chunks.get(0)
            is_same = row.sealed == 1 and landed is not None and landed.digest == chunk.digest
            if row.options != job.options or not is_same:
                raise _conflict(job.id)
            if is_new and cuts:
                self.add_batches(job.id, cuts)
                self.start(job.id)
            return row.job

    def open(self, job: NewJob) -> Job:
        """See the port."""
        with self._now() as now:
            row = self._rows.jobs.get(job.id)
            if row is None and (job.plan is not None or job.parent is not None):
                source = self._check_source(job, now)
                row = self._add(job, JobState.PLANNING, now)
                take_query(row, source)
            if row is None and job.query is not None:
                row = self._add(job, JobState.PLANNING, now)
            row = row or self._add(job, JobState.OPEN, now)
            if row.options != job.options:
                raise _conflict(job.id)
            return row.job

    def append(self, job: JobId, chunk: Chunk) -> Job:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            landed = row.chunks.get(chunk.number)
            if landed is None:
                self._land(row, chunk, now)
            elif landed.digest != chunk.digest:
                raise _conflict(job, f"chunk {chunk.number} landed with other content")
            return row.job

    def seal(self, job: JobId, chunks: int) -> Sealed:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if row.sealed not in {None, chunks}:
                raise _conflict(job, f"it was sealed with {row.sealed} chunks, not {chunks}")
            if row.sealed is None:
                _check_seal(row, chunks)
                row.sealed = chunks
                self._go_on(row, now)
            missing = (number for number in range(chunks) if number not in row.chunks)
            return Sealed(row.job.state, tuple(islice(missing, 100)))

    def _add(self, job: NewJob, state: JobState, now: datetime) -> JobRow:
        new = Job(
            id=job.id,
            seq=len(self._rows.jobs) + 1,
            target=job.target,
            fingerprint=job.fingerprint,
            state=state,
            reason=None,
            dry_run=job.dry_run,
            approved=False,
            items=0,
            duplicates=0,
            plan=job.plan,
            requested_by=job.requested_by,
            notify=job.notify,
            parent=job.parent,
            chunk_items=job.chunk_items,
            query=job.query,
            frozen=None,
            found_at=None,
            needs_approval=job.needs_approval,
            purge=job.purge,
            purge_digest=job.purge_digest,
            max_items=job.max_items,
            created_at=now,
            started_at=None,
            finished_at=None,
        )
        row = JobRow(new, job.options, moved_at=now, fed_at=now, retain_for=job.retain_for)
        self._rows.jobs[job.id] = row
        self._rows.note(
            "job.submitted", now, job=new, dry_run=job.dry_run, requested_by=job.requested_by
        )
        return row

    def _check_source(self, job: NewJob, now: datetime) -> JobRow:
        row = self._rows.job(job.plan or job.parent or job.id)
        memory_purging.check_kept(row)
        is_plan = row.job.dry_run and row.job.state is JobState.COMPLETED
        if job.plan is not None and not is_plan:
            raise _wrong_state(row.job, "only a completed dry run can be executed")
        if job.parent is not None and (row.job.dry_run or not row.job.is_final):
            raise _wrong_state(row.job, "only a job that has ended can be tried again")
        if (row.job.target, row.job.fingerprint) != (job.target, job.fingerprint):
            raise _wrong_state(row.job, "it was made for a target as it was configured then")
        check_fresh(row, job.found_valid_for, now)
        return row

    def _land(self, row: JobRow, chunk: Chunk, now: datetime) -> None:
        is_open = row.job.state is JobState.OPEN
        if not is_open or (row.sealed is not None and chunk.number >= row.sealed):
            raise RefusedRequest(
                "job_sealed",
                f"job {row.job.id} takes no more items: it is {row.job.state}",
                data={"job": row.job.id, "chunk": chunk.number},
            )
        row.land(chunk, now)
        self._go_on(row, now)

    def _go_on(self, row: JobRow, now: datetime) -> None:
        """open -> planning, once all chunks have landed."""
        if row.job.state is JobState.OPEN and len(row.chunks) == row.sealed:
            row.move(JobState.PLANNING, now)

    # -- planning -----------------------------------------------------------

    def begin_planning(self, job: JobId, *, holder: str, lasting: timedelta) -> Job | None:
        """See the port."""
        with self._now() as now:
            row = self._rows.job_in(job, JobState.PLANNING)
            if row is None or (row.is_being_planned(now) and row.planner != holder):
                return None
            row.planner, row.planned_until = holder, now + lasting
            return row.job

    def give_up_planning(self, job: JobId, *, holder: str) -> None:
        """See the port."""
        with self._now():
            row = self._rows.job(job)
            if row.planner == holder:
                row.planner = row.planned_until = None

    def copy_plan(self, job: JobId, *, limit: int) -> bool:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if row.job.plan is None or row.job.state is not JobState.PLANNING:
                return True
            plan = self._rows.job(row.job.plan)
            memory_purging.check_kept(plan)
            missing = [position for position in plan.positions() if position not in row.items]
            if len(row.items) + len(missing) != plan.job.items:
                raise _wrong_state(plan.job, "its items are gone: make a new dry run")
            for position in missing[:limit]:
                row.put(plan.items[position], now)
            row.count()
            return len(missing) <= limit

    def copy_leftovers(self, job: JobId, *, limit: int) -> bool:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if row.job.parent is None or row.job.state is not JobState.PLANNING:
                return True
            parent = self._rows.job(row.job.parent)
            memory_purging.check_kept(parent)
            return copy_leftovers(parent, row, now, limit=limit)

    def drop_duplicates(self, job: JobId) -> Job:
        """See the port."""
        with self._now():
            row = self._rows.job(job)
            if row.job.state is not JobState.PLANNING:
                return row.job
            seen: set[bytes] = set()
            for position in row.positions():
                key = row.items[position].key
                if key in seen:
                    del row.items[position]
                    row.strays.pop(position, None)
                elif key is not None:
                    seen.add(key)
            row.count()
            return row.job

    def places(self, job: JobId, *, after: int, limit: int) -> Sequence[tuple[int, int, bool]]:
        """See the port."""
        with self._now():
            return list(open_positions(self._rows.job(job), limit, after))

    def parts(self, job: JobId, *, after: int, size: int, limit: int) -> Sequence[Part]:
        """See the port."""
        with self._now():
            found = list(open_positions(self._rows.job(job), limit, after))
        if found:
            found = [one for one in found if one[0] < found[0][0] + limit]
        groups = [found[at : at + size] for at in range(0, len(found), size)]
        return [
            Part(
                group[0][0],
                group[-1][0],
                items=size,
                open_items=sum(is_open for _, _, is_open in group),
                bytes=sum(length for _, length, _ in group),
            )
            for group in groups
            if len(group) == size
        ]

    def last_cut(self, job: JobId) -> int:
        """See the port."""
        with self._now():
            return self._rows.job(job).last_cut

    def add_batches(self, job: JobId, cuts: Sequence[Cut]) -> None:
        """See the port."""
        with self._now():
            row = self._rows.job(job)
            if row.job.state is not JobState.PLANNING:
                return
            for cut in cuts:
                if cut.first == row.first_uncut:
                    batch = row.batch(cut.first, cut.last)
                    state = BatchState.READY if batch.open_items else BatchState.DONE
                    row.batches[cut.first] = BatchRow(batch, state)

    def start(self, job: JobId) -> bool:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if row.job.state is not JobState.PLANNING:
                return False
            row.round = self._rows.target(row.job.target).round
            row.move(JobState.RUNNING, now)
            self._rows.note("job.planned", now, job=row.job, items=row.job.items)
            return True

    def content(
        self, job: JobId, *, after: int, limit: int
    ) -> Sequence[tuple[int, str, bytes | None]]:
        """See the port."""
        with self._now():
            row = self._rows.job(job)
            places = row.positions(after + 1)[:limit]
            return [(place, row.items[place].text, row.items[place].key) for place in places]

    def hold(self, job: JobId, *, reason: str, digest: str | None = None) -> bool:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if row.job.state is not JobState.PLANNING:
                return False
            row.move(JobState.AWAITING_APPROVAL, now, reason=reason)
            row.job = replace(row.job, items_digest=digest)
            count = row.job.items
            self._rows.note("job.held", now, job=row.job, reason=reason, items=count, digest=digest)
            return True

    def finish_dry(self, job: JobId) -> bool:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if row.job.state is not JobState.PLANNING:
                return False
            add_done_range(row, _dry_mark(), now)
            finish(self._rows, row, JobState.COMPLETED, now)
            return True

    # -- finding ------------------------------------------------------------

    def begin_find(self, job: JobId, *, holder: str) -> int:
        """See the port."""
        with self._now():
            row = held(self._rows.job(job), holder)
            row.finds += 1
            return row.finds - 1

    def freeze(self, job: JobId, frozen: Mapping[str, Any], *, holder: str) -> Job:
        """See the port."""
        with self._now():
            row = held(self._rows.job(job), holder)
            if row.job.frozen is None:
                row.job = replace(row.job, frozen=dict(frozen))
            return row.job

    def clear_found(self, job: JobId, *, holder: str, limit: int) -> bool:
        """See the port."""
        with self._now():
            return clear(held(self._rows.job(job), holder), limit=limit)

    def land_found(self, job: JobId, chunk: Chunk, *, holder: str) -> None:
        """See the port."""
        with self._now() as now:
            land(held(self._rows.job(job), holder), chunk, now)

    def end_find(self, job: JobId, *, holder: str) -> Job:
        """See the port."""
        with self._now() as now:
            row = held(self._rows.job(job), holder)
            row.job = replace(row.job, found_at=now)
            self._rows.note("job.found", now, job=row.job, items=row.job.items, finds=row.finds)
            return row.job

    def rest(self, target: str, *, length: timedelta) -> None:
        """See the port."""
        with self._now() as now:
            row = self._rows.target(target)
            row.not_before = max(row.not_before or now, now + length)

    # -- executing ----------------------------------------------------------

    def answer_bell(self, target: str) -> None:
        """See the port."""
        with self._now() as now:
            row = self._rows.target(target)
            row.rung_at, row.answered_at = None, now

    def decline_bell(self, target: str) -> None:
        """See the port."""
        with self._now() as now:
            row = self._rows.target(target)
            row.rung_at, row.answered_at = now - BELL_PATIENCE + DECLINED_FOR, now

    def claim_many(
        self,
        target: str,
        *,
        hands: int,
        fingerprint: str,
        holder: str,
        lasting: timedelta,
        appetite: Callable[[timedelta | None], Appetite],
        tolerance: Tolerance | None = None,
        is_sure: bool = False,
        answers_bell: bool = False,
    ) -> Sequence[Claim | Busy]:
        """See the port."""
        claims: list[Claim] = []
        with self._now() as now:
            row = self._rows.target(target)
            wants = appetite(row.call_time)
            if row.circuit.is_open:
                wants = replace(wants, calls=1, places=1)
            held = self._rows.live_leases(target, now)
            if wants.calls > wants.least and len(held) < wants.places:
                due = self._due(target, fingerprint, now)
                undone = self._rows.undone(held, now) / row.call_time if row.call_time else 0
                wants = wants.shared(due, len(held), undone)
            is_simple = not held_keys(self._rows, target, now) and self._is_one_job(
                target, fingerprint, now
            )
            places = wants.places - len(held)
            most = max(1, min(hands, places)) if is_simple else 1
            while len(claims) < most:
                one = self._claim(
                    target,
                    wants.of_hand(len(claims), hands=most),
                    tolerance,
                    fingerprint=fingerprint,
                    holder=holder,
                    lasting=lasting,
                )
                if isinstance(one, Busy):
                    break
                claims.append(one)
            if not claims:
                return [one] * hands
            live = len(self._rows.live_leases(target, now))
            is_more = self._due(target, fingerprint, now) > 0
            bells = wants.bells(live, claims=len(claims)) if is_more else 0
            if answers_bell:
                row.rung_at, row.answered_at = None, now
            elif bells:
                bells = int(row.may_ring(now))
            row.rung_at = now if bells else row.rung_at
            claims = [replace(one, is_more=is_more) for one in claims]
            claims[0] = replace(claims[0], bells=bells)
            told = wants.turned(live, is_more=is_more, is_answered=answers_bell)
        return [*claims, *[told] * (hands - len(claims))]

    def _is_one_job(self, target: str, fingerprint: str, now: datetime) -> bool:
        """Whether no two jobs of a target have batches that may be claimed."""
        jobs = [job for job in self._rows.running(target) if job.job.fingerprint == fingerprint]
        return sum(any(row.is_due(now) for row in job.batches.values()) for job in jobs) <= 1

    def _due(self, target: str, fingerprint: str, now: datetime) -> int:
        """How many batches of a target may be claimed."""
        jobs = [job for job in self._rows.running(target) if job.job.fingerprint == fingerprint]
        return sum(row.is_due(now) for job in jobs for row in job.batches.values())

    def _claim(
        self,
        target: str,
        wants: Appetite,
        tolerance: Tolerance | None,
        *,
        fingerprint: str,
        holder: str,
        lasting: timedelta,
    ) -> Claim | Busy:
        """One claim, which rings no bell."""
        with self._now() as now:
            row = self._rows.target(target)
            held = self._rows.live_leases(target, now)
            places = wants.places - len(held)
            if (rest := row.rests_for(now)) is not None or places <= 0:
                return Busy(rest)
            jobs = [j for j in self._rows.running(target) if j.job.fingerprint == fingerprint]
            chosen = choose(jobs, wants, now)
            if not chosen:
                return Busy(earliest_moment(jobs, now))
            live = wants.places - places
            if wait := gathers(chosen, wants, live, now):
                return Busy(wait, is_gathering=True)
            served = {job.job.id: job for job, _ in chosen}
            stopped = {
                name
                for name, job in served.items()
                if (reason := reason_to_stop(job, tolerance, wants, now)) is not None
                and self._end_early(job, "stopped", Who(reason=reason), now)
            }
            chosen = [one for one in chosen if one[0].job.id not in stopped]
            if not chosen:
                return Busy(timedelta())
            parts = (row.batch for _, row in chosen)
            items = sum(wants.share_of(one.open_items, one.company) for one in parts)
            lease = take(
                self._rows,
                chosen,
                target,
                holder=holder,
                lasting=lasting,
                expected_end=wants.expected_end(now, items, row.call_time),
                now=now,
            )
            batches = tuple(guarded(self._rows, job, batch, now) for job, batch in chosen)
            found = {job.job.id: job.job.frozen for job, _ in chosen}
            queries = {one: frozen for one, frozen in found.items() if frozen is not None}
            answers = row.answers(now)
            has_keys = bool(held_keys(self._rows, target, now))
            return Claim(
                lease=lease,
                target=target,
                batches=batches,
                call_time=row.call_time,
                target_answers=answers,
                bells=0,
                is_more=False,
                beside=sum(self._rows.leases[one].holder != holder for one in held),
                queries=queries,
                has_protected=has_keys,
            )

    def renew(self, lease: LeaseId, *, lasting: timedelta) -> Renewed:
        """See the port."""
        with self._now() as now:
            if lease not in self._rows.leases:
                raise LeaseLost(f"lease {lease} is somebody else's now")
            self._rows.leases[lease].until = now + lasting
        return self.see([lease])[lease]

    def see(self, leases: Collection[LeaseId]) -> Mapping[LeaseId, Renewed]:
        """See the port."""
        return {lease: self._see(lease) for lease in leases}

    def _see(self, lease: LeaseId) -> Renewed:
        with self._now() as now:
            held = self._rows.leased(lease)
            if not held:
                return Renewed(frozenset())
            target = held[0][0].job.target
            held_back = held_keys(self._rows, target, now)
            kept = {
                (job.job.id, place)
                for job, batch in held
                for place in job.positions(batch.batch.first, batch.batch.last)
                if job.items[place].key in held_back
            }
            running = {job.job.id for job, _ in held if job.job.state is JobState.RUNNING}
            return Renewed(frozenset(running), frozenset(kept), bool(held_back))

    def record_many(self, records: Sequence[Record]) -> Sequence[Noted | LeaseLost]:
        """See the port."""
        with self._now() as now:
            return [self._record(one, now) for one in records]

    def _record(self, record: Record, now: datetime) -> Noted | LeaseLost:
        lease, returned = record.lease, record.returned
        ours = {(j.job.id, b.batch.first): (j, b) for j, b in self._rows.leased(lease)}
        places = [(one.batch.job, one.batch.first) for one in returned]
        held = [(*ours[at], one) for at, one in zip(places, returned, strict=True) if at in ours]
        if returned and not held and not ours:
            return LeaseLost(f"lease {lease} is somebody else's now: nothing was written")
        if record.call is not None and lease in self._rows.leases:
            note_call(self._rows, self._rows.leases[lease].target, record.call, now)
        for breached in record.breaches:
            self._rows.job(breached.job).note_breach(breached.warned)
        return self._give_back(lease, held, now, lost=len(returned) - len(held))

    def rescue(self, decide: Callable[[str, Claimed], Returned], *, limit: int) -> Noted:
        """See the port."""
        with self._now() as now:
            lost = [lease for lease, row in self._rows.leases.items() if row.until < now]
            lost.sort(key=lambda lease: self._rows.leases[lease].until)
            jobs: dict[JobId, None] = {}
            for lease in lost[:limit]:
                row = self._rows.leases[lease]
                held = [
                    (job, batch, decide(row.target, job.claimed(batch)))
                    for job, batch in self._rows.leased(lease)
                ]
                jobs |= dict.fromkeys(self._give_back(lease, held, now).jobs)
                self._rows.note(
                    "lease.lost", now, job=None, target=row.target, holder=row.holder, lease=lease
                )
            return Noted(tuple(jobs))

    def _give_back(
        self,
        lease: LeaseId,
        held: Sequence[tuple[JobRow, BatchRow, Returned]],
        now: datetime,
        *,
        lost: int = 0,
    ) -> Noted:
        for job, batch, one in held:
            give_back(job, batch, one, now)
        if not self._rows.leased(lease):
            self._rows.leases.pop(lease, None)
        done = (job.job.id for job, batch, _ in held if batch.state is BatchState.DONE)
        return Noted(tuple(dict.fromkeys(done)), lost)

    def come_back(self) -> int:
        """See the port."""
        with self._now() as now:
            lost = [lease for lease in self._rows.leases.values() if lease.until < now]
            for lease in lost:
                lease.until = now + lease.lasting
            return len(lost)

    def close_target(self, target: str, *, reason: str, rest: timedelta) -> timedelta:
        """See the port."""
        with self._now() as now:
            row = self._rows.target(target)
            row.closed_at = row.closed_at or now
            row.closed_reason = reason
            row.not_before = now + rest
            return now - row.closed_at

    def open_target(self, target: str, who: Who) -> bool:
        """See the port."""
        with self._now() as now:
            row = self._rows.target(target)
            was_closed = row.closed_at is not None
            if was_closed:
                row.closed_at = row.closed_reason = row.not_before = None
                self._rows.note("target.opened", now, job=None, target=target, who=who)
            return was_closed

    def stop(self, job: JobId, *, reason: str) -> bool:
        """See the port."""
        with self._now() as now:
            return self._end_early(self._rows.job(job), "stopped", Who(reason=reason), now)

    # -- bells --------------------------------------------------------------

    def may_ring(self, target: str) -> bool:
        """See the port."""
        with self._now() as now:
            row = self._rows.target(target)
            if row.rests_for(now) is not None or not row.may_ring(now):
                return False
            if not self._rows.has_due(target, now):
                return False
            row.rung_at = now
            return True

    def look(self, *, every: timedelta) -> Look | None:
        """See the port."""
        with self._now() as now:
            if self._rows.looked_at is not None and self._rows.looked_at + every > now:
                return None
            self._rows.looked_at = now
            for row in self._rows.jobs.values():
                if row.job.state is JobState.OPEN and row.fed_at + timedelta(days=1) <= now:
                    self._end_early(row, "cancelled", Who(reason=NOBODY_FED_IT), now)
            jobs = self._rows.jobs.values()
            return Look(
                ring=tuple(t for t in sorted(self._rows.targets) if self.may_ring(t)),
                plan=tuple(row.job.id for row in jobs if row.waits_for_planning(now)),
                is_owing=any(row.is_owing for row in self._rows.jobs.values()),
                settle=tuple(row.job.id for row in jobs if row.waits_for_settling(now)),
                has_lost_leases=any(row.until < now for row in self._rows.leases.values()),
            )

    # -- settling -----------------------------------------------------------

    def end_ready(self, job: JobId, *, limit: int) -> int:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if row.job.state is not JobState.CANCELLING:
                return 0
            return end_job(row, now, limit=limit)

    def settle(self, job: JobId) -> JobStatus | None:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if not row.may_settle or row.has_open_ranges:
                return None
            if row.job.state is not JobState.CANCELLING:
                finish(self._rows, row, JobState.COMPLETED, now)
            elif row.positions(row.last_cut + 1):
                return None
            else:
                finish(self._rows, row, END_STATES[row.end_code or "cancelled"], now)
            return status_of(self._rows, row, now)

    def settle_done(self, jobs: Sequence[JobId]) -> Closing:
        """See the port."""
        with self._now() as now:
            rows = [row for job in dict.fromkeys(jobs) if (row := self._rows.jobs.get(job))]
            ending = [row for row in rows if row.job.state is JobState.CANCELLING]
            done = [row for row in rows if row.may_settle and row not in ending]
            tallies = [(row.job, counted(row)) for row in done]
            for row in done:
                finish(self._rows, row, JobState.COMPLETED, now)
            return Closing(
                tuple(
                    Settled(job.id, job.target, JobState.COMPLETED, tally, job.notify)
                    for job, tally in tallies
                ),
                tuple(row.job.id for row in ending),
            )

    def owed(self, *, limit: int) -> Sequence[Owed]:
        """See the port."""
        with self._now():
            return [
                Owed(
                    row.job.id,
                    row.job.notify or "",
                    row.job.state,
                    {verdict.value: count for verdict, count in row.count_tally().items()},
                )
                for row in self._rows.jobs.values()
                if row.is_owing
            ][:limit]

    def pay(self, job: JobId) -> None:
        """See the port."""
        with self._now():
            self._rows.job(job).is_owing = False

    # -- commands -----------------------------------------------------------

    def pause(self, job: JobId, who: Who) -> None:
        """See the port."""
        moves = (JobState.RUNNING, JobState.PAUSED)
        self._command(job, *moves, who=who, kind="job.paused")

    def resume(self, job: JobId, who: Who, *, valid_for: timedelta | None = None) -> None:
        """See the port."""
        moves = (JobState.PAUSED, JobState.RUNNING)
        self._command(job, *moves, who=who, kind="job.resumed", valid_for=valid_for)

    def cancel(self, job: JobId, who: Who) -> None:
        """See the port."""
        with self._now() as now:
            self._end_early(self._rows.job(job), "cancelled", who, now)

    def accept_target(self, job: JobId, who: Who, *, fingerprint: str) -> None:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if row.job.is_final:
                raise _wrong_state(row.job, "it has ended")
            row.job = replace(row.job, fingerprint=fingerprint)
            self._rows.note("job.target_accepted", now, job=row.job, who=who)

    def approve(
        self,
        job: JobId,
        who: Who,
        *,
        valid_for: timedelta | None = None,
        digest: str | None = None,
    ) -> None:
        """See the port."""
        moves = (JobState.AWAITING_APPROVAL, JobState.PLANNING)
        with self._lock:
            row = self._rows.job(job)
            known = row.job.items_digest
            if row.job.state is moves[0] and digest not in {None, known}:
                raise _wrong_state(row.job, f"its items have the digest {known}")
            if row.job.state is moves[0]:
                check_fresh(row, valid_for, self._clock())
                memory_purging.approve(self._rows, row.job)
            told = {"digest": known, "items": row.job.items}
            self._command(job, *moves, who=who, kind="job.approved", valid_for=valid_for, told=told)
            row.job = replace(row.job, approved=True)

    def decline(self, job: JobId, who: Who) -> None:
        """See the port."""
        with self._now() as now:
            row = self._rows.job(job)
            if row.job.state is not JobState.AWAITING_APPROVAL:
                raise _wrong_state(row.job, "only a job that awaits approval can be declined")
            self._end_early(row, "declined", who, now)

    def _command(
        self,
        job: JobId,
        origin: JobState,
        goal: JobState,
        *,
        who: Who,
        kind: str,
        valid_for: timedelta | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> None:
        with self._now() as now:
            row = self._rows.job(job)
            if row.job.state is not origin:
                raise _wrong_state(row.job, f"this is for jobs that are {origin}")
            check_fresh(row, valid_for, now)
            row.move(goal, now)
            self._rows.note(kind, now, job=row.job, who=who, **(told or {}))

    def _end_early(self, row: JobRow, code: str, who: Who, now: datetime) -> bool:
        """Put a job into cancelling, with the code of what is left undone."""
        if row.job.is_final or row.job.state is JobState.CANCELLING:
            return False
        row.end_code = code
        row.move(JobState.CANCELLING, now, reason=who.reason or _said(code, who))
        self._rows.note(f"job.{code}", now, job=row.job, who=who)
        return True

    def forget(self, target: str, key: bytes, who: Who) -> Forgotten:
        """See the port."""
        with self._now() as now:
            places = [
                (row, position)
                for row in self._rows.jobs.values()
                for position, item in row.items.items()
                if item.key == key
            ]
            settled = [place for place in places if place[0].job.is_final]
            for row, position in settled:
                row.tally = row.count_tally()
                del row.items[position]
                row.strays.pop(position, None)
            kept = len(places) - len(settled)
            self._rows.note("item.forgotten", now, job=None, who=who, jobs=len(settled), kept=kept)
            return Forgotten(len(settled), kept)

    # -- protected keys -----------------------------------------------------

    def protect(
        self,
        target: str,
        texts: Mapping[bytes, str],
        who: Who,
        *,
        until: datetime | timedelta | None = None,
    ) -> Protected:
        """See the port."""
        with self._now() as now:
            return protect(self._rows, target, texts, who, until=until, now=now)

    def unprotect(self, target: str, keys: Collection[bytes], who: Who) -> Unprotected:
        """See the port."""
        with self._now() as now:
            return unprotect(self._rows, target, keys, who, now)

    def protection(self, target: str, key: bytes) -> Protection | None:
        """See the port."""
        with self._now() as now:
            is_held = key in held_keys(self._rows, target, now)
            return self._rows.protected[target, key] if is_held else None

    def protections(self, target: str, *, after: bytes, limit: int) -> Sequence[Protection]:
        """See the port."""
        with self._now() as now:
            return protections(self._rows, target, now, after=after, limit=limit)

    # -- standing orders ----------------------------------------------------

    def register_purge(self, name: str, *, digest: str) -> PurgeNote:
        """See the port."""
        with self._now() as now:
            return memory_purging.register(self._rows, name, digest, now)

    def purge(self, name: str) -> PurgeNote:
        """See the port."""
        with self._now() as now:
            return memory_purging.note_of(self._rows, name, now)

    def run_purge(
        self, name: str, decide: Callable[[PurgeNote], Decision | None], *, who: Who
    ) -> PurgeRun | None:
        """See the port."""
        with self._now() as now:
            return memory_purging.run(
                self._rows, name, decide, who=who, now=now, open_job=self.open
            )

    def purge_runs(self, name: str, *, limit: int) -> Sequence[RunStatus]:
        """See the port."""
        with self._now():
            return memory_purging.runs_of(self._rows, name)[:limit]

    def purge_succeeded_at(self, name: str) -> datetime | None:
        """See the port."""
        with self._now():
            runs = memory_purging.runs_of(self._rows, name)
            return next((one.finished_at for one in runs if one.has_succeeded), None)

    def note_tick(self) -> None:
        """See the port."""
        with self._now() as now:
            self._rows.ticked_at = now

    def ticked(self) -> timedelta | None:
        """See the port."""
        with self._now() as now:
            at = self._rows.ticked_at
            return None if at is None else now - at

    # -- pruning ------------------------------------------------------------

    def outdated(self, *, limit: int) -> Outdated:
        """See the port."""
        with self._now() as now:
            return memory_purging.outdated_of(self._rows, now, limit=limit)

    def prune(self, job: JobId, *, limit: int) -> bool:
        """See the port."""
        with self._now() as now:
            return memory_purging.prune(self._rows.job(job), now, limit=limit)

    def sweep(self) -> None:
        """See the port."""

    def prune_runs(self, *, before: timedelta, limit: int) -> int:
        """See the port."""
        with self._now() as now:
            return memory_purging.drop_old_runs(self._rows, before=now - before, limit=limit)

    def note_pruning(self, who: Who, *, pruned: int, declined: int) -> None:
        """See the port."""
        with self._now() as now:
            counts = {"jobs": pruned, "declined": declined}
            self._rows.note("store.pruned", now, job=None, who=who, **counts)

    # -- reading ------------------------------------------------------------

    def job(self, job: JobId) -> Job:
        """See the port."""
        with self._now():
            return self._rows.job(job).job

    def status(self, job: JobId) -> JobStatus:
        """See the port."""
        with self._now() as now:
            return status_of(self._rows, self._rows.job(job), now)

    def jobs(self, *, limit: int) -> Sequence[JobStatus]:
        """See the port."""
        with self._now() as now:
            newest = sorted(self._rows.jobs.values(), key=lambda row: -row.job.seq)
            return [status_of(self._rows, row, now) for row in newest[:limit]]

    def tally(self, job: JobId) -> Tally:
        """See the port."""
        with self._now():
            return self._rows.job(job).count_tally()

    def results(
        self, job: JobId, *, verdict: Verdict | None, after: int, limit: int, size: int
    ) -> Page:
        """See the port."""
        with self._now():
            row = self._rows.job(job)
            memory_purging.check_kept(row)
            return results_of(row, verdict=verdict, after=after, limit=limit, size=size)

    def sample(self, job: JobId, *, limit: int) -> Sequence[str]:
        """See the port."""
        with self._now():
            row = self._rows.job(job)
            return [row.items[position].text for position in row.positions()[:limit]]

    def mentions(self, key: bytes, *, limit: int) -> Sequence[Mention]:
        """See the port."""
        with self._now():
            return mentions_of(self._rows, key)[:limit]

    def target_note(self, target: str) -> TargetNote:
        """See the port."""
        with self._now() as now:
            return note_of(self._rows, target, now)

    def job_note(self, job: JobId) -> JobNote:
        """See the port."""
        with self._now() as now:
            return job_note_of(self._rows.job(job), now)

    def measure(self) -> Measures:
        """See the port."""
        with self._now() as now:
            return measures_of(self._rows, now)

    def events(self, job: JobId | None, *, limit: int) -> Iterator[Event]:
        """See the port."""
        with self._now():
            newest = reversed(self._rows.events)
            return iter([one for one in newest if job in {None, one.job}][:limit])

    def close(self) -> None:
        """See the port."""


def _check_seal(row: JobRow, chunks: int) -> None:
    """Refuse a seal that the state or the landed chunks contradict."""
    if row.job.state is not JobState.OPEN:
        raise _wrong_state(row.job, "only an open job can be sealed")
    if any(number >= chunks for number in row.chunks):
        raise _wrong_state(row.job, f"it has more than {chunks} chunks")
    sizes = (row.chunks[number].count for number in row.chunks if number < chunks - 1)
    if any(size != row.job.chunk_items for size in sizes):
        raise _wrong_state(row.job, f"every chunk but the last has {row.job.chunk_items} items")


def _dry_mark() -> Mark:
    return Mark(Verdict.SKIPPED, Evidence.NONE, "dry_run", "a dry run sends nothing")


def _said(code: str, who: Who) -> str:
    name = who.by or who.os_user
    return f"{code} by {name}" if name else code


def _conflict(job: JobId, fact: str = "it is there already with other content") -> RefusedRequest:
    return RefusedRequest("job_conflict", f"job {job}: {fact}", data={"job": job})


def _wrong_state(job: Job, fact: str) -> RefusedRequest:
    data = {"job": job.id, "state": job.state.value}
    return RefusedRequest("wrong_state", f"job {job.id} is {job.state}: {fact}", data=data)
