"""Never lose an item, never claim one: real damage to real processes, for some seconds.

`make soak` does the same with far more items for as long as one likes, and with
every kind of damage.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.acceptance.fire import damage
from tests.acceptance.fire.application import Due
from tests.acceptance.fire.broker import Broker
from tests.acceptance.fire.campaign import Campaign, Course
from tests.acceptance.fire.damage import Damage
from tests.acceptance.fire.deployment import Deployment, StoreKind
from tests.acceptance.fire.survey import Survey
from tests.acceptance.fire.vendor import Backend
from tests.integration.service import need_a_server
from worker.client import DeletionClient, NoAnswer

SEED = 20
#: After the last damage a lease runs out, and what was doubtful is sent again.
PATIENCE = 60.0

MONITOR = Backend(
    "monitor",
    "bas_ip",
    items=1_800,
    misbehave="lost/37,busy:1/61,expired@20,omitted/43,error/41,cut/47,truncated/59",
    latency=0.4,
    options={"timeout": "2s", "max_in_flight": 3, "max_items_per_call": 20},
)
ACCOUNT = Backend(
    "account",
    "nimble",
    items=600,
    misbehave="lost/31,busy_date:1/67,expired@10,html/29,dropped/23",
    latency=0.1,
    options={"timeout": "2s", "max_in_flight": 2, "requests_per_second": 6},
)

FIVE_SECONDS = timedelta(seconds=5)
IDLE = Backend("monitor", "bas_ip", items=100)

#: What can be done and undone within seconds: one half of it with each kind of store.
QUICK = {
    StoreKind.SQLITE: (
        damage.kill_a_worker,
        damage.kill_a_worker,
        damage.restart_the_broker_empty,
        damage.cut_a_vendor_off,
        damage.leave_a_vendor_half_open,
        damage.lose_messages,
        damage.hold_the_file,
    ),
    StoreKind.POSTGRESQL: (
        damage.kill_a_worker,
        damage.kill_the_clock,
        damage.flush_the_broker,
        damage.hold_up_a_vendor,
        damage.lose_a_vendors_answers,
        damage.double_messages,
        damage.crash_the_database,
        damage.freeze_a_session,
    ),
}


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "store",
    [StoreKind.POSTGRESQL, pytest.param(StoreKind.SQLITE, marks=pytest.mark.soak)],
)
def test_nothing_is_lost_and_nothing_claimed(store: StoreKind) -> None:
    dice = Random(SEED)
    some = QUICK[store]
    # A worker that is frozen for longer than its lease: through all of it.
    damages = [damage.freeze_a_worker, *dice.sample(some, len(some))]

    with Deployment([MONITOR, ACCOUNT], store=store, seed=SEED, workers=2) as deployment:
        survey = burn(deployment, damages, dice)

    assert survey.faults + deployment.faults == [], survey.story
    assert len(survey.blows) == len(damages)
    assert survey.tally["deleted/item"] > 1_000


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_a_rolling_restart_alone_leaves_no_doubt() -> None:
    # A call that the machine is too slow for must not look like one that was cut off.
    options = {**MONITOR.options, "timeout": "15s"}
    monitor = Backend("monitor", "bas_ip", items=2_500, latency=0.25, options=options)

    with Deployment([monitor], store=StoreKind.SQLITE, seed=1, workers=2) as deployment:
        order = deployment.stocks["monitor"].order("monitor", 2_000)
        campaign = Campaign(deployment, [Due(order, 0)], dice=Random(1))
        course = Course(seconds=30, pause=(2, 2), patience=PATIENCE)
        survey = campaign.run(iter([damage.restart_the_workers_in_turn]), course)

    assert survey.faults + deployment.faults == [], survey.story
    assert {name.partition("/")[0] for name in survey.tally} == {"deleted", "absent", "rejected"}
    assert survey.tally["absent/repeat"] == 0


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_a_worker_leaves_a_half_open_broker_soon() -> None:
    with Deployment([IDLE], store=StoreKind.SQLITE, workers=1) as deployment:
        order = deployment.stocks["monitor"].order("monitor", 10)

        deployment.broker_line.strand()

        # Until it is noticed, the socket's timeout, and a new connection.
        with deployment.client(timeout=timedelta(seconds=30)) as client:
            assert client.submit("monitor", order.items, job=order.job) == order.job


@pytest.mark.timeout(60)
def test_an_answer_that_could_not_be_stored_is_no_refusal() -> None:
    """The job may run: Celery tells of its own failure to store what came of the task."""
    failed = {"status": "FAILURE", "result": {"exc_type": "ConnectionError"}}
    taken = {"status": "SUCCESS", "result": {"job": "j", "items": 1, "duplicates": 0}}

    with lone_broker() as (broker, url), ThreadPoolExecutor() as threads:
        with DeletionClient(url, timeout=timedelta(seconds=15)) as client:
            submitted = threads.submit(client.submit, "monitor", ["a"])
            for answer in (failed, taken):
                answer_next(broker, answer)
            assert submitted.result(20) == "j"

        with DeletionClient(url, timeout=timedelta(seconds=1)) as client:
            submitted = threads.submit(client.submit, "monitor", ["a"])
            answer_next(broker, failed)
            with pytest.raises(NoAnswer):
                submitted.result(20)


@contextmanager
def lone_broker() -> Iterator[tuple[Broker, str]]:
    """A broker that nobody but the test listens on, and its address."""
    need_a_server()
    with TemporaryDirectory(prefix="fire-", dir="/tmp") as short:
        broker = Broker(Path(short) / "broker")
        broker.start()
        try:
            yield broker, f"redis+socket://{broker.socket}"
        finally:
            broker.kill()


def answer_next(broker: Broker, answer: dict[str, Any]) -> None:
    """Take the next request, as a worker does, and store what Celery would."""
    with closing(broker.connect()) as redis:
        taken = redis.blpop(["deletions"], timeout=4)
        assert taken is not None, "the request did not come again"
        request = json.loads(taken[1])["headers"]["id"]
        redis.set(f"celery-task-meta-{request}", json.dumps({**answer, "task_id": request}))


def burn(deployment: Deployment, damages: Sequence[Damage], dice: Random) -> Survey:
    """Do all of it, three at a time, to jobs large and small."""
    orders = list(_orders(deployment))
    poison = [key for key in orders[0].order.keys if key is not None][:1]
    campaign = Campaign(deployment, orders, poison=poison, dice=dice)
    course = Course(seconds=60, pause=(0.5, 1.0), patience=PATIENCE, at_once=3)
    return campaign.run(iter(damages), course)


def _orders(deployment: Deployment) -> Iterator[Due]:
    for target, large in (("monitor", 1_400), ("account", 300)):
        stock = deployment.stocks[target]
        yield Due(stock.order(target, large), 0)
        for number, count in enumerate((1, 30, 60, 2), start=1):
            yield Due(stock.order(target, count, is_cancelled=count == 60), number * 3.0)
