"""From every state that a job can be in, with all messages lost, a look alone brings it to its end.

A worker process is driven by its look and nothing else: what the look posts is
delivered once, whatever follows from that is lost, and so is all that was ever
sent before.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from api_adapters.base import Verdict
from api_adapters.errors import Hopeless
from tests.contract.stores.makers import make_memory, make_sqlite
from tests.factories import MINUTE, SECOND, Clock, appetite, chunk_of, keys, some_id
from tests.fakes import FindingAdapter, House, RungBells, found, lost, told_to_wait
from worker.assembly import Deployment
from worker.deleting import CLOSED_REST, LEASE_MARGIN
from worker.duty import LOOK_EVERY, Duty, current
from worker.job import JobId, JobState
from worker.planner import PLANNING_LASTS
from worker.requests import Submit
from worker.store.base import BELL_PATIENCE, Claim, Cut, Look, Owed, Who
from worker.submitter import Submitter

LOST = "a worker that is never heard of again"
QUERY = {"keyword": "old"}
DAY = timedelta(days=1)
#: As the executor reckons it for the target of this file.
LEASE = timedelta(seconds=30) + LEASE_MARGIN


class Process:
    """One worker process, from one look to the next."""

    def __init__(self, house: House) -> None:
        from worker import tasks

        self.tasks = tasks
        self.house = house
        self.posted: list[tuple[str, dict[str, str]]] = []
        self.told: list[Owed] = []

    def post(self, task: Any, **arguments: str) -> None:
        """Keep a nudge until it is delivered, or lost."""
        self.posted.append((task.name, arguments))

    def tell(self, task: str, queue: str, owed: Owed) -> bool:
        """Keep what another application is told."""
        self.told.append(owed)
        return True

    def look(self, *, is_heard: bool) -> None:
        """Look, and do what is found; what is posted for it is heard or lost too."""
        found = self.house.store.look(every=LOOK_EVERY)
        if found is None:
            return
        self.posted.clear()
        self.tasks.act(found)
        heard = self.posted if is_heard else []
        for name, arguments in list(heard):
            self.tasks.app.tasks[name](**arguments)


@pytest.fixture
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    clock = Clock()
    store = request.param(clock)
    adapter = FindingAdapter()
    adapter.pages = [["k0", "k1", "k2"], ["k3", "k4"]]
    yield House(clock, store=store, adapter=adapter, max_items_per_call=2, allow_query=True)
    store.close()


@pytest.fixture
def process(house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Process:
    # Celery asks for its settings when the first task is looked at.
    monkeypatch.setenv("DELETIONS_CONFIG", str(tmp_path / "deletions.toml"))
    process = Process(house)
    told: Any = SimpleNamespace(task="crm.deletion_done", queue="crm")
    configuration: Any = SimpleNamespace(
        targets=house.targets, notify={"crm": told}, retention_of=lambda _: None
    )
    environment: Any = None
    adapters: Any = house.adapters
    deployment = Deployment(environment, configuration, house.store, adapters)
    duty = Duty(deployment, threads=4, bells=RungBells())
    duty.executor = house.make_executor("w2", bells=RungBells())
    monkeypatch.setattr(current, "_duty", duty)
    monkeypatch.setattr(current, "_pid", os.getpid())
    # Its finder reckons in the house's time.
    monkeypatch.setattr(Deployment, "planner", lambda _, **__: house.planner)
    monkeypatch.setattr(process.tasks, "post", process.post)
    monkeypatch.setattr(process.tasks, "_send", process.tell)
    return process


# -- how a job came to where it stands ----------------------------------------------


def landed(house: House) -> JobId:
    return house.landed(keys(5))


def submitted(house: House) -> JobId:
    return house.submitted(keys(5))


def unfed(house: House) -> JobId:
    """Its sender went away amid its chunks."""
    job = some_id()
    house.desk.open({"job": job, "target": "crm", "chunk_items": 3})
    house.desk.append({"job": job, "chunk": 0, "items": keys(3)})
    return job


def sealed_without_a_chunk(house: House) -> JobId:
    job = unfed(house)
    house.desk.seal({"job": job, "chunks": 2})
    return job


def sealed(house: House) -> JobId:
    job = unfed(house)
    house.desk.seal({"job": job, "chunks": 1})
    return job


def plan_was_begun(house: House) -> JobId:
    job = landed(house)
    house.store.begin_planning(job, holder=LOST, lasting=PLANNING_LASTS)
    return job


def half_is_cut(house: House) -> JobId:
    job = plan_was_begun(house)
    house.store.add_batches(job, [Cut(0, 1, 2)])
    return job


def all_is_cut(house: House) -> JobId:
    job = half_is_cut(house)
    house.store.add_batches(job, [Cut(2, 4, 3)])
    return job


def asked(house: House) -> JobId:
    """A job by query that nobody has begun to find."""
    request = Submit(job=some_id(), target="crm", query=QUERY)
    return house.submitter.submit(request).job.id


def find_was_begun(house: House) -> JobId:
    job = asked(house)
    house.store.begin_planning(job, holder=LOST, lasting=MINUTE)
    house.store.begin_find(job, holder=LOST)
    return job


def query_was_frozen(house: House) -> JobId:
    job = find_was_begun(house)
    house.store.freeze(job, {**QUERY, "moment": 7}, holder=LOST)
    return job


def half_was_found(house: House) -> JobId:
    """With an item that the backend does not list any more."""
    job = query_was_frozen(house)
    house.store.land_found(job, chunk_of(["gone", "k0"]), holder=LOST)
    return job


def all_was_found(house: House) -> JobId:
    job = query_was_frozen(house)
    house.store.land_found(job, chunk_of(keys(5)), holder=LOST)
    house.store.end_find(job, holder=LOST)
    return job


def leftovers_to_copy(house: House) -> JobId:
    """The retry of a job whose items were all denied."""
    parent = submitted(house)
    house.adapter.will(*[_denied] * 3)
    house.work_off()
    return house.submitter.retry(parent).id


def _denied(items: Any) -> Any:
    from api_adapters.base import Reply

    return Reply({key: found(Verdict.DENIED) for key in items})


def plan_to_execute(house: House) -> JobId:
    """The execution of a dry run."""
    dry = house.submitted(keys(5), dry_run=True)
    return house.submitter.open_plan(some_id(), plan=dry, requested_by=None).id


def held(house: House) -> JobId:
    house.targets["crm"] = house.target_of("crm", max_items=1, max_items_per_call=2)
    return submitted(house)


def approved(house: House) -> JobId:
    job = held(house)
    house.store.approve(job, Who())
    return job


def declined(house: House) -> JobId:
    job = held(house)
    house.store.decline(job, Who())
    return job


def bell_was_lost(house: House) -> JobId:
    job = submitted(house)
    assert house.store.may_ring("crm")
    return job


def look_was_won_in_vain(house: House) -> JobId:
    """By a process that died before it did what it had found."""
    job = submitted(house)
    found = house.store.look(every=LOOK_EVERY)
    assert found is not None
    assert found.ring == ("crm",)
    return job


def call_has_failed(house: House) -> JobId:
    """Its batches rest before their next attempt."""
    job = submitted(house)
    house.adapter.will(lost(), lost(), lost())
    house.executor.run("crm", is_over=counted(3))
    assert house.store.status(job).batches["ready"] == 3
    return job


def target_rests(house: House) -> JobId:
    job = submitted(house)
    house.adapter.will(told_to_wait(30))
    house.work()
    return job


def target_is_closed(house: House) -> JobId:
    job = submitted(house)
    house.adapter.will(Hopeless("the login was refused", closes_target=True))
    house.work()
    assert house.store.target_note("crm").closed_reason is not None
    return job


def circuit_is_open(house: House) -> JobId:
    job = submitted(house)
    house.adapter.will(*[lost()] * 6)
    house.work()
    assert house.store.target_note("crm").circuit.is_open
    return job


def worker_was_lost(house: House) -> JobId:
    """With two of three batches in its hand."""
    job = submitted(house)
    assert isinstance(claim_and_vanish(house), Claim)
    return job


def places_are_taken_by_the_lost(house: House) -> JobId:
    """Every place of the target, each by a worker that was lost."""
    job = house.submitted(keys(20))
    for _ in range(4):
        assert isinstance(claim_and_vanish(house), Claim)
    return job


def worker_was_lost_at_its_last_attempt(house: House) -> JobId:
    house.targets["crm"] = house.target_of("crm", max_items_per_call=2, max_attempts=1)
    return worker_was_lost(house)


def decided(house: House) -> JobId:
    """Every range is done, and nobody has closed it."""
    job = submitted(house)
    house.work()
    assert house.store.status(job).pending == 0
    return job


def paused_and_resumed(house: House) -> JobId:
    job = submitted(house)
    house.store.pause(job, Who())
    house.store.resume(job, Who())
    return job


def paused_while_all_was_decided(house: House) -> JobId:
    """The calls that were out decided the rest."""
    job = submitted(house)
    house.adapter.on_call = lambda: len(house.adapter.calls) == 3 and house.store.pause(job, Who())
    house.work()
    house.adapter.on_call = lambda: None
    return job


def lost_while_paused(house: House) -> JobId:
    job = worker_was_lost(house)
    house.store.pause(job, Who())
    house.store.resume(job, Who())
    return job


def cancelled(begin: Callable[[House], JobId]) -> Callable[[House], JobId]:
    """The same, and somebody cancels it."""

    def begin_and_cancel(house: House) -> JobId:
        job = begin(house)
        house.store.cancel(job, Who())
        return job

    return begin_and_cancel


def stopped(house: House) -> JobId:
    job = submitted(house)
    house.store.stop(job, reason="it cannot go on")
    return job


def settled_and_owed(house: House) -> JobId:
    names = frozenset({"crm"})
    doors = Submitter(house.store, targets=house.targets, adapters=house.adapters, notify=names)
    request = Submit(job=some_id(), target="crm", items=keys(5), notify="crm")
    job = doors.submit(request).job.id
    house.planner.plan(job)
    house.work()
    assert house.settler.settle(job) is not None
    return job


def claim_and_vanish(house: House) -> object:
    """Somebody takes two batches, for as long as the executor would."""
    return house.store.claim(
        "crm",
        fingerprint=house.targets["crm"].fingerprint,
        holder=LOST,
        lasting=LEASE,
        appetite=lambda _: appetite(call_items=2, calls=2),
    )


def counted(times: int) -> Callable[[], bool]:
    """False so many times."""
    left = iter(range(times))
    return lambda: next(left, None) is None


# -- the table ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a job stands, how it ends, and how long that may take beside some looks."""

    begin: Callable[[House], JobId]
    state: JobState
    end: JobState = JobState.COMPLETED
    waits: timedelta = timedelta()


PLANNING, RUNNING, CANCELLING = JobState.PLANNING, JobState.RUNNING, JobState.CANCELLING
CANCELLED = JobState.CANCELLED

BEGINNINGS = {
    "open and unfed for a day": Beginning(unfed, JobState.OPEN, CANCELLED, DAY),
    "sealed, and a chunk never came": Beginning(
        sealed_without_a_chunk, JobState.OPEN, CANCELLED, DAY
    ),
    "sealed, never planned": Beginning(sealed, PLANNING),
    "planning never begun": Beginning(landed, PLANNING),
    "no items at all": Beginning(lambda house: house.landed([]), PLANNING),
    "all items refused at the door": Beginning(lambda house: house.landed([1.5]), PLANNING),
    "a dry run never planned": Beginning(
        lambda house: house.landed(keys(5), dry_run=True), PLANNING
    ),
    "planning begun by a lost planner": Beginning(plan_was_begun, PLANNING, waits=PLANNING_LASTS),
    "half cut by a lost planner": Beginning(half_is_cut, PLANNING, waits=PLANNING_LASTS),
    "all cut by a lost planner": Beginning(all_is_cut, PLANNING, waits=PLANNING_LASTS),
    "finding never begun": Beginning(asked, PLANNING),
    "a find begun by a lost worker": Beginning(find_was_begun, PLANNING, waits=MINUTE),
    "a query frozen by a lost worker": Beginning(query_was_frozen, PLANNING, waits=MINUTE),
    "half found by a lost worker": Beginning(half_was_found, PLANNING, waits=MINUTE),
    "all found by a lost worker": Beginning(all_was_found, PLANNING, waits=MINUTE),
    "leftovers never copied": Beginning(leftovers_to_copy, PLANNING),
    "a dry run's items never copied": Beginning(plan_to_execute, PLANNING),
    "approved, and nobody was told": Beginning(approved, PLANNING),
    "declined, and nobody was told": Beginning(declined, CANCELLING, CANCELLED),
    "running, nothing claimed": Beginning(submitted, RUNNING),
    "running, its bell was lost": Beginning(bell_was_lost, RUNNING, waits=BELL_PATIENCE),
    "running, a look was won in vain": Beginning(
        look_was_won_in_vain, RUNNING, waits=BELL_PATIENCE
    ),
    "running, its batches rest": Beginning(call_has_failed, RUNNING),
    "running, its target was told to rest": Beginning(target_rests, RUNNING, waits=SECOND * 30),
    "running, its target is closed": Beginning(target_is_closed, RUNNING, waits=CLOSED_REST),
    "running, its target's circuit is open": Beginning(circuit_is_open, RUNNING, waits=SECOND * 20),
    "running, a worker was lost": Beginning(worker_was_lost, RUNNING, waits=LEASE),
    "running, every place was a lost worker's": Beginning(
        places_are_taken_by_the_lost, RUNNING, waits=LEASE
    ),
    "running, a worker was lost at the last attempt": Beginning(
        worker_was_lost_at_its_last_attempt, RUNNING, waits=LEASE
    ),
    "running, all is decided": Beginning(decided, RUNNING),
    "paused and resumed": Beginning(paused_and_resumed, RUNNING),
    "paused and resumed, a worker was lost": Beginning(lost_while_paused, RUNNING, waits=LEASE),
    "paused, all is decided": Beginning(paused_while_all_was_decided, JobState.PAUSED),
    "cancelled while open": Beginning(cancelled(unfed), CANCELLING, CANCELLED),
    "cancelled, planning begun by a lost planner": Beginning(
        cancelled(plan_was_begun), CANCELLING, CANCELLED
    ),
    "cancelled, half cut by a lost planner": Beginning(
        cancelled(half_is_cut), CANCELLING, CANCELLED
    ),
    "cancelled, half found by a lost worker": Beginning(
        cancelled(half_was_found), CANCELLING, CANCELLED
    ),
    "cancelled while it waits for approval": Beginning(cancelled(held), CANCELLING, CANCELLED),
    "cancelled, nothing claimed": Beginning(cancelled(submitted), CANCELLING, CANCELLED),
    "cancelled, its batches rest": Beginning(cancelled(call_has_failed), CANCELLING, CANCELLED),
    "cancelled, its target is closed": Beginning(
        cancelled(target_is_closed), CANCELLING, CANCELLED
    ),
    "cancelled, a worker was lost": Beginning(
        cancelled(worker_was_lost), CANCELLING, CANCELLED, LEASE
    ),
    "cancelled, all is decided": Beginning(cancelled(decided), CANCELLING, CANCELLED),
    "stopped": Beginning(stopped, CANCELLING, JobState.STOPPED),
    "settled, a notification is owed": Beginning(settled_and_owed, JobState.COMPLETED),
}


#: The store, and how many of the looks are heard: each, or every other one.
WAYS = {
    "memory": (make_memory, 1),
    "memory, half of it lost": (make_memory, 2),
    "sqlite": (make_sqlite, 1),
}


@pytest.mark.parametrize(("house", "heard_every"), WAYS.values(), ids=WAYS, indirect=["house"])
@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_look_alone_brings_it_to_its_end(
    process: Process, house: House, name: str, heard_every: int
) -> None:
    beginning = BEGINNINGS[name]
    job = beginning.begin(house)
    assert house.state(job) is beginning.state
    began = house.clock.moment
    # A day is not looked at every two seconds.
    step = max(LOOK_EVERY, beginning.waits / 20)

    for number in range(100):
        house.clock.advance(step)
        process.look(is_heard=number % heard_every == 0)
        if house.store.job(job).is_final and not house.store.owed(limit=1):
            break

    assert house.state(job) is beginning.end
    assert sum(house.store.tally(job).values()) == house.store.job(job).items
    # One look plans, one rings, and one more where what they posted is lost.
    soon = LOOK_EVERY * 4 * heard_every
    assert house.clock.moment - began <= beginning.waits + step + soon
    is_at_rest(house)


@pytest.mark.parametrize("house", [make_memory, make_sqlite], indirect=True)
def test_what_is_owed_is_told_by_a_look(process: Process, house: House) -> None:
    job = settled_and_owed(house)

    house.clock.advance(LOOK_EVERY)
    process.look(is_heard=True)

    assert [one.job for one in process.told] == [job]
    assert not house.store.owed(limit=1)


def is_at_rest(house: House) -> None:
    """Nothing is left that a look would do, and no place is taken."""
    house.clock.advance(DAY * 2)
    assert house.store.look(every=LOOK_EVERY) == Look()
    assert house.store.target_note("crm").live_leases == 0
