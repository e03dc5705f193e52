"""The purger begins what standing orders are due for; any number of clocks may tick."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial

from api_adapters.base import Adapter
from api_adapters.errors import BadSettings
from worker.admitting import admit_query
from worker.errors import RefusedRequest, StoreError
from worker.job import Job, NewJob
from worker.purge import Decision, Purge, PurgeNote, PurgeRun, RunOutcome, decide, run_id
from worker.store.base import Store, Who
from worker.target import Target

log = logging.getLogger("deletions.purger")

#: Runs by hand within one millisecond that each get a moment of their own.
MOMENTS_TRIED = 20
_MILLISECOND = timedelta(milliseconds=1)


class Purger:
    """Registers standing orders and opens their jobs; what is due, the store decides."""

    def __init__(
        self,
        store: Store,
        *,
        purges: Mapping[str, Purge],
        targets: Mapping[str, Target],
        adapters: Callable[[str], Adapter],
        retain_for: Callable[[str], timedelta | None] = lambda _: None,
    ) -> None:
        self._store = store
        self._purges = purges
        self._targets = targets
        self._adapters = adapters
        self._retain_for = retain_for

    def tick(self) -> list[PurgeRun]:
        """Decide what is due of every purge; the runs that were written down."""
        self._store.note_tick()
        runs = (self._tick(purge) for purge in self._purges.values())
        return [run for run in runs if run is not None]

    def run_by_hand(self, name: str, who: Who, *, dry_run: bool = False) -> PurgeRun:
        """Begin a run now, whatever the schedule says; its brakes hold all the same.

        Raises:
            RefusedRequest: `query_not_allowed`, `query_refused`; `wrong_state`, the
                job of an earlier run has not ended.
        """
        purge = self._purges[name]
        self._admit(purge)
        self._store.register_purge(name, digest=purge.digest)
        for attempt in range(MOMENTS_TRIED):
            after = attempt * _MILLISECOND
            decide_by_hand = partial(self._decide_by_hand, purge, after=after, dry_run=dry_run)
            run = self._store.run_purge(name, decide_by_hand, who=who)
            if run is not None:
                return run
        raise RefusedRequest("wrong_state", f"purge '{name}' is begun by others at this moment")

    def check_approval(self, job: Job) -> None:
        """Refuse to approve what another purge found than is configured now.

        Raises:
            RefusedRequest: `wrong_state`.
        """
        if job.purge is None:
            return
        purge = self._purges.get(job.purge)
        if purge is not None and purge.digest == job.purge_digest:
            return
        what = "was changed" if purge else "is configured no longer"
        raise RefusedRequest(
            "wrong_state",
            f"purge '{job.purge}' {what} since job {job.id} found its items: decline it, "
            "and look at what the purge finds now",
            data={"job": job.id, "purge": job.purge},
        )

    def _tick(self, purge: Purge) -> PurgeRun | None:
        """Decide about one purge; what is wrong with it keeps no other from running."""
        try:
            return self._run(purge)
        except StoreError:
            raise
        # Not its words: they may hold the query.
        except Exception as error:  # noqa: BLE001
            cause = error.code if isinstance(error, RefusedRequest) else type(error).__name__
            log.error("purge.broke", extra={"purge": purge.name, "cause": cause})  # noqa: TRY400
            return None

    def _run(self, purge: Purge) -> PurgeRun | None:
        """Register a purge, and write down what is due of it."""
        known = self._store.purge(purge.name)
        if known.digest != purge.digest:
            known = self._store.register_purge(purge.name, digest=purge.digest)
        # Most ticks find nothing, and so write nothing.
        if decide(purge, known) is None:
            return None
        decide_now = partial(self._decide, purge, self._refusal(purge))
        run = self._store.run_purge(purge.name, decide_now, who=Who())
        if run is not None:
            told = {"purge": purge.name, "outcome": run.outcome.value, "job": run.job}
            log.info("purge.decided", extra=told)
        return run

    def _decide(self, purge: Purge, refusal: str | None, note: PurgeNote) -> Decision | None:
        """What is to be done, with the job of a run that begins."""
        decision = decide(purge, note)
        if decision is None or decision.outcome is not RunOutcome.BEGUN:
            return decision
        if refusal is not None:
            return replace(decision, outcome=RunOutcome.REFUSED, reason=refusal)
        return replace(decision, job=self._job(purge, note, decision))

    def _decide_by_hand(
        self, purge: Purge, note: PurgeNote, *, after: timedelta, dry_run: bool
    ) -> Decision:
        """A run at this moment. Raises RefusedRequest: `wrong_state`."""
        if note.busy is not None and not dry_run:
            raise RefusedRequest(
                "wrong_state",
                f"job {note.busy} of purge '{purge.name}' has not ended",
                data={"job": note.busy, "purge": purge.name},
            )
        decision = Decision(note.seen_at + after, RunOutcome.BEGUN, by_hand=True)
        return replace(decision, job=self._job(purge, note, decision, dry_run=dry_run))

    def _job(
        self, purge: Purge, note: PurgeNote, decision: Decision, *, dry_run: bool = False
    ) -> NewJob:
        """The job of a run: found, frozen, and held unless what it asks for was approved."""
        return NewJob(
            id=run_id(purge.name, decision.due_at),
            target=purge.target,
            fingerprint=purge.fingerprint,
            dry_run=dry_run,
            requested_by=f"purge {purge.name}",
            query=purge.query,
            needs_approval=not dry_run and note.needs_approval(purge),
            retain_for=self._retain_for(purge.target),
            purge=purge.name,
            purge_digest=purge.digest,
            max_items=purge.max_items,
        )

    def _refusal(self, purge: Purge) -> str | None:
        """Why the purge's query may not be asked, if so."""
        try:
            self._admit(purge)
        except RefusedRequest as refusal:
            return refusal.message
        return None

    def _admit(self, purge: Purge) -> None:
        """Raises RefusedRequest: the query may not be asked."""
        target = self._targets[purge.target]
        try:
            admit_query(purge.query, target=target, adapter=lambda: self._adapters(target.name))
        except BadSettings as error:
            raise RefusedRequest(
                "unknown_target", f"target '{target.name}': {error}", data={"target": target.name}
            ) from error
