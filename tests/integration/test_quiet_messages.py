"""Messages in every form that Celery knows, sent to a real worker by whoever likes."""

import json
import pickle
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection

from tests.integration.service import Service, Target, wait_until

#: In everything that is sent here, and nowhere to be seen.
SECRET = "somebody-0f5e1d3c"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(targets={"monitor": Target(items=1, latency=0.5)}) as service:
        yield service


def publish(service: Service, headers: dict[str, Any], body: Any, **properties: str) -> None:
    """Send a message as it is; a body that is no bytes as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
    with Connection(service.broker_url) as connection, connection.channel() as channel:
        producer = connection.Producer(channel)
        producer.publish(raw, routing_key="deletions", headers=headers, **named)


def answer_to(service: Service, id_: str) -> Any:
    """The raw answer to a message."""
    key = f"celery-task-meta-{id_}"
    with service.redis() as redis:
        wait_until(lambda: redis.exists(key))
        text = redis.getdel(key)
    assert text is not None
    return json.loads(text)["result"]


@pytest.fixture
def id_() -> str:
    return str(uuid4())


def test_arguments_that_their_sender_describes_are_not_shown(service: Service, id_: str) -> None:
    headers = {
        "lang": "py",
        "task": "deletions.submit",
        "id": id_,
        "argsrepr": f"({SECRET!r},)",
        "kwargsrepr": f"{{'items': [{SECRET!r}]}}",
    }

    publish(service, headers, [[], {"target": "monitor", "items": [SECRET]}, {}])

    assert answer_to(service, id_)["items"] == 1
    nobody_saw_it(service)


@pytest.mark.parametrize("is_hybrid", [True, False])
def test_a_message_of_the_old_protocol_is_taken(
    service: Service,
    id_: str,
    is_hybrid: bool,  # noqa: FBT001
) -> None:
    body = {
        "task": "deletions.submit",
        "id": id_,
        "args": [],
        "kwargs": {"target": "monitor", "items": [SECRET]},
        "retries": 0,
    }

    publish(service, {"task": "deletions.submit", "id": id_} if is_hybrid else {}, body)

    assert answer_to(service, id_)["items"] == 1
    nobody_saw_it(service)


def test_a_task_that_nobody_knows_is_answered_with_a_refusal(service: Service, id_: str) -> None:
    publish(service, {"task": "deletions.purge_all", "id": id_}, [[SECRET], {"a": SECRET}, {}])

    error = answer_to(service, id_)["error"]
    assert error["code"] == "invalid_message"
    assert error["message"].endswith("no task has that name here")
    nobody_saw_it(service)


def test_a_pickle_is_refused_unread(service: Service, id_: str) -> None:
    body = pickle.dumps(([], {"items": [SECRET]}, {}))
    form = {"content_type": "application/x-python-serialize", "content_encoding": "binary"}

    publish(service, {"task": "deletions.submit", "id": id_}, body, **form)

    assert answer_to(service, id_)["error"]["code"] == "invalid_message"
    nobody_saw_it(service)


@pytest.mark.parametrize("task", ["deletions.execute", "deletions.plan", "deletions.settle"])
def test_a_nudge_with_arguments_of_somebody_elses_shows_none(
    service: Service, id_: str, task: str
) -> None:
    body = [[SECRET], {"items": [SECRET]}, {}]
    publish(service, {"task": task, "id": id_, "kwargsrepr": SECRET}, body)

    wait_until(lambda: f"{task} broke" in service.logs()["worker1.log"])
    nobody_saw_it(service)


def test_what_is_being_worked_on_is_described_by_us(service: Service) -> None:
    app = Celery("asker", broker=service.broker_url, set_as_current=False)
    with service.client() as client, app.connection_for_write() as connection:
        (item,) = service.practice.ids(1)
        job = client.submit("monitor", [item])
        told: list[str] = []

        def is_seen() -> bool:
            asked = app.control.inspect(connection=connection, timeout=0.3)
            told.append(repr(asked.active()))
            return "deletions.execute" in told[-1]

        wait_until(is_seen)
        client.wait(job)
    app.close()

    assert "target='monitor'" in told[-1]
    assert item not in "".join(told)


def nobody_saw_it(service: Service) -> None:
    """Neither the logs nor what Redis holds name the item, and the worker lives."""
    with service.client() as client:
        client.item("monitor", "somebody else")
    with service.redis() as redis:

        def left() -> list[str]:
            return [name for name in map(bytes.decode, redis.keys()) if "unacked" in name]

        wait_until(lambda: not left())
        values = [redis.dump(key) or b"" for key in redis.scan_iter()]
    assert [name for name, text in service.logs().items() if SECRET in text] == []
    assert not any(SECRET.encode() in value for value in values)
    assert set(service.processes.pids()) == {"worker1"}
