"""Whatever backends, workers and people do, every job ends with outcomes that are true."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from api_adapters.base import GONE, Evidence, Item, Reply, Verdict
from api_adapters.errors import Hopeless, Refused
from tests.contract.stores.makers import MAKERS
from tests.contract.stores.steps import adds_up
from tests.factories import MINUTE, SECOND, Clock, appetite
from tests.fakes import House, ProbingAdapter, ScriptedAdapter, lost, told_to_wait, unreached
from worker.executor import Executor
from worker.guarding import PROTECTED
from worker.item import digest_of_key, to_json
from worker.job import JobId
from worker.store.base import Claim, Who

ITEM = st.one_of(
    st.sampled_from([f"k{number}" for number in range(30)]),
    st.sampled_from([f"K{number}" for number in range(5)]),
    st.sampled_from(["", None, 1.5, 7, {"id": "k3"}]),
)
FAULTS = st.sampled_from(
    [
        "fine", "fine", "lost before", "lost after", "unreached", "refused", "wait", "silent",
        "half", "broken", "hopeless", "closed",
    ]
)  # fmt: skip
STEPS = st.sampled_from(
    [
        "work", "work", "work", "two at once", "vanish", "wait", "look", "pause", "resume",
        "cancel", "protect", "unprotect",
    ]
)  # fmt: skip


@dataclass
class Weather:
    """What the backend does, call by call, and what it was asked."""

    adapter: ScriptedAdapter
    faults: list[str]
    poison: str
    asked: Counter[str] = field(default_factory=Counter)
    #: Keys that must stay, and those of them that were sent all the same.
    protected: set[str] = field(default_factory=set)
    trespassed: set[str] = field(default_factory=set)

    def __call__(self, items: Mapping[str, Item]) -> Reply:
        """Answer one call, and the next one likewise."""
        self.adapter.will(self)
        self.trespassed |= self.protected & items.keys()
        fault = self.faults.pop(0) if self.faults else "fine"
        if fault in NOTHING_DONE:
            error = NOTHING_DONE[fault]()
            raise error
        if self.poison in items:
            raise Refused("poison", may_have_run=False)
        self.asked.update(list(items))
        return self.answer(fault, items)

    def answer(self, fault: str, items: Mapping[str, Item]) -> Reply:
        """What comes of a call that may have run."""
        match fault:
            case "lost before":
                raise lost()
            case "lost after":
                return self.adapter.lose_answer(items)
            case "silent":
                return Reply(dict(list(self.adapter.answer(items).findings.items())[1:]))
            case "half":
                first = dict(list(items.items())[: len(items) // 2 + 1])
                return Reply(self.adapter.answer(first).findings, error=lost())
            case "broken":
                self.adapter.answer(items)
                raise ZeroDivisionError
            case "hopeless":
                raise Hopeless("no permission")
        return self.adapter.answer(items)


#: Faults that prove that nothing was done.
NOTHING_DONE = {
    "unreached": unreached,
    "refused": lambda: Refused("no", may_have_run=False),
    "wait": lambda: told_to_wait(5),
    "closed": lambda: Hopeless("login", may_have_run=False, closes_target=True),
}


class World:
    """Several workers, of whom some vanish."""

    def __init__(self, house: House, weather: Weather, chance: Random) -> None:
        self.house = house
        self.chance = chance
        self.workers: list[Executor] = [house.make_executor(f"w{n}") for n in range(3)]
        #: Keys that a worker had claimed who never came back.
        self.vanished: Counter[str] = Counter()
        self.weather = weather

    def step(self, name: str, jobs: list[JobId], which: int) -> None:
        """Let one thing happen."""
        job = jobs[which % len(jobs)]
        match name:
            case "work":
                self.work(which)
            case "two at once":
                # Another worker has its whole slice while this one is in a call.
                inner = [False]

                def interleave() -> None:
                    if not inner[0]:
                        inner[0] = True
                        self.work(which + 1)

                self.house.adapter.on_call = interleave
                self.work(which)
                self.house.adapter.on_call = lambda: None
            case "vanish":
                self.vanish()
            case "wait":
                self.house.clock.advance(SECOND * (1 + which * 7))
            case "look":
                self.look()
            case "protect":
                self.protect({f"k{which}", f"k{which * 3}"})
            case "unprotect":
                self.unprotect({f"k{which}", f"k{which + 2}"})
            case command:
                self.command(command, job)

    def work(self, which: int) -> None:
        """One slice of two claims at most."""
        left = [2]

        def is_over() -> bool:
            left[0] -= 1
            return left[0] < 0

        self.workers[which % 3].run("crm", is_over=is_over)

    def vanish(self) -> None:
        """A worker claims, perhaps sends, and is never heard of again."""
        target = self.house.targets["crm"]
        claim = self.house.store.claim(
            "crm",
            fingerprint=target.fingerprint,
            holder="lost",
            lasting=MINUTE,
            appetite=lambda _: appetite(call_items=4, calls=2),
        )
        if not isinstance(claim, Claim):
            return
        items = {
            self.house.adapter.key(item.item): item.item
            for one in claim.batches
            for item in one.items
        }
        self.vanished.update(list(items))
        if items and self.chance.random() < 0.5:
            self.house.adapter.answer(items)

    def protect(self, names: set[str]) -> None:
        """Somebody says that keys must stay."""
        texts = {digest_of_key("crm", name): to_json(name) for name in names}
        self.house.store.protect("crm", texts, Who())
        self.weather.protected |= names

    def unprotect(self, names: set[str]) -> None:
        """Somebody says that they need not."""
        keys = [digest_of_key("crm", name) for name in names]
        self.house.store.unprotect("crm", keys, Who())
        self.weather.protected -= names

    def look(self) -> None:
        """What a look finds is done."""
        ended = self.house.rescuer.rescue()
        for job in {*ended, *self.house.open_jobs()}:
            self.house.settler.settle(job)

    def command(self, command: str, job: JobId) -> None:
        """Somebody wishes something, fitting or not."""
        if not self.house.store.job(job).is_final:
            state = self.house.state(job).value
            if (command, state) in {("pause", "running"), ("resume", "paused")} or (
                command == "cancel"
            ):
                getattr(self.house.store, command)(job, Who())


def run_through(
    maker: str,
    *,
    jobs: list[list[object]],
    faults: list[str],
    steps: list[tuple[str, int]],
    can_probe: bool,
    seed: int,
) -> None:
    clock = Clock()
    adapter = ProbingAdapter() if can_probe else ScriptedAdapter()
    adapter.missing = {f"k{number}" for number in range(0, 30, 7)}
    store = MAKERS[maker](clock)
    house = House(clock, store=store, adapter=adapter, max_items_per_call=4, max_attempts=3)
    weather = Weather(adapter, list(faults), "k4")
    adapter.will(weather)
    world = World(house, weather, Random(seed))
    ids = [house.submitted(items) for items in jobs]
    for name, which in steps:
        world.step(name, ids, which)
        for job in ids:
            adds_up(store, job)
    for job in ids:
        if house.state(job).value == "paused":
            house.store.resume(job, Who())
    house.work_off()
    for job, given_items in zip(ids, jobs, strict=True):
        judge(world, job, given_items)
    store.close()


def judge(world: World, job: JobId, given_items: list[object]) -> None:
    """What must be true of every job in the end."""
    house, adapter = world.house, world.house.adapter
    assert house.store.job(job).is_final
    assert world.weather.trespassed == set()
    adds_up(house.store, job)
    outcomes = house.outcomes(job)
    keyed = {key_of(one.item): one for one in outcomes if key_of(one.item)}
    # Every distinct item has one outcome.
    assert keyed.keys() == {key for item in given_items if (key := key_of(item))}
    doors = [item for item in given_items if not key_of(item)]
    assert len(outcomes) == len(keyed) + len(doors)
    for key, outcome in keyed.items():
        mark = outcome.mark
        if mark.verdict in GONE:
            assert not adapter.is_there(key)
        if mark.verdict is Verdict.DELETED:
            assert key in adapter.deleted
        if mark.evidence is Evidence.REPEAT:
            assert world.weather.asked[key] + world.vanished[key] > (0 if adapter.looks else 1)
        if mark.verdict is Verdict.SKIPPED:
            assert mark.calls == 0
        if mark.code == PROTECTED:
            assert mark.verdict is (Verdict.UNKNOWN if mark.doubt else Verdict.DENIED)


def key_of(item: object) -> str | None:
    """The key that the scripted adapter makes, if it makes one."""
    if isinstance(item, dict):
        item = item["id"]
    return str(item).lower() or None if isinstance(item, str | int) else None


WAYS = {
    "jobs": st.lists(st.lists(ITEM, max_size=12), min_size=1, max_size=4),
    "faults": st.lists(FAULTS, max_size=12),
    "steps": st.lists(st.tuples(STEPS, st.integers(0, 5)), max_size=15),
    "can_probe": st.booleans(),
    "seed": st.integers(0, 1_000),
}


@pytest.mark.parametrize(("maker", "examples"), [("memory", 150), ("sqlite", 3)])
def test_whatever_happens_the_outcomes_are_true(maker: str, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        # Shrinking is quick in memory alone.
        phases=[Phase.generate, Phase.shrink] if maker == "memory" else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(**WAYS)
    def run(**way: object) -> None:
        run_through(maker, **way)

    run()


def test_nothing_is_deleted_that_was_not_asked_for() -> None:
    house = House(max_items_per_call=4)
    job = house.submitted(["a", "b"])

    house.work_off()

    assert set(house.adapter.deleted) == {key_of(one.item) for one in house.outcomes(job)}
