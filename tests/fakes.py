"""A backend in memory that does as it is told, and a worker's actors around it.

house = House(clock)
house.adapter.will(Refused("a bad id somewhere"))
job = house.submitted(["a", "b"])
house.work_off()
assert house.told(job) == {"a": "deleted/item", "b": "deleted/item"}
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from api_adapters.base import (
    Adapter,
    Checked,
    Deadline,
    Evidence,
    Finding,
    Item,
    Limits,
    Presence,
    Reply,
    Verdict,
)
from api_adapters.errors import BadItem, BadQuery, Refused, Transient
from api_adapters.settings import TargetSettings
from tests.factories import Clock, some_id
from worker.deleting import Slice
from worker.desk import Desk
from worker.errors import StoreUnavailable
from worker.executor import Executor
from worker.finder import Finder
from worker.insisting import Insistence
from worker.item import Outcome
from worker.job import JobId, JobState
from worker.planner import Planner
from worker.purge import Purge
from worker.purger import Purger
from worker.requests import Append, Open, Seal
from worker.rescuer import Rescuer
from worker.scheduling import Schedule
from worker.settler import Settler
from worker.store.base import Store
from worker.store.memory import MemoryStore
from worker.submitter import Submitter
from worker.target import Target

#: What a call does instead of answering as usual.
Act = Callable[[Mapping[str, Item]], Reply]
Step = Exception | Act


class ScriptedAdapter(Adapter):
    """Deletes from a set in memory, fails as it is told, and keeps a ledger."""

    Settings = TargetSettings
    limits = Limits(max_items_per_call=10)
    identity: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Any = None, *, pace: Any = None) -> None:
        """Everything that is asked about is there, unless it is in `missing`."""
        self.missing: set[str] = set()
        #: What was really deleted, and how often.
        self.deleted: Counter[str] = Counter()
        #: The keys of every call and of every look, in order.
        self.calls: list[list[str]] = []
        self.looks: list[list[str]] = []
        #: A call that holds one of these is refused as a whole, untouched.
        self.poisoned: set[str] = set()
        #: A call that holds one of these gets no answer, untouched.
        self.failing: set[str] = set()
        #: Items that an answer leaves out, though they are deleted.
        self.silent: set[str] = set()
        #: Items whose key can no longer be made.
        self.unkeyable: set[str] = set()
        #: Told of every call before it is answered.
        self.on_call: Callable[[], object] = lambda: None
        self._steps: deque[Step] = deque()

    def will(self, *steps: Step) -> None:
        """Let the next calls do this, one step a call."""
        self._steps.extend(steps)

    def is_there(self, key: str) -> bool:
        """Whether an item has not been deleted."""
        return key not in self.missing and key not in self.deleted

    def key(self, item: Item) -> str:
        """A string or integer is its own; an object has it in `id`."""
        found = item.get("id", "") if isinstance(item, dict) else item
        key = str(found).lower()
        if not key or key in self.unkeyable:
            raise BadItem("expected an id")
        return key

    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        """Do the next step, or delete what is there."""
        assert items
        self.calls.append(list(items))
        self.on_call()
        if self._steps:
            step = self._steps.popleft()
            if isinstance(step, Exception):
                raise step
            return step(items)
        if self.poisoned & items.keys():
            raise Refused("a bad id somewhere", may_have_run=False, code="400")
        if self.failing & items.keys():
            raise lost()
        return self.answer(items)

    def answer(self, items: Mapping[str, Item]) -> Reply:
        """Delete what is there, and say so by name."""
        findings = {
            key: Finding(Verdict.DELETED if self.is_there(key) else Verdict.ABSENT) for key in items
        }
        self.deleted.update(key for key in items if self.is_there(key))
        return Reply({k: found for k, found in findings.items() if k not in self.silent})

    def lose_answer(self, items: Mapping[str, Item]) -> Reply:
        """Delete, and let the answer be lost."""
        self.answer(items)
        raise Transient("the connection was cut", code="cut")

    def check(self, *, until: Deadline) -> Checked:
        """Harmless."""
        return Checked("it answers", "nothing")


class ProbingAdapter(ScriptedAdapter):
    """The same, where one can look."""

    can_probe = True
    limits = Limits(max_items_per_call=10, max_items_per_probe=3)

    def probe(self, items: Mapping[str, Item], *, until: Deadline) -> Mapping[str, Presence]:
        """What is there now."""
        self.looks.append(list(items))
        return {key: Presence.THERE if self.is_there(key) else Presence.GONE for key in items}


class FindingAdapter(ScriptedAdapter):
    """The same, where one can ask for items, and the condition is repeated."""

    repeats_query = True

    def __init__(self, settings: Any = None, *, pace: Any = None) -> None:
        super().__init__(settings, pace=pace)
        #: What a find lists, page by page.
        self.pages: list[list[Item]] = []
        #: What the next pages do instead of being read.
        self.page_faults: deque[Exception | Callable[[], object]] = deque()
        self.pages_read = 0
        self.freezes = 0
        #: Items that no longer match when they are deleted, and the queries of each call.
        self.renewed: set[str] = set()
        self.repeated: list[Mapping[str, Any] | None] = []

    def check_query(self, query: Mapping[str, Any]) -> None:
        """Anything narrows."""
        if not query:
            raise BadQuery("an empty query would find everything")

    def freeze(self, query: Mapping[str, Any], *, until: Deadline) -> Mapping[str, Any]:
        """Every time it would be another moment."""
        self.freezes += 1
        return {**query, "moment": self.freezes}

    def find(self, query: Mapping[str, Any], *, until: Deadline) -> Iterator[Item]:
        """List the pages."""
        assert "moment" in query
        for number in range(len(self.pages)):
            yield from until.page(partial(self._page, number))

    def _page(self, number: int) -> list[Item]:
        if self.page_faults:
            fault = self.page_faults.popleft()
            if isinstance(fault, Exception):
                raise fault
            fault()
        self.pages_read += 1
        return self.pages[number]

    def delete_found(
        self, items: Mapping[str, Item], query: Mapping[str, Any], *, until: Deadline
    ) -> Reply:
        """Delete what still matches."""
        self.repeated.append(query)
        kept = {key: Finding(Verdict.DENIED, code="no_longer_matches") for key in self.renewed}
        left = {key: item for key, item in items.items() if key not in kept}
        reply = self.delete(left, until=until) if left else Reply()
        return Reply({**reply.findings, **{key: kept[key] for key in items if key in kept}})

    def delete(self, items: Mapping[str, Item], *, until: Deadline) -> Reply:
        """As ever; a call without a query is noted too."""
        if len(self.repeated) == len(self.calls):
            self.repeated.append(None)
        return super().delete(items, until=until)


def lost(wait: timedelta | None = None) -> Transient:
    """No answer came, and nobody knows what was done."""
    return Transient("no answer", wait=wait, code="timeout")


def unreached() -> Transient:
    """The connection was refused: nothing was done."""
    return Transient("connection refused", may_have_run=False, code="refused")


def told_to_wait(seconds: int = 30) -> Transient:
    """A 429."""
    wait = timedelta(seconds=seconds)
    return Transient("too many requests", wait=wait, may_have_run=False, code="429")


class RungBells:
    """Bells that are only counted."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, target: str) -> None:
        """Note it."""
        self.rung.append(target)


class House:
    """One deployment without Celery: a store, actors, a backend, and time that stands still."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        store: Store | None = None,
        adapter: ScriptedAdapter | None = None,
        chance: float = 0.5,
        **settings: Any,
    ) -> None:
        """`settings` are the target's."""
        self.clock = clock or Clock()
        self.store: Store = store or MemoryStore(self.clock)
        self.adapter = adapter or ScriptedAdapter()
        self.chance = chance
        self.bells = RungBells()
        self.pauses: list[float] = []
        self.targets = {"crm": self.target_of("crm", **settings)}
        self.purges: dict[str, Purge] = {}
        self.is_ending = False
        self.executor = self.make_executor()
        self.settler = Settler(self.store)

    def target_of(self, name: str, **settings: Any) -> Target:
        """A target on this house's backend."""
        given = TargetSettings(adapter="scripted", **settings)
        return Target(name, type(self.adapter), given)

    def adapters(self, _: str) -> Adapter:
        """The one adapter."""
        return self.adapter

    def seconds(self) -> float:
        """The worker's own clock, in step with the store's."""
        return self.clock.moment.timestamp()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.pauses.append(seconds)
        self.clock.advance(timedelta(seconds=seconds))

    def make_executor(self, holder: str = "w1", **named: Any) -> Executor:
        """One more worker."""
        given: dict[str, Any] = {
            "targets": self.targets,
            "adapters": self.adapters,
            "bells": self.bells,
            "holder": holder,
            "chance": lambda: self.chance,
            "clock": self.seconds,
            "sleep": self.sleep,
            "insist": Insistence(
                is_ending=lambda: self.is_ending, clock=self.seconds, sleep=self.sleep
            ),
        }
        return Executor(self.store, **(given | named))

    @property
    def submitter(self) -> Submitter:
        """Takes jobs in."""
        return Submitter(self.store, targets=self.targets, adapters=self.adapters)

    @property
    def planner(self) -> Planner:
        """Cuts them."""
        finder = Finder(
            self.store,
            targets=self.targets,
            adapters=self.adapters,
            chance=lambda: self.chance,
            is_ending=lambda: self.is_ending,
            clock=self.seconds,
            sleep=self.sleep,
        )
        return Planner(self.store, targets=self.targets, finder=finder)

    @property
    def rescuer(self) -> Rescuer:
        """Gives back what was lost."""
        return Rescuer(self.store, targets=self.targets, chance=lambda: self.chance)

    @property
    def desk(self) -> Desk:
        """Answers."""
        return Desk(
            self.store,
            submitter=self.submitter,
            planner=self.planner,
            targets=self.targets,
            adapters=self.adapters,
        )

    @property
    def purger(self) -> Purger:
        """Begins what is due; one more clock each time."""
        return Purger(self.store, purges=self.purges, targets=self.targets, adapters=self.adapters)

    def order(self, name: str = "old", **changes: Any) -> Purge:
        """Configure a purge, or configure it anew: every hour, trusted, on `crm`."""
        given: dict[str, Any] = {
            "target": "crm",
            "fingerprint": self.targets["crm"].fingerprint,
            "query": {"keyword": "old"},
            "schedule": Schedule(every=timedelta(hours=1)),
            "trusted": True,
        }
        self.purges[name] = Purge(name, **(given | changes))
        return self.purges[name]

    # -- the ways of a job -----------------------------------------------------

    def landed(self, items: Iterable[Any], *, target: str = "crm", **named: Any) -> JobId:
        """A job that came in chunks and is to be planned."""
        given = list(items)
        job = self.submitter.open(
            Open(job=some_id(), target=target, chunk_items=max(len(given), 1), **named)
        ).id
        if given:
            self.submitter.append(Append(job=job, chunk=0, items=given))
        self.submitter.seal(Seal(job=job, chunks=int(bool(given))))
        return job

    def submitted(self, items: Iterable[Any], *, target: str = "crm", **named: Any) -> JobId:
        """A job that is planned."""
        job = self.landed(items, target=target, **named)
        self.planner.plan(job)
        return job

    def work(self, *, target: str = "crm") -> Slice:
        """One slice that goes on while anything is ready."""
        return self.executor.run(target, is_over=lambda: False)

    def work_off(self, *, target: str = "crm", rounds: int = 200) -> None:
        """Work, wait and rescue until every job has ended."""
        for _ in range(rounds):
            touched = self.work(target=target).touched
            for job in {*touched, *self.rescuer.rescue(), *self.open_jobs()}:
                self.settler.settle(job)
            if not self.open_jobs():
                return
            self.clock.advance(timedelta(seconds=20))
        states = {job: self.store.job(job).state for job in self.open_jobs()}
        raise AssertionError(f"these jobs do not end: {states}")

    def open_jobs(self) -> list[JobId]:
        """Jobs that have not ended."""
        return [one.job.id for one in self.store.jobs(limit=1000) if not one.job.is_final]

    # -- what became of it -------------------------------------------------------

    def outcomes(self, job: JobId) -> list[Outcome]:
        """Every decided item of a job, by position."""
        page = self.store.results(job, verdict=None, after=-1, limit=100_000, size=10**9)
        return list(page.rows)

    def told(self, job: JobId) -> dict[Any, str]:
        """`verdict/evidence` of each item of a job, by item."""
        return {
            str(one.item): f"{one.mark.verdict.value}/{one.mark.evidence.value}"
            for one in self.outcomes(job)
            if one.mark.verdict is not None
        }

    def state(self, job: JobId) -> JobState:
        """Where a job stands."""
        return self.store.job(job).state


class AwayStore:
    """A store that is away for some calls of a method, and itself otherwise.

    `before` runs ahead of a named method, so that a test can interfere there.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._away: Counter[str] = Counter()
        self._before: dict[str, Callable[[], object]] = {}
        self.asked: Counter[str] = Counter()

    def be_away(self, method: str, times: int) -> None:
        """Fail the next calls of a method."""
        self._away[method] = times

    def before(self, method: str, do: Callable[[], object]) -> None:
        """Do something before each call of a method."""
        self._before[method] = do

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*args: Any, **named: Any) -> Any:
            self.asked[name] += 1
            if name in self._before:
                self._before[name]()
            if self._away[name] > 0:
                self._away[name] -= 1
                raise StoreUnavailable("the store does not answer")
            return found(*args, **named)

        return call


def found(verdict: Verdict, evidence: Evidence = Evidence.ITEM, **more: Any) -> Finding:
    """A finding in few words."""
    return Finding(verdict, evidence, **more)
