"""The executor deletes: claim, call, judge, record, until its time is used."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from threading import Lock
from typing import Protocol

from api_adapters.base import Adapter
from api_adapters.errors import BadSettings
from worker.batch import Returned
from worker.calling import note_broken
from worker.deleting import Deleter, Hand, Slice, lease_lasts
from worker.errors import LeaseLost
from worker.fields import bound
from worker.insisting import Insistence
from worker.job import JobId
from worker.joining import Joined, Vigil, Vigils
from worker.store.base import Busy, Claim, Store
from worker.target import Target
from worker.wanting import want, want_at_first

log = logging.getLogger("deletions.executor")

#: How long a slice goes on before the jobs are closed that have ended with it.
CLOSE_EVERY = 1.0
#: A slice waits out a rest of at most this long; below it a claim would be busy
#: asking.
LONGEST_MOMENT = timedelta(seconds=1)
SHORTEST_MOMENT = 0.02
#: Seconds that the threads take to start that are called for together.
MUSTER_TAKES = 0.01


class Place(Protocol):
    """What a slice works on in its process."""

    def begins(self, *, calling: float, each: float) -> None:
        """A claim was taken, whose calls are expected to take so many seconds, all and each."""
        ...

    def goes_on(self, *, calls: int, lasting: float, working: float, beside: int) -> bool:
        """Whether the slice is of use after a claim, by the seconds that it took.

        It lasted until all was recorded, most of it waiting for the backend, and
        `working` is the processor's time of that. Other processes held `beside`
        claims on the target when it was taken.
        """
        ...


class Bells(Protocol):
    """Where a target's bell is rung."""

    def ring(self, target: str) -> None:
        """Tell some worker that there is work on this target."""
        ...


@dataclass(frozen=True, slots=True)
class _Wish:
    """How one thread claims."""

    is_sure: bool
    answers_bell: bool
    #: Whether it is the first of its slice, and others were called for with it.
    begins: bool
    musters: bool


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
        self._clock = clock
        self._sleep = sleep
        self._processor = processor
        self._insist = insist or Insistence(clock=clock)
        #: Jobs that slices which go on have touched, and when such were closed.
        self._touched: set[JobId] = set()
        self._closed_at = clock()
        self._closing = Lock()
        # All who claim of a target wait for its row, and so for each other.
        self._claims: Joined[_Wish, Claim | Busy] = Joined(
            self._claim_for, lingers=lambda wish: wish.musters * MUSTER_TAKES, sleep=sleep
        )
        self._vigils = Vigils()
        self._deleter = Deleter(
            store, chance=chance, clock=clock, insist=self._insist, hopeless_after=hopeless_after
        )

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

    def looks_soon(self, name: str) -> bool:
        """Whether a thread of ours waits for more of a target, and sees what is ready by now."""
        return self._vigils.is_kept(name)

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
        musters = not by_bell
        while not is_over():
            began, worked, has_come = self._clock(), self._processor(), True
            wish = _Wish(is_sure, not has_answered, begins=not done.claims, musters=musters)
            musters = False
            hand = self._claim(target, wish)
            if isinstance(hand, Busy) and hand.wait is not None and hand.wait <= LONGEST_MOMENT:
                # Going away and coming back with the next look takes longer.
                has_answered = has_answered or hand.is_answered
                vigil = self._wait(target.name, hand, owes=not has_answered)
                if vigil is None:
                    return
                has_answered, is_sure = not vigil.owes, False
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
                calls = list(self._deleter.calls(hand))
                self._call_others(hand, len(calls), place, crew)
                self._deleter.work_off(hand, calls, done, is_ending)
            done.claims += 1
            is_sure = hand.claim.is_more
            self._close_some(done, close)
            spent = {"lasting": self._clock() - began, "working": self._processor() - worked}
            if place and not place.goes_on(calls=hand.calls, beside=hand.claim.beside, **spent):
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

    def _wait(self, target: str, busy: Busy, *, owes: bool) -> Vigil | None:
        """Wait until something may be claimed, and answer the bell then if one `owes` that.

        None where another thread waits for the same company: it answers the bell too.
        """
        seconds = max((busy.wait or timedelta()).total_seconds(), SHORTEST_MOMENT)
        if not busy.is_gathering:
            self._sleep(seconds)
            return Vigil(owes)
        with self._vigils.keep(target, owes=owes) as vigil:
            if vigil is not None:
                self._sleep(seconds)
            return vigil

    def _claim(self, target: Target, wish: _Wish) -> Hand | Busy:
        """Take in hand what a second or some are enough for."""
        began = self._clock()
        claim = self._claims(target.name, wish)
        if isinstance(claim, Busy):
            return claim
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
        return self._deleter.hold(claim, target, adapter, began=began)

    def _claim_for(self, name: str, wishes: Sequence[_Wish]) -> Sequence[Claim | Busy]:
        """Claim for all threads that came to a target by now."""
        target = self._targets[name]
        begins = any(wish.begins for wish in wishes)
        appetite = partial(want_at_first, chance=self._chance()) if begins else want
        return self._store.claim_many(
            name,
            hands=len(wishes),
            fingerprint=target.fingerprint,
            holder=self._holder,
            lasting=lease_lasts(target),
            appetite=partial(appetite, target),
            tolerance=target.tolerance,
            is_sure=any(wish.is_sure for wish in wishes),
            answers_bell=any(wish.answers_bell for wish in wishes),
        )

    def _stop_all(self, claim: Claim, reason: str) -> None:
        """End the jobs of a claim and give it back unsent."""
        for job in {one.batch.job for one in claim.batches}:
            self._insist(partial(self._store.stop, job, reason=reason))
        unsent = [Returned(one.batch) for one in claim.batches]
        # A store that was away for long may have given it to somebody else.
        with suppress(LeaseLost):
            self._insist(partial(self._store.record, claim.lease, unsent))
        if claim.bells:
            self._bells.ring(claim.target)

    def _call_others(
        self, hand: Hand, calls: int, place: Place | None, crew: Callable[[int], None] | None
    ) -> None:
        """Let others come where more is ready, who find a slot by what is expected of calls."""
        if place is not None and (took := hand.claim.call_time):
            # Where more is ready, the claims that follow are whole ones.
            whole = want(hand.target, took).calls if hand.claim.is_more else 0
            each = took.total_seconds()
            place.begins(calling=max(calls, whole) * each, each=each)
        if not hand.claim.bells:
            return
        if crew is not None:
            crew(hand.claim.bells - 1)
        self._bells.ring(hand.claim.target)
