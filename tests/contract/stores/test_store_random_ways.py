"""Whatever happens in whatever order, every store keeps each outcome and its sums."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from api_adapters.base import Verdict
from tests.contract.stores.makers import MAKERS
from tests.contract.stores.steps import Steps
from tests.factories import MINUTE, SECOND, Clock, appetite, chunk_of, final, keys, new_job
from worker.batch import Claimed, Returned, give_back
from worker.errors import LeaseLost, RefusedRequest
from worker.guarding import BY_KEY, kept_mark
from worker.item import Mark, OpenItem, Outcome, digest_of_key, to_json
from worker.job import JobId, JobState
from worker.store.base import Backlog, CallNote, Claim, LeaseId, Store, Totals, Who

PLACES = 3
ANSWERS = st.lists(
    st.sampled_from(["deleted", "absent", "denied", "doubt", "unsent"]), min_size=1, max_size=6
)
WHICH = st.integers(0, 20)
ANSWERED = CallNote(SECOND, answered=True, is_alive=True)
NOTES = [
    ANSWERED,
    CallNote(SECOND, answered=False, failures=1),
    CallNote(SECOND, answered=False, failures=6),
    CallNote(SECOND, answered=False, is_alive=True, rest=SECOND),
]


class Ways(RuleBasedStateMachine):
    """Workers that take, answer, part, die and come back late, and people who interfere."""

    maker = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store: Store = MAKERS[self.maker](self.clock)
        self.steps = Steps(self.store)
        self.jobs: list[JobId] = []
        self.held: dict[LeaseId, Claim] = {}
        self.fenced: list[Claim] = []
        self.known: dict[tuple[JobId, int], Outcome] = {}
        self.in_doubt: set[tuple[JobId, int]] = set()
        self.settled: set[JobId] = set()
        self.protected: set[str] = set()
        self.measured = Totals()

    # -- work ----------------------------------------------------------------

    @precondition(lambda self: len(self.jobs) < 4)
    @rule(count=st.integers(0, 9), size=st.integers(1, 5), twice=st.booleans())
    def bring_a_job(self, count: int, size: int, twice: bool) -> None:  # noqa: FBT001
        """A job comes, perhaps with duplicates."""
        items = keys(count) + (keys(count // 2) if twice else [])
        self.jobs.append(self.steps.running(items, size=size))

    @precondition(lambda self: len(self.jobs) < 4)
    @rule(count=st.integers(0, 6), twice=st.booleans())
    def find_a_job(self, count: int, twice: bool) -> None:  # noqa: FBT001
        """A job comes by query; perhaps a lost worker had found some of it before."""
        job = self.store.open(new_job(query={"keyword": "old"})).id
        self.store.begin_planning(job, holder="w1", lasting=MINUTE)
        if twice:
            self.store.land_found(job, chunk_of(keys(count + 3, prefix="lost")), holder="w1")
            self.clock.advance(MINUTE * 2)
            self.store.begin_planning(job, holder="w2", lasting=MINUTE)
            with pytest.raises(LeaseLost):
                self.store.end_find(job, holder="w1")
            self.lose_workers()
        holder = "w2" if twice else "w1"
        while not self.store.clear_found(job, holder=holder, limit=2):
            pass
        if count:
            self.store.land_found(job, chunk_of(keys(count)), holder=holder)
        assert self.store.end_find(job, holder=holder).items == count
        self.jobs.append(self.steps.planned(job, size=2))

    @rule(calls=st.integers(1, 3))
    def claim(self, calls: int) -> None:
        """A worker takes what is ready."""
        claim = self.steps.try_claim(appetite(call_items=3, calls=calls, places=PLACES))
        if isinstance(claim, Claim):
            assert claim.lease not in self.held
            assert all(one.items for one in claim.batches)
            assert claim.protected == self._protected_in(claim)
            assert claim.has_protected == bool(self.protected)
            self._doubt_was_kept(claim)
            self.held[claim.lease] = claim

    @precondition(lambda self: self.held)
    @rule(which=WHICH, answers=ANSWERS, halved=st.booleans())
    def record(self, which: int, answers: list[str], halved: bool) -> None:  # noqa: FBT001
        """A worker answers for all it has; perhaps some of it is parted."""
        claim = self.held.pop(sorted(self.held)[which % len(self.held)])
        self.store.record(claim.lease, [self._answer(c, answers, halved) for c in claim.batches])
        self.fenced.append(claim)

    @precondition(lambda self: self.held)
    @rule(which=WHICH, note=st.sampled_from(NOTES))
    def note_a_call(self, which: int, note: CallNote) -> None:
        """A worker tells how a call went, and answers for nothing yet."""
        lease = sorted(self.held)[which % len(self.held)]
        self.store.record(lease, [], call=note)

    @precondition(lambda self: self.held)
    @rule(which=WHICH)
    def renew(self, which: int) -> None:
        """A worker keeps its lease, and hears who still wants to run."""
        claim = self.held[sorted(self.held)[which % len(self.held)]]
        seen = self.store.renew(claim.lease, lasting=MINUTE)
        assert self.store.see([claim.lease])[claim.lease] == seen
        for one in claim.batches:
            is_running = self.store.job(one.batch.job).state is JobState.RUNNING
            assert is_running == (one.batch.job in seen.running)
        still_open = {(o.batch.job, item.position) for o in claim.batches for item in o.items}
        assert seen.protected & still_open == self._protected_in(claim)
        self.held[claim.lease] = _looked(claim, seen.protected)

    @precondition(lambda self: any(len(one.batches) > 1 for one in self.held.values()))
    @rule(answers=ANSWERS)
    def record_the_first_batch(self, answers: list[str]) -> None:
        """A worker answers for one batch and goes on with the others."""
        claim = next(one for one in self.held.values() if len(one.batches) > 1)
        first, *rest = claim.batches
        noted = self.store.record(claim.lease, [self._answer(first, answers, halved=False)])
        assert noted.lost == 0
        self.held[claim.lease] = replace(claim, batches=tuple(rest))

    @precondition(lambda self: self.fenced)
    @rule(which=WHICH, answers=ANSWERS)
    def record_too_late(self, which: int, answers: list[str]) -> None:
        """A worker that lost its lease answers all the same."""
        claim = self.fenced[which % len(self.fenced)]
        returned = [give_back(one, _marks(one, answers)) for one in claim.batches]
        with pytest.raises(LeaseLost):
            self.store.record(claim.lease, returned)

    @rule()
    def lose_workers(self) -> None:
        """All leases run out and are taken over."""
        self.clock.advance(MINUTE * 2)
        self.store.rescue(lambda _, claimed: self._answer(claimed, ["doubt"]), limit=100)
        self.fenced += self.held.values()
        self.held.clear()

    @rule()
    def wait(self) -> None:
        """Time passes, too little for a lease to run out."""
        self.clock.advance(SECOND)

    @rule()
    def be_away(self) -> None:
        """The store is away for longer than a lease; nobody loses his for it."""
        self.clock.advance(MINUTE * 2)
        assert self.store.come_back() == len(self.held)
        self.store.rescue(lambda _, claimed: pytest.fail("taken over"), limit=100)

    @rule(rest=st.integers(0, 3))
    def close_the_target(self, rest: int) -> None:
        """A login was wrong."""
        self.store.close_target("crm", reason="login", rest=SECOND * rest)

    @rule()
    def open_the_target(self) -> None:
        """Somebody mended it."""
        self.store.open_target("crm", Who())

    # -- people --------------------------------------------------------------

    @rule(which=st.sets(st.integers(0, 9), max_size=3))
    def protect(self, which: set[int]) -> None:
        """Somebody says that keys must stay."""
        names = {f"k{n}" for n in which}
        done = self.store.protect(
            "crm", {digest_of_key("crm", name): to_json(name) for name in names}, Who(by="Ada")
        )
        assert done.added == len(names - self.protected)
        out = {item.item for claim in self.held.values() for item in _items(claim)}
        assert done.out == len(out & names)
        self.protected |= names

    @rule(which=st.sets(st.integers(0, 9), max_size=3))
    def unprotect(self, which: set[int]) -> None:
        """Somebody says that they need not."""
        names = {f"k{n}" for n in which}
        done = self.store.unprotect("crm", [digest_of_key("crm", name) for name in names], Who())
        assert done.removed == len(names & self.protected)
        assert set(done.kept) <= self.settled
        self.protected -= names

    @precondition(lambda self: self.jobs)
    @rule(which=WHICH, command=st.sampled_from(["pause", "resume", "cancel", "resume"]))
    def command(self, which: int, command: str) -> None:
        """Somebody gives a command, fitting or not."""
        try:
            getattr(self.store, command)(self._job(which), Who(by="Ada"))
        except RefusedRequest as refused:
            if refused.code != "wrong_state":
                raise

    @precondition(lambda self: self.jobs)
    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        """A call was hopeless."""
        self.store.stop(self._job(which), reason="no permission")

    @precondition(lambda self: self.jobs)
    @rule(which=WHICH, limit=st.integers(1, 2))
    def end_some(self, which: int, limit: int) -> None:
        """The settler ends ranges of a job that ends early."""
        assert self.store.end_ready(self._job(which), limit=limit) <= limit

    @precondition(lambda self: self.jobs)
    @rule(which=WHICH)
    def settle(self, which: int) -> None:
        """The settler asks, and closes a job once."""
        job = self._job(which)
        status = self.store.settle(job)
        if status is not None:
            assert job not in self.settled
            assert status.pending == 0
            self.settled.add(job)

    # -- what always holds ---------------------------------------------------

    @invariant()
    def everything_adds_up(self) -> None:
        """Results, tally and status of every job agree."""
        for job in self.jobs:
            self.steps.adds_up(job)
            assert self.store.job(job).is_final == (job in self.settled)

    @invariant()
    def an_outcome_never_changes(self) -> None:
        """What was decided stays, with its moment; what is in doubt is never skipped."""
        for job in self.jobs:
            now = {(job, one.position): one for one in self.steps.outcomes(job)}
            before = {place: one for place, one in self.known.items() if place[0] == job}
            assert before.items() <= now.items()
            self.known |= now
            skipped = {p for p, one in now.items() if one.mark.verdict is Verdict.SKIPPED}
            assert not skipped & self.in_doubt

    @invariant()
    def what_is_measured_is_what_is_there(self) -> None:
        """Totals and counts of batches agree with the jobs, and totals only grow."""
        told = self.store.measure().backlogs.get("crm", Backlog())
        statuses = [self.store.status(job) for job in self.jobs]
        for verdict, count in told.totals.items.items():
            assert count == sum(status.tally[verdict] for status in statuses)
            assert count >= self.measured.items.get(verdict, 0)
        assert told.ready == sum(status.batches["ready"] for status in statuses)
        assert told.leased == sum(status.batches["leased"] for status in statuses)
        self.measured = told.totals

    @invariant()
    def places_are_kept(self) -> None:
        """No more leases live than the target has places."""
        live = self.store.target_note("crm").live_leases
        assert live == len(self.held) <= PLACES

    def teardown(self) -> None:
        """Whatever happened, every job can be brought to its end."""
        self.lose_workers()
        # Whatever rest the target was told, or its circuit has.
        self.clock.advance(MINUTE * 10)
        for job in self.jobs:
            match self.store.job(job).state:
                case JobState.PAUSED:
                    self.store.resume(job, Who())
                case JobState.CANCELLING:
                    while self.store.end_ready(job, limit=2):
                        pass
                case _:
                    pass
        while isinstance(claim := self.steps.try_claim(appetite(call_items=50)), Claim):
            self.store.record(claim.lease, [], call=ANSWERED)
            self.steps.record(claim)
        for job in self.jobs:
            self.settle(self.jobs.index(job))
        self.everything_adds_up()
        self.an_outcome_never_changes()
        assert self.settled == set(self.jobs)
        self.store.close()

    def _job(self, which: int) -> JobId:
        return self.jobs[which % len(self.jobs)]

    def _answer(self, claimed: Claimed, answers: Sequence[str], halved: bool = False) -> Returned:  # noqa: FBT001, FBT002
        marks = {**_marks(claimed, answers), **_kept_marks(claimed)}
        left = [position for position, mark in marks.items() if not mark.is_final]
        self.in_doubt |= {(claimed.batch.job, p) for p in left if marks[p].doubt}
        returned = give_back(claimed, marks)
        return replace(returned, split_at=left[len(left) // 2]) if halved and left[1:] else returned

    def _protected_in(self, claim: Claim) -> set[tuple[JobId, int]]:
        """The open places of a claim whose key is protected."""
        return {
            (one.batch.job, item.position)
            for one in claim.batches
            for item in one.items
            if item.item in self.protected
        }

    def _doubt_was_kept(self, claim: Claim) -> None:
        for one in claim.batches:
            for item in one.items:
                assert item.mark.doubt == ((one.batch.job, item.position) in self.in_doubt)


def _items(claim: Claim) -> list[OpenItem]:
    return [item for one in claim.batches for item in one.items]


def _looked(claim: Claim, protected: frozenset[tuple[JobId, int]]) -> Claim:
    """A claim, with what a look told of what must stay."""
    batches = tuple(
        replace(one, protected=frozenset(at for job, at in protected if job == one.batch.job))
        for one in claim.batches
    )
    return replace(claim, batches=batches)


def _kept_marks(claimed: Claimed) -> dict[int, Mark]:
    """The outcomes of what must stay."""
    kept = claimed.protected
    return {i.position: kept_mark(i.mark, BY_KEY) for i in claimed.items if i.position in kept}


def _marks(claimed: Claimed, answers: Sequence[str]) -> Mapping[int, Mark]:
    """The answers in turn, one an item."""
    marks = {}
    for index, item in enumerate(claimed.items):
        match answers[index % len(answers)]:
            case "doubt":
                mark = replace(item.mark, doubt=True, calls=item.mark.calls + 1)
            case "unsent":
                mark = item.mark
            case verdict:
                mark = final(Verdict(verdict), doubt=item.mark.doubt)
        marks[item.position] = mark
    return marks


@pytest.mark.parametrize(
    ("maker", "examples"),
    [
        ("memory", 60),
        ("sqlite", 3),
        ("postgresql", 2),
        *(pytest.param(maker, 20, marks=pytest.mark.soak) for maker in ("sqlite", "postgresql")),
    ],
)
def test_any_way_through_a_store_adds_up(maker: str, examples: int) -> None:
    machine = type(f"WaysThrough{maker.title()}", (Ways,), {"maker": maker})

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
