"""What calls were told, kept in hand for a moment and recorded for many threads at once.

Each of thirty threads that records for itself once a second waits thirty
milliseconds for it, as do those that come after it, and every transaction costs
as much of the processor as three calls. Who records takes along what others of
its process have kept for a while.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

from worker.batch import Returned
from worker.calling import sum_up
from worker.errors import StoreUnavailable
from worker.fields import bound
from worker.insisting import Insistence
from worker.job import JobId
from worker.joining import Joined, together
from worker.store.base import Breached, CallNote, LeaseId, Noted, Record, Store

log = logging.getLogger("deletions.executor")

#: Seconds for which answers are kept in hand: what a worker that is lost never told.
RECORD_EVERY = 1.0
#: Those that were kept for so many seconds go along with others, while these are fewer
#: rows: whoever is in a call may have to renew its lease meanwhile.
ALONG_AFTER = RECORD_EVERY / 2
MOST_ALONG = 1_000


@dataclass(slots=True)
class _Told:
    """What some calls were told."""

    returned: list[Returned] = field(default_factory=list)
    notes: list[CallNote] = field(default_factory=list)
    breaches: list[Breached] = field(default_factory=list)

    def add(self, other: "_Told") -> None:
        """Add what was told later."""
        self.returned += other.returned
        self.notes += other.notes
        self.breaches += other.breaches


class Answers:
    """What the calls of one claim were told; its thread adds to it, any may record it."""

    def __init__(self, lease: LeaseId, *, since: float) -> None:
        """Nothing yet, `since` a moment of our own clock."""
        self.lease = lease
        self.since = since
        self._kept = _Told()
        #: What is being recorded now.
        self._out: _Told | None = None
        self._jobs: set[JobId] = set()
        self._error: Exception | None = None
        self._lock = Lock()

    def add(
        self,
        returned: Sequence[Returned],
        *,
        note: CallNote | None = None,
        breaches: Sequence[Breached] = (),
    ) -> None:
        """Keep what became of batches, and what their call told."""
        notes = [] if note is None else [note]
        with self._lock:
            self._kept.add(_Told([*returned], notes, [*breaches]))

    @property
    def rows(self) -> int:
        """How many rows what is kept takes."""
        with self._lock:
            return sum(1 + len(one.strays) for one in self._kept.returned)

    @property
    def is_recorded(self) -> bool:
        """Whether nothing is kept, and nothing on its way into the store."""
        with self._lock:
            return not self._kept.returned and self._out is None

    def is_due(self, now: float) -> bool:
        """Whether there is a failure to be told, or some were kept for long and nobody has them."""
        return self._error is not None or (self._out is None and now - self.since > RECORD_EVERY)

    def take(self) -> Record | None:
        """What is kept, as a record; None where it is nothing. It comes back or is settled."""
        with self._lock:
            kept = self._kept
            if not kept.returned:
                return None
            record = Record(self.lease, kept.returned, sum_up(kept.notes), kept.breaches)
            self._out, self._kept = kept, _Told()
            return record

    def give_back(self) -> None:
        """Keep again what was taken, if anything was: it could not be recorded."""
        with self._lock:
            if self._out is not None:
                self._out.add(self._kept)
                self._kept, self._out = self._out, None

    def settle(self, answer: Noted | Exception, *, taken_at: float) -> None:
        """Learn what became of what was taken."""
        with self._lock:
            self._out, self.since = None, taken_at
            if isinstance(answer, Noted):
                self._jobs.update(answer.jobs)
            else:
                self._error = answer

    def check(self) -> None:
        """See that all that was taken is recorded.

        Raises:
            LeaseLost, Exception: what the store said to recording any of it.
        """
        if self._error is not None:
            raise self._error

    def jobs(self) -> Collection[JobId]:
        """Jobs that may have ended with what was recorded since this was asked."""
        with self._lock:
            jobs, self._jobs = self._jobs, set()
            return jobs


class Recorder:
    """Shared by the threads of one process."""

    def __init__(self, store: Store, *, clock: Callable[[], float], insist: Insistence) -> None:
        """`clock` counts seconds."""
        self._store = store
        self._clock = clock
        self._insist = insist
        self._kept: defaultdict[str, dict[Answers, None]] = defaultdict(dict)
        # Those that end together are recorded together.
        self._records: Joined[Answers, None] = Joined(self._record_for)

    def begin(self, target: str, answers: Answers) -> None:
        """Take these along from now on."""
        self._kept[target][answers] = None

    def end(self, target: str, answers: Answers) -> Collection[JobId]:
        """Take them along no longer; the jobs that may have ended with what was recorded."""
        self._kept[target].pop(answers, None)
        return answers.jobs()

    def is_due(self, answers: Answers) -> bool:
        """Whether it is time to record these."""
        return answers.is_due(self._clock())

    def record(self, target: str, answers: Answers) -> Collection[JobId]:
        """Write what is kept; the jobs that may have ended with what was recorded by now.

        Raises:
            LeaseLost: none of it is ours any more.
            StoreUnavailable: the process is to end, and the store was away to the last.
        """
        # What another thread has on its way is waited for: a lease ends with its last batch.
        if not answers.is_recorded:
            self._insist(partial(self._records, target, answers))
        answers.check()
        return answers.jobs()

    def _record_for(self, target: str, asked: Sequence[Answers]) -> Sequence[None]:
        """Record for all threads that came by now; what cannot be written fails alone."""
        now = self._clock()
        some = [*asked, *self._others(target, asked, now)]
        try:
            taken = [(one, record) for one in some if (record := one.take()) is not None]
            told = self._write([record for _, record in taken])
        except BaseException:
            for one in some:
                one.give_back()
            raise
        for (one, record), answer in zip(taken, told, strict=True):
            one.settle(answer, taken_at=now)
            if isinstance(answer, Noted):
                with bound(lease=one.lease):
                    extra = {"batches": len(record.returned), "lost": answer.lost}
                    log.debug("claim.recorded", extra=extra)
        return [None] * len(asked)

    def _write(self, records: Sequence[Record]) -> Sequence[Noted | Exception]:
        """Write what was taken: nothing where others had it on its way, for which we waited."""
        if not records:
            return []
        return together(self._store.record_many, records, unless=StoreUnavailable)

    def _others(self, target: str, asked: Sequence[Answers], now: float) -> Iterator[Answers]:
        """Those who go along, as long as they are not many."""
        rows = 0
        for one in list(self._kept[target]):
            if one not in asked and now - one.since > ALONG_AFTER:
                rows += one.rows
                if rows > MOST_ALONG:
                    return
                yield one
