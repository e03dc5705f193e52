"""An application that has none of our code, and what everybody else sees of its items."""

import base64
import json
import re
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Connection

from tests.integration.service import Service, Target, wait_until
from worker.client import Refused

#: In every item of this file; nobody but store and backend may see it.
SECRET = "e3e70682-c209-4cac-a29f"

#: Runs code where neither our package nor the directory of this project can be
#: imported, and `worker` is a module of the application's own.
ALONE = """
    import sys
    from importlib.util import find_spec
    sys.path[:0] = [{directory!r}, {packages!r}]
    import worker
    assert worker.OWNER == "shop" and find_spec("api_adapters") is None
    sys.argv[0] = "celery"
"""

SEND = """
    import json
    from celery import Celery
    broker, name, arguments = sys.argv[1:]
    app = Celery("shop", broker=broker, backend=broker)
    sent = app.send_task(name, kwargs=json.loads(arguments), queue="deletions")
    answer = sent.get(timeout=30)
    sent.forget()
    print(json.dumps(answer))
"""

CLOCK = """
    from celery import Celery
    broker, arguments = sys.argv[1:]
    app = Celery("shop", broker=broker)
    app.conf.beat_schedule = {
        "close accounts": {
            "task": "deletions.submit",
            "schedule": 0.5,
            "kwargs": __import__("json").loads(arguments),
            "options": {"queue": "deletions"},
        }
    }
    app.Beat(schedule=worker.SCHEDULE, loglevel="INFO", max_interval=0.2).run()
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service(targets={"monitor": Target(items=10)}) as service:
        yield service


@pytest.fixture(scope="module")
def ids(service: Service) -> list[str]:
    """What there is to delete; the first one is distinctive."""
    ids = service.practice.ids(10)
    assert ids[0].startswith(SECRET)
    return ids


@pytest.fixture
def application(tmp_path: Path) -> Path:
    schedule = str(tmp_path / "schedule")
    (tmp_path / "worker.py").write_text(f'OWNER = "shop"\nSCHEDULE = {schedule!r}\n')
    return tmp_path


def command(application: Path, code: str, *arguments: str) -> list[str]:
    """Code that runs as that application."""
    packages = sysconfig.get_path("purelib")
    alone = dedent(ALONE).format(directory=str(application), packages=packages)
    # -S: without the links to packages that are being worked on, such as ours.
    return [sys.executable, "-I", "-S", "-c", alone + dedent(code), *arguments]


def send(service: Service, application: Path, name: str, **arguments: Any) -> Any:
    """What the application is answered."""
    given = [service.broker_url, f"deletions.{name}", json.dumps(arguments)]
    done = subprocess.run(
        command(application, SEND, *given), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ended(service: Service, job: str) -> Any:
    """The status of a job at its end."""
    with service.client() as client:
        return client.wait(job)


@contextmanager
def events_of(service: Service) -> Iterator[list[dict[str, Any]]]:
    """Every event that is sent meanwhile, as Flower would get it."""
    seen: list[dict[str, Any]] = []
    app = Celery("listener", broker=service.broker_url, set_as_current=False)
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        is_listening = threading.Event()
        receiver.on_consume_ready = lambda *_, **__: is_listening.set()
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "wakeup": False})
        thread.start()
        assert is_listening.wait(10)
        try:
            yield seen
        finally:
            receiver.should_stop = True
            thread.join(10)
    app.close()


def everything_in(service: Service) -> str:
    """All that Redis holds, the bodies of messages in the clear."""
    readers = {
        b"string": ("GET",),
        b"list": ("LRANGE", 0, -1),
        b"set": ("SMEMBERS",),
        b"zset": ("ZRANGE", 0, -1),
        b"hash": ("HGETALL",),
        b"stream": ("XRANGE", "-", "+"),
        # It has gone meanwhile.
        b"none": ("EXISTS",),
    }
    text = ""
    with service.redis() as redis:
        for key in redis.scan_iter():
            read, *limits = readers[redis.type(key)]
            text += f"{key!r} {redis.execute_command(read, key, *limits)!r}\n"
    encoded = re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", text)
    return text + "".join(map(clear, encoded))


def clear(encoded: str) -> str:
    """What a run of base64 says."""
    whole = encoded[: len(encoded) // 4 * 4]
    return base64.b64decode(whole).decode("latin-1")


def publish(service: Service, name: str, body: bytes, **properties: str) -> str:
    """Send a body as it is to a task; the message's id."""
    id_ = str(uuid4())
    headers = {"lang": "py", "task": name, "id": id_, "root_id": id_, "argsrepr": SECRET}
    publish_raw(service, headers, body, correlation_id=id_, **properties)
    return id_


def publish_raw(service: Service, headers: dict[str, Any], body: bytes, **properties: str) -> None:
    """Send a message as it is."""
    properties = {"routing_key": "deletions", "content_type": "application/json", **properties}
    properties.setdefault("content_encoding", "utf-8")
    with Connection(service.broker_url) as connection, connection.channel() as channel:
        producer = connection.Producer(channel)
        producer.publish(body, headers=headers, **properties)


def answer_to(service: Service, id_: str) -> Any:
    """The raw answer to a message."""
    key = f"celery-task-meta-{id_}"
    with service.redis() as redis:
        wait_until(lambda: redis.exists(key))
        text = redis.getdel(key)
        assert text is not None
        return json.loads(text)["result"]


def test_it_submits_and_reads_the_results(
    service: Service, application: Path, ids: list[str]
) -> None:
    answer = send(service, application, "submit", target="monitor", items=[ids[1], ids[1], "bad"])
    job = answer["job"]
    ended(service, job)
    page = send(service, application, "results", job=job, limit=1)
    rest = send(service, application, "results", job=job, after=page["next"])

    assert answer == {"job": job, "items": 2, "duplicates": 1}
    assert [row["item"] for row in page["rows"] + rest["rows"]] == [ids[1], "bad"]
    assert [row["verdict"] for row in page["rows"] + rest["rows"]] == ["deleted", "rejected"]
    assert rest["next"] is None
    assert send(service, application, "status", job=job)["tally"]["deleted"] == 1


def test_it_reads_its_refusals(service: Service, application: Path) -> None:
    many = send(service, application, "submit", target="monitor", items=["a"] * 10_001)
    unknown = send(service, application, "submit", target="monitor", items=[], notfy="x")
    missing = send(service, application, "status", job=str(uuid4()))

    assert many["error"]["code"] == "too_many_items"
    assert unknown["error"]["code"] == "invalid_message"
    assert "notfy" in unknown["error"]["message"]
    assert missing["error"]["code"] == "unknown_job"


def test_its_clock_makes_a_new_job_at_every_tick(
    service: Service, application: Path, ids: list[str]
) -> None:
    order = {"target": "monitor", "items": [ids[2]], "requested_by": "shop's clock"}

    def jobs() -> set[str]:
        with service.client() as client:
            history = client.item("monitor", ids[2])["jobs"]
        return {one["job"] for one in history if one["requested_by"] == "shop's clock"}

    clock = subprocess.Popen(
        command(application, CLOCK, service.broker_url, json.dumps(order)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: len(jobs()) >= 3)
    finally:
        clock.send_signal(signal.SIGTERM)
        clock.wait(10)

    tallies = [ended(service, job).tally for job in jobs()]
    assert sum(tally["deleted"] for tally in tallies) == 1
    assert sum(tally["absent"] for tally in tallies) == len(tallies) - 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"no json", "invalid_message"),
        (b"", "invalid_message"),
        (b"\xff\xfe", "invalid_message"),
        (b"7", "invalid_message"),
        (b"null", "invalid_message"),
        (b'"args"', "invalid_message"),
        (b"[]", "invalid_message"),
        (b'[["args"], [], {}]', "invalid_message"),
        (b'[[], {"target": "monitor", "items": [NaN]}, {}]', "invalid_message"),
        (b'[[], {"target": "monitor", "items": [1' + b"0" * 5_000 + b"]}, {}]", "invalid_message"),
        (b"[" * 100_000, "invalid_message"),
        (b'[["monitor", ["a"]], {}, {}]', "invalid_message"),
        (b'[[], {"target": "monitor", "items": {}}, {}]', "invalid_message"),
        (b'[[], {"target": 1, "items": ["a"]}, {}]', "invalid_message"),
        (b'[[], {"target": "monitor", "items": ["' + b"x" * 2**22 + b'"]}, {}]', "too_large"),
    ],
    ids=lambda value: ascii(value[:40]),
)
def test_what_cannot_be_read_is_answered_with_a_refusal(
    service: Service, body: bytes, code: str
) -> None:
    id_ = publish(service, "deletions.submit", body)

    assert answer_to(service, id_)["error"]["code"] == code


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"task": []}, b"[[], {}, {}]"),
        ({"task": "deletions.submit"}, b"[[], {}, {}]"),
        ({"task": "deletions.submit", "id": {}}, b"[[], {}, {}]"),
        ({"task": "deletions.submit", "id": "a", "eta": "never"}, b"[[], {}, {}]"),
        ({"task": "deletions.submit", "id": "a", "timelimit": "x"}, b"[[], {}, {}]"),
        ({"task": "deletions.submit", "id": "a"}, b'{"args": 7}'),
        ({"task": "deletions.submit", "id": "a"}, b"{}"),
        ({}, b"{}"),
    ],
    ids=ascii,
)
def test_no_message_ends_the_worker(service: Service, headers: dict[str, Any], body: bytes) -> None:
    pids = service.processes.pids()

    publish_raw(service, headers, body)

    with service.client() as client, pytest.raises(Refused, match="unknown_job"):
        client.status(str(uuid4()))
    assert service.processes.pids() == pids


def test_objects_that_celery_would_revive_arrive_as_they_are(service: Service) -> None:
    items = [{"__type__": "uuid", "__value__": {"hex": "none"}}, {"__type__": "a", "__value__": 1}]
    body = json.dumps([[], {"target": "monitor", "items": items}, {}]).encode()

    job = answer_to(service, publish(service, "deletions.submit", body))["job"]

    ended(service, job)
    with service.client() as client:
        assert [one.item for one in client.results(job)] == items


def test_the_search_would_find_an_item(service: Service) -> None:
    body = json.dumps([[], {"items": [f"{SECRET}-0000"]}, {}]).encode()
    publish_raw(service, {}, body, routing_key="elsewhere")

    assert SECRET in everything_in(service)
    with service.redis() as redis:
        redis.delete("elsewhere")


def test_no_item_is_seen_by_anybody_else(
    service: Service, application: Path, ids: list[str]
) -> None:
    """Events, logs, and all that is left in Redis, whoever sent a message and however broken."""
    items = [ids[0], {"id": SECRET}, SECRET]
    with events_of(service) as events, service.client() as client:
        job = send(service, application, "submit", target="monitor", items=items)["job"]
        ended(service, job)
        assert send(service, application, "results", job=job)["rows"][0]["item"] == ids[0]
        assert send(service, application, "item", target="monitor", item=ids[0])["jobs"]
        refused = send(service, application, "submit", target="monitor", items=[SECRET * 1_000])
        assert refused["error"]["code"] == "too_large"
        wrong = send(service, application, "submit", target="monitor", items=[], wrong=SECRET)
        assert wrong["error"]["code"] == "invalid_message"
        streamed = client.submit("monitor", [f"{SECRET}-{index}" for index in range(10_001)])
        client.wait(streamed)
        revivable = client.submit("monitor", [{"__type__": SECRET, "__value__": SECRET}])
        client.wait(revivable)
        assert [one.verdict for one in client.results(revivable)] == ["rejected"]
        assert client.item("monitor", ids[0])["jobs"]
        broken = [
            publish(service, "deletions.submit", f"{SECRET} is no JSON".encode()),
            publish(service, "deletions.append", json.dumps([[SECRET], {}, {}]).encode()),
        ]
        for id_ in broken:
            assert answer_to(service, id_)["error"]["code"] == "invalid_message"
        publish(service, "deletions.nothing", f'[["{SECRET}"], {{}}, {{}}]'.encode())
        publish(service, "deletions.submit", SECRET.encode(), content_type="application/x-other")
        wait_until(lambda: service.logs()["worker1.log"].count("message.dropped") >= 2)
        wait_until(lambda: any(one["type"] == "task-succeeded" for one in events))
        # What is left until a reply is acknowledged goes by itself.
        wait_until(lambda: SECRET not in everything_in(service))

    assert {one["type"] for one in events} >= {"task-received", "task-succeeded"}
    assert SECRET not in repr(events)
    assert [name for name, text in service.logs().items() if SECRET in text] == []


def test_what_a_worker_tells_of_its_work_names_no_item(service: Service) -> None:
    """The replies to `inspect`, which Flower shows."""
    items = [f"{SECRET}-{index}" for index in range(40_000)]
    app = Celery("asker", broker=service.broker_url, set_as_current=False)
    told = ""
    with service.client() as client, ThreadPoolExecutor(1) as threads:
        streamed = threads.submit(client.submit, "monitor", items)
        with app.connection_for_write() as connection:
            asked = app.control.inspect(connection=connection, timeout=5, limit=1)
            while not streamed.done():
                told += repr([asked.active(), asked.reserved(), asked.scheduled()])
        client.cancel(streamed.result())
    app.close()

    assert "deletions.append" in told
    assert "items=10000" in told
    assert SECRET not in told
