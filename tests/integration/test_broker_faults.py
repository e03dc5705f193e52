"""Broker, workers and database go away amid the work, for real; every job ends, and truly."""

import fcntl
import os
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest
from redis.exceptions import RedisError

from api_adapters.fakes.base import Asked, Said
from tests.acceptance.fire.network import HOST, Line, Network
from tests.acceptance.fire.store import Database
from tests.integration.ledger import disagreements
from tests.integration.service import Service, Target, wait_until
from worker.client import DeletionClient
from worker.deleting import LEASE_MARGIN
from worker.embedded.commands import worker_command
from worker.environment import BROKER_URL, RESULT_BACKEND_URL, STORE_URL, socket_path

pytestmark = pytest.mark.soak

ALONE = ("--without-mingle", "--without-gossip")
QUEUES = ("deletions.bells", "deletions")
MOST = timedelta(seconds=90)
#: Without a broker work goes on until the slices that there are have ended, each after
#: half a minute, and then there are no calls for as long as this.
QUIET = 3.0
#: What is left then must be more than the calls that are waited for could take.
ENOUGH = 500

#: At most forty items in a fifth of a second.
QUICK: dict[str, Any] = {"timeout": "2s", "max_items_per_call": 10, "max_in_flight": 4}
LEASE = timedelta(seconds=2) + LEASE_MARGIN


#: Items for most of a minute: more than slices take, and a submission before them.
LONG = 10_000


def target(items: int, *, latency: float = 0.2, **options: Any) -> Target:
    """A backend of bounded speed, so that there is time to damage something."""
    return Target(items=items, latency=latency, options={**QUICK, **options})


@dataclass
class Stage:
    """A service whose broker is at the end of a line, its workers and its jobs."""

    service: Service
    line: Line
    client: DeletionClient
    #: The items of every job, by job.
    jobs: dict[str, list[str]] = field(default_factory=dict)
    started: int = 0

    def staff(self) -> None:
        """Let there be two workers."""
        while len(self.pids) < 2:
            self.start_a_worker()

    def start_a_worker(self) -> int:
        """One more worker, which is ready; its process id."""
        self.started += 1
        command = worker_command(self.started, *ALONE)
        pid = self.service.processes.start(command)
        wait_until(lambda: " ready." in self.log_of(command.name))
        return pid

    def log_of(self, name: str) -> str:
        """What a worker has logged."""
        return self.service.logs()[f"{name}.log"]

    @property
    def pids(self) -> dict[str, int]:
        """The workers that live, by name."""
        return self.service.processes.pids()

    def submit(self, name: str, *, jobs: int = 1) -> list[str]:
        """Ask for all that a backend has, in so many jobs; their ids."""
        ids = sorted(self.service.practices[name].remaining)
        parts = {
            self.client.submit(name, part): part for part in (ids[n::jobs] for n in range(jobs))
        }
        self.jobs |= parts
        return list(parts)

    def let_it_begin(self, name: str, *, calls: int = 8, most: float = 40) -> None:
        """Wait until a backend has been called some times more."""
        practice = self.service.practices[name]
        enough = practice.calls + calls
        wait_until(lambda: practice.calls >= enough, seconds=most)

    def works_again(self, name: str, *, most: float) -> float:
        """Seconds until a backend is called as often as no straggler would call it."""
        began = time.monotonic()
        self.let_it_begin(name, calls=12, most=most)
        return time.monotonic() - began

    def let_slices_end(self, name: str) -> None:
        """Wait until a backend is not called any more, though it holds a lot.

        What is under way needs no broker, and would look like recovery.
        """
        practice = self.service.practices[name]
        seen, since = practice.calls, time.monotonic()
        while time.monotonic() - since < QUIET:
            time.sleep(0.1)
            if practice.calls != seen:
                seen, since = practice.calls, time.monotonic()
        assert len(practice.remaining) > ENOUGH

    def end(self, name: str, jobs: Sequence[str]) -> Counter[str]:
        """Wait for the end of all jobs of a backend, none of which may lie; what they told."""
        practice = self.service.practices[name]
        everything = {item for job in jobs for item in self.jobs[job]}
        told: Counter[str] = Counter()
        for job in jobs:
            status = self.client.wait(job, timeout=MOST)
            outcomes = list(self.client.results(job))
            items = self.jobs[job]
            found = disagreements(status, outcomes, practice, items=items, others=everything)
            assert list(found) == []
            told.update(f"{one.verdict}/{one.evidence}" for one in outcomes)
        assert practice.remaining.isdisjoint(everything)
        return told

    def ask(self, question: str, *values: object) -> Any:
        """One value from the store."""
        with closing(sqlite3.connect(self.service.data_dir / "store.sqlite3")) as database:
            return database.execute(question, values).fetchone()[0]

    def leases_of(self, pid: int) -> int:
        """How many leases a worker has."""
        count = "SELECT count(*) FROM leases WHERE holder LIKE ?"
        return int(self.ask(count, f"%:{pid}:%"))

    def under_way(self, task: str) -> int:
        """How many tasks of a name are begun and not ended."""
        return sum(under_way(self.log_of(name), task) for name in self.pids)

    def kill_the_broker(self) -> None:
        """kill -9; its keeper brings it back with what it had written."""
        pid = self.broker_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.broker_pid() not in {None, pid})

    def broker_pid(self) -> int | None:
        """The broker's process, past the line; None while it does not answer."""
        try:
            with self.service.redis() as broker:
                return int(broker.info("server")["process_id"])
        except RedisError:
            return None


@contextmanager
def stage_of(targets: dict[str, Target], store_url: str | None = None) -> Iterator[Stage]:
    """A service of that kind, without workers yet."""
    with ExitStack() as opened:
        network = opened.enter_context(Network())
        service = opened.enter_context(Service(workers=0, targets=targets))
        line = network.lay_to_socket(str(socket_path(service.data_dir)))
        service.broker_url = f"redis://{HOST}:{line.port}/0"
        service.environ |= {BROKER_URL: service.broker_url, RESULT_BACKEND_URL: service.broker_url}
        if store_url is not None:
            service.environ[STORE_URL] = store_url
        # The workers end before their line to the broker does.
        opened.callback(service.processes.stop, grace=timedelta(seconds=30))
        client = opened.enter_context(service.client())
        yield Stage(service, line, client)


TARGETS = {
    "restarted": target(LONG),
    "carried": target(50),
    "flushed": target(1_200),
    "away": target(1_000),
    "paced": target(300, requests_per_second=5.0),
    "stranded": target(LONG),
    # The answer to its submission may take ten seconds over connections that the
    # test before left half-open, while its work goes on.
    "hanging": target(LONG),
    "robbed": target(600),
    "killed": target(1_200),
    # A call for which the machine is too slow must not look like one that was
    # cut off.
    "rolling": target(1_400, latency=0.5, timeout="15s"),
    "found": Target("nimble", items=400, options={**QUICK, "allow_query": True}),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Stage]:
    with stage_of(TARGETS) as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Stage:
    """With two workers, whatever the test before did to them."""
    shared.line.restore()
    shared.staff()
    return shared


def seen(text: str) -> None:
    """For whoever reads the output: what a bound is held against."""
    sys.stdout.write(f"{text}\n")


def test_a_restarted_broker_costs_seconds_and_no_worker(stage: Stage) -> None:
    pids = stage.pids
    jobs = stage.submit("restarted")
    stage.let_it_begin("restarted")
    ids = sorted(stage.service.practices["carried"].remaining)

    with writers_held_up(stage.service):
        posted = [stage.client.post("carried", ids[n::5]) for n in range(5)]
        stage.jobs |= {job: ids[n::5] for n, job in enumerate(posted)}
        wait_until(lambda: stage.under_way("deletions.submit") >= len(posted))
        # Its file is written to the disk every second.
        time.sleep(1.5)
        stage.line.refuse()
        stage.kill_the_broker()
    stage.let_slices_end("restarted")
    stage.line.restore()
    seconds = stage.works_again("restarted", most=30)
    stage.end("carried", posted)
    told = stage.end("restarted", jobs)

    seen(f"after a restart of the broker work went on within {seconds:.1f} s")
    assert stage.pids == pids
    assert set(told) == {"deleted/item"}
    assert seconds < 15


def test_a_broker_that_forgets_everything_costs_seconds(stage: Stage) -> None:
    jobs = stage.submit("flushed")
    stage.let_it_begin("flushed")

    with stage.service.redis() as broker:
        broker.flushall()
    seconds = stage.works_again("flushed", most=30)
    told = stage.end("flushed", jobs)

    seen(f"after a flush of the broker work went on within {seconds:.1f} s")
    assert set(told) == {"deleted/item"}
    assert seconds < 10


def test_jobs_outlast_a_broker_that_is_away_for_long(stage: Stage) -> None:
    pids = stage.pids
    jobs = {name: stage.submit(name) for name in ("away", "paced")}
    for name in jobs:
        stage.let_it_begin(name, calls=3)

    stage.line.refuse()
    time.sleep(15)
    stage.line.restore()
    seconds = stage.works_again("away", most=40)
    told = {name: stage.end(name, asked) for name, asked in jobs.items()}

    seen(f"after a broker was away for 15 s work went on within {seconds:.1f} s")
    assert stage.pids == pids
    assert {verdict for one in told.values() for verdict in one} == {"deleted/item"}
    assert seconds < 30


def test_half_open_connections_are_given_up(stage: Stage) -> None:
    pids = stage.pids
    jobs = stage.submit("stranded")
    stage.let_it_begin("stranded")

    stage.line.strand()
    began = time.monotonic()
    stage.let_slices_end("stranded")
    stage.works_again("stranded", most=60)
    seconds = time.monotonic() - began
    told = stage.end("stranded", jobs)

    seen(f"after all connections were half-open work went on within {seconds:.1f} s")
    assert stage.pids == pids
    assert set(told) == {"deleted/item"}
    assert seconds < 30


def test_a_broker_that_hangs_keeps_no_worker_from_ending(stage: Stage) -> None:
    jobs = stage.submit("hanging")
    stage.let_it_begin("hanging")
    name, pid = next(iter(stage.pids.items()))

    stage.line.hold()
    time.sleep(3)
    os.kill(pid, signal.SIGTERM)
    began = time.monotonic()
    wait_until(lambda: name not in stage.pids)
    took = time.monotonic() - began
    stage.let_slices_end("hanging")
    stage.line.restore()
    seconds = stage.works_again("hanging", most=40)
    told = stage.end("hanging", jobs)

    seen(f"{name} ended within {took:.1f} s while the broker said nothing")
    seen(f"after the broker hung work went on within {seconds:.1f} s")
    assert set(told) == {"deleted/item"}
    assert took < 50
    assert seconds < 20


def test_messages_may_be_lost_and_doubled(stage: Stage) -> None:
    with thief(stage.service) as stolen:
        jobs = stage.submit("robbed", jobs=4)
        told = stage.end("robbed", jobs)

    seen(f"times that a stolen message was delivered: {dict(stolen)}")
    assert stolen[0] > 0
    assert stolen[2] > 0
    assert set(told) == {"deleted/item"}


def test_what_a_killed_worker_had_is_taken_over(stage: Stage) -> None:
    jobs = stage.submit("killed")
    stage.let_it_begin("killed")
    name, pid = next(iter(stage.pids.items()))
    wait_until(lambda: stage.leases_of(pid))

    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    lost = stage.leases_of(pid)
    wait_until(lambda: not stage.leases_of(pid))
    seconds = time.monotonic() - began
    told = stage.end("killed", jobs)

    seen(f"{name} had {lost} leases, which were taken over within {seconds:.1f} s: {dict(told)}")
    assert set(told) <= {"deleted/item", "absent/repeat"}
    assert seconds < LEASE.total_seconds() + 8


def test_a_rolling_restart_leaves_no_doubt(stage: Stage) -> None:
    jobs = stage.submit("rolling")
    stage.let_it_begin("rolling")
    took = []
    for pid in list(stage.pids.values()):
        assert not stage.client.status(jobs[0]).is_final
        os.kill(pid, signal.SIGTERM)
        began = time.monotonic()
        wait_until(lambda pid=pid: pid not in stage.pids.values())
        took.append(time.monotonic() - began)
        stage.start_a_worker()
    told = stage.end("rolling", jobs)

    seen(f"two workers ended within {took} s")
    assert set(told) == {"deleted/item"}
    assert max(stage.service.practices["rolling"].asked.values()) == 1
    assert max(took) < 20


def test_a_find_is_taken_up_by_another_worker_at_once(stage: Stage) -> None:
    practice = stage.service.practices["found"]
    practice.attend = slowly(practice.attend, 0.5)  # type: ignore[method-assign]
    items = sorted(practice.remaining)
    job = stage.client.submit("found", query={"keyword": "Contact"})
    stage.jobs[job] = items
    wait_until(lambda: practice.requests > 3)
    finder = next(name for name in stage.pids if under_way(stage.log_of(name), "deletions.plan"))

    os.kill(stage.pids[finder], signal.SIGTERM)
    began = time.monotonic()
    wait_until(lambda: stage.ask("SELECT finds FROM jobs WHERE id = ?", job) == 2)
    seconds = time.monotonic() - began
    told = stage.end("found", [job])

    seen(f"a find was taken up by another worker within {seconds:.1f} s")
    assert set(told) == {"deleted/item"}
    assert seconds < 10


@pytest.mark.timeout(240)
def test_jobs_outlast_a_database_that_crashes_and_is_away() -> None:
    database = Database()
    try:
        database.make()
        database.start()
        with stage_of({"crashed": target(1_200), "away": target(1_000)}, database.address) as stage:
            stage.staff()
            pids = stage.pids
            told = [
                outlast(stage, "crashed", database, seconds=0),
                outlast(stage, "away", database, seconds=10),
            ]
            assert stage.pids == pids
    finally:
        database.remove()

    assert {verdict for one in told for verdict in one} <= {"deleted/item", "absent/repeat"}


def outlast(stage: Stage, name: str, database: Database, *, seconds: float) -> Counter[str]:
    """Let the database crash amid a job, and come back after some seconds."""
    jobs = stage.submit(name)
    stage.let_it_begin(name)
    database.crash()
    time.sleep(seconds)
    database.start()
    waited = stage.works_again(name, most=60)
    told = stage.end(name, jobs)
    seen(f"PostgreSQL was away for {seconds} s, work went on within {waited:.1f} s: {dict(told)}")
    return told


@contextmanager
def writers_held_up(service: Service) -> Iterator[None]:
    """Nobody writes to the store, so that whoever wants to is under way."""
    lock = os.open(service.data_dir / "store.sqlite3.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def thief(service: Service) -> Iterator[Counter[int]]:
    """Somebody takes some messages, his own copies too, and delivers them twice, never or once."""
    stolen, is_over = Counter[int](), Event()

    def steal() -> None:
        with closing(service.redis()) as broker:
            for copies in (2, 0, 1, 0) * 3:
                taken = None
                while taken is None and not is_over.is_set():
                    taken = broker.brpop(QUEUES, timeout=1)
                if taken is not None:
                    stolen[copies] += 1
                    for _ in range(copies):
                        broker.lpush(*taken)

    thread = Thread(target=steal)
    thread.start()
    try:
        yield stolen
    finally:
        is_over.set()
        thread.join()


def under_way(log: str, task: str) -> int:
    """How many tasks of a name a worker has begun and not ended."""
    lines = [line for line in log.splitlines() if f"Task {task}[" in line]
    return sum(line.endswith("received") for line in lines) * 2 - len(lines)


def slowly(attend: Callable[[Asked], Said], seconds: float) -> Callable[[Asked], Said]:
    """The same answers, later."""
    return lambda asked: replace(attend(asked), delay=timedelta(seconds=seconds))
