"""Sees in the store itself how far the jobs are, whatever is broken around it."""

import time
from dataclasses import dataclass

from worker.errors import RefusedRequest, StoreError
from worker.job import JobId, JobStatus
from worker.store.sql import SqlStore

#: Seconds between two looks.
EVERY = 0.1
#: A job of fewer items is decided at one blow, which shows no recovery.
SMALL = 200


@dataclass(slots=True)
class _Followed:
    decided: int = 0
    items: int | None = None
    moved_at: float = 0.0
    is_ended: bool = False
    seen: JobStatus | None = None


class Watch:
    """Follows jobs; to be closed."""

    def __init__(self, store_url: str) -> None:
        self._store = SqlStore(store_url)
        self._jobs: dict[JobId, _Followed] = {}
        self._looked_at = 0.0

    def follow(self, job: str) -> None:
        """Look at this job, once it is there."""
        self._jobs[JobId(job)] = _Followed()

    def look(self) -> None:
        """See how far they are, a few times a second."""
        if time.monotonic() - self._looked_at < EVERY:
            return
        for job, known in self._jobs.items():
            if not known.is_ended:
                self._look_at(job, known)
        self._looked_at = time.monotonic()

    def all_moved_at(self, *, since: float) -> float | None:
        """When the last of the large unfinished jobs moved for the first time since then.

        Reckoned to the latest move of each, so look often. None if one has not.
        """
        moved = [one.moved_at for one in self._large_ones()]
        return max(moved) if moved and min(moved) > since else None

    @property
    def is_anything_left(self) -> bool:
        """Whether there is a large job that can show how long recovery takes."""
        return bool(self._large_ones())

    @property
    def share_left(self) -> float:
        """How much of the large jobs is open; all of it before they have come."""
        large = [one for one in self._jobs.values() if one.items is not None and one.items >= SMALL]
        items = sum(one.items or 0 for one in large)
        return 1 - sum(one.decided for one in large) / items if items else 1.0

    @property
    def is_everything_ended(self) -> bool:
        """Whether all jobs have ended."""
        return all(one.is_ended for one in self._jobs.values())

    @property
    def moved_at(self) -> float:
        """When an item of any job was seen to be decided last."""
        return max((one.moved_at for one in self._jobs.values()), default=0.0)

    @property
    def ended(self) -> frozenset[str]:
        """The jobs that have ended."""
        return frozenset(job for job, one in self._jobs.items() if one.is_ended)

    def unended(self) -> list[str]:
        """Every job that has not ended, for people."""
        return [
            f"job {job} has not ended: {_described(one.seen)}"
            for job, one in self._jobs.items()
            if not one.is_ended
        ]

    def close(self) -> None:
        """Give back connections."""
        self._store.close()

    def _large_ones(self) -> list[_Followed]:
        return [
            one
            for one in self._jobs.values()
            if one.items is not None and one.items >= SMALL and not one.is_ended
        ]

    def _look_at(self, job: JobId, known: _Followed) -> None:
        try:
            status = self._store.status(job)
        # It has not come yet, or the store is away.
        except (RefusedRequest, StoreError):
            return
        decided = sum(status.tally.values())
        if decided > known.decided:
            known.decided, known.moved_at = decided, time.monotonic()
        known.items, known.is_ended, known.seen = status.job.items, status.job.is_final, status


def _described(status: JobStatus | None) -> str:
    if status is None:
        return "nobody took it"
    batches = dict(status.batches)
    return f"{status.job.state}, {status.pending} items are open, {batches}, {status.waiting_for}"
