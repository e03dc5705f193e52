"""What is done with one claim: call by call deleted, judged and recorded."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

from api_adapters.base import Adapter, Deadline, Item, Reply
from api_adapters.errors import Hopeless, Transient
from worker.batch import Claimed, Returned
from worker.calling import (
    answer_of,
    delete,
    items_of,
    keys_of,
    look_after,
    note_of,
)
from worker.errors import LeaseLost, StoreUnavailable
from worker.fields import bound
from worker.guarding import kept_of
from worker.insisting import Insistence
from worker.job import JobId
from worker.judging import Circumstances, judge
from worker.recorder import Answers, Recorder
from worker.retrying import RetryRules
from worker.splitting import fill_calls
from worker.store.base import Breached, Claim, Renewed, Store
from worker.target import Target
from worker.watching import Watch

log = logging.getLogger("deletions.executor")

#: What is left of a claim after twice the expected time is given back, but after
#: twice this at the earliest.
LEAST_PATIENCE = timedelta(milliseconds=100)
#: How long a lease outlasts the deadline of a call.
LEASE_MARGIN = timedelta(seconds=10)
#: How long a worker goes on without looking at the wishes for its jobs.
LOOK_EVERY = 0.25
#: How long a target whose login or address is wrong is left alone at a time.
CLOSED_REST = timedelta(seconds=30)


@dataclass(slots=True)
class Slice:
    """What one run did."""

    #: Items decided, by job.
    decided: Counter[JobId] = field(default_factory=Counter)
    #: Jobs that may have ended, since somebody was told of such, by our own clock.
    touched: set[JobId] = field(default_factory=set)
    closed_at: float = 0.0
    claims: int = 0
    calls: int = 0

    def add(self, others: Iterable["Slice"]) -> None:
        """Count what others did beside it as its own."""
        for one in others:
            self.decided.update(one.decided)
            self.touched |= one.touched
            self.calls += one.calls


@dataclass(slots=True)
class Hand:
    """What a worker holds in hand of one claim."""

    claim: Claim
    target: Target
    adapter: Adapter
    #: Seconds of our own clock at which the lease surely still holds.
    safe_until: float
    looked_at: float
    #: Jobs that wanted to run when we looked; all of them did when they were claimed.
    running: frozenset[JobId]
    #: What was protected when we looked, by job and position, and whether any key
    #: of the target was.
    protected: frozenset[tuple[JobId, int]]
    has_protected: bool
    #: What its calls were told, until it is recorded.
    answers: Answers
    #: The target wants rest: nothing more of this claim is sent.
    is_halted: bool = False
    #: Jobs that it has stopped: what another thread looked at may be older than that.
    stopped: frozenset[JobId] = frozenset()
    #: Its calls so far.
    calls: int = 0


class Deleter:
    """Works off claims; any number of threads may at once."""

    def __init__(
        self,
        store: Store,
        *,
        chance: Callable[[], float],
        clock: Callable[[], float],
        insist: Insistence,
        hopeless_after: timedelta,
    ) -> None:
        self._store = store
        self._chance = chance
        self._clock = clock
        self._insist = insist
        self._hopeless_after = hopeless_after
        self._watch = Watch(store, clock=clock)
        self._recorder = Recorder(store, clock=clock, insist=insist)

    def hold(self, claim: Claim, target: Target, adapter: Adapter, *, began: float) -> Hand:
        """Take a claim in hand that was asked for at `began`, in seconds of our own clock."""
        return Hand(
            claim,
            target,
            adapter,
            safe_until=began + lease_lasts(target).total_seconds(),
            looked_at=began,
            running=frozenset(one.batch.job for one in claim.batches),
            protected=claim.protected,
            has_protected=claim.has_protected,
            answers=Answers(claim.lease, since=began),
        )

    def work_off(
        self,
        hand: Hand,
        calls: Sequence[list[Claimed]],
        done: Slice,
        is_ending: Callable[[], bool],
    ) -> None:
        """Send what was claimed, call by call, and record what became of it."""
        late_at = self._clock() + self._patience(hand, len(calls))
        self._watch.begin(hand.claim.lease)
        self._recorder.begin(hand.target.name, hand.answers)
        try:
            for number, call in enumerate(calls):
                is_over = number > 0 and (is_ending() or self._clock() > late_at)
                is_unwanted = hand.is_halted or is_over
                sendable = [] if is_unwanted else self._look_before(hand, call)
                sent = {id(one) for one in sendable}
                hand.answers.add([Returned(one.batch) for one in call if id(one) not in sent])
                if sendable:
                    self._send(hand, sendable, done)
                if self._recorder.is_due(hand.answers):
                    self._record(hand, done)
            self._record(hand, done)
        except LeaseLost as lost:
            # Whoever has it now decides; what we know of these calls is lost.
            log.warning("lease.lost", extra={"lease": hand.claim.lease, "cause": str(lost)})
        finally:
            self._watch.end(hand.claim.lease)
            done.touched.update(self._recorder.end(hand.target.name, hand.answers))

    @staticmethod
    def _patience(hand: Hand, calls: int) -> float:
        """Seconds after which what is left of a claim is better done by several.

        A target may have become slower than it was known for.
        """
        expected = (hand.claim.call_time or timedelta()) * calls
        return 2 * max(expected, LEAST_PATIENCE).total_seconds()

    @staticmethod
    def calls(hand: Hand) -> Iterator[list[Claimed]]:
        """Put batches together into calls; a condition that is repeated holds for a whole call."""
        most = hand.target.limits.max_items_per_call
        if not hand.adapter.repeats_query:
            yield from fill_calls(hand.claim.batches, max_items=most)
            return
        by_query: dict[str, list[Claimed]] = {}
        for one in hand.claim.batches:
            query = json.dumps(hand.claim.queries.get(one.batch.job), sort_keys=True)
            by_query.setdefault(query, []).append(one)
        for alike in by_query.values():
            yield from fill_calls(alike, max_items=most)

    def _look_before(self, hand: Hand, call: Sequence[Claimed]) -> list[Claimed]:
        """What of a call may still be sent; the rest is given back unsent.

        A call is sent only while its lease outlasts the call's whole deadline.
        """
        try:
            if not self._outlasts_a_call(hand):
                self._renew(hand)
            elif self._clock() - hand.looked_at > LOOK_EVERY:
                self._see(hand)
        except StoreUnavailable:
            # The answers in hand still have to be recorded: nothing new is begun.
            hand.is_halted = True
            return []
        if not self._outlasts_a_call(hand):
            return []
        return [one for one in call if one.batch.job in hand.running]

    def _outlasts_a_call(self, hand: Hand) -> bool:
        """Whether the lease surely holds until a call that begins now has ended."""
        needed = hand.target.limits.timeout.total_seconds() + 1
        return hand.safe_until - self._clock() > needed

    def _see(self, hand: Hand) -> None:
        """See what is still wanted, if anybody asked a moment ago by what they saw."""
        since = self._clock() - LOOK_EVERY
        seen, at = self._watch.see(hand.claim.lease, since=since)
        self._heed_wishes(hand, seen, at)

    def _renew(self, hand: Hand) -> None:
        """Lengthen the lease, and see what is still wanted. Raises LeaseLost."""
        now = self._clock()
        lasting = lease_lasts(hand.target)
        self._heed_wishes(hand, self._store.renew(hand.claim.lease, lasting=lasting), now)
        hand.safe_until = now + lasting.total_seconds()

    @staticmethod
    def _heed_wishes(hand: Hand, seen: Renewed, now: float) -> None:
        """What is known from now on of what may be sent."""
        hand.running, hand.looked_at = seen.running - hand.stopped, now
        hand.protected, hand.has_protected = seen.protected, seen.has_protected

    def _send(self, hand: Hand, call: Sequence[Claimed], done: Slice) -> None:
        """Make one call and judge what it means for each of its batches."""
        keys = [keys_of(one, hand.adapter) for one in call]
        # A look while the call is out must not call protected what was sent.
        kept = [self._kept(hand, one, own) for one, own in zip(call, keys, strict=True)]
        items = items_of(call, [_without(*pair) for pair in zip(keys, kept, strict=True)])
        began = self._clock()
        query = hand.claim.queries.get(call[0].batch.job)
        with bound(**_named(call)):
            reply = self._ask(hand, items, query) if items else Reply()
            took = timedelta(seconds=self._clock() - began)
            hand.calls += bool(items)
            told = {"answer": answer_of(reply.error).value, "seconds": took.total_seconds()}
            log.debug("call.ended", extra={"items": len(items), **told})
        given = Circumstances(
            retry=RetryRules(max_attempts=hand.target.max_attempts),
            chance=self._chance(),
            company=len(call),
            target_answers=hand.claim.target_answers,
        )
        judged = [
            judge(one, own, reply, given=given, kept=must_stay)
            for one, own, must_stay in zip(call, keys, kept, strict=True)
        ]
        for one, returned in zip(call, judged, strict=True):
            done.decided[one.batch.job] += one.batch.open_items - returned.batch.open_items
        done.calls += bool(items)
        named = {one.batch.job for one in call}
        breaches = [Breached(job, warned) for job in named for warned in reply.warnings]
        note = note_of(reply, took) if items else None
        # First, as another thread may record at once what is told of this call, and
        # then anybody may take in hand again what is left of it.
        self._heed(hand, call, reply)
        hand.answers.add(judged, note=note, breaches=breaches)

    @staticmethod
    def _kept(hand: Hand, claimed: Claimed, keys: Mapping[int, str]) -> dict[int, str]:
        """The open positions of a batch that must stay, each with why."""
        job = claimed.batch.job
        open_positions = set(claimed.positions) if hand.protected else set()
        return kept_of(
            claimed,
            keys,
            guard=hand.target.guard(hand.adapter),
            protected={p for p in open_positions if (job, p) in hand.protected},
            has_keys=hand.has_protected,
        )

    def _ask(self, hand: Hand, items: Mapping[str, Item], query: Mapping[str, Any] | None) -> Reply:
        """Send one call's worth, then look at what the answer left open."""
        most = hand.target.limits.max_items_per_call
        sent = items if len(items) <= most else dict(islice(items.items(), most))
        until = Deadline(hand.target.limits.timeout)
        reply = delete(hand.adapter, sent, query, until=until)
        if sent is not items:
            surplus = frozenset(items) - frozenset(sent)
            reply = replace(reply, unsent=reply.unsent | surplus)
        return look_after(
            hand.adapter,
            sent,
            reply,
            most=hand.target.limits.max_items_per_probe,
            next_deadline=lambda: self._next_deadline(hand),
        )

    def _next_deadline(self, hand: Hand) -> Deadline | None:
        """A deadline for one more request, which the lease outlasts; None without a store.

        Raises:
            LeaseLost: it is somebody else's now.
        """
        try:
            self._renew(hand)
        except StoreUnavailable:
            return None
        return Deadline(hand.target.limits.timeout)

    def _heed(self, hand: Hand, call: Sequence[Claimed], reply: Reply) -> None:
        """Let the target rest, stop jobs or close the target, as the answer demands.

        Raises:
            LeaseLost: it is somebody else's now.
        """
        match reply.error:
            case Hopeless(closes_target=True) as error:
                hand.is_halted = True
                closed_for = self._insist(
                    partial(
                        self._store.close_target,
                        hand.target.name,
                        reason=error.reason,
                        rest=CLOSED_REST,
                    )
                )
                extra = {"target": hand.target.name, "reason": error.reason}
                log.error("target.closed", extra=extra)
                if closed_for >= self._hopeless_after:
                    self._stop(hand, call, error.reason)
            case Hopeless() as error if len(call) == 1:
                self._stop(hand, call, error.reason)
            # What it told us holds for the other calls of this claim as well.
            case Transient(wait=timedelta()):
                hand.is_halted = True

    def _stop(self, hand: Hand, call: Sequence[Claimed], reason: str) -> None:
        """Stop the jobs of a call."""
        jobs = {one.batch.job for one in call}
        for job in jobs:
            self._insist(partial(self._store.stop, job, reason=reason))
        hand.stopped |= jobs
        hand.running -= jobs

    def _record(self, hand: Hand, done: Slice) -> None:
        """Write what became of the batches in hand. Raises LeaseLost."""
        done.touched.update(self._recorder.record(hand.target.name, hand.answers))


def lease_lasts(target: Target) -> timedelta:
    """How long a lease on a target lasts, from a claim or a renewal."""
    return target.limits.timeout + LEASE_MARGIN


def _named(call: Sequence[Claimed]) -> dict[str, Any]:
    """The batch of a call for the log, where it carries no others."""
    if len(call) > 1:
        return {"batches": len(call)}
    return {"job": call[0].batch.job, "batch": call[0].batch.first}


def _without(keys: Mapping[int, str], kept: Mapping[int, str]) -> Mapping[int, str]:
    """The keys of the positions that may be sent."""
    return {at: key for at, key in keys.items() if at not in kept} if kept else keys
