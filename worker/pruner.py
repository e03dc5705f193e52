"""The pruner drops what was kept for long enough, and ends what nobody approved."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from worker.errors import RefusedRequest
from worker.job import JobId
from worker.store.base import Store, Who

#: Jobs that are asked for in one go, and items dropped in one transaction.
JOBS_AT_ONCE = 100
ITEMS_A_STRIDE = 1_000
#: What became of a due moment without a job is told for so long.
RUNS_KEPT_FOR = timedelta(days=90)

NOBODY_APPROVED_IT = "nobody approved it"


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was dropped, and what was ended."""

    jobs: tuple[JobId, ...] = ()
    declined: tuple[JobId, ...] = ()


class Pruner:
    """Works in strides, may end after any of them, and goes on the next time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def prune(self, who: Who, *, is_over: Callable[[], bool] = lambda: False) -> Pruned:
        """Drop all that is outdated, until it is over; one event tells who did how much."""
        declined = self._decline(who, is_over)
        pruned: list[JobId] = []
        while not is_over() and (found := self._store.outdated(limit=JOBS_AT_ONCE).prune):
            pruned += [job for job in found if self._drop(job, is_over)]
        while not is_over() and self._store.prune_runs(before=RUNS_KEPT_FOR, limit=ITEMS_A_STRIDE):
            pass
        done = Pruned(tuple(pruned), tuple(declined))
        is_by_hand = who.os_user is not None
        if pruned or is_by_hand:
            self._store.sweep()
        # The hourly look that finds nothing is no event.
        if pruned or declined or is_by_hand:
            self._store.note_pruning(who, pruned=len(pruned), declined=len(declined))
        return done

    def _decline(self, who: Who, is_over: Callable[[], bool]) -> list[JobId]:
        """Decline what has waited for approval for too long."""
        declined: list[JobId] = []
        wish = Who(os_user=who.os_user, by=who.by, reason=NOBODY_APPROVED_IT)
        while not is_over() and (found := self._store.outdated(limit=JOBS_AT_ONCE).decline):
            for job in found:
                try:
                    self._store.decline(job, wish)
                except RefusedRequest:
                    # Somebody has approved it, or declined it, meanwhile.
                    continue
                declined.append(job)
        return declined

    def _drop(self, job: JobId, is_over: Callable[[], bool]) -> bool:
        """Drop all of one job; False if it was over before."""
        while not self._store.prune(job, limit=ITEMS_A_STRIDE):
            if is_over():
                return False
        return True
