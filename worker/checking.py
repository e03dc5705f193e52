"""What is well and what is not, told from the store alone: no worker is asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from worker.store.base import Backlog, Measures

#: The clock ticks so often; each tick is noted by the worker that hears it.
CLOCK_TICKS_EVERY = timedelta(seconds=5)
CLOCK_MAY_LAG = 3 * CLOCK_TICKS_EVERY
#: Work that nothing holds back is claimed within this, unless no worker comes.
CLAIMED_WITHIN = timedelta(seconds=60)
#: A lease that ran out is taken over within this: workers look every two seconds.
TAKEN_OVER_WITHIN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_ok: bool
    message: str
    #: It could not be reached, or not in time.
    is_away: bool = False

    def as_json(self) -> dict[str, Any]:
        """The shape of a check in `health --json`."""
        return {"name": self.name, "ok": self.is_ok, "message": self.message}


@dataclass(frozen=True, slots=True)
class Health:
    """Everything that was looked at."""

    checks: tuple[Check, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether all is well."""
        return all(check.is_ok for check in self.checks)

    @property
    def is_away(self) -> bool:
        """Whether something could not be reached."""
        return any(check.is_away for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The shape of `health --json`, and of the body of `/health`."""
        return {
            "healthy": self.is_healthy,
            "checks": [check.as_json() for check in self.checks],
        }


def check_clock(ticked: timedelta | None) -> Check:
    """Whether the clock ticks.

    >>> check_clock(timedelta(seconds=2)).message
    'it last ticked 2 s ago'
    """
    if ticked is None:
        return Check("clock", is_ok=False, message="no clock has ever ticked: start celery beat")
    said = f"it last ticked {_seconds(ticked)} ago"
    if ticked <= CLOCK_MAY_LAG:
        return Check("clock", is_ok=True, message=said)
    return Check("clock", is_ok=False, message=f"{said}: does celery beat run, and a worker?")


def check_progress(measures: Measures) -> Check:
    """Whether what is ready is claimed, and what lost workers had is taken over."""
    waits = {name: unclaimed_for(one) for name, one in measures.backlogs.items()}
    faults = [
        f"nobody has come to the work that is ready on '{name}' for {_seconds(wait)}"
        for name, wait in waits.items()
        if wait > CLAIMED_WITHIN
    ]
    if measures.lost_for is not None and measures.lost_for > TAKEN_OVER_WITHIN:
        faults.append(f"nobody has taken over a lost lease for {_seconds(measures.lost_for)}")
    if faults:
        return Check("progress", is_ok=False, message=f"{'; '.join(faults)}: does a worker run?")
    return Check("progress", is_ok=True, message=_told(measures.backlogs))


def unclaimed_for(backlog: Backlog) -> timedelta:
    """How long work has been ready that nothing holds back, and no worker came for any.

    A large job has batches that are ready for hours, and is well: so it is the
    last time that a worker came which counts.
    """
    note = backlog.note
    is_held = note.rests_for is not None or note.closed_reason is not None or note.circuit.is_open
    if backlog.oldest is None or is_held or note.live_leases:
        return timedelta()
    return backlog.oldest if backlog.answered is None else min(backlog.oldest, backlog.answered)


def _told(backlogs: Mapping[str, Backlog]) -> str:
    """What is being done."""
    ready = sum(one.ready for one in backlogs.values())
    leased = sum(one.leased for one in backlogs.values())
    return f"{ready:,} batches are ready, {leased:,} are being worked on"


def _seconds(length: timedelta) -> str:
    return f"{round(length.total_seconds()):,} s"
