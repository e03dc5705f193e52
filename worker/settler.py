"""The settler adds up and closes a job when no batch of it is open."""

from worker.job import JobId, JobStatus
from worker.store.base import Store

#: Ranges that are ended in one transaction.
RANGES_A_STRIDE = 500


class Settler:
    """May be asked any number of times; a job is closed once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def settle(self, job: JobId) -> JobStatus | None:
        """Close the job if it can be; its last status the one time it is closed.

        Raises:
            RefusedRequest: `unknown_job`.
            DoesNotAddUp: the tally differs from the items.
        """
        closed = self._store.settle(job)
        if closed is not None:
            return closed
        # Of a job that is ending, what nobody has claimed is ended here.
        while self._store.end_ready(job, limit=RANGES_A_STRIDE):
            pass
        return self._store.settle(job)
