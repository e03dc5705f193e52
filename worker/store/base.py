"""The results store as the actors see it: the port.

Lengths of time go in, moments come out: leases, rests, due moments and
`decided_at` are reckoned by the store's own clock alone. Every method is one
transaction unless it says otherwise, and is safe to repeat. Positions, ranges,
doubt and bells are explained in the README under "Why it is built so".
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Any, NewType, Protocol

from api_adapters.base import Verdict, Warned
from worker.batch import Claimed, Returned
from worker.breaking import CLOSED, Circuit
from worker.call import BOUNDS, Answer, Call
from worker.errors import LeaseLost
from worker.failing import Tolerance
from worker.item import Landed, Mark, Outcome, from_json
from worker.job import Job, JobId, JobState, JobStatus, NewJob, Tally, empty_tally, moment_text
from worker.purge import Decision, PurgeNote, PurgeRun, RunStatus

LeaseId = NewType("LeaseId", int)

#: How long a settled job keeps its items that was never to delete anything, or
#: that nobody approved.
KEPT_BRIEFLY = timedelta(days=7)
#: How long a job waits for approval.
APPROVAL_PATIENCE = timedelta(days=7)
#: A job that runs since so lately may be in the hands of whoever settles it.
SETTLING_TAKES = timedelta(seconds=5)
#: A bell that nobody answered for so long may be rung again.
BELL_PATIENCE = timedelta(seconds=5)
#: Of so many places of a slow target one may be free because its claim has just ended.
PLACES_BETWEEN_CLAIMS = 16
#: The last one in so many of its places are filled at once, of more the half.
LAST_PLACES = 4
#: A bell that somebody came to who was busy enough may be so after this.
DECLINED_FOR = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Items that land together, place by place; its place is known from its number."""

    number: int
    #: The position of the first place.
    first: int
    #: What was given as JSON text; empty at the place of a duplicate that was left out.
    texts: Sequence[str]
    #: The digest of the key; none for an item without one.
    keys: Sequence[bytes | None]
    #: The outcome of those that were refused at the door, by position.
    refusals: Mapping[int, Mark]
    #: How many items land; those given beside them are duplicates.
    count: int
    given: int
    #: Bytes of the items' texts, for the bounds.
    size: int
    #: A digest of the items as given: the same again is a repeat.
    digest: str
    #: The first and the last key where each is higher than the one before it, by
    #: `rank_of`: then no two of them are equal.
    ends: tuple[str, str] | None = field(default=None, compare=False)

    @property
    def items(self) -> tuple[Landed, ...]:
        """The items that land, one by one."""
        places = enumerate(zip(self.texts, self.keys, strict=True), self.first)
        return tuple(
            Landed(position, text, key, self.refusals.get(position))
            for position, (text, key) in places
            if text
        )


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a seal found."""

    state: JobState
    #: Numbers of chunks that have not landed, at most a hundred.
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """One range of a plan."""

    first: int
    last: int
    items: int


@dataclass(frozen=True, slots=True)
class Part:
    """So many consecutive items of a job, summed up."""

    first: int
    last: int
    items: int
    #: Those that can be sent.
    open_items: int
    #: Of their texts.
    bytes: int


@dataclass(frozen=True, slots=True)
class Appetite:
    """How much one claim may take."""

    #: The most items one call takes.
    call_items: int
    #: The most calls a claim may be worth.
    calls: int
    #: Live leases that the target may have, over all workers.
    places: int
    #: So many calls are worth a claim however little is left for the others.
    least: int
    #: How long what fills no call may wait for more of its kind.
    patience: timedelta = timedelta()
    #: Whether calls are so long that many are wanted at once.
    is_slow: bool = False
    #: By what share the first of several hands takes less than the last.
    spread: float = 0.0

    def bells(self, live: int, *, claims: int = 1) -> int:
        """How many others some claims call for, with which now so many live.

        With one each, the last of many comes after as many hops as there are
        places; all at once, they would all come to one process. The last quarter does.

        >>> wanted = Appetite(call_items=100, calls=10, places=8, least=2)
        >>> [wanted.bells(live) for live in (1, 7, 8)]
        [1, 1, 0]
        >>> wanted = replace(wanted, places=16, is_slow=True)
        >>> [wanted.bells(live) for live in (1, 9, 15, 16)]
        [8, 4, 0, 0]

        Of many places some are free at any time, between two claims.
        """
        free = max(0, self.places - live)
        if not self.is_slow:
            return min(claims, free)
        if free <= self.places // PLACES_BETWEEN_CLAIMS:
            return 0
        return max((free + 1) // 2, min(free, self.places // LAST_PLACES))

    def turned(self, live: int, *, is_more: bool, is_answered: bool) -> "Busy":
        """What hands are told for whom nothing was left of a claim, with which now so many live.

        Jobs that take turns are claimed of one after the other: the next is soon to
        be had, and the claim of another hand may have answered their bell.
        """
        if is_more and live < self.places:
            return Busy(timedelta(), is_answered=is_answered)
        return Busy()

    def shared(self, ready: int, live: int, undone: float = 0) -> "Appetite":
        """What is left of it where so many batches are ready for all.

        On a slow target all places are to have the same of what is still to do,
        so that they end at about the same time: it counts how many calls of those
        that live are `undone`. Those that begin take less by their `spread`: all that
        claim at one moment wait for each other.

        >>> wanted = Appetite(call_items=100, calls=40, places=32, least=2, is_slow=True)
        >>> [wanted.shared(ready, live=0).calls for ready in (10_000, 160, 40)]
        [40, 5, 2]
        >>> wanted.shared(80, live=31, undone=90).calls
        6
        >>> [wanted.shared(3, live, undone=9).calls for live in (2, 31)]
        [2, 1]
        >>> replace(wanted, spread=0.7).shared(480, live=16, undone=16 * 26).calls
        28

        Few work on a quick one, who have on average half of such a claim still
        to do, and share that too.

        >>> wanted = replace(wanted, is_slow=False)
        >>> wanted.shared(80, live=31).calls
        4
        """
        share, least = 2 * ready // (2 * self.places - live), self.least
        if self.is_slow:
            share = ceil((ready + undone) / self.places)
            # Where half of the places are taken, the last calls go one to each.
            least = 1 if 2 * live >= self.places else self.least
        calls = min(self.calls, max(share, least))
        return replace(
            self, calls=calls, spread=self.spread if self.is_slow or calls == self.calls else 0.0
        )

    def of_hand(self, number: int, *, hands: int) -> "Appetite":
        """What one hand takes of several that claim together, counted from 0.

        Those that take the same end at the same moment, and claim together ever after.

        >>> wanted = Appetite(call_items=100, calls=10, places=8, least=2, spread=0.8)
        >>> [wanted.of_hand(number, hands=5).calls for number in range(5)]
        [4, 5, 7, 8, 10]
        """
        less = self.spread * (1 - (number + 1) / hands)
        return replace(self, calls=max(1, round(self.calls * (1 - less))))

    def share_of(self, items: int, company: int | None) -> Fraction | int:
        """How much of its calls a batch takes, in items: one with little company takes more.

        >>> wanted = Appetite(call_items=100, calls=10, places=8, least=2)
        >>> [str(wanted.share_of(7, company)) for company in (None, 1, 3, 50)]
        ['7', '100', '100/3', '7']
        """
        if company is None:
            return items
        share = Fraction(self.call_items, company)
        return share if share > items else items

    def expected_end(
        self, now: datetime, items: Fraction | int, call_time: timedelta | None
    ) -> datetime | None:
        """When the calls of so many items will have been made, one after the other.

        What a batch takes of a call counts as items. None where nobody knows how
        long one takes.
        """
        return None if call_time is None else now + ceil(items / self.call_items) * call_time

    def gathers(self, oldest: datetime, newest: datetime, now: datetime) -> timedelta:
        """How long batches that fill no call are to wait for more of their kind.

        While others keep coming, a call that goes at once goes nearly empty, and
        so do all that follow: until there is a gap, it waits up to four times as
        long.

        >>> wanted = Appetite(1000, calls=1, places=8, least=1, patience=timedelta(seconds=1))
        >>> oldest, now = (datetime(2026, 11, 27, 9, 0, second) for second in (0, 2))
        >>> wanted.gathers(oldest, newest=oldest, now=now).total_seconds()
        0.0
        >>> wanted.gathers(oldest, newest=now, now=now).total_seconds()
        0.5
        """
        until = max(oldest + self.patience, newest + self.patience / 2)
        return max(timedelta(), min(until, oldest + 4 * self.patience) - now)


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim's right: a lease that fences all its batches, one place."""

    lease: LeaseId
    target: str
    batches: tuple[Claimed, ...]
    #: How long one call took of late, or None where nobody knows.
    call_time: timedelta | None
    #: Whether the target answered a call within the last minute.
    target_answers: bool
    #: Ready work and free places are left: so many others are called for, and a
    #: bell is now ours to ring.
    bells: int
    #: Ready work is left, whoever is to do it.
    is_more: bool
    #: How many claims of other processes lived on the target beside it.
    beside: int = 0
    #: The frozen queries of those jobs whose items were found.
    queries: Mapping[JobId, Mapping[str, Any]] = field(default_factory=dict)
    #: Whether any key of the target is protected.
    has_protected: bool = False

    @property
    def protected(self) -> frozenset[tuple[JobId, int]]:
        """The open places whose key is protected, by job and position."""
        return frozenset((one.batch.job, at) for one in self.batches for at in one.protected)


@dataclass(frozen=True, slots=True)
class Renewed:
    """What the holder of a lease has to know before the next call."""

    #: The jobs of its batches that still want to run.
    running: frozenset[JobId]
    #: The places of its batches whose key is protected by now, open or not, and
    #: whether any key of the target is.
    protected: frozenset[tuple[JobId, int]] = frozenset()
    has_protected: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing was claimed."""

    #: How long until something may be claimed, where that is known.
    wait: timedelta | None = None
    #: Whether it is ready, and waits for more with which it shares a call.
    is_gathering: bool = False
    #: Whether the bell was answered all the same, by the claim of another hand.
    is_answered: bool = False


@dataclass(frozen=True, slots=True)
class Noted:
    """What a record found out beside the batches it wrote."""

    #: Jobs that may have ended with it: the settler asks.
    jobs: tuple[JobId, ...]
    #: Batches that were not ours any more and were left alone.
    lost: int = 0


@dataclass(frozen=True, slots=True)
class CallNote:
    """What one call tells of its target."""

    #: How long it took.
    took: timedelta
    #: Whether the backend answered as it documents.
    answered: bool
    #: Let the whole target rest for so long: it was told to wait.
    rest: timedelta = timedelta()
    #: Whether there was a sign of life, be it a refusal.
    is_alive: bool = False
    #: Calls that failed since the last sign of life.
    failures: int = 0
    #: Each call by itself, for those who count.
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Breached:
    """A contract violation seen in the answer to a job's call."""

    job: JobId
    warned: Warned


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a lease's batches, or of some of them, and what their calls tell."""

    lease: LeaseId
    returned: Sequence[Returned]
    #: All its calls since the last record together.
    call: CallNote | None = None
    breaches: Sequence[Breached] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the store found to be done."""

    #: Targets with ready work, a free place and no unanswered bell: ring them.
    ring: tuple[str, ...] = ()
    plan: tuple[JobId, ...] = ()
    #: Jobs that may be closed or settled.
    settle: tuple[JobId, ...] = ()
    has_lost_leases: bool = False
    #: Notifications are owed.
    is_owing: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """A job that was closed."""

    job: JobId
    target: str
    state: JobState
    tally: Tally
    #: The [notify.NAME] that is owed a notification.
    notify: str | None


@dataclass(frozen=True, slots=True)
class Closing:
    """What came of an attempt to settle several jobs."""

    settled: tuple[Settled, ...] = ()
    #: Those that are to end early: of these, ready ranges may be left.
    ending: tuple[JobId, ...] = ()


@dataclass(frozen=True, slots=True)
class Owed:
    """A notification that was not sent yet."""

    job: JobId
    #: The [notify.NAME] that the job named.
    notify: str
    state: JobState
    tally: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TargetNote:
    """What holds a target back."""

    closed_reason: str | None = None
    closed_for: timedelta | None = None
    rests_for: timedelta | None = None
    live_leases: int = 0
    circuit: Circuit = CLOSED


@dataclass(frozen=True, slots=True)
class Totals:
    """What has become of a target's items and calls so far; these counts only grow."""

    items: Tally = field(default_factory=empty_tally)
    calls: Mapping[Answer, int] = field(default_factory=dict)
    #: Calls by the place of their length among `BOUNDS`, and the sum of all lengths.
    lengths: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    took: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits on a target, and what is being done about it."""

    note: TargetNote = TargetNote()
    totals: Totals = Totals()
    #: Batches in these states, be their job paused or not.
    ready: int = 0
    leased: int = 0
    #: For how long a batch of a running job has been free to be claimed.
    oldest: timedelta | None = None
    #: How long ago a worker last came to the target's bell.
    answered: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Measures:
    """The whole store at one moment of its clock."""

    backlogs: Mapping[str, Backlog]
    #: How long ago the clock ticked and a worker last looked; None if never.
    ticked: timedelta | None = None
    looked: timedelta | None = None
    #: For how long the oldest lease that ran out has waited to be taken over.
    lost_for: timedelta | None = None


@dataclass(frozen=True, slots=True)
class JobNote:
    """What a job that has not ended waits for, beside what its target does."""

    chunks_landed: int = 0
    #: None until the job is sealed.
    chunks_wanted: int | None = None
    #: Somebody has the right to plan it.
    is_planned: bool = False
    #: How long until the first of its ready batches may be claimed; None where
    #: one may be at once, or none is ready.
    next_try: timedelta | None = None
    #: What the last failed attempt of one of its ready batches was told.
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Protection:
    """A key that must stay."""

    key: bytes
    #: The item as it was given, as JSON text.
    text: str
    reason: str | None
    #: It holds until this moment; None is for ever.
    until: datetime | None
    os_user: str | None
    by: str | None
    created_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The shape of a line of `protect list --json`."""
        return {
            "item": from_json(self.text),
            "reason": self.reason,
            "until": moment_text(self.until),
            "os_user": self.os_user,
            "by": self.by,
            "created_at": moment_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Protected:
    """What became of the wish to protect keys."""

    #: Keys that were not protected before.
    added: int
    #: Keys that are open in batches that a worker has: they may be sent before it looks.
    out: int


@dataclass(frozen=True, slots=True)
class Unprotected:
    """What became of the wish to protect keys no longer."""

    removed: int
    #: How many of their items were kept, by ended job that nobody tried again.
    kept: Mapping[JobId, int]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What became of the wish to forget an item."""

    #: Settled jobs that do not hold it any more.
    forgotten: int
    #: Jobs that have not settled and so still need it.
    kept: int


@dataclass(frozen=True, slots=True)
class Outdated:
    """What pruning would do now, oldest first."""

    #: Jobs that wait for approval, and nobody gave it.
    decline: tuple[JobId, ...]
    #: Settled jobs whose items have been kept for long enough.
    prune: tuple[JobId, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Outcomes by position, and where to go on; None at the end."""

    rows: tuple[Outcome, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class Mention:
    """One job that named an item."""

    job: JobId
    state: JobState
    outcome: Outcome
    requested_by: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """Who changed what, when; rows of this table are only appended."""

    at: datetime
    kind: str
    job: JobId | None
    target: str | None
    #: The operating-system user of a command, or None for the worker itself.
    os_user: str | None
    #: Who they said they were.
    by: str | None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Who:
    """Who gives a command."""

    os_user: str | None = None
    by: str | None = None
    reason: str | None = None


class Store(Protocol):
    """The truth about every job.

    Every method may raise `StoreUnavailable`.
    """

    # -- how jobs come in ---------------------------------------------------

    def submit(self, job: NewJob, chunk: Chunk, *, cuts: Sequence[Cut] = ()) -> Job:
        """Take a job with all its items, sealed; duplicates are already out of it.

        With `cuts`, which cover all items, it is planned by the same write and runs.
        The same id with the same content again answers the job that is there.

        Raises:
            RefusedRequest: `job_conflict`, the id stands for other content.
        """
        ...

    def open(self, job: NewJob) -> Job:
        """Take a job whose items follow in chunks, are found, or are copied from another job.

        Raises:
            RefusedRequest: `job_conflict`; `unknown_job` or `wrong_state` of the
                plan or the parent, or what the plan found is too old.
        """
        ...

    def append(self, job: JobId, chunk: Chunk) -> Job:
        """Land one chunk, in any order and any number of times; the job afterwards.

        Raises:
            RefusedRequest: `unknown_job`; `job_conflict`, the number landed with
                other content; `job_sealed`, the job takes no more.
        """
        ...

    def seal(self, job: JobId, chunks: int) -> Sealed:
        """Say how many chunks there are; the job goes on once all have landed.

        Raises:
            RefusedRequest: `unknown_job`; `job_conflict`, sealed with another
                number; `wrong_state`, more chunks than that have landed.
        """
        ...

    # -- planning -----------------------------------------------------------

    def begin_planning(self, job: JobId, *, holder: str, lasting: timedelta) -> Job | None:
        """Take the right to plan a job that is to be planned, or None.

        A plan that was begun before goes on where it stood.
        """
        ...

    def give_up_planning(self, job: JobId, *, holder: str) -> None:
        """Let somebody else plan at once."""
        ...

    def copy_plan(self, job: JobId, *, limit: int) -> bool:
        """Copy up to so many frozen items of the job's plan; True when all are there.

        Raises:
            RefusedRequest: `wrong_state`, the plan has no items any more.
        """
        ...

    def copy_leftovers(self, job: JobId, *, limit: int) -> bool:
        """Copy about so many items that the job's parent left over, with their
        positions and their doubt; True when all are there.
        """
        ...

    def drop_duplicates(self, job: JobId) -> Job:
        """Keep the lowest position of equal keys; the job's counts are right then."""
        ...

    def places(self, job: JobId, *, after: int, limit: int) -> Sequence[tuple[int, int, bool]]:
        """(position, bytes, is open) of items beyond a position, in order."""
        ...

    def parts(self, job: JobId, *, after: int, size: int, limit: int) -> Sequence[Part]:
        """The items beyond a position in parts of `size` items each, in order.

        At most `limit` positions are looked at, and only full parts are told:
        the last part, and what lies between large holes, is left to `places`.
        """
        ...

    def last_cut(self, job: JobId) -> int:
        """The last position that a batch covers already, or -1."""
        ...

    def add_batches(self, job: JobId, cuts: Sequence[Cut]) -> None:
        """Write ranges of a plan; one that is there already is left alone."""
        ...

    def start(self, job: JobId) -> bool:
        """planning -> running, at the target's present round; False if it was not."""
        ...

    def content(
        self, job: JobId, *, after: int, limit: int
    ) -> Sequence[tuple[int, str, bytes | None]]:
        """(position, text, key) of at most so many items beyond a position, in order."""
        ...

    def hold(self, job: JobId, *, reason: str, digest: str | None = None) -> bool:
        """planning -> awaiting_approval; False if it was not.

        `digest` stands for the items that a person is shown.
        """
        ...

    def finish_dry(self, job: JobId) -> bool:
        """planning -> completed, everything skipped with code `dry_run`."""
        ...

    # -- finding ------------------------------------------------------------

    # Each may raise LeaseLost: the right to plan is somebody else's now, or
    # the job is ending.

    def begin_find(self, job: JobId, *, holder: str) -> int:
        """Count one more find of a job; how many were begun before."""
        ...

    def freeze(self, job: JobId, frozen: Mapping[str, Any], *, holder: str) -> Job:
        """Keep the query as it holds for the whole job; an earlier one stays."""
        ...

    def clear_found(self, job: JobId, *, holder: str, limit: int) -> bool:
        """Drop up to so many items of an earlier find; True when none is left."""
        ...

    def land_found(self, job: JobId, chunk: Chunk, *, holder: str) -> None:
        """Land some of what a find brings, in order."""
        ...

    def end_find(self, job: JobId, *, holder: str) -> Job:
        """Note that all that was found has landed; it stays as it is."""
        ...

    def rest(self, target: str, *, length: timedelta) -> None:
        """Let nothing of a target be claimed for a while: it said so."""
        ...

    # -- executing ----------------------------------------------------------

    def answer_bell(self, target: str) -> None:
        """Nobody waits any more for a worker to come: what is ready later rings anew.

        Each bell is answered once, with the first claim that takes something or
        before another one, else bells multiply.
        """
        ...

    def decline_bell(self, target: str) -> None:
        """Whoever came to the bell is busy enough: for half a second nobody need ring.

        Otherwise each claim would ring, as long as fewer work than there are places.
        """
        ...

    def claim_many(
        self,
        target: str,
        *,
        hands: int,
        fingerprint: str,
        holder: str,
        lasting: timedelta,
        appetite: Callable[[timedelta | None], Appetite],
        tolerance: Tolerance | None = None,
        is_sure: bool = False,
        answers_bell: bool = False,
    ) -> Sequence[Claim | Busy]:
        """Take ready batches of a target's jobs, in turns, each claim under a new lease.

        One answer for each of so many hands: first what was claimed, then for the
        others why there was nothing, as far as was seen. What they take together
        is what they would take one after the other, but whoever else works on the
        target waits for them once. Where several jobs have something ready, which
        take turns, or a key is protected, one of the hands takes something, and the
        others may come again at once while there is more and a place is free.

        Unless one `is_sure` that some are ready, a store that would have to
        wait for others looks first whether it is worth it.

        A claim that `answers_bell` does so where it takes something. What was
        ready too late for it rang no bell, since that one was not answered yet:
        whoever answers claims once more, or rings. Where it is busy nothing is
        answered: while it waits for others to share a call with, nobody else is
        called for.

        `appetite` is given the recent time of one call. Only jobs of this
        fingerprint are served, and a job that has failed more than `tolerance`
        allows is stopped instead. The batches come with their open items, and
        with those of them whose key is protected.
        """
        ...

    def claim(
        self,
        target: str,
        *,
        fingerprint: str,
        holder: str,
        lasting: timedelta,
        appetite: Callable[[timedelta | None], Appetite],
        tolerance: Tolerance | None = None,
        is_sure: bool = False,
        answers_bell: bool = False,
    ) -> Claim | Busy:
        """Claim for one hand: see `claim_many`."""
        answers = self.claim_many(
            target,
            hands=1,
            fingerprint=fingerprint,
            holder=holder,
            lasting=lasting,
            appetite=appetite,
            tolerance=tolerance,
            is_sure=is_sure,
            answers_bell=answers_bell,
        )
        return answers[0]

    def see(self, leases: Collection[LeaseId]) -> Mapping[LeaseId, Renewed]:
        """What is still wanted of the batches of leases, and what must stay; waits for nobody.

        Of a lease that has none any more, nothing is wanted.
        """
        ...

    def renew(self, lease: LeaseId, *, lasting: timedelta) -> Renewed:
        """Lengthen a lease; what `see` would tell.

        Raises:
            LeaseLost: it is somebody else's now.
        """
        ...

    def record_many(self, records: Sequence[Record]) -> Sequence[Noted | LeaseLost]:
        """Give batches back with what became of them, all or nothing; an answer for each record.

        Only batches that are still the lease's are written. A batch that goes
        back to be ready while its job is ending is ended instead: skipped, or
        unknown in doubt. A lease ends with its last batch.

        LeaseLost is the answer where the lease had no batches any more. One that
        has others still is not lost: what was recorded before, and the answer did
        not arrive, is left alone.
        """
        ...

    def record(
        self,
        lease: LeaseId,
        returned: Sequence[Returned],
        *,
        call: CallNote | None = None,
        breaches: Sequence[Breached] = (),
    ) -> Noted:
        """Record for one lease: see `record_many`. Raises LeaseLost."""
        answer = self.record_many([Record(lease, returned, call, breaches)])[0]
        if isinstance(answer, LeaseLost):
            raise answer
        return answer

    def rescue(self, decide: Callable[[str, Claimed], Returned], *, limit: int) -> Noted:
        """Give back what leases that ran out had, as `decide(target, ...)` says.

        `decide` is pure. At most `limit` leases at once.
        """
        ...

    def come_back(self) -> int:
        """The store was away: leases that ran out meanwhile get one more length; how many.

        Whoever holds their answers could not record them, nor renew.
        """
        ...

    def close_target(self, target: str, *, reason: str, rest: timedelta) -> timedelta:
        """Let nothing of a target be claimed for a while; how long it is closed by now.

        A call that is answered opens it again.
        """
        ...

    def open_target(self, target: str, who: Who) -> bool:
        """Let a closed target be tried at once; False if it was not closed."""
        ...

    def stop(self, job: JobId, *, reason: str) -> bool:
        """Let a job end because it cannot go on; False if it had ended or is ending."""
        ...

    # -- bells --------------------------------------------------------------

    def may_ring(self, target: str) -> bool:
        """Whether a bell is due: work is ready, a place is free, and the last
        bell was answered or is older than five seconds. Then it counts as rung.
        """
        ...

    def look(self, *, every: timedelta) -> Look | None:
        """What is to be done, or None where somebody looked within `every`."""
        ...

    # -- settling -----------------------------------------------------------

    def end_ready(self, job: JobId, *, limit: int) -> int:
        """End up to so many ready batches of a job that is ending; how many."""
        ...

    def settle(self, job: JobId) -> JobStatus | None:
        """Close a job none of whose ranges is open; None if it is not so, or was before.

        Raises:
            DoesNotAddUp: its tally differs from its items; nothing is written.
        """
        ...

    def settle_done(self, jobs: Sequence[JobId]) -> Closing:
        """Close those of the jobs that run, or are paused, and have no open range.

        Raises:
            DoesNotAddUp: the tally of one differs from its items; nothing is written.
        """
        ...

    def owed(self, *, limit: int) -> Sequence[Owed]:
        """Notifications that were not sent yet, oldest first."""
        ...

    def pay(self, job: JobId) -> None:
        """Note that a job's notification was sent, and is owed no more."""
        ...

    # -- commands -----------------------------------------------------------

    def pause(self, job: JobId, who: Who) -> None:
        """running -> paused. Raises RefusedRequest: `unknown_job`, `wrong_state`."""
        ...

    def resume(self, job: JobId, who: Who, *, valid_for: timedelta | None = None) -> None:
        """paused -> running, unless its items were found longer ago than `valid_for`.

        Raises:
            RefusedRequest: `unknown_job`, `wrong_state`.
        """
        ...

    def cancel(self, job: JobId, who: Who) -> None:
        """Let a job end; an ended or ending one is left as it is.

        Raises:
            RefusedRequest: `unknown_job`.
        """
        ...

    def accept_target(self, job: JobId, who: Who, *, fingerprint: str) -> None:
        """Let a job go on with its target as it is configured now.

        Raises:
            RefusedRequest: `unknown_job`; `wrong_state`, it has ended.
        """
        ...

    def approve(
        self,
        job: JobId,
        who: Who,
        *,
        valid_for: timedelta | None = None,
        digest: str | None = None,
    ) -> None:
        """awaiting_approval -> planning, unless it was found longer ago than `valid_for`.

        `digest`: what was looked at; other items are not approved with it.

        Raises:
            RefusedRequest: `unknown_job`, `wrong_state`.
        """
        ...

    def decline(self, job: JobId, who: Who) -> None:
        """awaiting_approval -> cancelling. Raises RefusedRequest: as `approve`."""
        ...

    def forget(self, target: str, key: bytes, who: Who) -> Forgotten:
        """Drop an item from all settled jobs; their tallies stay."""
        ...

    # -- protected keys -----------------------------------------------------

    def protect(
        self,
        target: str,
        texts: Mapping[bytes, str],
        who: Who,
        *,
        until: datetime | timedelta | None = None,
    ) -> Protected:
        """Let keys of a target stay, whatever is asked; `texts` are the items by key.

        A key that is protected already is so with this reason and end from now
        on. No claim that comes afterwards sends it, and no worker once it has
        looked again.

        Raises:
            RefusedRequest: `invalid_message`, `until` has passed.
        """
        ...

    def unprotect(self, target: str, keys: Collection[bytes], who: Who) -> Unprotected:
        """Protect keys no longer; what they kept back stays as it was decided."""
        ...

    def protection(self, target: str, key: bytes) -> Protection | None:
        """What protects a key, if anything does."""
        ...

    def protections(self, target: str, *, after: bytes, limit: int) -> Sequence[Protection]:
        """Protected keys of a target, by key, beyond one."""
        ...

    # -- standing orders ----------------------------------------------------

    def register_purge(self, name: str, *, digest: str) -> PurgeNote:
        """Note what a purge is now; one that was never seen starts at this moment."""
        ...

    def purge(self, name: str) -> PurgeNote:
        """What is known of a purge; every name stands for one."""
        ...

    def run_purge(
        self, name: str, decide: Callable[[PurgeNote], Decision | None], *, who: Who
    ) -> PurgeRun | None:
        """Decide about a registered purge; None where nothing was to be decided.

        `decide` is pure, and what it is told stays so until its decision is
        written: a due moment is decided once, with its job, whoever comes second.

        Raises:
            RefusedRequest: `job_conflict`, as `open`.
        """
        ...

    def purge_runs(self, name: str, *, limit: int) -> Sequence[RunStatus]:
        """The newest runs of a purge, newest first, and how their jobs stand."""
        ...

    def purge_succeeded_at(self, name: str) -> datetime | None:
        """When the last job of a purge ended that deleted for good."""
        ...

    def note_tick(self) -> None:
        """Note that the clock lives."""
        ...

    def ticked(self) -> timedelta | None:
        """How long ago the clock ticked; None if it never did."""
        ...

    # -- pruning ------------------------------------------------------------

    def outdated(self, *, limit: int) -> Outdated:
        """Jobs that are to be declined or pruned, at most so many of each."""
        ...

    def prune(self, job: JobId, *, limit: int) -> bool:
        """Drop up to so many items of a settled job and what was said of them;
        True when all of it is gone.

        From the first call on nobody is shown its items or takes them. What
        `status` tells, who asked, and the events stay.
        """
        ...

    def sweep(self) -> None:
        """Let no file of the store hold what was dropped, as far as that is in its hands."""
        ...

    def prune_runs(self, *, before: timedelta, limit: int) -> int:
        """Drop up to so many runs of purges that never had a job and are older; how many."""
        ...

    def note_pruning(self, who: Who, *, pruned: int, declined: int) -> None:
        """Note who had how many jobs pruned and declined."""
        ...

    # -- reading ------------------------------------------------------------

    def job(self, job: JobId) -> Job:
        """Raises RefusedRequest: `unknown_job`."""
        ...

    def status(self, job: JobId) -> JobStatus:
        """A job with its counts. Raises RefusedRequest: `unknown_job`."""
        ...

    def jobs(self, *, limit: int) -> Sequence[JobStatus]:
        """The newest jobs, newest first."""
        ...

    def tally(self, job: JobId) -> Tally:
        """Items by verdict so far."""
        ...

    def results(
        self, job: JobId, *, verdict: Verdict | None, after: int, limit: int, size: int
    ) -> Page:
        """Decided items beyond a position, by position; at most `size` bytes of
        item text, but one row at least.

        Raises:
            RefusedRequest: `unknown_job`; `wrong_state`, its items were dropped.
        """
        ...

    def sample(self, job: JobId, *, limit: int) -> Sequence[str]:
        """The first items of a job, as JSON texts."""
        ...

    def mentions(self, key: bytes, *, limit: int) -> Sequence[Mention]:
        """Every job that named a key, newest first."""
        ...

    def target_note(self, target: str) -> TargetNote:
        """What holds a target back."""
        ...

    def job_note(self, job: JobId) -> JobNote:
        """What holds a job back. Raises RefusedRequest: `unknown_job`."""
        ...

    def measure(self) -> Measures:
        """What waits and what has become of all, by target.

        It takes no longer the more items there are. What is decided counts once
        its range is cut, and stays counted when its job is pruned.
        """
        ...

    def events(self, job: JobId | None, *, limit: int) -> Iterator[Event]:
        """What was changed and by whom, newest first."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
