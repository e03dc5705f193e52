"""What the users of deploy/redis/users.acl may do, asked of a real server that has read it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import AuthenticationError, NoPermissionError

from api_adapters.fakes.server import PracticeServer, open_practice
from tests.deploy.redis_server import PASSWORDS, RedisServer
from tests.deploy.written import DEPLOY
from tests.integration.service import wait_until
from worker.client import DeletionClient, Refused
from worker.embedded.commands import worker_command
from worker.embedded.processes import Processes

CONFIGURATION = """
[targets.monitor]
adapter = "bas_ip"
base_url = "{address}"
username = "admin"
password = {{ env = "MONITOR_PASSWORD" }}
requests_per_second = 100.0
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Place:
    """Things to delete, and workers that have no other rights than the file gives."""

    def __init__(self, server: RedisServer, directory: Path, backend: PracticeServer) -> None:
        practice = backend.practice
        configuration = directory / "deletions.toml"
        configuration.write_text(CONFIGURATION.format(address=backend.base_url))
        self.ids: list[str] = practice.ids(20)
        self.processes = Processes(
            directory,
            environ={
                "PATH": os.environ["PATH"],
                "DELETIONS_BROKER_URL": server.url("worker"),
                "DELETIONS_STORE_URL": f"sqlite:///{directory / 'store.sqlite3'}",
                "DELETIONS_CONFIG": str(configuration),
                "DELETIONS_DATA_DIR": str(directory),
                "MONITOR_PASSWORD": practice.settings["password"],
            },
        )

    def start_worker(self) -> None:
        """Start one more."""
        number = len(self.processes.pids()) + 1
        self.processes.start(worker_command(number, "--without-mingle", "--without-gossip"))


@pytest.fixture(scope="module")
def place(server: RedisServer) -> Iterator[Place]:
    directory = Path(tempfile.mkdtemp(prefix="users-", dir="/tmp"))
    with PracticeServer(open_practice("bas_ip", items=20)) as backend:
        place = Place(server, directory, backend)
        place.start_worker()
        try:
            yield place
        finally:
            place.processes.stop(grace=timedelta(seconds=20))
            shutil.rmtree(directory)


def hear(client: "redis.Redis[str]", channels: str) -> None:
    """Ask for channels, and wait for what the server says to that."""
    with client.pubsub() as wish:
        wish.psubscribe(channels)
        wish.get_message(timeout=5)


#: An application that has none of our code.
SEND = """
import sys
from celery import Celery
broker, *items = sys.argv[1:]
app = Celery("application", broker=broker, backend=broker)
for item, options in zip(items, ({}, {"priority": 9})):
    given = {"target": "monitor", "items": [item]}
    sent = app.send_task("deletions.submit", kwargs=given, queue="deletions", **options)
    print(sent.get(timeout=20)["items"], end=" ")
"""

Ask = Callable[["redis.Redis[str]"], Any]

NOBODY_BUT_THE_ADMINISTRATOR: dict[str, Ask] = {
    "flushall": lambda client: client.flushall(),
    "config": lambda client: client.config_get("*"),
    "keys": lambda client: client.keys("*"),
    "scan": lambda client: client.scan(),
    "monitor": lambda client: client.execute_command("MONITOR"),
    "kill": lambda client: client.client_kill_filter(skipme=False),
    "acl": lambda client: client.acl_list(),
    "shutdown": lambda client: client.execute_command("SHUTDOWN"),
    "save": lambda client: client.execute_command("BGSAVE"),
    "function": lambda client: client.execute_command("EVAL", "return 1", "0"),
    "another key": lambda client: client.set("somebody-elses", "x"),
}

NOT_A_SUBMITTER: dict[str, Ask] = {
    "read the queue": lambda client: client.lrange("deletions", 0, -1),
    "take from the queue": lambda client: client.rpop("deletions"),
    "wait at the queue": lambda client: client.brpop("deletions", timeout=1),
    "drop the queue": lambda client: client.delete("deletions"),
    "ring a bell": lambda client: client.lpush("deletions.bells", "x"),
    "see what is not answered yet": lambda client: client.hgetall("unacked"),
    "forge an answer": lambda client: client.set("celery-task-meta-x", "x"),
    "announce an answer": lambda client: client.publish("celery-task-meta-x", "x"),
    "command a worker": lambda client: client.publish("/0.celery.pidbox", "{}"),
    "hear events": lambda client: hear(client, "/0.celeryev/*"),
    "hear every answer": lambda client: hear(client, "*"),
    "alter the pace": lambda client: client.delete("deletions:LIMITER/pace/crm/1/1/second"),
}

NOT_A_CLOCK: dict[str, Ask] = {
    "read an answer": lambda client: client.get("celery-task-meta-x"),
    "read the queue": lambda client: client.lrange("deletions", 0, -1),
    "command a worker": lambda client: client.publish("/0.celery.pidbox", "{}"),
}

NOT_FLOWER: dict[str, Ask] = {
    "submit": lambda client: client.lpush("deletions", "x"),
    "read the queue": lambda client: client.lrange("deletions", 0, -1),
    "read an answer": lambda client: client.get("celery-task-meta-x"),
    "forge an event": lambda client: client.publish("/0.celeryev/task.succeeded", "{}"),
}


def refused() -> Iterator[Any]:
    for user in ("submitter", "clock", "flower", "worker"):
        yield from ((user, what, ask) for what, ask in NOBODY_BUT_THE_ADMINISTRATOR.items())
    for user, wishes in (
        ("submitter", NOT_A_SUBMITTER),
        ("clock", NOT_A_CLOCK),
        ("flower", NOT_FLOWER),
    ):
        yield from ((user, what, ask) for what, ask in wishes.items())


@pytest.mark.parametrize(
    ("user", "ask"), [pytest.param(u, ask, id=f"{u}: {what}") for u, what, ask in refused()]
)
def test_what_a_user_need_not_do_he_cannot_do(server: RedisServer, user: str, ask: Ask) -> None:
    with closing(server.client(user)) as client, pytest.raises(NoPermissionError):
        ask(client)


def test_nobody_comes_in_without_a_name(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client, pytest.raises(AuthenticationError):
        client.ping()


def test_the_health_check_may_say_ping_and_nothing_else(server: RedisServer) -> None:
    with redis.Redis(port=server.port, username="health", password="any") as client:
        assert client.ping()
        with pytest.raises(NoPermissionError):
            client.get("deletions")


def test_an_application_submits_and_reads_what_became_of_it(
    server: RedisServer, place: Place
) -> None:
    with DeletionClient(server.url("submitter"), timeout=timedelta(seconds=30)) as client:
        job = client.submit("monitor", place.ids[:5])
        client.wait(job, timeout=timedelta(seconds=20))

        assert [one.verdict for one in client.results(job)] == ["deleted"] * 5
        assert client.item("monitor", place.ids[0])["jobs"]
        client.post("monitor", place.ids[5:6])


def test_an_application_submits_by_the_tasks_name_with_a_priority_too(
    server: RedisServer, place: Place
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEND, server.url("submitter"), *place.ids[6:8]],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.stdout == "1 1 ", done.stderr


def test_a_request_that_a_lost_worker_had_taken_is_done(server: RedisServer, place: Place) -> None:
    with DeletionClient(server.url("submitter", database=1)) as client:
        job = client.post("monitor", place.ids[8:9])
    lose(server)

    # A worker looks for what was lost ten seconds after its start.
    place.start_worker()

    with DeletionClient(server.url("submitter"), timeout=timedelta(seconds=20)) as client:
        wait_until(lambda: is_known(client, job))
        assert client.wait(job, timeout=timedelta(seconds=20)).tally["deleted"] == 1


def lose(server: RedisServer) -> None:
    """Move a request to where a worker keeps what it has taken, an hour ago."""
    with closing(server.client(database=1)) as elsewhere, closing(server.client()) as here:
        message = json.loads(elsewhere.rpop("deletions"))
        tag = message["properties"]["delivery_tag"]
        here.hset("unacked", tag, json.dumps([message, "", "deletions"]))
        here.zadd("unacked_index", {tag: time.time() - 3600})


def is_known(client: DeletionClient, job: str) -> bool:
    """Whether a worker has read the request."""
    with suppress(Refused):
        return bool(client.status(job))
    return False


def test_a_password_is_changed_without_a_moment_of_refusal() -> None:
    with RedisServer(SUBMITTER_PASSWORD_ALSO="new") as server:
        for password in (PASSWORDS["submitter"], "new"):
            with redis.Redis(port=server.port, username="submitter", password=password) as client:
                assert client.ping()


def test_the_entrypoint_tells_which_password_is_missing() -> None:
    done = subprocess.run(
        [DEPLOY / "redis" / "entrypoint.sh", "--print"],
        env={"PATH": os.environ["PATH"], "ACL_TEMPLATE": str(DEPLOY / "redis" / "users.acl")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr == "SUBMITTER_PASSWORD is not set\n"


def test_the_server_has_no_password_in_its_environment(server: RedisServer) -> None:
    environ = Path(f"/proc/{server.pid}/environ")
    if not environ.exists():
        pytest.skip("this system does not show the environment of a process")

    assert not any(password.encode() in environ.read_bytes() for password in PASSWORDS.values())
