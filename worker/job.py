"""A job: a request to delete items from one target."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID, uuid5

from api_adapters.base import GONE, Verdict

JobId = NewType("JobId", str)


class JobState(StrEnum):
    """Where a job is in its life."""

    OPEN = "open"  #: items are still coming
    PLANNING = "planning"  #: its items are being looked through and cut into batches
    AWAITING_APPROVAL = "awaiting_approval"  #: a person has to look at it first
    RUNNING = "running"  #: its batches may be claimed
    PAUSED = "paused"  #: no batch of it is claimed until it is resumed
    CANCELLING = "cancelling"  #: it ends as soon as the calls that are out have ended
    COMPLETED = "completed"  #: every item has its outcome
    CANCELLED = "cancelled"  #: ended on a wish, or declined
    STOPPED = "stopped"  #: ended because it could not go on


#: Every legal move. A state that is no key here is final.
MOVES = {
    # open -> planning: it was sealed and its last chunk is there.
    # open -> cancelling: cancelled, or nobody fed it for a day.
    JobState.OPEN: {JobState.PLANNING, JobState.CANCELLING},
    # planning -> awaiting_approval: a brake holds it.
    # planning -> running: it is cut.
    # planning -> completed: a dry run, or a job of no items.
    # planning -> cancelling: cancelled, or its plan cannot be made.
    JobState.PLANNING: {
        JobState.AWAITING_APPROVAL,
        JobState.RUNNING,
        JobState.COMPLETED,
        JobState.CANCELLING,
    },
    # awaiting_approval -> planning: approved; it is cut now.
    # awaiting_approval -> cancelling: declined or cancelled.
    JobState.AWAITING_APPROVAL: {JobState.PLANNING, JobState.CANCELLING},
    # running -> paused, cancelling: somebody wishes it, or a call was hopeless.
    # running -> completed: no range of it is open.
    JobState.RUNNING: {JobState.PAUSED, JobState.CANCELLING, JobState.COMPLETED},
    # paused -> completed: the calls that were out decided the rest.
    JobState.PAUSED: {JobState.RUNNING, JobState.CANCELLING, JobState.COMPLETED},
    # cancelling -> cancelled, stopped: no range of it is open.
    JobState.CANCELLING: {JobState.CANCELLED, JobState.STOPPED},
}

FINAL = frozenset(state for state in JobState if state not in MOVES)


def sources_of(state: JobState) -> frozenset[JobState]:
    """The states from which a job may move to this one.

    >>> sorted(sources_of(JobState.RUNNING))
    [<JobState.PAUSED: 'paused'>, <JobState.PLANNING: 'planning'>]
    """
    return frozenset(origin for origin, goals in MOVES.items() if state in goals)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is asked for; what makes it differ from another is `options`."""

    id: JobId
    target: str
    fingerprint: str
    dry_run: bool = False
    requested_by: str | None = None
    notify: str | None = None
    #: How many items every chunk but the last holds.
    chunk_items: int = 10_000
    #: The job whose frozen items this one takes, instead of items of its own.
    plan: JobId | None = None
    #: The job that this one tries again, and which of its items: those with
    #: one of these verdicts.
    parent: JobId | None = None
    leftovers: frozenset[Verdict] = frozenset()
    #: What is to be found, instead of items of its own.
    query: Mapping[str, Any] | None = None
    #: A person has to look at it first, whatever its size.
    needs_approval: bool = False
    #: How long ago the items of `plan` or `parent` may have been found; None is for ever.
    found_valid_for: timedelta | None = None
    #: How long the items are kept once the job is settled; None is for ever.
    retain_for: timedelta | None = None
    #: The standing order that asks for it, and the digest of what that is now.
    purge: str | None = None
    purge_digest: str | None = None
    #: More found items than this wait for approval, whatever the target says.
    max_items: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What two requests with one id must have in common."""
        # What came later is named only where it is used: the digests of jobs
        # that an earlier version took stay as they are.
        later: dict[str, Any] = {}
        if self.query is not None:
            later["query"] = dict(self.query)
        if self.needs_approval:
            later["needs_approval"] = True
        if self.purge is not None:
            later["purge"] = [self.purge, self.purge_digest, self.max_items]
        return {
            **later,
            "target": self.target,
            "dry_run": self.dry_run,
            "requested_by": self.requested_by,
            "notify": self.notify,
            "chunk_items": self.chunk_items,
            "plan": self.plan,
            "parent": self.parent,
            "leftovers": sorted(self.leftovers),
        }


#: What a retry takes unasked; what was accepted or rejected it takes on request.
LEFTOVERS = frozenset({Verdict.FAILED, Verdict.UNKNOWN, Verdict.DENIED, Verdict.SKIPPED})
#: What may be asked for beside it.
ALSO_LEFT = frozenset({Verdict.ACCEPTED, Verdict.REJECTED})


def retry_id(parent: JobId) -> JobId:
    """The id of a job's one retry, so that a doubled retry answers the same.

    >>> retry_id(JobId("7b2f8c1e-0000-4000-8000-000000000001"))
    'f577566f-a1d2-5c0c-8f00-ecab0374dd44'
    """
    return JobId(str(uuid5(UUID(parent), "retry")))


Tally = Mapping[Verdict, int]


def empty_tally() -> dict[Verdict, int]:
    """A tally of nothing, all eight verdicts named."""
    return dict.fromkeys(Verdict, 0)


def are_all_gone(tally: Tally, *, accepted_counts: bool) -> bool:
    """Whether everything that was asked for is gone, as far as anyone can say.

    >>> are_all_gone({Verdict.DELETED: 2, Verdict.FAILED: 0}, accepted_counts=False)
    True
    """
    good = GONE | {Verdict.ACCEPTED} if accepted_counts else GONE
    return not any(count for verdict, count in tally.items() if verdict not in good)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store knows it."""

    id: JobId
    #: The short number that the store's other tables name the job by.
    seq: int
    target: str
    fingerprint: str
    state: JobState
    reason: str | None
    dry_run: bool
    approved: bool
    items: int
    duplicates: int
    plan: JobId | None
    requested_by: str | None
    notify: str | None
    parent: JobId | None
    chunk_items: int
    #: What was to be found, and what it was frozen to.
    query: Mapping[str, Any] | None
    frozen: Mapping[str, Any] | None
    #: When the last of what was found had landed.
    found_at: datetime | None
    needs_approval: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: The standing order that asked for it, and what that was then.
    purge: str | None = None
    purge_digest: str | None = None
    max_items: int | None = None
    #: When its items were dropped because of their age.
    pruned_at: datetime | None = None
    #: Stands for the items that a person was shown: they alone are approved.
    items_digest: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL

    @property
    def is_to_be_found(self) -> bool:
        """Whether nobody knows yet what its items are."""
        is_own = self.query is not None and self.plan is None and self.parent is None
        return is_own and self.found_at is None and not self.is_final


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job with its counts, of one moment."""

    job: Job
    tally: Tally
    #: Ranges by state: ready, leased, done, split.
    batches: Mapping[str, int]
    children: tuple[JobId, ...]
    #: What the job waits for, or None.
    waiting_for: str | None
    #: The moment of the store's clock at which this was seen.
    seen_at: datetime

    @property
    def pending(self) -> int:
        """How many items have no outcome yet."""
        return self.job.items - sum(self.tally.values())

    @property
    def rate_per_second(self) -> float | None:
        """Items decided a second since the start, or None before it."""
        if self.job.started_at is None:
            return None
        end = self.job.finished_at or self.seen_at
        seconds = (end - self.job.started_at).total_seconds()
        return round(sum(self.tally.values()) / seconds, 1) if seconds > 0 else None

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end at the rate so far, or None where nobody can say."""
        if self.job.is_final or self.job.state is not JobState.RUNNING or not self.rate_per_second:
            return None
        return round(self.pending / self.rate_per_second, 1)

    def as_json(self) -> dict[str, Any]:
        """The shape of `status --json` and of the task `deletions.status`."""
        job = self.job
        return {
            "id": job.id,
            "target": job.target,
            "state": job.state.value,
            "reason": job.reason,
            "items": job.items,
            "duplicates": job.duplicates,
            "pending": self.pending,
            "tally": {verdict.value: self.tally.get(verdict, 0) for verdict in Verdict},
            "batches": dict(self.batches),
            "requested_by": job.requested_by,
            "parent": job.parent,
            "children": list(self.children),
            "created_at": moment_text(job.created_at),
            "started_at": moment_text(job.started_at),
            "finished_at": moment_text(job.finished_at),
            "rate_per_second": self.rate_per_second,
            "eta_seconds": self.eta_seconds,
            "waiting_for": self.waiting_for,
        }


def moment_text(moment: datetime | None) -> str | None:
    """A moment as every JSON shape shows it: ISO 8601, UTC, milliseconds.

    >>> from datetime import UTC
    >>> moment_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05.000Z'
    """
    if moment is None:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
