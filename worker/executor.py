"""The executor deletes: claim, call, judge, record, until its time is used."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, Protocol

from api_adapters.base import Adapter, Deadline, Item, Reply
from api_adapters.errors import BadSettings, Hopeless, Transient
from worker.batch import Claimed, Returned
from worker.calling import (
    answer_of,
    delete,
    items_of,
    keys_of,
    look_after,
    note_broken,
    note_of,
    sum_up,
)
from worker.errors import LeaseLost, StoreUnavailable
from worker.fields import bound
from worker.guarding import kept_of
from worker.insisting import Insistence
from worker.job import JobId
from worker.joining import Joined
from worker.judging import Circumstances, judge
from worker.retrying import RetryRules
from worker.splitting import fill_calls
from worker.store.base import (
    Appetite,
    Breached,
    Busy,
    CallNote,
    Claim,
    Noted,
    Record,
    Renewed,
    Store,
)
from worker.target import Target
from worker.watching import Watch

log = logging.getLogger("deletions.executor")

#: What a claim takes is expected to be finished in this time; the less is left,
#: the less it takes, down to the other.
CLAIM_WORTH = timedelta(seconds=1)
LEAST_WORTH = timedelta(milliseconds=250)
MOST_CALLS_A_CLAIM = 100
#: The first claim of a slice takes less, by chance down to the rest of this share:
#: slices that begin together do not record and claim at the same moments ever after.
LEAST_SHARE = 0.7
#: What is left of a claim after twice the expected time is given back, but after
#: twice this at the earliest.
LEAST_PATIENCE = timedelta(milliseconds=100)
#: More items than fit in one call are claimed up to here: all of them are in hand at once.
MOST_ITEMS_A_CLAIM = 20_000
#: How long a lease outlasts the deadline of a call.
LEASE_MARGIN = timedelta(seconds=10)
#: Of calls this long many are wanted at once; a few threads keep a process busy
#: with short ones.
LONG_CALL = timedelta(milliseconds=20)
#: Of so many places, one is free again long before a claim of twice the worth ends.
MANY_PLACES = 16
#: How long a call that is not full waits for what shares it; while others keep
#: coming, four times as long.
GATHER = timedelta(milliseconds=250)
#: How long a worker goes on without looking at the wishes for its jobs.
LOOK_EVERY = 0.25
#: How long answers are kept in hand: what a worker that is lost never told.
RECORD_EVERY = 1.0
#: How long a slice goes on before the jobs are closed that have ended with it.
CLOSE_EVERY = 1.0
#: A slice waits out a rest of at most this long; below it a claim would be busy
#: asking.
LONGEST_MOMENT = timedelta(seconds=1)
SHORTEST_MOMENT = 0.02
#: How long a target whose login or address is wrong is left alone at a time.
CLOSED_REST = timedelta(seconds=30)


class Place(Protocol):
    """What a slice works on in its process."""

    def begins(self, *, calls: int, calling: float) -> None:
        """A claim was taken, with so many calls that are expected to take so many seconds."""
        ...

    def goes_on(self, *, calls: int, calling: float, working: float) -> bool:
        """Whether the slice is of use after a claim, by the seconds that it took.

        `calling` were spent in calls, most of it waiting for the backend, and
        `working` is the processor's time for all of the claim.
        """
        ...


class Bells(Protocol):
    """Where a target's bell is rung."""

    def ring(self, target: str) -> None:
        """Tell some worker that there is work on this target."""
        ...


@dataclass(slots=True)
class Slice:
    """What one run did."""

    #: Items decided, by job.
    decided: Counter[JobId] = field(default_factory=Counter)
    #: Jobs that may have ended, since somebody was told of such, by our own clock.
    touched: set[JobId] = field(default_factory=set)
    closed_at: float = 0.0
    calls: int = 0

    def add(self, others: Iterable["Slice"]) -> None:
        """Count what others did beside it as its own."""
        for one in others:
            self.decided.update(one.decided)
            self.touched |= one.touched
            self.calls += one.calls


@dataclass(frozen=True, slots=True)
class _Wish:
    """How one thread claims."""

    is_sure: bool
    answers_bell: bool


@dataclass(slots=True)
class _Hand:
    """What a worker holds in hand of one claim."""

    claim: Claim
    target: Target
    adapter: Adapter
    #: Seconds of our own clock at which the lease surely still holds.
    safe_until: float
    looked_at: float
    recorded_at: float
    #: Jobs that wanted to run when we looked; all of them did when they were claimed.
    running: frozenset[JobId]
    #: What was protected when we looked, by job and position, and whether any key
    #: of the target was.
    protected: frozenset[tuple[JobId, int]]
    has_protected: bool
    #: The target wants rest: nothing more of this claim is sent.
    is_halted: bool = False
    #: Its calls so far, and the seconds that they took.
    calls: int = 0
    calling: float = 0
    returned: list[Returned] = field(default_factory=list)
    notes: list[CallNote] = field(default_factory=list)
    breaches: list[Breached] = field(default_factory=list)


class Executor:
    """Works on one target at a time; any number of them may work at once."""

    def __init__(
        self,
        store: Store,
        *,
        targets: Mapping[str, Target],
        adapters: Callable[[str], Adapter],
        bells: Bells,
        holder: str,
        chance: Callable[[], float],
        hopeless_after: timedelta = timedelta(minutes=10),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        processor: Callable[[], float] = time.thread_time,
        insist: Insistence | None = None,
    ) -> None:
        self._store = store
        self._targets = targets
        self._adapters = adapters
        self._bells = bells
        self._holder = holder
        self._chance = chance
        self._hopeless_after = hopeless_after
        self._clock = clock
        self._sleep = sleep
        self._processor = processor
        self._insist = insist or Insistence(clock=clock)
        self._watch = Watch(store, clock=clock)
        #: Jobs that slices which go on have touched, and when such were closed.
        self._touched: set[JobId] = set()
        self._closed_at = clock()
        self._closing = Lock()
        # All who claim of a target wait for its row, and so for each other.
        self._claims: Joined[_Wish, Claim | Busy] = Joined(self._claim_for)
        # Those that began together end together.
        self._records: Joined[Record, Noted | Exception] = Joined(self._record_for)

    def run(
        self,
        name: str,
        *,
        is_over: Callable[[], bool],
        is_ending: Callable[[], bool] | None = None,
        place: Place | None = None,
        close: Callable[[Collection[JobId]], None] | None = None,
        crew: Callable[[int], None] | None = None,
        by_bell: bool = True,
    ) -> Slice:
        """Work on a target until `is_over` says so, nothing is ready, or others do.

        What is claimed is finished, unless `is_ending` says otherwise; without
        it, `is_over` does. While it goes on, `close` is told about once a second
        of jobs that may have ended; those that it was not told of are returned.
        A `crew` is told how many others of this process may be of use beside it.
        Whoever comes otherwise than `by_bell` leaves the bell unanswered.
        """
        done = Slice(closed_at=self._clock())
        if (target := self._targets.get(name)) is not None:
            ends = {"is_over": is_over, "is_ending": is_ending or is_over}
            self._go_on(target, done, **ends, place=place, close=close, crew=crew, by_bell=by_bell)
        with self._closing:
            # What those that go on have left to whoever closes next.
            done.touched |= self._touched
            self._touched = set()
        return done

    def _go_on(
        self,
        target: Target,
        done: Slice,
        *,
        is_over: Callable[[], bool],
        is_ending: Callable[[], bool],
        place: Place | None,
        close: Callable[[Collection[JobId]], None] | None,
        crew: Callable[[int], None] | None,
        by_bell: bool,
    ) -> None:
        """Claim and work, and leave the bell as it should be."""
        # A bell says that something is ready, so that the first claim is sure of it.
        has_come, has_answered, is_sure = False, not by_bell, True
        while not is_over():
            began, has_come = self._processor(), True
            hand = self._claim(target, is_sure=is_sure, answers_bell=not has_answered, crew=crew)
            if isinstance(hand, Busy) and hand.wait is not None and hand.wait <= LONGEST_MOMENT:
                # Going away and coming back with the next look takes longer.
                self._sleep(max(hand.wait.total_seconds(), SHORTEST_MOMENT))
                is_sure = False
                continue
            if isinstance(hand, Busy) and has_answered:
                return
            if isinstance(hand, Busy):
                # What was ready too late for this claim rang no bell of its own.
                self._store.answer_bell(target.name)
                has_answered, is_sure = True, False
                continue
            is_first, has_answered = not has_answered, True
            # Whatever is logged of it, be it by an adapter, names these.
            with bound(target=target.name, lease=hand.claim.lease):
                log.debug("claim.taken", extra={"batches": len(hand.claim.batches)})
                self._work(hand, done, is_ending, place)
            is_sure = hand.claim.is_more
            self._close_some(done, close)
            spent = {"calling": hand.calling, "working": self._processor() - began}
            if place and not place.goes_on(calls=hand.calls, **spent):
                if is_first:
                    break
                # Those that stay ring for what is left.
                return
        if has_come and not has_answered:
            self._store.answer_bell(target.name)
        if self._store.may_ring(target.name):
            self._bells.ring(target.name)

    def _close_some(self, done: Slice, close: Callable[[Collection[JobId]], None] | None) -> None:
        """Have the jobs closed that have ended with a slice which goes on."""
        if close is None or self._clock() - done.closed_at < CLOSE_EVERY:
            return
        # One of the slices that work for the same jobs is enough.
        with self._closing:
            self._touched |= done.touched
            done.touched, done.closed_at = set(), self._clock()
            if done.closed_at - self._closed_at < CLOSE_EVERY:
                return
            touched, self._touched = self._touched, set()
            self._closed_at = done.closed_at
        close(touched)

    # -- claim ----------------------------------------------------------------

    def _claim(
        self,
        target: Target,
        *,
        is_sure: bool,
        answers_bell: bool,
        crew: Callable[[int], None] | None,
    ) -> _Hand | Busy:
        """Take what a second is enough for, and call for others where more is left."""
        began = self._clock()
        lasting = target.limits.timeout + LEASE_MARGIN
        claim = self._claims(target.name, _Wish(is_sure=is_sure, answers_bell=answers_bell))
        if isinstance(claim, Busy):
            return claim
        if claim.bells:
            if crew is not None:
                crew(claim.bells - 1)
            self._bells.ring(target.name)
        try:
            adapter = self._adapters(target.name)
        except BadSettings as error:
            self._stop_all(claim, f"target '{target.name}': {error}")
            return Busy()
        # A stranger's adapter may raise anything; a claim that nobody works on
        # would count as lost, and its items as sent.
        except Exception as error:  # noqa: BLE001
            self._stop_all(
                claim, f"target '{target.name}': its adapter broke: {note_broken(error)}"
            )
            return Busy()
        return _Hand(
            claim,
            target,
            adapter,
            safe_until=began + lasting.total_seconds(),
            looked_at=began,
            # Those that began together record apart.
            recorded_at=began - RECORD_EVERY / 2 * self._chance(),
            running=frozenset(one.batch.job for one in claim.batches),
            protected=claim.protected,
            has_protected=claim.has_protected,
        )

    def _claim_for(self, name: str, wishes: Sequence[_Wish]) -> Sequence[Claim | Busy]:
        """Claim for all threads that came to a target by now."""
        target = self._targets[name]
        begins = any(wish.answers_bell for wish in wishes)
        share = 1 - LEAST_SHARE * self._chance() if begins else 1.0
        return self._store.claim_many(
            name,
            hands=len(wishes),
            fingerprint=target.fingerprint,
            holder=self._holder,
            lasting=target.limits.timeout + LEASE_MARGIN,
            appetite=lambda call_time: self._appetite(target, call_time, share),
            tolerance=target.tolerance,
            is_sure=any(wish.is_sure for wish in wishes),
            answers_bell=any(wish.answers_bell for wish in wishes),
        )

    @staticmethod
    def _appetite(target: Target, call_time: timedelta | None, share: float = 1.0) -> Appetite:
        """How much one claim takes, by how long a call took of late.

        A slice begins with a `share` of it.
        """
        size = target.limits.max_items_per_call
        calls = least = 1
        is_slow = call_time is not None and call_time >= LONG_CALL
        if call_time is not None:
            took = max(call_time, timedelta(milliseconds=1))
            most = max(1, min(MOST_CALLS_A_CLAIM, MOST_ITEMS_A_CLAIM // size))
            worth = CLAIM_WORTH
            if is_slow and target.limits.max_in_flight >= MANY_PLACES:
                worth *= 2
            calls = max(1, min(int(share * worth / took), most))
            least = max(1, min(int(LEAST_WORTH / took), most))
        places = target.limits.max_in_flight
        return Appetite(
            size, calls=calls, least=least, places=places, patience=GATHER, is_slow=is_slow
        )

    def _stop_all(self, claim: Claim, reason: str) -> None:
        """End the jobs of a claim and give it back unsent."""
        for job in {one.batch.job for one in claim.batches}:
            self._insist(partial(self._store.stop, job, reason=reason))
        unsent = [Returned(one.batch) for one in claim.batches]
        # A store that was away for long may have given it to somebody else.
        with suppress(LeaseLost):
            self._insist(partial(self._store.record, claim.lease, unsent))

    # -- work -----------------------------------------------------------------

    def _work(
        self, hand: _Hand, done: Slice, is_ending: Callable[[], bool], place: Place | None
    ) -> None:
        """Send what was claimed, call by call, and record what became of it."""
        calls = list(self._calls(hand))
        if place is not None and (took := hand.claim.call_time):
            # Where more is ready, the claims that follow are whole ones.
            whole = self._appetite(hand.target, took).calls if hand.claim.is_more else 0
            count = max(len(calls), whole)
            place.begins(calls=count, calling=count * took.total_seconds())
        late_at = self._clock() + self._patience(hand, len(calls))
        self._watch.begin(hand.claim.lease)
        try:
            for number, call in enumerate(calls):
                is_over = number > 0 and (is_ending() or self._clock() > late_at)
                is_unwanted = hand.is_halted or is_over
                sendable = [] if is_unwanted else self._look_before(hand, call)
                sent = {id(one) for one in sendable}
                hand.returned += [Returned(one.batch) for one in call if id(one) not in sent]
                if sendable:
                    self._send(hand, sendable, done)
                if self._clock() - hand.recorded_at > RECORD_EVERY:
                    self._record(hand, done)
            self._record(hand, done)
        except LeaseLost as lost:
            # Whoever has it now decides; what we know of these calls is lost.
            log.warning("lease.lost", extra={"lease": hand.claim.lease, "cause": str(lost)})
        finally:
            self._watch.end(hand.claim.lease)

    @staticmethod
    def _patience(hand: _Hand, calls: int) -> float:
        """Seconds after which what is left of a claim is better done by several.

        A target may have become slower than it was known for.
        """
        expected = (hand.claim.call_time or timedelta()) * calls
        return 2 * max(expected, LEAST_PATIENCE).total_seconds()

    @staticmethod
    def _calls(hand: _Hand) -> Iterator[list[Claimed]]:
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

    def _look_before(self, hand: _Hand, call: Sequence[Claimed]) -> list[Claimed]:
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

    def _outlasts_a_call(self, hand: _Hand) -> bool:
        """Whether the lease surely holds until a call that begins now has ended."""
        needed = hand.target.limits.timeout.total_seconds() + 1
        return hand.safe_until - self._clock() > needed

    def _see(self, hand: _Hand) -> None:
        """See what is still wanted, if anybody asked a moment ago by what they saw."""
        since = self._clock() - LOOK_EVERY
        seen, at = self._watch.see(hand.claim.lease, since=since)
        self._heed_wishes(hand, seen, at)

    def _renew(self, hand: _Hand) -> None:
        """Lengthen the lease, and see what is still wanted. Raises LeaseLost."""
        now = self._clock()
        lasting = hand.target.limits.timeout + LEASE_MARGIN
        self._heed_wishes(hand, self._store.renew(hand.claim.lease, lasting=lasting), now)
        hand.safe_until = now + lasting.total_seconds()

    @staticmethod
    def _heed_wishes(hand: _Hand, seen: Renewed, now: float) -> None:
        """What is known from now on of what may be sent."""
        hand.running, hand.looked_at = seen.running, now
        hand.protected, hand.has_protected = seen.protected, seen.has_protected

    def _send(self, hand: _Hand, call: Sequence[Claimed], done: Slice) -> None:
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
            hand.calling += took.total_seconds() if items else 0
            told = {"answer": answer_of(reply.error).value, "seconds": took.total_seconds()}
            log.debug("call.ended", extra={"items": len(items), **told})
        given = Circumstances(
            retry=RetryRules(max_attempts=hand.target.max_attempts),
            chance=self._chance(),
            company=len(call),
            target_answers=hand.claim.target_answers,
        )
        for one, own, must_stay in zip(call, keys, kept, strict=True):
            returned = judge(one, own, reply, given=given, kept=must_stay)
            hand.returned.append(returned)
            done.decided[one.batch.job] += one.batch.open_items - returned.batch.open_items
        if items:
            done.calls += 1
            hand.notes.append(note_of(reply, took))
        for job in {one.batch.job for one in call}:
            hand.breaches += [Breached(job, warned) for warned in reply.warnings]
        self._heed(hand, call, reply)

    @staticmethod
    def _kept(hand: _Hand, claimed: Claimed, keys: Mapping[int, str]) -> dict[int, str]:
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

    def _ask(
        self, hand: _Hand, items: Mapping[str, Item], query: Mapping[str, Any] | None
    ) -> Reply:
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

    def _next_deadline(self, hand: _Hand) -> Deadline | None:
        """A deadline for one more request, which the lease outlasts; None without a store.

        Raises:
            LeaseLost: it is somebody else's now.
        """
        try:
            self._renew(hand)
        except StoreUnavailable:
            return None
        return Deadline(hand.target.limits.timeout)

    def _heed(self, hand: _Hand, call: Sequence[Claimed], reply: Reply) -> None:
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

    def _stop(self, hand: _Hand, call: Sequence[Claimed], reason: str) -> None:
        """Stop the jobs of a call."""
        jobs = {one.batch.job for one in call}
        for job in jobs:
            self._insist(partial(self._store.stop, job, reason=reason))
        hand.running -= jobs

    def _record_for(self, _: str, records: Sequence[Record]) -> Sequence[Noted | Exception]:
        """Record for all threads that came by now; what cannot be written fails alone."""
        try:
            return self._store.record_many(records)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 (raised where it belongs)
            if len(records) == 1:
                return [error]
        record = self._store.record
        return [
            _alone(partial(record, one.lease, one.returned, call=one.call, breaches=one.breaches))
            for one in records
        ]

    def _record(self, hand: _Hand, done: Slice) -> None:
        """Write what became of the batches in hand. Raises LeaseLost."""
        if not hand.returned:
            return
        record = Record(hand.claim.lease, hand.returned, sum_up(hand.notes), hand.breaches)
        noted = self._insist(partial(self._records, hand.target.name, record))
        if isinstance(noted, Exception):
            raise noted
        log.debug("claim.recorded", extra={"batches": len(hand.returned), "lost": noted.lost})
        done.touched.update(noted.jobs)
        hand.returned, hand.notes, hand.breaches = [], [], []
        hand.recorded_at = self._clock()


def _alone(record: Callable[[], Noted]) -> Noted | Exception:
    """What comes of one record."""
    try:
        return record()
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 (raised where it belongs)
        return error


def _named(call: Sequence[Claimed]) -> dict[str, Any]:
    """The batch of a call for the log, where it carries no others."""
    if len(call) > 1:
        return {"batches": len(call)}
    return {"job": call[0].batch.job, "batch": call[0].batch.first}


def _without(keys: Mapping[int, str], kept: Mapping[int, str]) -> Mapping[int, str]:
    """The keys of the positions that may be sent."""
    return {at: key for at, key in keys.items() if at not in kept} if kept else keys
