"""Which of a process's threads may work on batches, and on which target's."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from threading import Lock

#: Slots that are never used for batches, so that control is never held up.
KEPT_FOR_CONTROL = 2
#: Of so many others this is never used by a target that has some: its calls may
#: hang, and a target that works well must not wait for them.
ENOUGH_TO_SPARE, KEPT_FOR_OTHERS = 8, 1
#: A target whose bell came to this process within so many seconds counts as
#: waiting. A lost bell is rung again by the look after five seconds and a bit.
REMEMBERED = 10.0
#: How much of what was known of a target's calls the next claim leaves standing.
KEPT_OF_BEFORE = 0.8
#: What a claim is taken to last at most, beside those before it: a backend that
#: becomes slow is known for it after a few.
MOST_OF_MEAN = 4.0
#: What share of the processor slices use together where they are in each other's way.
CROWDED = 0.5
#: Seconds below which a call is brief: while longer ones last, many have the processor.
BRIEF = 0.05
#: Others are never reckoned to use more of the processor than this.
MOST_CROWDED = 0.9


class Turned(Enum):
    """Why a slice may not begin."""

    FULL = auto()  #: no slot is free
    ENOUGH = auto()  #: those that work on the target keep this process busy


@dataclass(slots=True)
class _Spent:
    """What claims of late took together, the latest counting the most."""

    claims: float = 0.0
    #: Seconds in all, those for which the processor was of no use, and those of it.
    lasting: float = 0.0
    waiting: float = 0.0
    working: float = 0.0

    @property
    def longest(self) -> float:
        """What a claim is taken to last at most: one may have waited for the store."""
        return MOST_OF_MEAN * self.lasting / self.claims if self.lasting else inf

    def add(self, *, lasting: float, waiting: float, working: float) -> None:
        """Add those of one claim."""
        self.claims = KEPT_OF_BEFORE * self.claims + 1
        self.lasting = KEPT_OF_BEFORE * self.lasting + lasting
        self.waiting = KEPT_OF_BEFORE * self.waiting + waiting
        self.working = KEPT_OF_BEFORE * self.working + working


class Slots:
    """Shared by the threads of one process.

    One target gets at most half of the slots while another's bell was heard of
    late, and of many never the last one, so that a slow target never holds a
    quick one.

    Nor does it get more than are of use: threads of one process share one
    processor, and those that need it more than they wait for the backend only
    take it from each other, in the midst of their transactions. Thirty threads
    on a backend that answers at once took twice the processor's time of two.
    """

    def __init__(self, threads: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._room = max(1, threads - KEPT_FOR_CONTROL)
        self._clock = clock
        self._busy: Counter[str] = Counter()
        self._slices: Counter[str] = Counter()
        self._spent: defaultdict[str, _Spent] = defaultdict(_Spent)
        #: How many claims other processes had beside our latest, by target.
        self._beside: Counter[str] = Counter()
        #: Seconds that claims of late were expected to spend in calls, by target.
        self._expected: dict[str, float] = {}
        #: Whether calls are brief, by target; of some nobody knows.
        self._brief: dict[str, bool] = {}
        self._heard: dict[str, float] = {}
        self._turned_away: dict[str, None] = {}
        self._declined: set[str] = set()
        #: When somebody was refused who came otherwise than for a slice.
        self._refused_at = float("-inf")
        self._lock = Lock()

    @contextmanager
    def enter(self, target: str) -> Iterator[bool]:
        """Take a slot for a target, or be told that none is free for it."""
        with self._lock:
            granted = self._may_enter(target)
            self._busy[target] += granted
            # One slot is kept for whoever comes again, and slices are soon over.
            self._refused_at = float("-inf") if granted else self._clock()
        try:
            yield granted
        finally:
            with self._lock:
                self._busy[target] -= granted

    @contextmanager
    def work(
        self, target: str, *, by_bell: bool = True, may_pass: bool = False
    ) -> "Iterator[Slot | Turned]":
        """Take a slot for a slice of work on a target, or be told why not.

        It is remembered that somebody was turned away who came by a bell. One that
        `may_pass` to another process is not for one that has more at work already.
        """
        with self._lock:
            if not self._may_enter(target, kept=int(self._is_awaited())):
                slot: Slot | Turned = Turned.FULL
                if by_bell:
                    self._turned_away[target] = None
            elif self._slices[target] >= self._of_use(target, more=1, may_pass=may_pass):
                slot = Turned.ENOUGH
                if by_bell:
                    self._declined.add(target)
            else:
                slot = Slot(self, target)
                self._busy[target] += 1
                self._slices[target] += 1
        try:
            yield slot
        finally:
            if isinstance(slot, Slot):
                with self._lock:
                    self._busy[target] -= 1
                    self._slices[target] -= slot.counts

    def turned_away(self) -> list[str]:
        """Targets whose bell found no slot since this was asked: ring them again.

        Otherwise a target that nobody here works on would wait for the look.
        """
        with self._lock:
            names = list(self._turned_away)
            self._turned_away.clear()
        return names

    def has_others(self, target: str) -> bool:
        """Whether another target's bell was heard here of late, or somebody found no slot."""
        with self._lock:
            return self._is_awaited() or bool(self._heard_of_late() - {target})

    def has_declined(self, target: str) -> bool:
        """Whether a bell of the target was declined since this was asked.

        Those that were at work then may have ended without ringing, as it was
        still on its way.
        """
        with self._lock:
            has_declined = target in self._declined
            self._declined.discard(target)
            return has_declined

    def expect(self, target: str, *, calling: float, each: float) -> None:
        """How many seconds a claim is expected to spend in calls, and in each of them."""
        with self._lock:
            self._brief[target] = each < BRIEF
            # Some claims are smaller than those that follow.
            before = KEPT_OF_BEFORE * self._expected.get(target, 0.0)
            self._expected[target] = max(before, calling)

    def note(
        self, slot: "Slot", *, calls: int, lasting: float, working: float, beside: int = 0
    ) -> None:
        """Learn from one claim, and let its slice go if it is one too many."""
        target = slot.target
        with self._lock:
            self._beside[target] = beside
            if calls:
                lasting = min(lasting, self._spent[target].longest)
                waiting = _waiting(lasting, working, others=self._slices[target] - 1)
                self._spent[target].add(lasting=lasting, waiting=waiting, working=working)
            if slot.counts and self._slices[target] > self._of_use(target):
                # At once, so that of two that are too many only those go that are.
                slot.counts = False
                self._slices[target] -= 1

    def _of_use(self, target: str, *, more: int = 0, may_pass: bool = False) -> int:
        """How many slices at once a target is worked on fastest with.

        While one waits for the backend, others may use the processor. Where those of
        this process, and some `more`, are in each other's way, it is worked on by half
        of all that are at work on it, as another process has a processor of its own.
        """
        spent, ours, beside = self._spent[target], self._slices[target] + more, self._beside[target]
        most = self._room
        if spent.working > 0:
            waiting, expected = spent.waiting, self._expected.get(target, 0.0) * spent.claims
            # The claims of small jobs, with a call or two, say little of those of a large one.
            if 2 * spent.lasting < expected:
                waiting = max(waiting, expected)
            most = 1 + int(waiting / spent.working)
        is_crowded = ours * spent.working >= CROWDED * spent.lasting
        if (beside or may_pass) and is_crowded and self._brief.get(target):
            most = min(most, (ours + beside + 1) // 2)
        return most

    def _is_awaited(self) -> bool:
        """Whether somebody who is to find items was refused a slot of late."""
        return self._clock() - self._refused_at < REMEMBERED

    def _may_enter(self, target: str, *, kept: int = 0) -> bool:
        """Whether a slot is free for the target, beside those that are kept for others."""
        self._heard[target] = self._clock()
        others = self._heard_of_late() - {target}
        most = max(1, self._room // 2) if others else self._room
        if self._room >= ENOUGH_TO_SPARE:
            # Whoever has none may have any that is free: what is kept is for him.
            kept = kept + KEPT_FOR_OTHERS if self._busy[target] else 0
        room = max(1, self._room - kept)
        return self._busy.total() < room and self._busy[target] < most

    def _heard_of_late(self) -> set[str]:
        """The targets whose bell was heard here of late."""
        now = self._clock()
        self._heard = {one: at for one, at in self._heard.items() if now - at < REMEMBERED}
        return set(self._heard)


def _waiting(lasting: float, working: float, *, others: int) -> float:
    """For how many seconds of a claim the processor was of no use to it.

    While it works it waits for the others too, by the share of the processor
    that they use: the approximate mean value analysis of closed networks (Bard,
    1979), turned round. Otherwise many would find that their calls take long,
    as they all are in each other's way, and be taken for a reason to be many.

    >>> _waiting(1.0, 0.25, others=0), _waiting(1.0, 0.25, others=2)
    (0.75, 0.5)
    """
    crowded = min(others * working / lasting, MOST_CROWDED) if lasting > 0 else 0.0
    return max(0.0, lasting - working / (1 - crowded))


class Slot:
    """The place of one slice of work."""

    def __init__(self, slots: Slots, target: str) -> None:
        self._slots = slots
        self.target = target
        #: Whether it counts among those that work on the target.
        self.counts = True

    def begins(self, *, calling: float, each: float) -> None:
        """A claim was taken, whose calls are expected to take so many seconds."""
        self._slots.expect(self.target, calling=calling, each=each)

    def goes_on(self, *, calls: int, lasting: float, working: float, beside: int = 0) -> bool:
        """Whether the slice is still of use, by the seconds that its last claim took."""
        self._slots.note(self, calls=calls, lasting=lasting, working=working, beside=beside)
        return self.counts
