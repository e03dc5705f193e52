"""The settler adds up and closes a job when no batch of it is open."""

import logging
from collections.abc import Iterable, Iterator

from worker.errors import DoesNotAddUp, RefusedRequest
from worker.job import JobId, JobStatus
from worker.store.base import Closing, Settled, Store

log = logging.getLogger("deletions.settler")

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

    def settle_all(self, jobs: Iterable[JobId]) -> Iterator[Settled]:
        """Close those of the jobs that can be: nearly always all of them in one go."""
        names = list(dict.fromkeys(jobs))
        if not names:
            return
        try:
            closing = self._store.settle_done(names)
        except DoesNotAddUp:
            # One job that cannot be closed must not keep the others open.
            closing = Closing(ending=tuple(names))
        yield from closing.settled
        for job in closing.ending:
            try:
                status = self.settle(job)
            except (DoesNotAddUp, RefusedRequest) as error:
                log.error("job.unsettled", extra={"job": job, "cause": str(error)})  # noqa: TRY400
                continue
            if status is not None:
                yield _as_settled(status)


def _as_settled(status: JobStatus) -> Settled:
    """What is to be told of a job that was closed."""
    job = status.job
    return Settled(job.id, job.target, job.state, status.tally, job.notify)
