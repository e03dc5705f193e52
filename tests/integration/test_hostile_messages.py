"""Messages whose bytes say one thing and mean another, and such as would write into the log."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from kombu.utils.json import dumps, loads

from tests.integration.service import Service, Target
from tests.integration.test_quiet_messages import answer_to, publish
from worker.client import Refused

LOUD = ("--without-mingle", "--without-gossip", "--loglevel=DEBUG")
FORGED = "x\n[2030-01-01 00:00:00,000: CRITICAL/MainProcess] forged\x1b[31m"
LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}: [A-Z]+/MainProcess\] [ -~]*")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(targets={"monitor": Target(items=2)}, worker_options=LOUD) as service:
        yield service


def send(service: Service, body: Any, *, task: str = "submit", **headers: Any) -> Any:
    """What is answered to a message with just these headers."""
    id_ = headers.setdefault("id", str(uuid4()))
    publish(service, {"task": f"deletions.{task}", **headers}, body)
    return answer_to(service, id_)


@pytest.mark.parametrize(
    "items",
    [
        '[{"link_id": 1, "link_id": 2}]',
        '[{"a": {"b": 1, "\\u0062": 1}}]',
        "[1e999]",
        '[{"a": [-1e999]}]',
        "[1" + "0" * 4_300 + "]",
    ],
    ids=lambda items: items[:20],
)
def test_what_readers_would_take_differently_is_refused_whole(service: Service, items: str) -> None:
    raw = f'[[], {{"target": "monitor", "items": {items}}}, {{}}]'.encode()

    assert send(service, raw)["error"]["code"] == "invalid_message"


def test_the_last_of_two_targets_is_not_taken_for_the_one(service: Service) -> None:
    (ident,) = service.practice.ids(1)
    raw = f'[[], {{"target": "nobody", "target": "monitor", "items": ["{ident}"]}}, {{}}]'

    assert send(service, raw.encode())["error"]["code"] == "invalid_message"
    assert ident in service.practice.remaining


@pytest.mark.parametrize("after", [2**63, 10**4_000])
def test_a_position_beyond_all_stores_is_refused(service: Service, after: int) -> None:
    job = send(service, [[], {"target": "monitor", "items": ["x"]}, {}])["job"]

    answer = send(service, [[], {"job": job, "after": after}, {}], task="results")

    assert answer["error"]["code"] == "invalid_message"


def test_a_job_is_not_found_by_an_id_that_only_looks_like_its_own(service: Service) -> None:
    job = send(service, [[], {"target": "monitor", "items": ["x"]}, {}])["job"]
    wide = "".join(chr(ord(one) + 0xFEE0) if one.isdigit() else one for one in job)

    answer = send(service, [[], {"job": wide}, {}], task="status")

    assert answer["error"]["code"] == "invalid_message"


@pytest.mark.parametrize("header", ["id", "shadow", "root_id", "parent_id", "origin", "eta"])
def test_no_header_writes_a_line_of_its_own_into_the_log(service: Service, header: str) -> None:
    ident = FORGED if header == "id" else str(uuid4())
    body = [[], {"target": "monitor", "items": ["x"]}, {}]

    publish(service, {"task": "deletions.submit", "id": ident, header: FORGED}, body)
    answer_to(service, ident)

    well(service)
    log = service.logs()["worker1.log"].split(" ready.\n", 1)[1]
    assert [one for one in log.split("\n")[:-1] if not LINE.fullmatch(one)] == []
    assert "CRITICAL" not in log


def test_a_message_with_hardly_a_header_shows_no_item_at_any_level(service: Service) -> None:
    """So little stands before its body in what Celery's pool would log of it."""
    item = "somebody-5b0c"

    job = send(service, [[], {"target": "monitor", "items": [item, {"id": item}]}, {}])["job"]

    with service.client() as client:
        client.wait(job)
    log = service.logs()["worker1.log"]
    assert "DEBUG" in log
    assert item not in log


@pytest.mark.xfail(
    strict=True, reason="Celery's own reader revives what has a __type__, and the page is lost"
)
def test_a_sender_with_celery_alone_reads_a_page_with_any_object(service: Service) -> None:
    items = ["x", {"__type__": "uuid", "__value__": {"hex": "none"}}]
    job = send(service, [[], {"target": "monitor", "items": items}, {}])["job"]

    page = send(service, [[], {"job": job}, {}], task="results")

    # As Celery reads the result of a task.
    assert loads(dumps(page))["rows"][1]["item"] == items[1]


def test_no_envelope_ends_the_worker() -> None:
    envelopes = [
        b"no envelope",
        b'{"body": "", "headers": {}, "properties": {}}',
        b'{"headers": {"x": {"__type__": "uuid", "__value__": {"hex": "none"}}}}',
    ]
    with Service(targets={"monitor": Target()}) as service:
        with service.redis() as redis:
            redis.lpush("deletions", *envelopes)

        well(service, timeout=timedelta(seconds=3))


def well(service: Service, *, timeout: timedelta = timedelta(seconds=20)) -> None:
    """A worker answers."""
    with service.client(timeout=timeout) as client, pytest.raises(Refused, match="unknown_job"):
        client.status(str(uuid4()))
