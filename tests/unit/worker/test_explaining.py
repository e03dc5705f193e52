"""Every answer of `explain`, each reached by a job that really waits for it."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from api_adapters.errors import Hopeless
from tests.factories import MINUTE, Clock, keys, some_id
from tests.fakes import FindingAdapter, House, lost, told_to_wait, unreached
from worker.breaking import FAILURES_TO_OPEN
from worker.explaining import Explanation, explain
from worker.job import JobId
from worker.requests import Submit
from worker.store.base import Who
from worker.wanting import want


def why(house: House, job: JobId) -> Explanation:
    status = house.store.status(job)
    return explain(
        status,
        house.store.job_note(job),
        beside=house.store.target_note("crm"),
        target=house.targets.get("crm"),
    )


def opened(house: House) -> JobId:
    job = some_id()
    house.desk.open({"job": job, "target": "crm", "chunk_items": 2})
    house.desk.append({"job": job, "chunk": 0, "items": ["a", "b"]})
    return job


def sealed(house: House) -> JobId:
    job = opened(house)
    house.desk.seal({"job": job, "chunks": 3})
    return job


def unplanned(house: House) -> JobId:
    return house.landed(keys(4))


def planning(house: House) -> JobId:
    job = house.landed(keys(4))
    house.store.begin_planning(job, holder="w1", lasting=MINUTE)
    return job


def finding(house: House) -> JobId:
    request = Submit(job=some_id(), target="crm", query={"keyword": "old"})
    job = house.submitter.submit(request).job.id
    house.store.begin_planning(job, holder="w1", lasting=MINUTE)
    return job


def held(house: House) -> JobId:
    house.targets["crm"] = house.target_of("crm", max_items=3)
    return house.submitted(keys(4))


def paused(house: House) -> JobId:
    job = house.submitted(keys(4))
    house.store.pause(job, Who())
    return job


def cancelling(house: House) -> JobId:
    job = house.submitted(keys(4))
    house.store.cancel(job, Who(by="Ada"))
    return job


def ended(house: House) -> JobId:
    job = house.submitted(keys(4))
    house.work_off()
    return job


def changed(house: House) -> JobId:
    job = house.submitted(keys(4))
    own = house.targets["crm"].settings
    del house.targets["crm"]
    assert own
    return job


def working(house: House) -> JobId:
    job = house.submitted(keys(4))
    house.store.claim(
        "crm",
        fingerprint=house.targets["crm"].fingerprint,
        holder="w1",
        lasting=MINUTE,
        appetite=lambda _: want(house.targets["crm"], None),
    )
    return job


def closed(house: House) -> JobId:
    house.adapter.will(Hopeless("the token is refused", closes_target=True))
    job = house.submitted(keys(4))
    house.work()
    return job


def broken(house: House) -> JobId:
    house.adapter.will(*[unreached()] * FAILURES_TO_OPEN)
    job = house.submitted(keys(FAILURES_TO_OPEN * 4))
    house.work()
    return job


def resting(house: House) -> JobId:
    house.adapter.will(told_to_wait(30))
    job = house.submitted(keys(8))
    house.work()
    return job


def retrying(house: House) -> JobId:
    house.chance = 1.0
    house.adapter.will(lost(), lost())
    job = house.submitted(keys(4))
    house.work()
    return job


def busy(house: House) -> JobId:
    for _ in range(house.targets["crm"].limits.max_in_flight):
        working(house)
    return house.submitted(["z"])


def unheard(house: House) -> JobId:
    job = house.submitted(keys(4))
    house.store.may_ring("crm")
    house.clock.advance(timedelta(seconds=6))
    return job


def ready(house: House) -> JobId:
    job = house.submitted(keys(4))
    house.store.may_ring("crm")
    return job


@pytest.mark.parametrize(
    ("way", "word", "said"),
    [
        (opened, "seal", "1 chunks have landed, and nobody has said how many there are"),
        (sealed, "seal", "2 of 3 chunks have not landed"),
        (unplanned, "workers", "no worker has begun yet"),
        (planning, "planning", "being cut into batches, 4 so far"),
        (finding, "planning", "a worker is at it: its items are being found"),
        (held, "approval", "4 items are more than the target's max_items of 3"),
        (paused, "paused", "deletions resume"),
        (cancelling, "ending", "cancelled by Ada"),
        (ended, "ended", "it has ended, completed"),
        (changed, "target_changed", "--accept-target"),
        (working, "working", "1 of its batches are being worked on"),
        (closed, "circuit", "the token is refused; it is tried again in 30 s"),
        (broken, "circuit", "failed 5 times in a row (connection refused); one call is tried in"),
        (resting, "pace", "it goes on in 30 s"),
        (retrying, "retry_at", "its next attempt is in 2 s after: no answer"),
        (busy, "target_busy", "all 4 places of its target"),
        (unheard, "workers", "is one running?"),
        (ready, "its_turn", "its turn comes"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_the_one_thing_a_job_waits_for(way: Callable[[House], JobId], word: str, said: str) -> None:
    house = House(Clock(), adapter=FindingAdapter(), allow_query=True, max_items_per_call=4)

    told = why(house, way(house))

    assert told.word == word
    assert said in told.sentence
