"""A worker dies, or is frozen, at a step; whoever is left finishes the job and tells the truth."""

import base64
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from api_adapters.fakes.base import Practice
from tests.integration.failing_workers import LIVES, FailingWorkers
from tests.integration.failpoints import STEPS, Act
from tests.integration.ledger import disagreements
from tests.integration.service import Service, Target, wait_until
from tests.postgres import database
from worker.client import DeletionClient, JobStatus, _Request
from worker.deleting import LEASE_MARGIN
from worker.embedded.commands import worker_command
from worker.environment import STORE_URL
from worker.planner import PLANNING_LASTS

pytestmark = pytest.mark.soak

ITEMS = 12
TIMEOUT = timedelta(seconds=2)
NOTIFY = '[notify.crm]\ntask = "crm.deletion_done"\nqueue = "crm"'
#: All that a broker holds for the workers; what it holds for `crm` is its own.
MESSAGES = ("deletions", "deletions.bells", "unacked", "unacked_index")
ALONE = ("--without-mingle", "--without-gossip")
#: What a takeover needs beside the time for which the dead one's right holds.
SOON = timedelta(seconds=20)


@dataclass(slots=True)
class Order:
    """A job that is asked for on a target of its own, while one worker is there, which dies."""

    step: str
    items: Sequence[str]
    poison: frozenset[str] = frozenset()
    job: str = field(default_factory=lambda: str(uuid4()))
    died_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    #: How long it took to end, from the moment at which somebody else could go on.
    took: timedelta = timedelta()

    @property
    def target(self) -> str:
        return target_of(self.step)

    @property
    def strangers(self) -> Sequence[str]:
        """The items that the backend never had."""
        return () if self.is_by_query else self.items[ITEMS:]

    @property
    def last_message(self) -> str:
        """The message that is sent while its worker lives."""
        if not self.comes_in_chunks:
            return "submit"
        return "append" if self.step.startswith("append") else "seal"

    @property
    def comes_in_chunks(self) -> bool:
        """What comes whole, and is small, is planned as it is taken in."""
        planned = ("plan", "cut", "start", "look")
        return self.step.startswith(("append", "seal", *planned))

    @property
    def is_by_query(self) -> bool:
        """Nobody knows the items before they are found."""
        return self.step.startswith(("find", "freeze", "found"))

    @property
    def is_repeated(self) -> bool:
        """Its sender was not answered, and only he has what it holds."""
        return self.step.startswith(("submit", "append", "seal"))

    @property
    def holds(self) -> timedelta:
        """How long the dead one's right keeps others from going on."""
        match self.step.partition(".")[0]:
            case "find" | "freeze" | "found" | "found_all":
                return TIMEOUT + timedelta(seconds=30)
            case "plan" | "cut" | "start":
                return PLANNING_LASTS
            case "claim" | "call" | "record" | "split" | "rescue":
                return TIMEOUT + LEASE_MARGIN
        return timedelta()

    def requests(self) -> list[_Request]:
        """Its messages, each of which may be sent any number of times."""
        named = {"job": self.job, "target": self.target, "notify": "crm"}
        if self.is_by_query:
            return [_Request.of("submit", {**named, "query": {"keyword": "Contact"}})]
        texts = [json.dumps(item) for item in self.items]
        if not self.comes_in_chunks:
            return [_Request.of("submit", named, texts)]
        return [
            _Request.of("open", {**named, "chunk_items": len(texts)}),
            _Request.of("append", {"job": self.job, "chunk": 0}, texts),
            _Request.of("seal", {"job": self.job, "chunks": 1}),
        ]


def target_of(step: str) -> str:
    return step.replace(".", "-")


def target_for(step: str) -> Target:
    """A backend with a dozen items, of which a call takes five."""
    options: dict[str, Any] = {"timeout": "2s", "max_items_per_call": 5}
    if not step.startswith(("find", "freeze", "found")):
        return Target(items=ITEMS, options=options)
    options |= {"allow_query": True, "requests_per_second": 1000.0}
    return Target("nimble", items=ITEMS, options=options)


def order_for(step: str, practice: Practice) -> Order:
    """All that the backend has, and one item that it never had."""
    ids = practice.ids(ITEMS + 1)
    if step.startswith("split"):
        practice.poison = {ids[3]}
        return Order(step, ids, poison=frozenset(practice.poison))
    order = Order(step, ids)
    return replace(order, items=ids[:ITEMS]) if order.is_by_query else order


@pytest.mark.timeout(300)
def test_whatever_step_a_worker_dies_at_another_one_finishes_its_job() -> None:
    targets = {target_of(step): target_for(step) for step in STEPS}
    with (
        Service(workers=0, targets=targets, toml_extra=NOTIFY) as service,
        service.client(timeout=timedelta(seconds=60)) as client,
    ):
        orders = [order_for(step, service.practices[target_of(step)]) for step in STEPS]
        began = time.monotonic()
        with FailingWorkers(service.data_dir, environ=service.environ) as workers:
            die_at_every_step(service, client, workers, orders)
        seen(f"{len(orders)} workers died in {time.monotonic() - began:.1f} s")
        service.processes.start(worker_command("healthy", *ALONE))
        statuses = finish(client, orders)
        seen(f"all was over after {time.monotonic() - began:.1f} s")
        told = notifications(service)
        faults = {
            order.step: found
            for order in orders
            if (found := [*faults_of(order, service, client, statuses[order.step], told)])
        }

    assert faults == {}


def die_at_every_step(
    service: Service, client: DeletionClient, workers: FailingWorkers, orders: Sequence[Order]
) -> None:
    """One worker after the other is the only one; those whose right holds longest go first."""
    in_turn = sorted(orders, key=lambda order: order.holds, reverse=True)
    for order in in_turn:
        pid = workers.start(STEPS[order.step].after or order.step)
        send(client, order)
        bury(service, workers, pid, order)
    for order in in_turn:
        if STEPS[order.step].after:
            bury(service, workers, workers.start(order.step), order)


def send(client: DeletionClient, order: Order) -> None:
    """Send what the worker dies of; of that there is no answer."""
    talk = client._talk(order.job)
    for request in order.requests():
        if request.task.endswith(order.last_message):
            talk.tell(request)
            return
        talk.ask(request)


def bury(service: Service, workers: FailingWorkers, pid: int, order: Order) -> None:
    """Wait for a worker's death, and lose all messages with it."""
    wait_until(lambda: workers.fate(pid) != LIVES)
    assert workers.fate(pid) == "SIGKILL", service.logs()[f"{order.step}.log"]
    order.died_at = datetime.now(UTC)
    with service.redis() as redis:
        redis.delete(*MESSAGES)
    if order.is_by_query:
        come_into_being(order, service.practices[order.target])


def come_into_being(order: Order, practice: Practice) -> None:
    """One item more is there: a find that begins again finds it, one that has ended does not."""
    ids = practice.ids(ITEMS + 1)
    practice.remaining.add(ids[ITEMS])
    if order.step != "found_all.committed":
        order.items = ids


def finish(client: DeletionClient, orders: Sequence[Order]) -> dict[str, JobStatus]:
    """Send again what was not answered, and wait for every job."""
    for order in orders:
        if order.is_repeated:
            for request in order.requests():
                client._talk(order.job).ask(request)
    answered_at = datetime.now(UTC)
    statuses = {}
    for order in orders:
        statuses[order.step] = status = client.wait(order.job, timeout=timedelta(seconds=90))
        may_begin_at = max(answered_at, order.died_at + order.holds)
        assert status.finished_at is not None
        order.took = max(status.finished_at - may_begin_at, timedelta())
        seen(f"{order.step}: ended {order.took.total_seconds():.1f} s after others could go on")
    return statuses


def faults_of(
    order: Order, service: Service, client: DeletionClient, status: JobStatus, told: "Told"
) -> Iterator[str]:
    """What is wrong with the end of a job, held against the ledger of its backend."""
    yield from disagreements(
        status,
        list(client.results(order.job)),
        service.practices[order.target],
        items=order.items,
        strangers=order.strangers,
        poison=order.poison,
    )
    if dict(status.tally) not in told.get(order.job, []):
        yield f"of its end was told: {told.get(order.job)}"
    if order.took > SOON:
        yield f"it took {order.took} longer than it had to"


#: What another application was told, by job.
Told = Mapping[str, list[dict[str, int]]]


def notifications(service: Service) -> Told:
    """The tallies that lie in the queue of another application."""
    told: dict[str, list[dict[str, int]]] = {}
    with service.redis() as redis:
        for message in redis.lrange("crm", 0, -1):
            _, named, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
            told.setdefault(named["job"], []).append(named["tally"])
    return told


def seen(text: str) -> None:
    """For whoever reads the output: what a bound is held against."""
    sys.stdout.write(f"{text}\n")


# -- frozen amid a transaction ------------------------------------------------------

#: Each of them has locked what others need.
FROZEN_AT = ("claim.locked", "claim.marked", "record.written")


@pytest.mark.timeout(240)
def test_a_worker_that_is_frozen_amid_a_transaction_holds_nobody_up_and_changes_nothing() -> None:
    targets = {target_of(step): target_for(step) for step in (*FROZEN_AT, "others")}
    with (
        database() as url,
        Service(workers=0, targets=targets, toml_extra=NOTIFY) as service,
        service.client(timeout=timedelta(seconds=60)) as client,
    ):
        service.environ[STORE_URL] = url
        orders = [order_for(step, service.practices[target_of(step)]) for step in FROZEN_AT]
        with FailingWorkers(service.data_dir, environ=service.environ) as workers:
            pids = [freeze(client, workers, order) for order in orders]
            service.processes.start(worker_command("healthy", *ALONE))
            others = order_for("others", service.practices["others"])
            client.submit(others.target, others.items, job=others.job, notify="crm")
            statuses = finish(client, [others, *orders])
            before = [told_and_done(order, service, client) for order in orders]
            thaw(service, workers, pids)
            after = [told_and_done(order, service, client) for order in orders]
        told = notifications(service)
        faults = {
            order.step: found
            for order in (others, *orders)
            if (found := [*faults_of(order, service, client, statuses[order.step], told)])
        }

    assert faults == {}
    assert after == before


def freeze(client: DeletionClient, workers: FailingWorkers, order: Order) -> int:
    """Start a worker and wait until it stands still; its process id."""
    pid = workers.start(order.step, Act.FREEZE)
    # Those who were frozen before wait in line for a message, and swallow it.
    for _ in FROZEN_AT:
        send(client, order)
    wait_until(lambda: workers.fate(pid) != LIVES)
    assert workers.fate(pid) == "SIGSTOP"
    order.died_at = datetime.now(UTC)
    return pid


def thaw(service: Service, workers: FailingWorkers, pids: Sequence[int]) -> None:
    """Let them go on with what they were at, and end."""
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    heard = {"claim.locked": "not done", "claim.marked": "not done", "record.written": "lease.lost"}
    for step, word in heard.items():
        wait_until(lambda step=step, word=word: word in service.logs()[f"{step}.log"])
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: all(workers.fate(pid) == "ended" for pid in pids))


def told_and_done(order: Order, service: Service, client: DeletionClient) -> object:
    """All that is known of a job, and all that its backend did."""
    practice = service.practices[order.target]
    return list(client.results(order.job)), Counter(practice.asked), practice.requests
