"""What the in-memory twin keeps: one dataclass a table, and where to find a row."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from api_adapters.base import Breach, Verdict, Warned
from worker.batch import Batch, BatchState, Claimed
from worker.breaking import CLOSED, Circuit
from worker.call import Call
from worker.errors import RefusedRequest
from worker.item import Landed, Mark, from_json
from worker.job import Job, JobId, JobState, Tally, empty_tally
from worker.store.base import BELL_PATIENCE, SETTLING_TAKES, Chunk, Event, LeaseId, Protection, Who
from worker.store.memory_orders import PurgeRow

#: Nothing rests until this moment.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class StrayRow:
    """An item whose outcome differs from its range's."""

    mark: Mark
    decided_at: datetime | None


@dataclass(slots=True)
class BatchRow:
    """A range; only while it is leased it has a lease."""

    batch: Batch
    state: BatchState
    not_before: datetime = EPOCH
    lease: LeaseId | None = None
    decided_at: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Whether it may be claimed."""
        return self.state is BatchState.READY and self.not_before <= now


@dataclass(slots=True)
class JobRow:
    """A job and all that belongs to it alone."""

    job: Job
    options: Mapping[str, Any]
    #: When it last changed its state.
    moved_at: datetime
    #: When items last came in.
    fed_at: datetime
    #: How many chunks there are, once that was said.
    sealed: int | None = None
    #: The code of the items that a job which ends early leaves undone.
    end_code: str | None = None
    planner: str | None = None
    planned_until: datetime | None = None
    round: int = 0
    splits: int = 0
    #: How many items were found, and how often that was begun.
    given: int = 0
    finds: int = 0
    #: A notification was not sent yet.
    is_owing: bool = False
    #: How long its items are kept, and whether they are being dropped.
    retain_for: timedelta | None = None
    is_dropping: bool = False
    #: When its share of failures was last looked at.
    checked_at: datetime | None = None
    #: What its items came to, once it is final.
    tally: Tally | None = None
    chunks: dict[int, Chunk] = field(default_factory=dict)
    items: dict[int, Landed] = field(default_factory=dict)
    strays: dict[int, StrayRow] = field(default_factory=dict)
    batches: dict[int, BatchRow] = field(default_factory=dict)
    breaches: Counter[Breach] = field(default_factory=Counter)
    breach_messages: dict[Breach, list[str]] = field(default_factory=dict)

    def move(self, state: JobState, now: datetime, *, reason: str | None = None) -> None:
        """Put the job into another state."""
        self.job = replace(self.job, state=state, reason=reason)
        self.moved_at = now
        self.planner = self.planned_until = None

    def land(self, chunk: Chunk, now: datetime) -> None:
        """Take the items of a chunk."""
        self.chunks[chunk.number] = chunk
        self.fed_at = now
        for item in chunk.items:
            self.put(item, now)
        self.count()

    def put(self, item: Landed, now: datetime) -> None:
        """Take one item; one that was refused at the door has its outcome."""
        self.items[item.position] = item
        if item.refusal is not None:
            self.strays[item.position] = StrayRow(item.refusal, now)

    def count(self) -> None:
        """Write the number of items and of duplicates into the job."""
        given = self.given or (
            sum(chunk.given for chunk in self.chunks.values()) if self.chunks else len(self.items)
        )
        self.job = replace(self.job, items=len(self.items), duplicates=given - len(self.items))

    def positions(self, first: int = 0, last: int | None = None) -> list[int]:
        """The positions from first to last that hold an item, in order."""
        return sorted(p for p in self.items if first <= p and (last is None or p <= last))

    def is_being_planned(self, now: datetime) -> bool:
        """Whether somebody has the right to plan it."""
        return self.planned_until is not None and self.planned_until >= now

    def waits_for_planning(self, now: datetime) -> bool:
        """Whether somebody should take the right to plan it."""
        return self.job.state is JobState.PLANNING and not self.is_being_planned(now)

    def waits_for_settling(self, now: datetime) -> bool:
        """Whether it may be settled, and nobody is about to."""
        is_young = self.job.state is JobState.RUNNING and now - self.moved_at < SETTLING_TAKES
        return self.may_settle and not is_young

    @property
    def may_settle(self) -> bool:
        """Whether it ends early, or has no range left to do."""
        is_at_work = self.job.state in {JobState.RUNNING, JobState.PAUSED}
        ends = self.job.state is JobState.CANCELLING
        return ends or (is_at_work and not self.has_open_ranges)

    def note_breach(self, warned: Warned) -> None:
        """Count a contract violation; the first ten messages are kept."""
        self.breaches[warned.breach] += 1
        messages = self.breach_messages.setdefault(warned.breach, [])
        if len(messages) < 10:
            messages.append(warned.message)

    @property
    def last_cut(self) -> int:
        """The last position that a range covers, or -1."""
        return max((row.batch.last for row in self.batches.values()), default=-1)

    @property
    def first_uncut(self) -> int | None:
        """The first position that no range covers: where a plan goes on."""
        return next(iter(self.positions(self.last_cut + 1)), None)

    @property
    def has_open_ranges(self) -> bool:
        """Whether a range of it is ready or leased."""
        return any(row.state is not BatchState.DONE for row in self.batches.values())

    def batch(self, first: int, last: int, *, like: Batch | None = None) -> Batch:
        """The range from first to last as it is counted now."""
        like = like or Batch(self.job.id, self.job.seq, first, last, 0)
        places = self.positions(first, last)
        strays = Counter(self.strays[p].mark.verdict for p in places if p in self.strays)
        return replace(like, first=first, last=last, items=len(places), strays=dict(strays))

    def mark(self, position: int) -> tuple[Mark, datetime | None]:
        """What is known of a position, and since when it is final."""
        if position in self.strays:
            stray = self.strays[position]
            return stray.mark, stray.decided_at
        for row in self.batches.values():
            if row.batch.first <= position <= row.batch.last:
                return row.batch.mark, row.decided_at
        return Mark(), None

    def claimed(self, row: BatchRow) -> Claimed:
        """A range with its open items."""
        marks = {
            place: mark
            for place in self.positions(row.batch.first, row.batch.last)
            if not (mark := self._mark_in(row, place)).is_final
        }
        return Claimed(
            row.batch,
            list(marks),
            [from_json(self.items[place].text) for place in marks],
            {place: mark for place, mark in marks.items() if place in self.strays},
        )

    def _mark_in(self, row: BatchRow, position: int) -> Mark:
        stray = self.strays.get(position)
        return stray.mark if stray else row.batch.mark

    def count_tally(self) -> dict[Verdict, int]:
        """Items by verdict so far: what the ranges say, and their strays."""
        tally = empty_tally()
        for row in self.batches.values():
            strays = row.batch.strays
            if row.batch.mark.verdict is not None:
                tally[row.batch.mark.verdict] += row.batch.items - sum(strays.values())
            for verdict, count in strays.items():
                if verdict is not None:
                    tally[verdict] += count
        return tally


@dataclass(slots=True)
class TargetRow:
    """What all workers must know of a target."""

    round: int = 0
    not_before: datetime | None = None
    #: The bell that nobody has answered yet.
    rung_at: datetime | None = None
    answered_at: datetime | None = None
    closed_at: datetime | None = None
    closed_reason: str | None = None
    call_time: timedelta | None = None
    succeeded_at: datetime | None = None
    circuit: Circuit = CLOSED
    #: Every call that was made.
    calls: list[Call] = field(default_factory=list)

    def rests_for(self, now: datetime) -> timedelta | None:
        """How long nothing of it may be claimed, or None."""
        if self.not_before is None or self.not_before <= now:
            return None
        return self.not_before - now

    def may_ring(self, now: datetime) -> bool:
        """Whether no bell is on its way."""
        return self.rung_at is None or self.is_bell_overdue(now)

    def is_bell_overdue(self, now: datetime) -> bool:
        """Whether the last bell seems to be lost."""
        return self.rung_at is not None and self.rung_at + BELL_PATIENCE < now

    def answers(self, now: datetime) -> bool:
        """Whether a call was answered within the last minute."""
        return self.succeeded_at is not None and now - self.succeeded_at <= timedelta(minutes=1)


@dataclass(slots=True)
class LeaseRow:
    """One claim's right."""

    target: str
    holder: str
    until: datetime
    lasting: timedelta
    expected_end: datetime | None


@dataclass(slots=True)
class Rows:
    """All tables."""

    jobs: dict[JobId, JobRow] = field(default_factory=dict)
    targets: dict[str, TargetRow] = field(default_factory=dict)
    leases: dict[LeaseId, LeaseRow] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    protected: dict[tuple[str, bytes], Protection] = field(default_factory=dict)
    looked_at: datetime | None = None
    leases_given: int = 0
    purges: dict[str, PurgeRow] = field(default_factory=dict)
    ticked_at: datetime | None = None

    def job(self, job: JobId) -> JobRow:
        """A job. Raises RefusedRequest: `unknown_job`."""
        if job not in self.jobs:
            raise RefusedRequest("unknown_job", f"there is no job {job}")
        return self.jobs[job]

    def job_in(self, job: JobId, *states: JobState) -> JobRow | None:
        """A job if it is in one of these states."""
        row = self.jobs.get(job)
        return row if row is not None and row.job.state in states else None

    def target(self, target: str) -> TargetRow:
        """A target; every name stands for one."""
        return self.targets.setdefault(target, TargetRow())

    def running(self, target: str) -> list[JobRow]:
        """The jobs that a target's workers may serve, in turn."""
        jobs = (row for row in self.jobs.values() if row.job.target == target)
        running = (row for row in jobs if row.job.state is JobState.RUNNING)
        return sorted(running, key=lambda row: (row.round, row.job.seq))

    def live_leases(self, target: str, now: datetime) -> list[LeaseId]:
        """The places of a target that are taken."""
        leases = self.leases.items()
        return [lease for lease, row in leases if row.target == target and row.until > now]

    def undone(self, held: Iterable[LeaseId], now: datetime) -> timedelta:
        """How long the calls take that are still to be made under some leases."""
        ends = (self.leases[lease].expected_end for lease in held)
        return sum((end - now for end in ends if end and end > now), timedelta())

    def leased(self, lease: LeaseId) -> list[tuple[JobRow, BatchRow]]:
        """The batches that a lease has."""
        return [
            (job, row)
            for job in self.jobs.values()
            for row in job.batches.values()
            if row.lease == lease
        ]

    def has_due(self, target: str, now: datetime) -> bool:
        """Whether a batch of a running job may be claimed."""
        jobs = self.running(target)
        return any(row.is_due(now) for job in jobs for row in job.batches.values())

    def note(
        self, kind: str, now: datetime, *, job: Job | None, who: Who | None = None, **detail: Any
    ) -> None:
        """Append an event."""
        target = job.target if job else detail.pop("target", None)
        who = who or Who()
        if who.reason is not None:
            detail["reason"] = who.reason
        self.events.append(
            Event(now, kind, job.id if job else None, target, who.os_user, who.by, detail)
        )
