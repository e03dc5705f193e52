"""The planner looks a job's items through, asks the brakes, and cuts them into batches."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from math import inf
from typing import Protocol
from uuid import uuid4

from worker.errors import RefusedRequest
from worker.job import Job, JobId
from worker.splitting import MAX_BATCH_BYTES, cut
from worker.store.base import Cut, Part, Store
from worker.target import Target

#: How long the right to plan holds; it is renewed with every stride.
PLANNING_LASTS = timedelta(seconds=30)
#: Items looked at, and ranges written, in one transaction.
ITEMS_A_STRIDE = 20_000
RANGES_A_STRIDE = 1_000
#: Items whose whole texts are read in one transaction.
TEXTS_A_STRIDE = 2_000


#: (position, bytes, is open) of an item.
Place = tuple[int, int, bool]


class Finds(Protocol):
    """Who finds the items of a job by query."""

    def may_find(self, job: Job) -> bool:
        """Whether the job's target is here what it was when the job came."""
        ...

    def find(self, job: Job, *, holder: str) -> Job | None:
        """Land what the job's query finds; None where that is not ours any more."""
        ...


class Planner:
    """Brings a job from its items to its batches; may be asked twice or late."""

    def __init__(self, store: Store, *, targets: Mapping[str, Target], finder: Finds) -> None:
        self._store = store
        self._targets = targets
        self._finder = finder

    def plan(self, job_id: JobId) -> Job | None:
        """Plan a job; what it is afterwards, or None where there was nothing to do."""
        holder = str(uuid4())
        job = self._renew(job_id, holder)
        if job is None:
            return None
        if job.is_to_be_found:
            if not self._finder.may_find(job):
                self._store.give_up_planning(job_id, holder=holder)
                return None
            if self._finder.find(job, holder=holder) is None:
                return self._store.job(job_id)
        try:
            self._copy(job, holder)
        except RefusedRequest as refusal:
            self._store.stop(job_id, reason=refusal.message)
            return self._store.job(job_id)
        job = self._store.drop_duplicates(job_id)
        if job.dry_run:
            self._store.finish_dry(job_id)
        elif (brake := self._brake(job)) is not None:
            if (digest := self._digest(job, holder)) is not None:
                self._store.hold(job_id, reason=brake, digest=digest)
        elif self._is_as_approved(job, holder) and self._cut(job, holder):
            self._store.start(job_id)
        return self._store.job(job_id)

    def _renew(self, job: JobId, holder: str) -> Job | None:
        """Take or keep the right to plan."""
        return self._store.begin_planning(job, holder=holder, lasting=PLANNING_LASTS)

    def _copy(self, job: Job, holder: str) -> None:
        """Copy the items of a job that takes them from another one."""
        if job.plan is not None:
            copy = self._store.copy_plan
        elif job.parent is not None:
            copy = self._store.copy_leftovers
        else:
            return
        while not copy(job.id, limit=ITEMS_A_STRIDE):
            self._renew(job.id, holder)

    def _brake(self, job: Job) -> str | None:
        """Why a person has to look at the job first, if so."""
        if job.approved:
            return None
        # Where nothing was found, there is nothing to look at.
        if job.needs_approval and job.items and job.purge is not None:
            return f"purge '{job.purge}' is new or was changed: look at what it found"
        if job.needs_approval and job.items:
            return "whoever asked for it wants it to be looked at first"
        most = self._most(job)
        if most is None or job.items <= most:
            return None
        whose = "target's" if job.max_items is None else "purge's"
        return f"{job.items} items are more than the {whose} max_items of {most}"

    def _most(self, job: Job) -> int | None:
        """How many items a job may have that nobody looks at; None for any number."""
        if job.max_items is not None:
            return job.max_items
        target = self._targets.get(job.target)
        if target is None:
            return None
        # What is tried again was let through when it was found.
        was_found = job.query is not None and job.parent is None
        return target.max_found_items if was_found else target.max_given_items

    def _is_as_approved(self, job: Job, holder: str) -> bool:
        """Whether the items are those that a person approved, if one did; else it stops."""
        if job.items_digest is None:
            return True
        digest = self._digest(job, holder)
        if digest is not None and digest != job.items_digest:
            reason = f"its items are not those that were approved: {job.items_digest}"
            self._store.stop(job.id, reason=f"{reason} became {digest}")
        return digest == job.items_digest

    def _digest(self, job: Job, holder: str) -> str | None:
        """A digest of the items in their order; None when the right to plan was lost."""
        digest, after = sha256(), -1
        while read := self._store.content(job.id, after=after, limit=TEXTS_A_STRIDE):
            for position, text, key in read:
                named = key.hex() if key is not None else "-"
                digest.update(f"{position} {named} {text}\n".encode("ascii"))
            after = read[-1][0]
            if self._renew(job.id, holder) is None:
                return None
        return digest.hexdigest()

    def _cut(self, job: Job, holder: str) -> bool:
        """Write the job's batches; False when the right to plan was lost."""
        target = self._targets.get(job.target)
        if target is None:
            self._store.stop(job.id, reason=f"there is no target '{job.target}' any more")
            return False
        ranges = self._ranges(job, most=target.limits.max_items_per_call)
        while stride := list(islice(ranges, RANGES_A_STRIDE)):
            if self._renew(job.id, holder) is None:
                return False
            self._store.add_batches(job.id, stride)
        return True

    def _ranges(self, job: Job, *, most: int) -> Iterator[Cut]:
        """The ranges that no batch covers yet, by position.

        Where all items can be sent and none is large, as is nearly always so,
        a range is as many items as a call may hold: the store sums them up.
        """
        after = self._store.last_cut(job.id)
        limit = max(ITEMS_A_STRIDE, most)
        while job.items > most and (
            read := self._store.parts(job.id, after=after, size=most, limit=limit)
        ):
            ranges = [Cut(one.first, one.last, one.items) for one in read]
            if not all(_is_a_range(one) for one in read):
                places = self._places(job, after, last=read[-1].last)
                ranges = [Cut(*one) for one in cut(places, max_items=most)]
                # The last one may go on beyond these places.
                ranges = ranges[:-1] or ranges
            yield from ranges
            after = ranges[-1].last
        yield from (Cut(*one) for one in cut(self._places(job, after), max_items=most))

    def _places(self, job: Job, after: int, *, last: float = inf) -> Iterator[Place]:
        """The places beyond a position, up to another one."""
        while read := self._store.places(job.id, after=after, limit=ITEMS_A_STRIDE):
            yield from (place for place in read if place[0] <= last)
            after = read[-1][0]
            if after >= last:
                break


def _is_a_range(part: Part) -> bool:
    """Whether a part is cut as `cut` would cut it."""
    return part.open_items == part.items and part.bytes <= MAX_BATCH_BYTES
