"""The finder turns a job's query into its items: frozen first, deleted later."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice

from api_adapters.base import Adapter, Item
from api_adapters.errors import BadQuery, BadSettings, CallFailed
from worker.admitting import admit
from worker.calling import note_broken
from worker.errors import DeletionError, LeaseLost, RefusedRequest
from worker.insisting import Insistence
from worker.job import Job, JobId
from worker.retrying import RetryRules
from worker.sources.query import Patience, found, freeze
from worker.store.base import Store, Who
from worker.target import Target

log = logging.getLogger("deletions.finder")

#: Items landed, or cleared, in one transaction.
ITEMS_A_STRIDE = 10_000
#: How long the right to plan outlasts the reading of one page.
MARGIN = timedelta(seconds=30)
#: The right is renewed when it is older than this, in seconds.
RENEW_EVERY = 5.0
#: A find that so many workers began, and none ended, is given up.
MOST_FINDS = 20


class Finder:
    """Lists what a query finds; a find that is taken over begins again."""

    def __init__(
        self,
        store: Store,
        *,
        targets: Mapping[str, Target],
        adapters: Callable[[str], Adapter],
        chance: Callable[[], float],
        hopeless_after: timedelta = timedelta(minutes=10),
        is_ending: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._targets = targets
        self._adapters = adapters
        self._chance = chance
        self._hopeless_after = hopeless_after
        self._is_ending = is_ending
        self._clock = clock
        self._sleep = sleep
        self._insist = Insistence(is_ending=is_ending, clock=clock, sleep=sleep)

    def may_find(self, job: Job) -> bool:
        """Whether the job's target is here what it was when the job came."""
        target = self._targets.get(job.target)
        return target is not None and target.fingerprint == job.fingerprint

    def find(self, job: Job, *, holder: str) -> Job | None:
        """Land what the job's query finds, under this holder's right to plan.

        None where the job is somebody else's by now, has ended, or cannot go on.
        """
        target = self._targets[job.target]
        try:
            return self._find(job, target, holder)
        except LeaseLost as lost:
            log.info("find.left", extra={"job": job.id, "cause": str(lost)})
            return None
        except (CallFailed, BadQuery, BadSettings, RefusedRequest) as error:
            reason = f"its query could not be answered: {error}"
        except DeletionError:
            raise
        # A stranger's adapter may raise anything; what it says may hold an item.
        except Exception as error:  # noqa: BLE001
            reason = f"its query could not be answered: the adapter broke: {note_broken(error)}"
        self._store.stop(job.id, reason=reason)
        return None

    def _find(self, job: Job, target: Target, holder: str) -> Job:
        """Freeze the query, drop what an earlier find left, and land what comes."""
        right = self._right(job, target, holder)
        right.wait(timedelta())
        if not target.settings.allow_query:
            raise RefusedRequest("query_not_allowed", "allow_query was taken back meanwhile")
        if self._store.begin_find(job.id, holder=holder) >= MOST_FINDS:
            raise RefusedRequest("query_refused", f"{MOST_FINDS} workers began and none ended it")
        adapter = self._adapters(target.name)
        until = Patience(
            target.limits.timeout,
            right,
            rules=RetryRules(max_attempts=target.max_attempts),
            chance=self._chance,
            hopeless_after=self._hopeless_after,
        )
        query = job.frozen
        if query is None:
            frozen = freeze(adapter, job.query or {}, until=until)
            query = self._store.freeze(job.id, frozen, holder=holder).frozen
        while not self._insist(
            partial(self._store.clear_found, job.id, holder=holder, limit=ITEMS_A_STRIDE)
        ):
            right.wait(timedelta())
        self._land(job, target, found(adapter, query or {}, until=until), holder)
        ended = self._insist(partial(self._store.end_find, job.id, holder=holder))
        # What lets itself be read lets its login in.
        self._store.open_target(target.name, Who())
        return ended

    def _right(self, job: Job, target: Target, holder: str) -> "_Right":
        return _Right(
            self._store,
            job.id,
            target,
            holder,
            insist=self._insist,
            is_ending=self._is_ending,
            clock=self._clock,
            sleep=self._sleep,
        )

    def _land(self, job: Job, target: Target, items: Iterator[Item], holder: str) -> None:
        """Land what is found, a stride at a time. Raises RefusedRequest."""
        adapter = self._adapters(target.name)
        number = 0
        while stride := list(islice(items, ITEMS_A_STRIDE)):
            chunk = admit(
                stride,
                target=target.name,
                key_of=adapter.key,
                keys_of=adapter.keys,
                guard=target.guard(adapter),
                number=number,
                chunk_items=ITEMS_A_STRIDE,
            )
            self._insist(partial(self._store.land_found, job.id, chunk, holder=holder))
            number += 1


@dataclass(slots=True)
class _Right:
    """The right to find for one job: what `Patience` asks and tells between two pages."""

    store: Store
    job: JobId
    target: Target
    holder: str
    insist: Insistence
    is_ending: Callable[[], bool]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    renewed_at: float = float("-inf")

    def wait(self, length: timedelta) -> None:
        """Let time pass, a second at a time. Raises LeaseLost."""
        until = self.clock() + length.total_seconds()
        self._keep()
        while (left := until - self.clock()) > 0:
            self.sleep(min(left, 1.0))
            self._keep()

    def rests_for(self) -> timedelta | None:
        """How long the target is still left alone by everybody."""
        return self.insist(partial(self.store.target_note, self.target.name)).rests_for

    def rest(self, length: timedelta) -> None:
        """The target said so: leave it alone."""
        self.insist(partial(self.store.rest, self.target.name, length=length))

    def close(self, reason: str, rest: timedelta) -> timedelta:
        """The target lets nobody in; for how long it has not."""
        log.error("target.closed", extra={"target": self.target.name, "reason": reason})
        close = partial(self.store.close_target, self.target.name, reason=reason, rest=rest)
        return self.insist(close)

    def _keep(self) -> None:
        """Lengthen the right, unless that was done of late. Raises LeaseLost."""
        if self.is_ending():
            self.store.give_up_planning(self.job, holder=self.holder)
            raise LeaseLost("this worker ends")
        now = self.clock()
        if now - self.renewed_at < RENEW_EVERY:
            return
        lasting = self.target.limits.timeout + MARGIN
        renew = partial(self.store.begin_planning, self.job, holder=self.holder, lasting=lasting)
        if self.insist(renew) is None:
            raise LeaseLost("somebody else plans it, or it has ended")
        self.renewed_at = now
