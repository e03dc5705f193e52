"""A purge: a standing order to delete what a query finds, on a schedule."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from api_adapters.base import Verdict
from worker.job import JobId, JobState, NewJob, Tally, empty_tally, moment_text
from worker.scheduling import Schedule

#: Where missed runs are left out, one that is no later than this is not missed.
MISSED_AFTER = timedelta(minutes=1)


class CatchUp(StrEnum):
    """What becomes of runs that were missed while no clock ran."""

    LAST = "last"  #: the last of them is made up for
    NONE = "none"  #: none is


class Overlap(StrEnum):
    """What becomes of a run that is due while the job of an earlier one has not ended."""

    SKIP = "skip"  #: it is left out
    QUEUE = "queue"  #: it begins once that job has ended; one of them waits at most


class RunOutcome(StrEnum):
    """What became of a due moment."""

    BEGUN = "begun"  #: its job was opened, and tells the rest
    WAITING = "waiting"  #: it begins once the job of an earlier run has ended
    SKIPPED = "skipped"  #: the job of an earlier run had not ended
    MISSED = "missed"  #: it was noticed too late
    REFUSED = "refused"  #: the target may not be asked, or not this


@dataclass(frozen=True, slots=True)
class Purge:
    """A standing order as it is configured."""

    name: str
    target: str
    #: The target's fingerprint.
    fingerprint: str
    query: Mapping[str, Any]
    schedule: Schedule
    catch_up: CatchUp = CatchUp.LAST
    overlap: Overlap = Overlap.SKIP
    #: More items than this wait for approval; None leaves it to the target.
    max_items: int | None = None
    alert_after: timedelta | None = None
    enabled: bool = True
    #: Its runs wait for nobody's approval, be it new or changed.
    trusted: bool = False

    @property
    def digest(self) -> str:
        """What decides *what* is deleted: another query, or another target, is another digest."""
        content = json.dumps([self.fingerprint, dict(self.query)], sort_keys=True)
        return sha256(content.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class PurgeRun:
    """What became of one due moment, or of one run by hand."""

    purge: str
    due_at: datetime
    outcome: RunOutcome
    reason: str | None = None
    job: JobId | None = None
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run, and how its job stands."""

    run: PurgeRun
    state: JobState | None = None
    dry_run: bool = False
    items: int = 0
    tally: Tally | None = None
    finished_at: datetime | None = None

    @property
    def word(self) -> str:
        """The state of its job, else what became of it."""
        return (self.state or self.run.outcome).value

    @property
    def has_succeeded(self) -> bool:
        """Whether its job deleted for good: completed, with no failed or unknown items."""
        if self.state is not JobState.COMPLETED or self.dry_run or self.tally is None:
            return False
        return not (self.tally.get(Verdict.FAILED, 0) or self.tally.get(Verdict.UNKNOWN, 0))

    def as_json(self) -> dict[str, Any]:
        """The shape of a line of `purges history --json`."""
        tally = {**empty_tally(), **(self.tally or {})}
        return {
            "purge": self.run.purge,
            "due_at": moment_text(self.run.due_at),
            "by_hand": self.run.by_hand,
            "outcome": self.run.outcome.value,
            "reason": self.run.reason,
            "job": self.run.job,
            "state": self.state.value if self.state else None,
            "dry_run": self.dry_run,
            "items": self.items,
            "tally": {verdict.value: count for verdict, count in tally.items()},
            "finished_at": moment_text(self.finished_at),
        }


@dataclass(frozen=True, slots=True)
class PurgeNote:
    """What the store knows of a purge, at one moment of its clock."""

    name: str
    seen_at: datetime
    #: What it was when it was last looked at; None for one that was never seen.
    digest: str | None = None
    #: The digest that a person approved.
    approved: str | None = None
    registered_at: datetime | None = None
    #: The last due moment that was decided.
    due_at: datetime | None = None
    #: The job of a run that has not ended.
    busy: JobId | None = None
    #: The due moment of the run that waits for it.
    waiting: datetime | None = None

    def needs_approval(self, purge: Purge) -> bool:
        """Whether a person has to look at what the purge finds, as it is now."""
        return not purge.trusted and self.approved != purge.digest


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of a due moment; without an outcome nothing is told of it."""

    due_at: datetime
    outcome: RunOutcome | None
    reason: str | None = None
    #: The job of a run that begins.
    job: NewJob | None = None
    by_hand: bool = False


def decide(purge: Purge, note: PurgeNote) -> Decision | None:
    """What is to be done now for a purge; None where nothing is.

    Pure: the same order, note and moment always give the same decision.
    """
    if note.registered_at is None:
        return None
    since = max(note.registered_at, note.due_at or note.registered_at)
    if note.waiting is not None and not purge.enabled:
        return Decision(note.waiting, RunOutcome.SKIPPED, "it was disabled meanwhile")
    if note.waiting is not None and note.busy is None:
        return Decision(note.waiting, RunOutcome.BEGUN)
    due = purge.schedule.last_due(since=since, until=note.seen_at, anchor=note.registered_at)
    return None if due is None else _decide_due(purge, note, due)


def _decide_due(purge: Purge, note: PurgeNote, due: datetime) -> Decision:
    """What is to become of a due moment that nobody has decided."""
    late = note.seen_at - due
    if not purge.enabled:
        return Decision(due, None)
    if purge.catch_up is CatchUp.NONE and late > MISSED_AFTER:
        said = f"it was noticed {round(late.total_seconds()):,} s late"
        return Decision(due, RunOutcome.MISSED, said)
    if note.busy is None:
        return Decision(due, RunOutcome.BEGUN)
    if purge.overlap is Overlap.QUEUE and note.waiting is None:
        return Decision(due, RunOutcome.WAITING, f"job {note.busy} has not ended")
    return Decision(due, RunOutcome.SKIPPED, f"job {note.busy} has not ended")


def run_id(purge: str, due_at: datetime) -> JobId:
    """The id of a run's job, the same whoever notices that it is due.

    >>> from datetime import UTC
    >>> run_id("old-events", datetime(2026, 1, 2, 3, 15, tzinfo=UTC))
    '88f704ea-423d-55c1-853d-e8e9b08b837b'
    """
    return JobId(str(uuid5(NAMESPACE_OID, f"purge {purge} {moment_text(due_at)}")))


def is_overdue(purge: Purge, note: PurgeNote, *, succeeded_at: datetime | None) -> bool:
    """Whether a purge has not succeeded for longer than it may."""
    since = succeeded_at or note.registered_at
    if not purge.enabled or purge.alert_after is None or since is None:
        return False
    return note.seen_at - since > purge.alert_after
