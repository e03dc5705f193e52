"""The submitter takes jobs and their items in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from api_adapters.base import Adapter, Verdict
from api_adapters.errors import BadSettings
from worker.admitting import admit, admit_query, without_duplicates
from worker.errors import RefusedRequest
from worker.job import LEFTOVERS, Job, JobId, NewJob, retry_id
from worker.requests import Append, Open, Seal, Submit
from worker.splitting import MAX_BATCH_BYTES, cut, cut_evenly
from worker.store.base import Chunk, Cut, Sealed, Store
from worker.target import Target

#: Jobs of which a process knows how they were opened.
JOBS_FED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that was taken in."""

    job: Job
    #: Whether it has no items, or all were refused at the door: nobody will
    #: record anything for it, so nobody would settle it.
    is_decided: bool


class Submitter:
    """Submit, open, append and seal; all of it is safe to repeat."""

    def __init__(
        self,
        store: Store,
        *,
        targets: Mapping[str, Target],
        adapters: Callable[[str], Adapter],
        notify: frozenset[str] = frozenset(),
        retain_for: Callable[[str], timedelta | None] = lambda _: None,
        known: dict[JobId, tuple[str, int]] | None = None,
    ) -> None:
        """`known` keeps what never changes of the jobs that are fed: a job has a hundred chunks."""
        self._store = store
        self._targets = targets
        self._adapters = adapters
        self._notify = notify
        self._retain_for = retain_for
        self._known = known if known is not None else {}

    def submit(self, request: Submit, *, needs_approval: bool = False) -> Submitted:
        """Take a job with all its items, or with a query for them.

        With `needs_approval` a job by query waits for a person once its items
        are found, however few they are.

        Raises:
            RefusedRequest: with the reason; nothing is left in the store.
        """
        target = self._target(request.target, request.notify)
        if request.items is not None and request.query is not None:
            raise RefusedRequest("invalid_message", "expected items or a query, and not both")
        job = NewJob(
            id=JobId(request.job),
            target=target.name,
            fingerprint=target.fingerprint,
            dry_run=request.dry_run,
            requested_by=request.requested_by,
            notify=request.notify,
            query=request.query,
            needs_approval=needs_approval and request.query is not None,
            retain_for=self._retain_for(target.name),
        )
        if request.query is not None:
            admit_query(request.query, target=target, adapter=lambda: self._adapter(target))
            return Submitted(self._store.open(job), is_decided=False)
        if request.items is None:
            raise RefusedRequest("invalid_message", "items: expected a list of items, or a query")
        adapter = self._adapter(target)
        guard = target.guard(adapter)
        chunk = admit(
            request.items,
            target=target.name,
            key_of=adapter.key,
            keys_of=adapter.keys,
            guard=guard,
        )
        chunk = without_duplicates(chunk)
        taken = self._store.submit(job, chunk, cuts=_cuts(job, chunk, target))
        is_decided = len(chunk.refusals) == chunk.count
        return Submitted(taken, is_decided=is_decided)

    def open(self, request: Open) -> Job:
        """Take a job whose items follow in chunks. Raises RefusedRequest."""
        target = self._target(request.target, request.notify)
        return self._store.open(
            NewJob(
                id=JobId(request.job),
                target=target.name,
                fingerprint=target.fingerprint,
                dry_run=request.dry_run,
                requested_by=request.requested_by,
                notify=request.notify,
                chunk_items=request.chunk_items,
                retain_for=self._retain_for(target.name),
            )
        )

    def open_plan(self, job: JobId, *, plan: JobId, requested_by: str | None) -> Job:
        """Take a job that executes a dry run as it was frozen. Raises RefusedRequest."""
        target = self._target(self._store.job(plan).target, None)
        return self._store.open(
            NewJob(
                id=job,
                target=target.name,
                fingerprint=target.fingerprint,
                requested_by=requested_by,
                plan=plan,
                found_valid_for=target.found_valid_for,
                retain_for=self._retain_for(target.name),
            )
        )

    def retry(self, parent: JobId, *, also: frozenset[Verdict] = frozenset()) -> Job:
        """Try again what a settled job left over, in its one child.

        Raises:
            RefusedRequest: `unknown_job`; `wrong_state`, it has not ended, or its
                target is another one by now; `job_conflict`, it was tried again
                with other verdicts.
        """
        job = self._store.job(parent)
        target = self._target(job.target, None)
        return self._store.open(
            NewJob(
                id=retry_id(parent),
                target=target.name,
                fingerprint=target.fingerprint,
                requested_by=job.requested_by,
                notify=job.notify,
                parent=parent,
                leftovers=LEFTOVERS | also,
                found_valid_for=target.found_valid_for,
                retain_for=self._retain_for(target.name),
            )
        )

    def append(self, request: Append) -> Job:
        """Take one chunk; the job afterwards. Raises RefusedRequest."""
        name, most = self._opened(JobId(request.job))
        target = self._target(name, None)
        if len(request.items) > most:
            raise RefusedRequest(
                "too_many_items",
                f"chunk {request.chunk} holds {len(request.items)} items, "
                f"but the job was opened with {most} a chunk",
                data={"limit": most},
            )
        adapter = self._adapter(target)
        chunk = admit(
            request.items,
            target=target.name,
            key_of=adapter.key,
            keys_of=adapter.keys,
            guard=target.guard(adapter),
            number=request.chunk,
            chunk_items=most,
        )
        return self._store.append(JobId(request.job), chunk)

    def seal(self, request: Seal) -> Sealed:
        """Say how many chunks there are. Raises RefusedRequest."""
        return self._store.seal(JobId(request.job), request.chunks)

    def _opened(self, job: JobId) -> tuple[str, int]:
        """A job's target, and how many items each of its chunks holds. Raises RefusedRequest."""
        known = self._known.get(job)
        if known is None:
            found = self._store.job(job)
            if len(self._known) >= JOBS_FED_AT_ONCE:
                self._known.clear()
            known = self._known[job] = (found.target, found.chunk_items)
        return known

    def _target(self, name: str, notify: str | None) -> Target:
        """The configured target. Raises RefusedRequest."""
        target = self._targets.get(name)
        if target is None:
            raise RefusedRequest(
                "unknown_target",
                f"there is no target '{name}'; configured: {', '.join(self._targets) or 'none'}",
                data={"target": name},
            )
        if notify is not None and notify not in self._notify:
            raise RefusedRequest(
                "invalid_message",
                f"notify: there is no [notify.{notify}] in the configuration",
                data={"notify": notify},
            )
        return target

    def _adapter(self, target: Target) -> Adapter:
        """The target's adapter. Raises RefusedRequest."""
        try:
            return self._adapters(target.name)
        except BadSettings as error:
            raise RefusedRequest(
                "unknown_target", f"target '{target.name}': {error}", data={"target": target.name}
            ) from error


def _cuts(job: NewJob, chunk: Chunk, target: Target) -> list[Cut]:
    """The batches of a job that nobody has to look at first; none of any other."""
    most = target.max_given_items
    if job.dry_run or (most is not None and chunk.count > most):
        return []
    size = target.limits.max_items_per_call
    is_plain = not chunk.refusals and chunk.count == chunk.given and chunk.size <= MAX_BATCH_BYTES
    if is_plain:
        return [Cut(*one) for one in cut_evenly(chunk.first, chunk.count, max_items=size)]
    places = ((one.position, len(one.text), one.key is not None) for one in chunk.items)
    return [Cut(*one) for one in cut(places, max_items=size)]
