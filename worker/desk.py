"""The desk answers what other applications ask: one method for each public task."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from api_adapters.base import Adapter
from api_adapters.errors import BadSettings
from worker import requests
from worker.admitting import is_item
from worker.errors import RefusedRequest, StoreUnavailable
from worker.guarding import BY_GLOB, UNKNOWN_KEY, glob_of
from worker.item import MAX_DEPTH, digest_of_key, is_too_deep
from worker.job import Job, JobId, JobState, moment_text
from worker.planner import Planner
from worker.store.base import Mention, Store, Who
from worker.submitter import Submitter
from worker.target import Target

log = logging.getLogger("deletions.desk")

#: A page of results is at most this many bytes of items.
PAGE_BYTES = 256 * 1024
#: Jobs that `item` tells of.
MOST_MENTIONS = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What the asker gets, what everybody may see of it, and what follows."""

    body: dict[str, Any]
    shown: str
    #: Targets whose bell may be due.
    ring: tuple[str, ...] = ()
    plan: tuple[JobId, ...] = ()
    #: Jobs that may be closed now.
    settle: tuple[JobId, ...] = ()


class Desk:
    """Checks a request, has it done, and says what follows; refusals are raised."""

    def __init__(
        self,
        store: Store,
        *,
        submitter: Submitter,
        planner: Planner,
        targets: Mapping[str, Target],
        adapters: Callable[[str], Adapter],
    ) -> None:
        self._store = store
        self._submitter = submitter
        self._planner = planner
        self._targets = targets
        self._adapters = adapters

    def submit(self, given: Mapping[str, Any], *, message_id: str | None = None) -> Answer:
        """`deletions.submit`; without a job's id the message's own is taken.

        So a schedule's entry makes a new job at each tick, and a message that
        is delivered twice does not.
        """
        named = given if given.get("job") is not None else {**given, "job": message_id}
        taken = self._submitter.submit(requests.parse(requests.Submit, named))
        job = taken.job
        if job.is_to_be_found:
            body = {"job": job.id, "items": None, "duplicates": 0}
            return Answer(body, f"job={job.id} by query", **_what_follows(job))
        body = {"job": job.id, "items": job.items, "duplicates": job.duplicates}
        planned = self._plan_at_once(job)
        follows = _what_follows(planned)
        if planned.state is JobState.RUNNING and taken.is_decided:
            follows = {"settle": (job.id,)}
        return Answer(body, f"job={job.id} items={job.items}", **follows)

    def open(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.open`."""
        job = self._submitter.open(requests.parse(requests.Open, given))
        return Answer({"job": job.id}, f"job={job.id}")

    def append(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.append`."""
        request = requests.parse(requests.Append, given)
        job = self._submitter.append(request)
        count = len(request.items)
        body = {"job": request.job, "chunk": request.chunk, "items": count}
        shown = f"job={request.job} chunk={request.chunk} items={count}"
        return Answer(body, shown, **_what_follows(job))

    def seal(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.seal`."""
        request = requests.parse(requests.Seal, given)
        sealed = self._submitter.seal(request)
        body = {
            "job": request.job,
            "state": sealed.state.value,
            "missing": list(sealed.missing),
        }
        job = self._store.job(JobId(request.job))
        shown = f"job={request.job} {sealed.state} missing={len(sealed.missing)}"
        return Answer(body, shown, **_what_follows(job))

    def status(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.status`."""
        return self._status(_job_of(given))

    def results(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.results`: one page."""
        request = requests.parse(requests.Results, given)
        page = self._store.results(
            JobId(request.job),
            verdict=request.verdict,
            after=-1 if request.after is None else request.after,
            limit=request.limit,
            size=PAGE_BYTES,
        )
        body = {"rows": [row.as_json() for row in page.rows], "next": page.next}
        return Answer(body, f"job={request.job} rows={len(page.rows)}")

    def item(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.item`: what happened to an item, newest job first."""
        request = requests.parse(requests.OfItem, given)
        body = self.history(request.target, request.item)
        return Answer(body, f"target={request.target} jobs={len(body['jobs'])}")

    def history(self, target: str, item: Any) -> dict[str, Any]:
        """Every job that named an item. Raises RefusedRequest."""
        if target not in self._targets:
            raise RefusedRequest(
                "unknown_target", f"there is no target '{target}'", data={"target": target}
            )
        mentions: Sequence[Mention] = ()
        protection = None
        if (key := self._key(target, item)) is not None:
            mentions = self._store.mentions(digest_of_key(target, key), limit=MOST_MENTIONS)
            protection = self._protection(target, item, key)
        return {
            "target": target,
            "item": item,
            "protected": protection is not None,
            "protection": protection,
            "jobs": [_mention(one) for one in mentions],
        }

    def _protection(self, target: str, item: Any, key: str) -> dict[str, Any] | None:
        """Why an item is never sent, until when, and who said so; None where nothing keeps it."""
        nobody = {"until": None, "os_user": None, "by": None, "created_at": None}
        if (kept := self._store.protection(target, digest_of_key(target, key))) is not None:
            return {name: value for name, value in kept.as_json().items() if name != "item"}
        globs = self._targets[target].settings.protect
        if (glob := glob_of(globs, key)) is not None:
            return {"reason": f"{BY_GLOB}: {glob}", **nobody}
        has_keys = bool(globs or self._store.protections(target, after=b"", limit=1))
        guard = self._targets[target].guard(self._adapters(target))
        if guard.why_kept(item, key, has_keys=has_keys) is not None:
            return {"reason": UNKNOWN_KEY, **nobody}
        return None

    def _key(self, target: str, item: Any) -> str | None:
        """The item's key; what is no item of this target was never sent under any."""
        if is_too_deep(item):
            raise RefusedRequest("invalid_message", f"item: nested more than {MAX_DEPTH} deep")
        if not is_item(item):
            return None
        try:
            return self._adapters(target).key(item)
        except BadSettings as error:
            raise RefusedRequest(
                "unknown_target", f"target '{target}': {error}", data={"target": target}
            ) from error
        # A stranger's adapter may raise anything; what it says may hold the item.
        except Exception as error:  # noqa: BLE001
            log.debug("item.unkeyable", extra={"target": target, "error": type(error).__name__})
            return None

    def pause(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.pause`."""
        job = _job_of(given)
        return self._command(self._store.pause, job, goal=JobState.PAUSED)

    def resume(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.resume`."""
        job = _job_of(given)
        target = self._targets.get(self._store.job(job).target)
        valid_for = target.found_valid_for if target else None
        resume = partial(self._store.resume, valid_for=valid_for)
        return self._command(resume, job, goal=JobState.RUNNING)

    def cancel(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.cancel`."""
        job = _job_of(given)
        self._store.cancel(job, Who())
        return self._status(job)

    def retry(self, given: Mapping[str, Any]) -> Answer:
        """`deletions.retry`: what a settled job left over, in its one child."""
        child = self._submitter.retry(_job_of(given))
        return Answer({"job": child.id}, f"job={child.id}", **_what_follows(child))

    def _command(
        self, command: Callable[[JobId, Who], None], job: JobId, *, goal: JobState
    ) -> Answer:
        """Give a command; one that was obeyed before is answered again.

        Its sender repeats what had no answer, and must not be told that it failed.
        """
        try:
            command(job, Who())
        except RefusedRequest as refusal:
            if refusal.code != "wrong_state" or self._store.job(job).state is not goal:
                raise
        return self._status(job)

    def _status(self, job: JobId) -> Answer:
        status = self._store.status(job)
        shown = f"job={job} {status.job.state} pending={status.pending}"
        return Answer(status.as_json(), shown, **_what_follows(status.job))

    def _plan_at_once(self, job: Job) -> Job:
        """Plan a job of one message with the message, so that it starts at once."""
        if job.state is not JobState.PLANNING:
            return job
        try:
            return self._planner.plan(job.id) or job
        except StoreUnavailable:
            # The job has landed; whoever looks at the store next plans it.
            log.warning("plan.delayed", extra={"job": job.id})
            return job


def _what_follows(job: Job) -> dict[str, Any]:
    """Who has to be told of a job in this state."""
    match job.state:
        case JobState.PLANNING:
            return {"plan": (job.id,)}
        case JobState.RUNNING:
            return {"ring": (job.target,)}
        case JobState.CANCELLING:
            return {"settle": (job.id,)}
        case _:
            return {}


def _job_of(given: Mapping[str, Any]) -> JobId:
    return JobId(requests.parse(requests.OfJob, given).job)


def _mention(one: Mention) -> dict[str, Any]:
    return {
        "job": one.job,
        "state": one.state.value,
        **one.outcome.as_json(),
        "requested_by": one.requested_by,
        "created_at": moment_text(one.created_at),
    }
